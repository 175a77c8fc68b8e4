"""Gates against what an evaluation will measure, before anything runs."""

from collections.abc import Sequence
from difflib import get_close_matches

from training.errors import RecipeError
from training.gates.gate import Gate
from training.gates.scales import AGAINST_BASE_ALREADY, WITHOUT_DIRECTION, plain_name


def check_gates(gates: Sequence[Gate], available: Sequence[str]) -> None:
    """Raises RecipeError, with every problem, for gates that no metric of the run can decide.

    available: the names of what will be measured; `*` in a name stands for any characters, as in
    `json_fields.*.f1`.
    """
    problems = [problem for gate in gates if (problem := _problem(gate, available))]
    if problems:
        raise RecipeError("\n".join(problems))


def _problem(gate: Gate, available: Sequence[str]) -> str | None:
    matching = [name for name in available if overlap(gate.metric, name)]
    if not matching:
        return f"gates: `{gate.text}`: {_not_measured(gate, available)}"
    if gate.kind == "threshold":
        return None
    matching = [plain_name(name) for name in matching]
    if set(matching) <= AGAINST_BASE_ALREADY:
        return (
            f"gates: `{gate.text}`: {gate.metric} compares with the base already; give it a limit, "
            f"as `{gate.metric} <= 0.1`"
        )
    if set(matching) <= WITHOUT_DIRECTION:
        return (
            f"gates: `{gate.text}`: more is neither better nor worse for {gate.metric}; give it a "
            f"limit, as `{gate.metric} <= 100`"
        )
    return None


def _not_measured(gate: Gate, available: Sequence[str]) -> str:
    if close := get_close_matches(gate.metric, available, n=1):
        return f"{gate.metric} is not measured; did you mean {close[0]}?"
    return (
        f"{gate.metric} is not measured; evaluation.scorers, evaluation.regression and "
        f"evaluation.general give: {', '.join(sorted(available)) or 'nothing'}"
    )


def overlap(first: str, second: str) -> bool:
    """Whether some name fits both patterns, in which `*` stands for any characters."""
    reached = {0}
    for sign in first:
        reached = _after(sign, reached, second)
    return len(second) in _past_stars(reached, second)


def _after(sign: str, reached: set[int], pattern: str) -> set[int]:
    """The places in `pattern` that can be reached by one more sign of the other one."""
    places = _past_stars(reached, pattern)
    if sign == "*":
        return set(range(min(places), len(pattern) + 1)) if places else set()
    return {
        place if pattern[place] == "*" else place + 1
        for place in places
        if place < len(pattern) and pattern[place] in ("*", sign)
    }


def _past_stars(places: set[int], pattern: str) -> set[int]:
    past = set()
    for place in places:
        past.add(place)
        while place < len(pattern) and pattern[place] == "*":
            place += 1
            past.add(place)
    return past
