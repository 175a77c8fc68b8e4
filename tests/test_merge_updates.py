"""Updates of a tensor: against float64, in blocks, and rounded once."""

import random
from collections.abc import Callable

import pytest
import torch

from training.merge.tensors import Update
from training.merge.updates.bias import AddBias
from training.merge.updates.dora import ColumnDora, RowDora
from training.merge.updates.low_rank import Factors, LowRank
from training.merge.updates.token_rows import ReplaceRows

ROWS, COLUMNS, RANK = 96, 200, 4
Made = tuple[Update, Callable[[torch.Tensor], torch.Tensor]]


def _draw(*shape: int, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))) * scale


FACTORS = Factors(_draw(ROWS, RANK, scale=0.05), _draw(RANK, COLUMNS, scale=0.05).double(), 1.7)
EXACT = 1.7 * (FACTORS.left.double() @ FACTORS.right.double())
BASE = _draw(ROWS, COLUMNS, scale=0.02)
TALL, WIDE = _draw(ROWS, 1)[:, 0].abs() + 0.5, _draw(COLUMNS, 1)[:, 0].abs() + 0.5


def _low_rank(narrow: bool) -> Made:
    return LowRank(lambda: FACTORS, narrow), lambda base: base + EXACT


def _row_dora(narrow: bool) -> Made:
    def exact(base: torch.Tensor) -> torch.Tensor:
        total = base + EXACT
        found: torch.Tensor = (
            total / torch.linalg.vector_norm(total, dim=1, keepdim=True) * TALL.double()[:, None]
        )
        return found

    return RowDora(lambda: (FACTORS, TALL), narrow), exact


def _column_dora(narrow: bool) -> Made:
    def exact(base: torch.Tensor) -> torch.Tensor:
        total = base + EXACT
        found: torch.Tensor = total / torch.linalg.vector_norm(total, dim=0) * WIDE.double()
        return found

    return ColumnDora(lambda: (FACTORS, WIDE), narrow), exact


KINDS = [_low_rank, _row_dora, _column_dora]


def _applied(update: Update, base: torch.Tensor, step: int) -> torch.Tensor:
    step = step if update.by_rows else len(base)
    blocks = [update.apply(base[i : i + step].clone(), i) for i in range(0, len(base), step)]
    return torch.cat(blocks)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [1, 7, ROWS])
def test_float64_is_exact_to_its_last_digits_in_any_blocks(
    kind: Callable[[bool], Made], step: int
) -> None:
    update, exact = kind(True)
    found = _applied(update, BASE.double(), step)
    torch.testing.assert_close(found, exact(BASE.double()), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("kind", KINDS)
def test_float32_is_the_nearest_to_the_exact_sum(kind: Callable[[bool], Made]) -> None:
    update, exact = kind(False)
    assert torch.equal(_applied(update, BASE, 16), exact(BASE.double()).float())


def _neighbours(values: torch.Tensor) -> list[torch.Tensor]:
    """The 16-bit numbers next to these, away from zero and towards it."""
    bits = values.view(torch.int16)
    return [(bits + 1).view(values.dtype), (bits - 1).view(values.dtype)]


def _is_nearest(rounded: torch.Tensor, exact: torch.Tensor) -> bool:
    """Whether no other number lies nearer. No rounding is trusted."""
    error = (rounded.double() - exact).abs()
    others = [(other.double() - exact).abs() for other in _neighbours(rounded)]
    return all(bool((error <= other).all()) for other in others)


@pytest.mark.parametrize("side", [-1e-9, 1e-9])
@pytest.mark.parametrize(
    ("dtype", "halfway"),
    [
        (torch.bfloat16, [1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 2**-9 + 2**-17]),
        (torch.float16, [1 + 2**-11, -1 - 3 * 2**-11, 1.5 * 2**-24, -2.5 * 2**-24]),
    ],
)
def test_what_lies_almost_halfway_goes_to_its_own_side(
    dtype: torch.dtype, halfway: list[float], side: float
) -> None:
    """Nearer to halfway between two 16-bit numbers than float32 can tell."""
    exact = torch.tensor([halfway], dtype=torch.float64) * (1 + side)
    plain = exact.float().to(dtype)
    assert not _is_nearest(plain, exact)
    update = LowRank(lambda: Factors(torch.ones(1, 1), exact, 1.0), narrow=True)
    assert _is_nearest(update.apply(torch.zeros(1, 4), 0).to(dtype), exact)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_no_sum_of_many_goes_to_the_farther_16_bit_number(dtype: torch.dtype) -> None:
    base = _draw(512, 512, scale=0.02).to(dtype)
    factors = Factors(_draw(512, RANK, scale=0.1), _draw(RANK, 512, scale=0.1).double(), 1.0)
    exact = base.double() + factors.left.double() @ factors.right.double()
    update = LowRank(lambda: factors, narrow=True)
    assert _is_nearest(update.apply(base.float(), 0).to(dtype), exact)


def test_a_bias_is_added() -> None:
    bias = _draw(ROWS, 1)[:, 0].double()
    update = AddBias(lambda: bias, narrow=False)
    assert torch.equal(_applied(update, BASE[:, 0], 10), (BASE[:, 0].double() + bias).float())


def test_trained_rows_take_the_place_of_the_bases() -> None:
    order = list(range(ROWS))
    random.Random(5).shuffle(order)
    indices, trained = order[:9], _draw(9, COLUMNS).bfloat16()
    found = _applied(ReplaceRows(indices, lambda: trained), BASE, 10)
    assert torch.equal(found[indices], trained.float())
    assert torch.equal(found[order[9:]], BASE[order[9:]])
