"""The language of gates: from a line of a recipe to what it asks for."""

import math
import re
from dataclasses import dataclass
from typing import Literal

from training.errors import RecipeError

Kind = Literal["improves", "no worse", "threshold"]
Other = Literal["base", "live"]
Operator = Literal[">=", "<=", ">", "<"]

_EXAMPLES = {
    "improves": "improves: exact_match by 0.05 over base",
    "no worse": "no worse: regression.* by 0.02 than live",
    "threshold": "schema_compliance >= 0.98",
}
_OPERATORS: dict[str, Operator] = {">=": ">=", "<=": "<=", ">": ">", "<": "<"}
_VERB = re.compile(r"\s*(improves|no[ _]worse)\s*:\s*(.*?)\s*", re.DOTALL)
_COMPARED = re.compile(
    r"(?P<metric>.+?)(?:\s+by\s+(?P<by>\S+))?(?:\s+(?P<word>over|than)\s+(?P<other>\S+))?",
    re.DOTALL,
)
_THRESHOLD = re.compile(
    r"\s*(?P<metric>[^<>=]+?)\s*(?P<operator>>=|<=|>|<)\s*(?P<limit>\S+)\s*", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Gate:
    """One thing that an adapter must show.

    text: as the recipe has it. metric: a metric's name, where `*` stands for any characters.
    amount: the least gain (`improves`), the loss that is tolerated (`no worse`; None: the
    metric's own default) or the limit (`threshold`). other: what it is compared with.
    """

    text: str
    kind: Kind
    metric: str
    amount: float | None
    other: Other | None = None
    operator: Operator | None = None

    def covers(self, name: str) -> bool:
        """Whether the gate speaks of the metric of that name."""
        return name == self.metric or bool(_glob(self.metric).fullmatch(name))


def parse_gate(text: str) -> Gate:
    """The gate of one line.

    `improves: METRIC by D [over base|live]`, `no worse: METRIC [by MARGIN] [than base|live]`, or
    `METRIC >= X` with >=, <=, > or <. Raises RecipeError that names the gate, the fault and an
    example.
    """
    if (verb := _VERB.fullmatch(text)) is not None:
        return _compared(text, "improves" if verb[1] == "improves" else "no worse", verb[2])
    if (found := _THRESHOLD.fullmatch(text)) is None:
        raise _error(text, "is no gate", *_EXAMPLES)
    limit = _number(text, "threshold", "the limit", found["limit"])
    return Gate(text, "threshold", found["metric"], limit, operator=_OPERATORS[found["operator"]])


def _compared(text: str, kind: Literal["improves", "no worse"], rest: str) -> Gate:
    found = _COMPARED.fullmatch(rest)
    if found is None:
        raise _error(text, "names no metric", kind)
    by = found["by"]
    if by is None and kind == "improves":
        raise _error(text, "does not say by how much at least", kind)
    amount = None if by is None else _number(text, kind, "the amount", by)
    if kind == "improves" and amount is not None and amount <= 0:
        raise _error(text, f"the amount must be above 0, and {by} is not", kind)
    if amount is not None and amount < 0:
        raise _error(text, f"the amount must not be below 0, and {by} is", kind)
    if re.search(r"\s", found["metric"]):
        raise _error(text, f"{found['metric']!r} is no metric's name", kind)
    return Gate(text, kind, found["metric"], amount, _other(text, kind, found["other"]))


def _other(text: str, kind: Kind, name: str | None) -> Other:
    if name is None or name == "base":
        return "base"
    if name == "live":
        return "live"
    raise _error(text, f"can be compared with base or live, and {name} is neither", kind)


def _number(text: str, kind: Kind, what: str, word: str) -> float:
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if math.isfinite(number):
        return number
    share = " (5 % is written 0.05)" if "%" in text else ""
    raise _error(text, f"{what} must be a number, and {word} is none{share}", kind)


def _error(text: str, fault: str, *examples: str) -> RecipeError:
    shown = " or ".join(f"`{_EXAMPLES[kind]}`" for kind in examples)
    return RecipeError(f"gates: `{text}` {fault}. Write it as {shown}")


def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
