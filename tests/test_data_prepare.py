"""From a recipe's data part to rows: splits, files, limits, replay, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from tests.rows_for_tests import chat, requests, write_rows
from training.data.draw import generic_rows
from training.data.prepare import Prepared, prepare
from training.data.rows import Chat, Row
from training.data.split_folder import write_split
from training.data.splits import split_rows
from training.errors import DataError, TrainingError
from training.recipe.recipe import DataPart, RowTemplate

ROWS = requests(200)


def _prepare(folder: Path, max_tokens: int | None = None, **part: Any) -> Prepared:
    def count(row: Row) -> int:
        return len(row.prompt[-1]["content"])

    fields = {"train": Path("rows.jsonl"), **part}
    return prepare(DataPart(**fields), folder, count, max_tokens, lambda *_: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_rows(tmp_path / "rows.jsonl", ROWS)
    return tmp_path


def test_one_file_is_split_by_the_parts_shares(folder: Path) -> None:
    found = _prepare(folder, validation=0.1, test=0.2)
    assert (len(found.train), len(found.validation), len(found.test)) == (140, 20, 40)
    assert {row.line for row in [*found.train, *found.validation, *found.test]} == {*range(1, 201)}
    assert found.kind == "chat"
    assert len(found.version) == 64
    assert found.report.rows == 200
    assert found.system_prompt is None


def test_the_version_is_of_the_data_with_its_split(folder: Path) -> None:
    first = _prepare(folder).version
    assert _prepare(folder).version == first
    assert _prepare(folder, limit=50, replay=0.1).version == first
    assert _prepare(folder, test=0.3).version != first
    write_rows(folder / "rows.jsonl", ROWS[::-1])
    assert _prepare(folder).version == first
    write_rows(folder / "rows.jsonl", ROWS[1:])
    assert _prepare(folder).version != first


def test_a_folder_of_data_split_is_used_as_it_is(folder: Path) -> None:
    splits = split_rows(ROWS, validation=0.2, test=0.3)
    dataset = write_split(
        folder / "split",
        splits,
        source=folder / "rows.jsonl",
        source_sha256="",
        validation=0.2,
        test=0.3,
    )
    found = _prepare(folder, train=Path("split"))
    assert [row.prompt for row in found.test] == [row.prompt for row in splits.test]
    assert (len(found.train), len(found.validation), len(found.test)) == (100, 40, 60)
    assert found.version == dataset.version
    assert found.report.version == dataset.version


def test_held_out_files_are_taken_whole_and_the_rest_is_split(folder: Path) -> None:
    write_rows(folder / "rows.jsonl", ROWS[:150])
    write_rows(folder / "held.jsonl", ROWS[150:])
    found = _prepare(folder, test=Path("held.jsonl"), validation=0.1)
    assert (len(found.train), len(found.validation), len(found.test)) == (135, 15, 50)


def test_leaked_rows_are_refused_unless_they_are_allowed(folder: Path) -> None:
    write_rows(folder / "held.jsonl", ROWS[150:])
    with pytest.raises(TrainingError) as refused:
        _prepare(folder, test=Path("held.jsonl"))
    assert "50 of 50 rows of test are in train too" in refused.value.message
    assert "or set data.allow: [leakage]" in refused.value.message
    assert len(_prepare(folder, test=Path("held.jsonl"), allow=("leakage",)).test) == 50


def test_every_bad_row_is_named_and_none_can_be_allowed(folder: Path) -> None:
    with (folder / "rows.jsonl").open("a") as file:
        file.write("{oops\n[]\n")
    with pytest.raises(TrainingError) as refused:
        _prepare(folder)
    assert "2 of 202 rows cannot be used" in refused.value.message
    assert "line 201: is not JSON" in refused.value.message
    assert "line 202: is not an object" in refused.value.message
    assert "data.allow" not in refused.value.message


def test_rows_beyond_the_limit_are_refused_by_line(folder: Path) -> None:
    write_rows(folder / "rows.jsonl", [*ROWS, chat(201, "play " + "x" * 200, "{}")])
    with pytest.raises(TrainingError, match=r"1 of 201 rows are longer than 100 tokens"):
        _prepare(folder, max_tokens=100)
    assert len(_prepare(folder, max_tokens=205).train) == 141


def test_a_row_that_cannot_be_counted_is_bad(folder: Path) -> None:
    def count(row: Row) -> int:
        if row.line == 7:
            raise DataError(7, "messages[0].content", "holds <|im_end|>; write it otherwise")
        return 1

    with pytest.raises(TrainingError, match=r"line 7: messages\[0\].content: holds <\|im_end\|>"):
        prepare(DataPart(train=Path("rows.jsonl")), folder, count, None, lambda *_: None)


def test_too_few_rows_are_refused_unless_they_are_allowed(folder: Path) -> None:
    write_rows(folder / "rows.jsonl", ROWS[:20])
    with pytest.raises(TrainingError, match="20 rows: too few"):
        _prepare(folder)
    assert len(_prepare(folder, allow=("few_rows",)).train) == 14


def test_a_limit_draws_evenly_and_replay_is_mixed_in(folder: Path) -> None:
    found = _prepare(folder, limit=60, replay=0.25)
    assert (len(found.train), found.replayed) == (80, 20)
    intents = [
        row.answer["content"].split('"')[3] for row in found.train[:60] if isinstance(row, Chat)
    ]
    assert sorted(intents.count(name) for name in ("Weather", "Music", "Rate")) == [20, 20, 20]


def test_replayed_rows_are_those_that_fit(folder: Path) -> None:
    found = _prepare(folder, max_tokens=60, replay=0.5)
    assert found.replayed == 140
    assert all(len(row.prompt[-1]["content"]) <= 60 for row in found.train)
    longest = max(len(row.prompt[-1]["content"]) for row in ROWS)
    assert longest <= 60 < max(len(row.prompt[-1]["content"]) for row in generic_rows())


def test_replay_of_which_no_row_fits_is_refused(folder: Path) -> None:
    def count(row: Row) -> int:
        if row not in ROWS:
            raise DataError(row.line, "chat_template", "does not take it")
        return 1

    part = DataPart(train=Path("rows.jsonl"), replay=0.1)
    with pytest.raises(TrainingError, match=r"data\.replay: no generic row fits"):
        prepare(part, folder, count, None, lambda *_: None)


def test_preferences_have_no_replay(tmp_path: Path) -> None:
    lines = [
        f'{{"prompt": "Ask {row.prompt[0]["content"]}", "chosen": "yes", "rejected": "no"}}\n'
        for row in ROWS
    ]
    (tmp_path / "rows.jsonl").write_text("".join(lines))
    assert _prepare(tmp_path).kind == "preference"
    with pytest.raises(TrainingError, match=r"data\.replay: there are no generic preferences"):
        _prepare(tmp_path, replay=0.1)


def test_a_csv_needs_a_template_that_names_its_columns(folder: Path) -> None:
    lines = [f"{row.prompt[0]['content']},class {row.line % 4}" for row in ROWS]
    (folder / "rows.csv").write_text("text,category\n" + "\n".join(lines) + "\n")
    with pytest.raises(TrainingError, match=r"data\.template: a CSV needs one; its columns"):
        _prepare(folder, train=Path("rows.csv"))
    template = RowTemplate(prompt="{text}", answer="{category}", system="Sort.", label=None)
    found = _prepare(folder, train=Path("rows.csv"), template=template)
    assert found.system_prompt == "Sort."
    assert found.report.classes.source == "answer"
