"""How several adapters become one: the method's name and its options, checked."""

from dataclasses import dataclass
from typing import Literal, get_args

from training.errors import MergeError

MethodName = Literal[
    "cat",
    "linear",
    "svd",
    "ties",
    "ties_svd",
    "dare_linear",
    "dare_linear_svd",
    "dare_ties",
    "dare_ties_svd",
    "magnitude_prune",
    "magnitude_prune_svd",
]
"""The names of PEFT's `add_weighted_adapter`."""

Sign = Literal["total", "frequency"]

METHODS: tuple[MethodName, ...] = get_args(MethodName)


@dataclass(frozen=True, slots=True)
class CombineMethod:
    """A method and its options. Raises MergeError, which names the option.

    name: `cat`, the exact weighted sum, puts the matrices side by side, so that its rank is the
    sum of theirs; `svd` and all that end in it work on the whole updates and cut them to `rank`;
    the others work on A and on B, each for itself, as an approximation, and keep the rank.
    rank: of the result, for those that end in `svd`. density: the part of the elements that stay,
    above 0 and at most 1, for `ties`, `dare` and `magnitude_prune`. sign: how `ties` elects each
    element's sign, by the sum of the values or by their count. seed: of what `dare` drops.
    """

    name: MethodName = "cat"
    rank: int | None = None
    density: float | None = None
    sign: Sign = "total"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.name not in METHODS:
            raise MergeError(f"method: there is no {self.name!r}; take one of {', '.join(METHODS)}")
        self._check_rank()
        self._check_density()
        if self.sign not in get_args(Sign):
            raise MergeError(f"sign: must be total or frequency, not {self.sign!r}")
        if self.sign != "total" and "ties" not in self.name:
            raise MergeError(f"sign: {self.name} elects none; leave it out, or use a ties method")

    @property
    def cuts_rank(self) -> bool:
        """Whether it works on whole updates and cuts them to `rank`."""
        return self.name.endswith("svd")

    @property
    def prunes(self) -> bool:
        """Whether it drops elements, and so needs a density."""
        return self.name not in ("cat", "linear", "svd")

    @property
    def draws(self) -> bool:
        """Whether it drops by lot."""
        return self.name.startswith("dare")

    @property
    def keeps_rank(self) -> bool:
        """Whether it adds A to A and B to B, which need equal ranks."""
        return self.name != "cat" and not self.cuts_rank

    def _check_rank(self) -> None:
        if not self.cuts_rank:
            if self.rank is not None:
                raise MergeError(
                    f"rank: {self.name} takes the adapters' own; leave it out, or use svd"
                )
        elif self.rank is None:
            raise MergeError(f"rank: {self.name} needs one, as 16: what it cuts the result to")
        elif self.rank < 1:
            raise MergeError(f"rank: must be a whole number from 1, not {self.rank}")

    def _check_density(self) -> None:
        if not self.prunes:
            if self.density is not None:
                raise MergeError(
                    f"density: {self.name} drops nothing; leave it out, or use a ties, dare or "
                    "magnitude_prune method"
                )
        elif self.density is None:
            raise MergeError(f"density: {self.name} needs one, as 0.5: the part that stays")
        elif not 0 < self.density <= 1:
            raise MergeError(f"density: must be above 0 and at most 1, not {self.density}")
