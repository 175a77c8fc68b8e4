"""`loraplex data`: what people and programs see."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from loraplex.cli import app
from tests.rows_for_tests import chat, requests, write_rows
from tests.tiny_base import tiny_tokenizer
from training.data.lengths import TokenCounter
from training.data.rows import Chat, Preference
from training.data.segments import segments
from training.errors import DataError

ROWS = requests(120)


@pytest.fixture(autouse=True)
def narrow_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LORAPLEX_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder with a tokenizer and the model's limit."""
    folder = tmp_path / "base"
    tiny_tokenizer().save_pretrained(folder)
    (folder / "config.json").write_text('{"max_position_embeddings": 256}')
    return folder


def _run(*words: object) -> Result:
    return CliRunner().invoke(app, ["data", *map(str, words)])


def test_good_data_ends_with_0_and_its_figures(tmp_path: Path, base: Path) -> None:
    file = write_rows(tmp_path / "rows.jsonl", ROWS)
    result = _run("check", file, "--base", base)
    assert result.exit_code == 0, result.output
    assert "limit 256: 0 over" in " ".join(result.stdout.split())
    assert "Weather" in result.stdout
    assert "Can be trained on." in result.stdout
    assert max(len(line.rstrip()) for line in result.stdout.splitlines()) <= 80


def test_faults_end_with_1_and_name_lines(tmp_path: Path, base: Path) -> None:
    file = write_rows(tmp_path / "rows.jsonl", ROWS)
    with file.open("a") as opened:
        opened.write('{"messages": []}\n')
    result = _run("check", file, "--base", base, "--max-tokens", 60)
    assert result.exit_code == 1
    assert "error bad_rows: 1 of 121 rows cannot be used" in result.stdout
    assert "line 121: messages: is missing or empty" in result.stdout
    assert "error too_long" in result.stdout
    assert "Not to be trained on as it is: 2 errors" in result.stdout


def test_json_and_html_hold_the_same_findings(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "rows.jsonl", ROWS[:30])
    html = tmp_path / "report.html"
    result = _run("check", file, "--no-tokens", "--json", "--html", html)
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert [one["code"] for one in report["findings"] if one["severity"] == "error"] == ["few_rows"]
    assert report["lengths"] is None
    assert "few_rows" in html.read_text()


def test_without_a_model_at_hand_tokens_are_not_counted(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "rows.jsonl", ROWS)
    result = _run("check", file)
    assert result.exit_code == 0
    assert "Tokens are not counted: name the model with --base" in result.stderr


def test_several_files_are_checked_for_leaks(tmp_path: Path) -> None:
    train = write_rows(tmp_path / "train.jsonl", ROWS)
    test = write_rows(tmp_path / "test.jsonl", ROWS[:40])
    result = _run("check", train, test, "--no-tokens")
    assert result.exit_code == 1
    assert "40 of 40 rows of test.jsonl are in train.jsonl" in " ".join(result.stdout.split())


def test_a_csv_with_usual_columns_needs_no_options_and_another_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    lines = [f"{row.prompt[0]['content']},{row.answer['content'][12:16]}" for row in ROWS]
    file.write_text("text,category\n" + "\n".join(lines) + "\n")
    result = _run("check", file, "--no-tokens")
    assert result.exit_code == 0
    assert "reading {text} -> {category}" in result.stderr
    file.write_text("one,two,three\n" + "a,b,c\n" * 100)
    result = _run("check", file, "--no-tokens")
    assert result.exit_code == 2
    assert "there are: one, two, three" in result.stderr
    result = _run("check", file, "--no-tokens", "--prompt", "{nine}", "--answer", "{two}")
    assert result.exit_code == 1
    assert "no column 'nine'; there are: one, two, three" in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("check", "{file}", "--no-tokens", "--max-tokens", "99"),
        ("check", "{file}", "--prompt", "{a}"),
        ("check", "{file}", "--system", "x"),
        ("check", "{file}", "{file}"),
        ("check",),
        ("split", "{file}", "--out", "x", "--test", "0.5", "--validation", "0.5"),
    ],
)
def test_wrong_usage_ends_with_2(tmp_path: Path, words: tuple[str, ...]) -> None:
    file = write_rows(tmp_path / "rows.jsonl", ROWS)
    result = _run(*(word.replace("{file}", str(file)) for word in words))
    assert result.exit_code == 2, result.output


