"""What people chose on a blind sheet, unblinded."""

from pathlib import Path
from typing import TYPE_CHECKING

from loraplex.errors import CommandError
from loraplex.files import read_text
from loraplex.output import print_fields, print_json, print_line, print_table

if TYPE_CHECKING:  # the training module is loaded only by the command that needs it
    from training.evaluation.blind import BlindResult


def show_blind_result(sheet: Path, key: Path, *, as_json: bool) -> None:
    """The result for a person, or as one JSON document. Raises CommandError."""
    from training.errors import EvaluationError
    from training.evaluation.blind import read_key, unblind

    try:
        found = unblind(_read_sheet(sheet), read_key(read_text(key)))
    except EvaluationError as error:
        raise CommandError(error.message) from error
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        _show(found)


def _read_sheet(file: Path) -> str:
    """As it is: the ends of lines inside a cell belong to it."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            return opened.read()
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandError(f"{file}: not UTF-8 text; save it as CSV in UTF-8") from None


def _show(found: "BlindResult") -> None:
    print_fields(
        [
            ("candidate", found.candidate),
            ("other", found.other),
            ("judged", f"{found.judged} of {found.judged + found.open} pairs"),
            ("equal answers", f"{found.same} (ties)"),
        ]
    )
    print_line("")
    rows = []
    for name, one in found.criteria.items():
        rate = one.win_rate
        interval = "" if rate.low is None else f" ({rate.low:.2f} to {rate.high:.2f})"
        p_value = "" if one.p_value is None else f"{one.p_value:.3f}"
        rows.append((name, one.wins, one.losses, one.ties, f"{rate.value:.2f}{interval}", p_value))
    print_table(
        ["CRITERION", "WON", "LOST", "TIES", "WIN RATE", "P"],
        rows,
        empty="",
        right="WON LOST TIES P",
    )
