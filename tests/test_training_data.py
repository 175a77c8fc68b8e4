"""The data's reader: what is a row, and how a bad one is named."""

import hashlib
import json
from pathlib import Path

import pytest

from training.data import Chat, read_chats
from training.errors import DataError, TrainingError

USER = {"role": "user", "content": "Hi"}
ASSISTANT = {"role": "assistant", "content": "Hello."}
GOOD = json.dumps({"messages": [USER, ASSISTANT]})


def _file(folder: Path, *lines: str) -> Path:
    path = folder / "data.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_row_is_a_prompt_and_an_answer(tmp_path: Path) -> None:
    system = {"role": "system", "content": "Be kind."}
    row = json.dumps({"messages": [system, USER, ASSISTANT, USER, ASSISTANT]})
    assert read_chats(_file(tmp_path, row)).rows == [
        Chat(line=1, prompt=(system, USER, ASSISTANT, USER), answer=ASSISTANT)
    ]


def test_blank_lines_and_a_byte_order_mark_are_skipped_but_counted(tmp_path: Path) -> None:
    chats = read_chats(_file(tmp_path, "\ufeff" + GOOD, "", "  ", GOOD))
    assert [chat.line for chat in chats.rows] == [1, 4]


def test_line_separators_inside_a_text_do_not_end_the_row(tmp_path: Path) -> None:
    answer = {"role": "assistant", "content": "one\u2028two\x85three"}
    row = json.dumps({"messages": [USER, answer]}, ensure_ascii=False)
    assert read_chats(_file(tmp_path, row)).rows[0].answer == answer


@pytest.mark.parametrize(
    ("line", "field", "problem"),
    [
        ("{oops", "", "is not JSON"),
        ("[" * 100_000, "", "is not JSON"),
        ("[]", "", "is not an object"),
        ("{}", "messages", "is missing or empty"),
        ('{"messages": []}', "messages", "is missing or empty"),
        ('{"messages": ["Hi"]}', "messages[0]", "is not an object"),
        (json.dumps({"messages": [USER, ASSISTANT], "tools": []}), "tools", "remove it"),
        (
            json.dumps({"messages": [USER, ASSISTANT | {"tool_calls": []}]}),
            "messages[1].tool_calls",
            "remove it",
        ),
        (
            json.dumps({"messages": [USER, {"role": "bot", "content": "Hi"}]}),
            "messages[1].role",
            "must be one of system, user, assistant",
        ),
        (
            json.dumps({"messages": [USER, {"role": ["user"], "content": "Hi"}]}),
            "messages[1].role",
            "must be one of",
        ),
        (
            json.dumps({"messages": [USER, {"role": "assistant", "content": "  "}]}),
            "messages[1].content",
            "not empty",
        ),
        (
            json.dumps({"messages": [USER, {"role": "assistant"}]}),
            "messages[1].content",
            "not empty",
        ),
        (
            json.dumps({"messages": [USER | {"content": "\ud83d"}, ASSISTANT]}),
            "messages[0].content",
            "surrogate",
        ),
        (json.dumps({"messages": [ASSISTANT]}), "messages[0].role", "must be user"),
        (json.dumps({"messages": [USER]}), "messages[0].role", "add the answer"),
        (json.dumps({"messages": [USER, USER, ASSISTANT]}), "messages[1].role", "assistant here"),
        (
            json.dumps({"messages": [{"role": "system", "content": "Be kind."}]}),
            "messages[0].role",
            "add the answer",
        ),
    ],
)
def test_a_bad_row_is_refused_with_its_line_and_field(
    tmp_path: Path, line: str, field: str, problem: str
) -> None:
    with pytest.raises(DataError) as refused:
        read_chats(_file(tmp_path, GOOD, "", line, GOOD))
    assert (refused.value.line, refused.value.field) == (3, field)
    assert refused.value.message.startswith("line 3: ")
    assert problem in refused.value.message


def test_bytes_that_are_not_utf8_are_refused_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(GOOD.encode() + b"\n\xff\n")
    with pytest.raises(DataError, match="line 2: is not UTF-8; save the file as UTF-8"):
        read_chats(path)


def test_the_digest_is_of_the_files_bytes(tmp_path: Path) -> None:
    path = _file(tmp_path, GOOD)
    assert read_chats(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no rows"):
        read_chats(_file(tmp_path, "", ""))


def test_a_missing_file_is_refused_without_its_path(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="No such file") as refused:
        read_chats(tmp_path / "nowhere.jsonl")
    assert str(tmp_path) not in refused.value.message
