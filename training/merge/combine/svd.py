"""A matrix as the product of two thin ones: the best of a given rank, by its singular values."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # seconds to import
    import torch

EXACT_SIDE = 1024
"""The smaller side up to which all singular values of a matrix are computed.

That costs the square of the smaller side times the larger, and its cube: a second at 1,024 by
4,096 and minutes at 4,096 by 14,336, where a hundredth of the values are wanted.
"""

_BLOCK_ROWS = 4096
_OVERSAMPLING = 32
_POWER_ITERATIONS = 4


@dataclass(frozen=True, slots=True)
class ThinProduct:
    """`b @ a`, a matrix's best approximation of that rank or one as good as makes no difference.

    b: (rows, rank). a: (rank, columns). The singular values are split between them, so that both
    are of one size and neither is lost to a narrow type. values: all that were computed, falling.
    """

    b: "torch.Tensor"
    a: "torch.Tensor"
    values: "torch.Tensor"

    def cut(self, rank: int) -> "ThinProduct":
        """Of a lower rank."""
        return ThinProduct(
            self.b[:, :rank].contiguous(), self.a[:rank].contiguous(), self.values[:rank]
        )


def decompose(matrix: "torch.Tensor", rank: int, seed: int = 0) -> ThinProduct:
    """The matrix, float32, to a rank (or its smaller side, if that is less).

    As exactly as float32 can where the smaller side is at most EXACT_SIDE, else by random
    projection, with power iterations, from the seed: the error is a little above the least then.
    """
    rank = min(rank, *matrix.shape)
    if min(matrix.shape) > EXACT_SIDE:
        return _projected(matrix, rank, seed)
    if matrix.shape[0] >= matrix.shape[1]:
        return _exact(matrix, rank)
    turned = _exact(matrix.T, rank)
    return ThinProduct(turned.a.T.contiguous(), turned.b.T.contiguous(), turned.values)


def _exact(matrix: "torch.Tensor", rank: int) -> ThinProduct:
    """Of a matrix with at least as many rows as columns, by the eigenvectors of its Gram matrix.

    Squaring halves the digits: float64 keeps all that float32 has, several times faster than its
    own decomposition.
    """
    import torch

    gram = torch.zeros(matrix.shape[1], matrix.shape[1], dtype=torch.float64)
    for start in range(0, matrix.shape[0], _BLOCK_ROWS):
        wide = matrix[start : start + _BLOCK_ROWS].double()
        gram.addmm_(wide.T, wide)
    squares, vectors = torch.linalg.eigh(gram)
    values = squares.flip(0).clamp(min=0).sqrt().float()
    right = vectors.flip(1)[:, :rank].float()
    root = values[:rank].sqrt()
    # A value of zero has a zero column before it is divided.
    left = (matrix @ right) / root.clamp(min=torch.finfo(torch.float32).tiny)
    return ThinProduct(left.contiguous(), (right * root).T.contiguous(), values)


def _projected(matrix: "torch.Tensor", rank: int, seed: int) -> ThinProduct:
    import torch

    columns = min(rank + _OVERSAMPLING, *matrix.shape)
    # The projection draws from the process's own source of chance and takes no other.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        u, s, v = torch.svd_lowrank(matrix, columns, niter=_POWER_ITERATIONS)
    return _split(u[:, :rank], s[:rank], v[:, :rank].T)


def decompose_product(b: "torch.Tensor", a: "torch.Tensor", rank: int) -> ThinProduct:
    """`b @ a` to a rank (or the product's own, if that is less), exactly, without making it."""
    import torch

    q_b, r_b = torch.linalg.qr(b)
    q_a, r_a = torch.linalg.qr(a.T)
    u, s, vh = torch.linalg.svd(r_b @ r_a.T, full_matrices=False)
    return _split(q_b @ u[:, :rank], s[:rank], vh[:rank] @ q_a.T)


def _split(u: "torch.Tensor", s: "torch.Tensor", vh: "torch.Tensor") -> ThinProduct:
    root = s.sqrt()
    return ThinProduct((u * root).contiguous(), (root[:, None] * vh).contiguous(), s)