def test_a_missing_file_ends_with_1_and_says_so(tmp_path: Path) -> None:
    result = _run("check", tmp_path / "nowhere.jsonl", "--no-tokens")
    assert result.exit_code == 1
    assert "nowhere.jsonl cannot be read: No such file" in result.stderr


def test_a_split_is_written_once_and_checks_clean(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "rows.jsonl", ROWS)
    out = tmp_path / "split"
    result = _run("split", file, "--out", out, "--json")
    assert result.exit_code == 0
    written = json.loads(result.stdout)
    assert {name: part["rows"] for name, part in written["parts"].items()} == {
        "train": 84,
        "validation": 12,
        "test": 24,
    }
    checked = json.loads(_run("check", out, "--no-tokens", "--json").stdout)
    assert checked["leaks"] == []
    assert checked["version"] == written["version"]
    again = _run("split", file, "--out", out)
    assert again.exit_code == 1
    assert "is not empty; name a new folder" in again.stderr


def test_bad_rows_are_not_split(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("{oops\n" + json.dumps({"prompt": "a", "completion": "b"}) + "\n")
    result = _run("split", file, "--out", tmp_path / "split")
    assert result.exit_code == 1
    assert "line 1: is not JSON" in result.stderr
    assert not (tmp_path / "split").exists()


def test_rows_are_shown_as_the_model_sees_them(tmp_path: Path, base: Path) -> None:
    file = write_rows(tmp_path / "rows.jsonl", ROWS)
    result = _run("show", file, "--line", 2, "--base", base)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("line 2: ")
    assert "<|im_start|>assistant\n⟦{" in result.stdout
    assert "<|im_end|>⟧" in result.stdout
    assert result.stdout.count("⟦") == 1
    rows = json.loads(_run("show", file, "--head", 3, "--base", base, "--json").stdout)["rows"]
    assert [row["line"] for row in rows] == [1, 2, 3]
    assert [one["role"] for one in rows[0]["segments"]] == ["read", "learned"]
    result = _run("show", file, "--line", 999, "--base", base)
    assert result.exit_code == 1
    assert "--line 999: no row begins there" in result.stderr


def test_a_bad_line_is_shown_with_its_reason(tmp_path: Path, base: Path) -> None:
    file = write_rows(tmp_path / "rows.jsonl", ROWS)
    with file.open("a") as opened:
        opened.write("{oops\n")
    result = _run("show", file, "--line", 121, "--base", base)
    assert result.exit_code == 1
    assert "line 121: is not JSON" in result.stderr


def test_tokens_are_counted_as_the_run_sees_them_and_marks_in_texts_are_refused() -> None:
    tokenizer = tiny_tokenizer()
    counter = TokenCounter(tokenizer)
    row = chat(1, "Hi", "Hello.")
    assert counter(row) == sum(one.tokens for one in segments(row, tokenizer).segments)
    bad = chat(2, "What is <|im_end|>?", "A mark.")
    with pytest.raises(DataError, match=r"line 2: messages\[0\].content: holds <\|im_end\|>"):
        counter(bad)
    counts = [*counter.each([row, bad, row])]
    assert counts[0] == counts[2] == counter(row)
    assert isinstance(counts[1], DataError)
    twin = chat(3, "What is im_end in <angle|brackets>?", "A mark.")
    assert isinstance(counter(twin), int)


def test_a_preference_is_as_long_as_its_longer_answer() -> None:
    def preference(chosen: str, rejected: str) -> Preference:
        return Preference(
            1,
            ({"role": "user", "content": "Hi"},),
            {"role": "assistant", "content": chosen},
            {"role": "assistant", "content": rejected},
        )

    tokenizer = tiny_tokenizer()
    counter = TokenCounter(tokenizer)
    as_chat = counter(chat(1, "Hi", "a" * 50))
    assert counter(preference("a" * 50, "no")) == counter(preference("no", "a" * 50)) == as_chat
    roles = [one.role for one in segments(preference("yes", "no"), tokenizer).segments]
    assert roles == ["read", "learned", "rejected"]
    with pytest.raises(DataError, match=r"rejected\.content: holds"):
        counter(preference("yes", "<|im_end|>"))


def test_earlier_answers_are_marked_as_learned_too() -> None:
    turns = (
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "How are you?"},
    )
    row = Chat(1, turns, {"role": "assistant", "content": "Fine."})
    seen = segments(row, tiny_tokenizer())
    learned = [one.text for one in seen.segments if one.role == "learned"]
    assert learned == ["Hello.<|im_end|>", "Fine.<|im_end|>"]
