"""How answers and conversations are built, and which rows are exceptions from it."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from training.data.fingerprints import digest
from training.data.joined import Joined
from training.data.report import Finding, Roles, Structure
from training.data.rows import Row
from training.data.texts import answer_of, json_of
from training.data.thresholds import (
    FEW_SYSTEM_PROMPTS,
    STRUCTURE_EXCEPTION,
    STRUCTURE_MIN_ROWS,
)

_LIST = re.compile(r"\s*(?:[-*•]|\d+[.)])\s")
_OPENS_JSON = re.compile(r"""[{\[]+\s*["{]""")
_KEPT = 10_000
"""Rows of a format whose numbers are kept."""
_MOST_KINDS = 1000
"""Told apart; a set of rows in which each has its own kind has no habit anyway."""
_OTHERS = "(others)"
_SHOWN = 8


@dataclass
class _Kinds:
    """Rows by the kind that they are of."""

    counts: Counter[str] = field(default_factory=Counter)
    members: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: str, row: int) -> None:
        if kind not in self.counts and len(self.counts) >= _MOST_KINDS:
            kind = _OTHERS
        self.counts[kind] += 1
        if len(self.members[kind]) < _KEPT:
            self.members[kind].append(row)

    def exceptions(self) -> list[str]:
        """Kinds that few rows have while one kind is the habit."""
        total = self.counts.total()
        habit = max(self.counts.values(), default=0)
        if total < STRUCTURE_MIN_ROWS or habit < (1 - STRUCTURE_EXCEPTION) * total:
            return []
        return [kind for kind, count in self.counts.items() if count < habit]

    def rows_of(self, kinds: list[str]) -> list[int]:
        return [row for kind in kinds for row in self.members[kind]]

    def listed(self) -> tuple[tuple[str, int], ...]:
        return tuple(self.counts.most_common(_SHOWN))


@dataclass
class Observed:
    """What a pass over the rows has seen."""

    formats: _Kinds = field(default_factory=_Kinds)
    keys: _Kinds = field(default_factory=_Kinds)
    types: dict[str, _Kinds] = field(default_factory=lambda: defaultdict(_Kinds))
    systems: _Kinds = field(default_factory=_Kinds)
    prompts: set[int] = field(default_factory=set)
    """Digests of the system prompts."""
    turns: Counter[int] = field(default_factory=Counter)

    def structure(self) -> Structure:
        return Structure(formats=self.formats.listed(), keys=self.keys.listed())

    def roles(self) -> Roles:
        return Roles(
            with_system=self.systems.counts.total() - self.systems.counts[""],
            system_prompts=len(self.prompts),
            turns=tuple(sorted(self.turns.items())),
        )


def observe(rows: Joined) -> Observed:
    """How each row is built."""
    seen = Observed()
    for i, row in enumerate(rows):
        _observe_prompt(seen, i, row)
        _observe_answer(seen, i, answer_of(row)["content"])
    return seen


def _observe_prompt(seen: Observed, i: int, row: Row) -> None:
    first = row.prompt[0]
    if first["role"] == "system":
        seen.prompts.add(digest(first["content"]))
    seen.systems.add(first["content"] if first["role"] == "system" else "", i)
    seen.turns[sum(one["role"] == "user" for one in row.prompt)] += 1


def _observe_answer(seen: Observed, i: int, text: str) -> None:
    value = json_of(text)
    seen.formats.add(answer_format(text, value), i)
    if isinstance(value, dict):
        seen.keys.add(", ".join(sorted(value)) or "(no keys)", i)
        for key, each in value.items():
            if key in seen.types or len(seen.types) < _MOST_KINDS:
                seen.types[key].add(_type_name(each), i)


def answer_format(text: str, value: object | None) -> str:
    """What kind of text an answer is. value: of the JSON that it is, else None."""
    start = text.lstrip()
    if isinstance(value, dict):
        return "JSON object"
    if value is not None:
        return "JSON list"
    if start.startswith("```"):
        return "code block"
    if _OPENS_JSON.match(start):
        return "broken JSON"
    if _LIST.match(start):
        return "list"
    return "text"


def _type_name(value: object) -> str:
    names = {bool: "true or false", int: "number", float: "number", str: "text", list: "list"}
    return "null" if value is None else names.get(type(value), "object")


def structure_findings(rows: Joined, seen: Observed) -> Iterator[Finding]:
    """Answers that are built otherwise than nearly all others."""
    yield from _format_findings(rows, seen)
    if odd := seen.keys.exceptions():
        habit = seen.keys.counts.most_common(1)[0][0]
        yield from rows.findings(
            "structure",
            "warning",
            lambda count, total: (
                f"{count:,} of {total:,} answers have other JSON keys than all the rest"
                f" ({habit}); give them the same"
            ),
            seen.keys.rows_of(odd),
            [f"keys: {keys}" for keys in odd[:_SHOWN]],
        )
    for key, kinds in seen.types.items():
        if odd := kinds.exceptions():
            yield from _type_findings(rows, key, kinds, odd)


def _format_findings(rows: Joined, seen: Observed) -> Iterator[Finding]:
    counts = seen.formats.counts
    structured = counts["JSON object"] + counts["JSON list"]
    broken = ["broken JSON"] if counts["broken JSON"] and structured else []
    if broken:
        yield from rows.findings(
            "structure",
            "warning",
            lambda count, total: f"{count:,} of {total:,} answers are broken JSON; mend them",
            seen.formats.rows_of(broken),
        )
    # Lists and code may stand among texts; JSON among them, or they among JSON, may not.
    odd = [kind for kind in seen.formats.exceptions() if kind not in broken]
    odd = odd if structured > counts.total() / 2 else [kind for kind in odd if "JSON" in kind]
    if odd:
        habit = counts.most_common(1)[0][0]
        yield from rows.findings(
            "structure",
            "warning",
            lambda count, total: (
                f"{count:,} of {total:,} answers are {' or '.join(odd)} where nearly all are"
                f" {habit}; give all answers one form"
            ),
            seen.formats.rows_of(odd),
        )


def _type_findings(rows: Joined, key: str, kinds: _Kinds, odd: list[str]) -> Iterator[Finding]:
    habit = kinds.counts.most_common(1)[0][0]
    yield from rows.findings(
        "structure",
        "warning",
        lambda count, total: (
            f"{count:,} of {total:,} answers have {' or '.join(odd)} in {key!r} where nearly all"
            f" have {habit}; give all the same type"
        ),
        kinds.rows_of(odd),
    )


def role_findings(rows: Joined, seen: Observed) -> Iterator[Finding]:
    """A system prompt that some rows lack, or say otherwise, is one that nobody will send."""
    systems = seen.systems
    without, total = systems.counts[""], systems.counts.total()
    if 0 < without < total:
        few = [""] if without <= total / 2 else [name for name in systems.counts if name]
        what = "no system prompt where the others have one" if few == [""] else "a system prompt"
        yield from rows.findings(
            "system_prompt",
            # Many of both are meant, to serve with one and without.
            "warning" if min(without, total - without) <= STRUCTURE_EXCEPTION * total else "advice",
            lambda count, total: (
                f"{count:,} of {total:,} rows have {what}; train with what will be sent when it"
                " serves"
            ),
            systems.rows_of(few),
        )
    prompts = Counter({name: count for name, count in systems.counts.items() if name})
    if 1 < len(prompts) <= FEW_SYSTEM_PROMPTS:
        habit = prompts.most_common(1)[0][0]
        yield from rows.findings(
            "system_prompt",
            "warning",
            lambda count, _: (
                f"{len(prompts)} different system prompts; {count:,} rows have another than the"
                " most frequent one; use one for all"
            ),
            systems.rows_of([name for name in prompts if name != habit]),
        )
    elif len(prompts) > FEW_SYSTEM_PROMPTS:
        yield Finding(
            code="system_prompt",
            severity="advice",
            message=f"{len(seen.prompts):,} different system prompts; use one, unless each row's is"
            " its own context",
        )
