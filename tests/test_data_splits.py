"""Splits by content, versions, draws, and the folder that holds a split."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.rows_for_tests import chat, requests, write_rows
from training.data.classes import classes_of
from training.data.draw import draw, generic_rows, mix_in_replay
from training.data.readers import read_rows
from training.data.rows import Chat, Row
from training.data.split_folder import read_dataset, write_split
from training.data.splits import Splits, split_rows
from training.data.version import row_digest, version_of
from training.errors import TrainingError
from training.recipe.recipe import RowTemplate


def _sides(splits: Splits) -> dict[str, str]:
    return {
        row.prompt[0]["content"]: side
        for side in ("train", "validation", "test")
        for row in getattr(splits, side)
    }


def _split(rows: list[Chat]) -> Splits:
    return split_rows(rows, validation=0.1, test=0.2)


def test_shares_are_kept_in_every_class() -> None:
    rows = requests(300)
    splits = _split(rows)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (210, 30, 60)
    whole = Counter(json.loads(row.answer["content"])["intent"] for row in rows)
    for intent, count in Counter(
        json.loads(row.answer["content"])["intent"] for row in splits.test if isinstance(row, Chat)
    ).items():
        assert abs(count - 0.2 * whole[intent]) <= 1


def test_the_order_of_rows_does_not_matter() -> None:
    rows = requests(200)
    shuffled = random.Random(1).sample(rows, len(rows))
    assert _sides(_split(rows)) == _sides(_split(shuffled))


def test_more_rows_move_few_of_those_there_were() -> None:
    rows = requests(330)
    before, after = _sides(_split(rows[:300])), _sides(_split(rows))
    moved = sum(before[prompt] != after[prompt] for prompt in before)
    assert moved <= 15


def test_a_mended_answer_moves_no_row() -> None:
    rows = [chat(row.line, row.prompt[0]["content"], "yes", "a") for row in requests(100)]
    mended = [
        Chat(row.line, row.prompt, {"role": "assistant", "content": "no"}, "a") for row in rows
    ]
    assert _sides(_split(rows)) == _sides(_split(mended))


def test_rows_that_ask_the_same_stay_on_one_side() -> None:
    rows = requests(200)
    doubles = [
        chat(201 + i, f"please {row.prompt[0]['content']}", row.answer["content"])
        for i, row in enumerate(rows)
    ]
    sides = _sides(_split(rows + doubles))
    for row in rows:
        prompt = row.prompt[0]["content"]
        assert sides[prompt] == sides[f"please {prompt}"]


def test_a_group_larger_than_a_part_is_learned() -> None:
    rows = [chat(i, "hello there" + "!" * i, "hi") for i in range(1, 60)]
    rows += [chat(100 + row.line, row.prompt[0]["content"], "hi") for row in requests(60)]
    splits = _split(rows)
    assert len(splits.test) == pytest.approx(0.2 * 119, abs=2)


@pytest.mark.parametrize(
    ("validation", "test", "problem"),
    [(0.6, 0.5, "less than 1 together"), (0.01, 0.2, "validation: 1% of 20 rows is none")],
)
def test_shares_that_leave_nothing_are_refused(
    validation: float, test: float, problem: str
) -> None:
    with pytest.raises(TrainingError, match=problem):
        split_rows(requests(20), validation=validation, test=test)


@pytest.mark.parametrize(
    ("rows", "source"),
    [
        (requests(60), "answer.intent"),
        ([chat(i, f"text {i}", "ab"[i % 2]) for i in range(20)], "answer"),
        ([chat(i, f"text {i}", f"answer {i}", "ab"[i % 2]) for i in range(20)], "label"),
        ([chat(i, f"text {i}", f"answer {i}") for i in range(20)], None),
        ([chat(i, f"text {i}", "always this") for i in range(20)], None),
    ],
)
def test_classes_are_labels_or_few_answers_or_a_field_of_them(
    rows: list[Chat], source: str | None
) -> None:
    assert classes_of(rows).source == source


def test_a_draw_is_even_over_classes_and_keeps_order() -> None:
    rows = [chat(i, f"text {i}", "many" if i > 20 else "few", None) for i in range(1, 201)]
    drawn = draw(rows, 60)
    assert Counter(row.answer["content"] for row in drawn if isinstance(row, Chat)) == {
        "few": 20,
        "many": 40,
    }
    assert [row.line for row in drawn] == sorted(row.line for row in drawn)
    again = draw(random.Random(2).sample(rows, len(rows)), 60)
    assert {row.line for row in drawn} == {row.line for row in again}
    assert draw(rows[:5], 60) == rows[:5]


def test_replay_is_a_share_of_all_rows() -> None:
    rows: list[Row] = list(requests(90))
    mixed = mix_in_replay(rows, 0.1)
    assert mixed[:90] == rows
    assert len(mixed) == 100
    assert all(row in generic_rows() for row in mixed[90:])
    many = mix_in_replay(rows, 0.7)
    assert len(many) == 300  # more than there are: they come again


def test_the_generic_rows_are_good_rows() -> None:
    rows = generic_rows()
    assert len(rows) >= 150
    assert len({row.prompt[0]["content"] for row in rows}) == len(rows)


def test_the_version_is_of_what_rows_say_not_of_order_or_format(tmp_path: Path) -> None:
    rows = [chat(i, f"question {i}", f"answer {i % 2}", f"l{i % 2}") for i in range(5)]
    as_chat = write_rows(tmp_path / "chat.jsonl", rows[::-1])
    as_csv = tmp_path / "rows.csv"
    lines = [f"question {i},answer {i % 2},l{i % 2}" for i in range(5)]
    as_csv.write_text("q,a,l\n" + "\n".join(lines) + "\n")
    template = RowTemplate(prompt="{q}", answer="{a}", system=None, label="{l}")
    version = read_rows(as_chat).version
    assert version == read_rows(as_csv, template).version
    assert version == version_of(map(row_digest, rows))
    assert version != version_of(map(row_digest, rows[1:]))
    assert version != version_of(map(row_digest, [*rows, rows[0]]))
    assert len(version) == 64


def test_a_split_folder_is_written_whole_and_read_again(tmp_path: Path) -> None:
    rows = requests(50)
    splits = _split(rows)
    folder = tmp_path / "split"
    written = write_split(
        folder, splits, source=tmp_path / "x.jsonl", source_sha256="ab", validation=0.1, test=0.2
    )
    assert sorted(file.name for file in folder.iterdir()) == [
        "dataset.json",
        "test.jsonl",
        "train.jsonl",
        "validation.jsonl",
    ]
    dataset, files = read_dataset(folder)
    assert dataset == written
    assert written.source_version == version_of(map(row_digest, rows))
    for name, file in files.items():
        read = read_rows(file)
        assert [row.prompt for row in read.rows] == [row.prompt for row in getattr(splits, name)]
        assert read.version == written.parts[name].version
    assert [file.name for file in tmp_path.iterdir()] == ["split"]
    with pytest.raises(TrainingError, match="is not empty; name a new folder"):
        write_split(folder, splits, source=folder, source_sha256="", validation=0.1, test=0.2)


def test_a_held_out_file_that_was_changed_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "split"
    write_split(
        folder, _split(requests(50)), source=folder, source_sha256="", validation=0.1, test=0.2
    )
    with (folder / "test.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(TrainingError, match=r"split/test.jsonl: is not the file that"):
        read_dataset(folder)
