"""Rows of JSONL: what is a row, and how each bad one is named."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from training.data.readers import read_rows
from training.data.rows import Chat, Preference
from training.errors import TrainingError

SYSTEM = {"role": "system", "content": "Be kind."}
USER = {"role": "user", "content": "Hi"}
ASSISTANT = {"role": "assistant", "content": "Hello."}
GOOD = json.dumps({"messages": [USER, ASSISTANT]})
PAIR = {"prompt": "Hi", "chosen": "Hello.", "rejected": "Go away."}


def _file(folder: Path, *lines: str, name: str = "data.jsonl") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_chat_is_a_prompt_and_an_answer(tmp_path: Path) -> None:
    row = json.dumps({"messages": [SYSTEM, USER, ASSISTANT, USER, ASSISTANT]})
    found = read_rows(_file(tmp_path, row))
    assert list(found.rows) == [Chat(1, (SYSTEM, USER, ASSISTANT, USER), ASSISTANT)]
    assert found.kind == "chat"


def test_blank_lines_and_a_byte_order_mark_are_skipped_but_counted(tmp_path: Path) -> None:
    found = read_rows(_file(tmp_path, "\ufeff" + GOOD, "", "  ", GOOD))
    assert [row.line for row in found.rows] == [1, 4]


def test_line_separators_inside_a_text_do_not_end_the_row(tmp_path: Path) -> None:
    answer = {"role": "assistant", "content": "one\u2028two\x85three"}
    row = json.dumps({"messages": [USER, answer]}, ensure_ascii=False)
    (found,) = read_rows(_file(tmp_path, row)).rows
    assert isinstance(found, Chat)
    assert found.answer == answer


@pytest.mark.parametrize(
    ("prompt", "completion"),
    [("Hi", "Hello."), ([USER], "Hello."), ("Hi", [ASSISTANT]), ([USER], [ASSISTANT])],
)
def test_prompt_and_completion_are_a_chat(tmp_path: Path, prompt: Any, completion: Any) -> None:
    row = {"prompt": prompt, "completion": completion, "label": "greeting"}
    found = read_rows(_file(tmp_path, json.dumps(row)))
    assert list(found.rows) == [Chat(1, (USER,), ASSISTANT, "greeting")]


def test_a_preference_has_a_better_and_a_worse_answer(tmp_path: Path) -> None:
    row = PAIR | {"prompt": [SYSTEM, USER], "rejected": [{"role": "assistant", "content": "No."}]}
    found = read_rows(_file(tmp_path, json.dumps(PAIR), json.dumps(row)))
    worse = {"role": "assistant", "content": "Go away."}
    no = {"role": "assistant", "content": "No."}
    assert found.kind == "preference"
    assert list(found.rows) == [
        Preference(1, (USER,), ASSISTANT, worse),
        Preference(2, (SYSTEM, USER), ASSISTANT, no),
    ]


BAD: list[tuple[Any, str, str]] = [
    ("{oops", "", "is not JSON"),
    ("[" * 100_000, "", "is not JSON"),
    ('{"prompt": ' + "1" * 5000 + "}", "", "is not JSON"),
    ("[]", "", "is not an object"),
    ({}, "messages", "is missing or empty"),
    ({"text": "Hi"}, "", "has no fields of a row (only text)"),
    ({"messages": []}, "messages", "is missing or empty"),
    ({"messages": ["Hi"]}, "messages[0]", "is not an object"),
    ({"messages": [USER, ASSISTANT], "tools": []}, "tools", "remove it"),
    ({"messages": [USER, ASSISTANT | {"tool_calls": []}]}, "messages[1].tool_calls", "remove it"),
    ({"messages": [USER, {"role": "bot", "content": "Hi"}]}, "messages[1].role", "must be one of"),
    ({"messages": [USER, {"role": ["user"], "content": "Hi"}]}, "messages[1].role", "one of"),
    ({"messages": [USER, {"role": "assistant", "content": " "}]}, "messages[1].content", "empty"),
    ({"messages": [USER, {"role": "assistant"}]}, "messages[1].content", "not empty"),
    ({"messages": [USER | {"content": "\ud83d"}, ASSISTANT]}, "messages[0].content", "surrogate"),
    ({"messages": [ASSISTANT]}, "messages[0].role", "must be user"),
    ({"messages": [USER]}, "messages[0].role", "add the answer"),
    ({"messages": [USER, USER, ASSISTANT]}, "messages[1].role", "must be assistant here"),
    ({"messages": [SYSTEM]}, "messages[0].role", "add the answer"),
    ({"messages": [USER, ASSISTANT], "label": ""}, "label", "must be a text"),
    ({"prompt": "Hi"}, "completion", "is missing"),
    ({"prompt": "", "completion": "Hello."}, "prompt", "not empty"),
    ({"prompt": [ASSISTANT], "completion": "Hello."}, "prompt[0].role", "must be user"),
    ({"prompt": [USER, ASSISTANT], "completion": "Hi"}, "prompt[1].role", "end with the user's"),
    ({"prompt": "Hi", "completion": "Hello.", "chosen": "x"}, "chosen", "not a known field"),
    ({"prompt": "Hi", "chosen": "Hello."}, "rejected", "is missing"),
    ({"chosen": "Hello.", "rejected": "No."}, "prompt", "is missing"),
    (PAIR | {"rejected": "Hello."}, "rejected", "is the same as chosen"),
    (PAIR | {"chosen": [USER, ASSISTANT]}, "chosen", "one message of the assistant"),
]


@pytest.mark.parametrize(("row", "field", "problem"), BAD)
def test_a_bad_row_is_named_and_the_others_are_read(
    tmp_path: Path, row: Any, field: str, problem: str
) -> None:
    good = json.dumps(PAIR) if isinstance(row, dict) and "chosen" in row else GOOD
    line = row if isinstance(row, str) else json.dumps(row)
    found = read_rows(_file(tmp_path, good, "", line, good))
    assert [row.line for row in found.rows] == [1, 4]
    (error,) = found.bad
    assert (error.line, error.field) == (3, field)
    assert error.message.startswith("line 3: ")
    assert problem in error.message


def test_every_bad_row_is_named_not_only_the_first(tmp_path: Path) -> None:
    lines = [line if isinstance(line, str) else json.dumps(line) for line, _, _ in BAD]
    found = read_rows(_file(tmp_path, GOOD, *lines))
    assert [error.line for error in found.bad] == [*range(2, len(BAD) + 2)]


def test_a_row_of_the_other_kind_is_bad(tmp_path: Path) -> None:
    found = read_rows(_file(tmp_path, GOOD, json.dumps(PAIR)))
    assert [error.message for error in found.bad] == [
        "line 2: is a preference, rows before it a chat; use two files"
    ]


def test_bytes_that_are_not_utf8_are_named_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(GOOD.encode() + b"\n\xff\n")
    (error,) = read_rows(path).bad
    assert error.message == "line 2: is not UTF-8; save the file as UTF-8"


def test_the_digest_is_of_the_files_bytes(tmp_path: Path) -> None:
    path = _file(tmp_path, GOOD)
    assert read_rows(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("data.jsonl", b"\n\n", "has no rows"),
        ("data.json", b'[\n{"prompt": "a"}]', "is one JSON list; write one object a line"),
        ("data.xlsx", b"PK\x03\x04\0\0", "is not text"),
        ("data.txt", b"hello", "neither JSONL nor CSV"),
        ("data.csv", b"text,category\na,b\n", "template: a CSV needs one; its columns are: text"),
    ],
)
def test_a_file_that_holds_no_rows_is_refused(
    tmp_path: Path, name: str, content: bytes, problem: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(TrainingError, match=problem):
        read_rows(path)


def test_the_content_tells_the_format_where_the_name_does_not(tmp_path: Path) -> None:
    assert len(read_rows(_file(tmp_path, GOOD, name="rows.txt")).rows) == 1
    assert len(read_rows(_file(tmp_path, GOOD, name="rows.csv")).rows) == 1


def test_a_missing_file_is_refused_without_its_folder(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="No such file") as refused:
        read_rows(tmp_path / "nowhere.jsonl")
    assert str(tmp_path) not in refused.value.message


def test_more_rows_than_memory_keeps_are_read_from_disk(tmp_path: Path) -> None:
    text = "x" * 100_000
    lines = [json.dumps({"prompt": f"{i} {text}", "completion": "a"}) for i in range(300)]
    rows = read_rows(_file(tmp_path, *lines)).rows
    assert [row.line for row in rows] == [*range(1, 301)]
    assert rows[299].prompt[0]["content"].startswith("299 x")
    assert [row.line for row in rows[10:13]] == [11, 12, 13]
    assert rows[-1] == rows[299]
    with pytest.raises(IndexError):
        rows[300]
