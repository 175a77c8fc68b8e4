"""All options of one call, by their panels."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from loadtest.command.errors import Usage
from loadtest.command.flags import Group, given, option_of
from loadtest.command.load_options import AskOptions, LoadOptions, WhoOptions
from loadtest.command.options import (
    CompareOptions,
    JudgeOptions,
    KneeOptions,
    OutputOptions,
    RunOptions,
    TargetOptions,
)

PANELS: tuple[type[Group], ...] = (
    TargetOptions, LoadOptions, WhoOptions, AskOptions, JudgeOptions, KneeOptions, CompareOptions,
    RunOptions, OutputOptions,
)  # fmt: skip
_WITH_COMPARE = {"--out", "--report", "--json"}
_WITHOUT_MEANING_IN_A_SEARCH = {
    "--duration": "--probe says how long a rate is tried",
    "--requests": "--probe says how long a rate is tried",
    "--cooldown": "each probe waits for its answers",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """In the order of PANELS."""

    target: TargetOptions
    load: LoadOptions
    who: WhoOptions
    ask: AskOptions
    judge: JudgeOptions
    knee: KneeOptions
    compare: CompareOptions
    run: RunOptions
    output: OutputOptions

    def check(self) -> None:
        """Raises Usage where options do not go together, or are no text."""
        self._check_text()
        if self.compare.compare is not None:
            self._check_comparison()
        elif self.compare.fail_if_worse:
            raise Usage("--fail-if-worse: goes with --compare A B; a run is judged by --fail-if")
        elif self.knee.find_knee:
            self._check_search()
        elif options := given(self.knee):
            raise Usage(f"{options[0]}: has no meaning without --find-knee")

    def _check_text(self) -> None:
        """Bytes that are not UTF-8 could be sent and shown, but not kept in a JSON file."""
        for group in (getattr(self, one.name) for one in fields(self)):
            for one in fields(group):
                if not _is_text(getattr(group, one.name)):
                    raise Usage(f"{option_of(group, one.name)}: is not UTF-8; write it so")

    def _check_comparison(self) -> None:
        """The options of a run mean nothing to two that are over."""
        groups: tuple[Group, ...] = (
            self.target, self.load, self.who, self.ask, self.judge, self.knee, self.run,
            self.output,
        )  # fmt: skip
        for option in (one for group in groups for one in given(group)):
            if option not in _WITH_COMPARE:
                fix = "; --fail-if-worse judges two" if option == "--fail-if" else ""
                raise Usage(f"{option}: has no meaning with --compare, which sends nothing{fix}")

    def _check_search(self) -> None:
        if self.judge.slo is None:
            raise Usage("--find-knee: needs --slo, as ttft=500ms, which the rate is to hold")
        for option in given(self.load):
            if why := _WITHOUT_MEANING_IN_A_SEARCH.get(option):
                raise Usage(f"{option}: has no meaning with --find-knee; {why}")


def _is_text(value: object) -> bool:
    if isinstance(value, str | Path):
        return str(value).encode("utf-8", "ignore").decode() == str(value)
    return not isinstance(value, Iterable) or all(map(_is_text, value))
