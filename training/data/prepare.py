"""From a recipe's data part to the rows that are learned, that steer the run, and that judge it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from training.data.check import Checked, check
from training.data.draw import draw, mix_in_replay
from training.data.fingerprints import Progress
from training.data.lengths import CountEach, TokenCounter, one_by_one
from training.data.readers import read_rows
from training.data.report import DataReport, Finding
from training.data.rows import DataFile, Kind, Row
from training.data.split_folder import read_dataset
from training.data.splits import Splits, split_rows
from training.data.thresholds import LINES_SHOWN
from training.data.version import row_digest, version_of, version_of_parts
from training.errors import DataError, TrainingError
from training.recipe.recipe import DataPart, Fault, RowTemplate


@dataclass(frozen=True)
class Prepared:
    """A data set, ready for a run.

    train: with the replayed rows, the last `replayed` of them. version: 64 hex, of the whole data
    set with its split, before `limit` and replay. system_prompt: the one that all rows share.
    """

    train: Sequence[Row]
    validation: Sequence[Row]
    test: Sequence[Row]
    kind: Kind
    version: str
    report: DataReport
    system_prompt: str | None
    replayed: int = 0


def prepare(
    part: DataPart,
    folder: Path,
    count_tokens: Callable[[Row], int] | None,
    max_tokens: int | None,
    progress: Progress,
) -> Prepared:
    """Read, check and split what `part` names; its paths are relative to `folder`.

    count_tokens: may raise DataError for a row. max_tokens: of a row at most.
    Raises TrainingError for what the report calls errors, but those that `part.allow` names.
    """
    progress("reading the data", None)
    files = _read(part, folder)
    checked = check(files, count=_each(count_tokens), limit=max_tokens, progress=progress)
    _refuse(checked.report, part)
    splits = _split(part, files, checked)
    train = draw(splits.train, part.limit) if part.limit else splits.train
    kind = checked.report.kind
    if part.replay and kind != "chat":
        raise TrainingError("data.replay: there are no generic preferences; set it to 0")
    fits = _fits(count_tokens, max_tokens)
    mixed = mix_in_replay(train, part.replay, fits) if part.replay else train
    return Prepared(
        train=mixed,
        validation=splits.validation,
        test=splits.test,
        kind=kind,
        version=_version(splits),
        report=checked.report,
        system_prompt=checked.similar.prints.shared_system,
        replayed=len(mixed) - len(train),
    )


def _each(count_tokens: Callable[[Row], int] | None) -> CountEach | None:
    if isinstance(count_tokens, TokenCounter):
        return count_tokens.each
    return None if count_tokens is None else one_by_one(count_tokens)


def _fits(
    count_tokens: Callable[[Row], int] | None, max_tokens: int | None
) -> Callable[[Row], bool]:
    """Whether a row that is not the user's can be learned as it is."""

    def fits(row: Row) -> bool:
        if count_tokens is None:
            return True
        try:
            return count_tokens(row) <= (max_tokens or math.inf)
        except DataError:
            return False

    return fits


def _read(part: DataPart, folder: Path) -> dict[str, DataFile]:
    """The files of the data set: `train`, then `validation` and `test` where they are files."""
    paths = {"train": folder / part.train}
    held_out = {"validation": part.validation, "test": part.test}
    if paths["train"].is_dir():
        paths = dict(read_dataset(paths["train"])[1])
    paths |= {name: folder / value for name, value in held_out.items() if isinstance(value, Path)}
    return {name: _read_file(path, part.template) for name, path in paths.items()}


def _read_file(path: Path, template: RowTemplate | None) -> DataFile:
    try:
        return read_rows(path, template)
    except TrainingError as error:
        # `template: ...` is a field of the recipe's data part.
        prefix = "data." if error.message.startswith("template") else ""
        raise TrainingError(prefix + error.message) from error


def _refuse(report: DataReport, part: DataPart) -> None:
    errors = [one for one in report.of("error") if one.code not in part.allow]
    if errors:
        raise TrainingError("\n".join(_told(one, part) for one in errors))


def _told(finding: Finding, part: DataPart) -> str:
    told = f"data: {finding.told()}"
    if finding.code in get_args(Fault):
        told += f"; or set data.allow: [{', '.join([*part.allow, finding.code])}]"
    # Of bad rows each has a reason of its own.
    reasons = finding.examples if finding.code == "bad_rows" else ()
    if len(reasons) > LINES_SHOWN:
        more = f"and {len(reasons) - LINES_SHOWN:,} more: `loraplex data check --json` has them all"
        reasons = (*reasons[:LINES_SHOWN], more)
    return "\n  ".join([told, *reasons])


def _split(part: DataPart, files: Mapping[str, DataFile], checked: Checked) -> Splits:
    """Held-out rows are files of their own, or parts of `train`."""
    given = {name: list(file.rows) for name, file in files.items()}
    shares = {
        name: 0.0 if name in given or isinstance(value, Path) else value
        for name, value in (("validation", part.validation), ("test", part.test))
    }
    learned = files["train"].rows
    # Of `train` alone: a group may reach into another file.
    groups = np.unique(checked.similar.groups[: len(learned)], return_inverse=True)[1]
    made = split_rows(learned, validation=shares["validation"], test=shares["test"], groups=groups)
    return Splits(
        train=made.train,
        validation=given.get("validation", made.validation),
        test=given.get("test", made.test),
    )


def _version(splits: Splits) -> str:
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    return version_of_parts(
        {name: version_of(map(row_digest, rows)) for name, rows in parts.items() if rows}
    )
