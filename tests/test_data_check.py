"""Faults planted into data, each found with the right words, and their harmless twins."""

import hashlib
import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.rows_for_tests import chat, requests, shuffled_answers, write_rows
from training.data.check import check
from training.data.lengths import one_by_one
from training.data.page import fragment, page
from training.data.readers import read_rows
from training.data.report import DataReport, Finding
from training.data.rows import Chat, Preference, Row
from training.data.unrelated import relation
from training.errors import DataError, TrainingError

ROOT = Path(__file__).resolve().parent.parent
ROWS = requests(600)
FEW = ROWS[:120]


def _report(folder: Path, *parts: Sequence[Row], limit: int | None = None) -> DataReport:
    names = ("train.jsonl", "test.jsonl", "more.jsonl")
    files = {
        name: read_rows(write_rows(folder / name, rows))
        for name, rows in zip(names, parts, strict=False)
    }
    count = None if limit is None else one_by_one(lambda row: len(row.prompt[-1]["content"]))
    return check(files, count=count, limit=limit).report


def _found(report: DataReport, code: str) -> list[Finding]:
    return [one for one in report.findings if one.code == code]


def _loud(report: DataReport) -> list[str]:
    """What is more than advice."""
    return [one.message for one in report.findings if one.severity != "advice"]


def test_good_rows_are_silent(tmp_path: Path) -> None:
    report = _report(tmp_path, ROWS)
    assert report.findings == ()
    assert report.rows == 600
    assert report.classes.source == "answer.intent"
    assert report.structure.formats == (("JSON object", 600),)


@pytest.mark.parametrize("tenant", ["acme", "globex"])
def test_the_demos_data_is_silent(tenant: str) -> None:
    file = read_rows(ROOT / "examples" / "demo" / f"{tenant}.jsonl")
    assert _loud(check({"rows": file}).report) == []


def test_shuffled_labels_are_found_and_right_ones_in_another_order_are_not(tmp_path: Path) -> None:
    shuffled = _report(tmp_path, shuffled_answers(ROWS))
    (found,) = _found(shuffled, "unrelated_answers")
    assert found.severity == "warning"
    assert "the answers look shuffled" in found.message
    reordered = random.Random(3).sample(ROWS, len(ROWS))
    assert _loud(_report(tmp_path, reordered)) == []


def test_right_labels_in_one_file_do_not_hide_those_shuffled_in_another(tmp_path: Path) -> None:
    report = _report(tmp_path, shuffled_answers(ROWS[:200]), ROWS[200:])
    (found,) = _found(report, "unrelated_answers")
    assert found.where() == "train.jsonl"


@pytest.mark.parametrize("seed", range(4))
def test_shuffled_classes_are_found_and_right_ones_are_not(seed: int) -> None:
    rows = [
        Chat(row.line, row.prompt, {"role": "assistant", "content": json.loads(text)["intent"]})
        for row in requests(200, seed)
        if (text := row.answer["content"])
    ]
    right, shuffled = relation(rows, None), relation(shuffled_answers(rows, seed), None)
    assert right is not None
    assert shuffled is not None
    assert not right.unrelated
    assert shuffled.unrelated


def test_turns_of_no_matter_before_the_last_do_not_make_right_labels_look_shuffled() -> None:
    def behind_another(rows: Sequence[Chat]) -> list[Chat]:
        earlier = [(*row.prompt, row.answer) for row in random.Random(5).sample(ROWS, len(rows))]
        return [
            Chat(row.line, (*turn, *row.prompt), row.answer)
            for turn, row in zip(earlier, rows, strict=True)
        ]

    intents = [
        chat(row.line, row.prompt[0]["content"], json.loads(row.answer["content"])["intent"])
        for row in ROWS[:300]
    ]
    right = relation(behind_another(intents), None)
    shuffled = relation(behind_another(shuffled_answers(intents)), None)
    assert right is not None
    assert shuffled is not None
    assert not right.unrelated
    assert shuffled.unrelated


def test_answers_that_are_all_the_same_cannot_look_shuffled() -> None:
    rows = [chat(row.line, row.prompt[0]["content"], "Always this.") for row in ROWS]
    assert relation(rows, None) is None


def test_many_contradictions_are_an_error_with_the_pairs(tmp_path: Path) -> None:
    wrong = [chat(601 + i, ROWS[i].prompt[0]["content"], '{"intent": "Other"}') for i in range(10)]
    report = _report(tmp_path, [*ROWS, *wrong])
    (found,) = _found(report, "contradictions")
    assert found.severity == "error"
    assert "20 of 610 rows contradict another" in found.message
    assert set(found.lines) == {*range(1, 11), *range(601, 611)}
    assert "line 1: " in found.examples[0]
    assert "line 601: " in found.examples[0]


def test_few_contradictions_are_a_warning(tmp_path: Path) -> None:
    wrong = chat(601, f"Please {ROWS[4].prompt[0]['content']}?", '{"intent": "Other"}')
    (found,) = _found(_report(tmp_path, [*ROWS, wrong]), "contradictions")
    assert (found.severity, found.lines) == ("warning", (5, 601))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("Play Thriller", "thriller"), ("Play Imagine", "imagine")),
        (
            ("Show the movie times", '{"o": "movie times"}'),
            ("show movie time", '{"o": "movie time"}'),
        ),
        (("Weather in NV", '{"s": "NV"}'), ("Weather in NY", '{"s": "NY"}')),
        (("Show it", '{"a": 1, "b": 2}'), ("show it!", '{"b": 2, "a": 1}')),
        (("Thanks", "You are welcome."), ("thanks!", "you are welcome")),
        (
            ("Open?", "We are open from nine in the morning until six, Monday to Saturday."),
            ("open", "From Monday to Saturday we are open, nine in the morning until six o'clock."),
        ),
    ],
)
def test_similar_rows_that_are_both_right_do_not_contradict(
    tmp_path: Path, one: tuple[str, str], other: tuple[str, str]
) -> None:
    assert _report(tmp_path, [chat(1, *one), chat(2, *other)]).repeats.contradictory == 0


def test_preferences_contradict_where_they_are_the_other_way_round(tmp_path: Path) -> None:
    def preference(line: int, prompt: str, chosen: str, rejected: str) -> Preference:
        return Preference(
            line,
            ({"role": "user", "content": prompt},),
            {"role": "assistant", "content": chosen},
            {"role": "assistant", "content": rejected},
        )

    good = [preference(1, "Hi", "Hello.", "Go."), preference(2, "Hi", "Good day.", "Hello.")]
    assert _report(tmp_path, good).repeats.contradictory == 2
    several = [preference(1, "Hi", "Hello.", "Go."), preference(2, "Hi", "Good day.", "No.")]
    assert _report(tmp_path, several).repeats.contradictory == 0


def test_test_rows_in_train_are_found_and_distinct_ones_are_not(tmp_path: Path) -> None:
    train, test = ROWS[:500], ROWS[500:]
    assert _loud(_report(tmp_path, train, test)) == []
    leaked = [
        Chat(500 + i, ({"role": "user", "content": f"{row.prompt[0]['content']}!"},), row.answer)
        for i, row in enumerate(test[:20], start=1)
    ]
    report = _report(tmp_path, [*train, *leaked], test)
    (found,) = _found(report, "leakage")
    assert found.severity == "error"
    assert "20 of 100 rows of test.jsonl are in train.jsonl too" in found.message
    assert (found.file, found.lines) == ("test.jsonl", tuple(range(1, 21)))


def test_one_leaked_row_is_a_warning(tmp_path: Path) -> None:
    (found,) = _found(_report(tmp_path, ROWS[:501], ROWS[500:]), "leakage")
    assert found.severity == "warning"


def test_copies_are_found_by_their_lines(tmp_path: Path) -> None:
    copies = [
        chat(601 + i, ROWS[i].prompt[0]["content"], ROWS[i].answer["content"]) for i in range(20)
    ]
    (found,) = _found(_report(tmp_path, [*ROWS, *copies]), "duplicates")
    assert (found.severity, found.lines) == ("warning", tuple(range(601, 621)))


def test_mostly_copies_are_an_error(tmp_path: Path) -> None:
    rows = [one for one in ROWS[:60] for _ in range(3)]
    (found,) = _found(_report(tmp_path, rows), "duplicates")
    assert found.severity == "error"


@pytest.mark.parametrize(
    ("count", "severity"), [(49, "error"), (50, "warning"), (100, "advice"), (500, None)]
)
def test_few_rows_are_said(tmp_path: Path, count: int, severity: str | None) -> None:
    found = _found(_report(tmp_path, ROWS[:count]), "few_rows")
    assert [one.severity for one in found] == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("learned", "severity"), [(24, "error"), (25, "warning"), (50, "advice"), (250, None)]
)
def test_many_held_out_rows_do_not_make_up_for_few_that_are_learned(
    tmp_path: Path, learned: int, severity: str | None
) -> None:
    found = _found(_report(tmp_path, ROWS[:learned], ROWS[300:]), "few_rows")
    assert [one.severity for one in found] == ([severity] if severity else [])
    assert all(one.message.startswith(f"{learned} rows beside those held out") for one in found)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ('{"intent": "Weather"}', "other JSON keys"),
        ('{"intent": "Weather", "slots": [1]}', "list in 'slots'"),
        ('{"intent": "Weather", "slots": {}', "broken JSON"),
        ("It will rain.", "are text where nearly all are JSON object"),
    ],
)
def test_answers_built_otherwise_are_found(tmp_path: Path, answer: str, words: str) -> None:
    odd = chat(121, "what about Venus", answer)
    found = _found(_report(tmp_path, [*FEW, odd]), "structure")
    assert [one.lines for one in found if words in one.message] == [(121,)]


def test_text_with_lists_among_it_is_no_fault(tmp_path: Path) -> None:
    rows = [chat(row.line, row.prompt[0]["content"], f"Yes, {row.line}.") for row in ROWS[:100]]
    rows.append(chat(101, "name two", "- one\n- two"))
    assert _found(_report(tmp_path, rows), "structure") == []


def test_a_missing_or_different_system_prompt_is_found(tmp_path: Path) -> None:
    def with_system(rows: Sequence[Chat], text: str) -> list[Chat]:
        system = {"role": "system", "content": text}
        return [Chat(row.line, (system, *row.prompt), row.answer) for row in rows]

    kind = with_system(FEW, "Be kind.")
    assert _found(_report(tmp_path, kind), "system_prompt") == []
    (found,) = _found(_report(tmp_path, [*kind[:-1], FEW[-1]]), "system_prompt")
    assert (found.lines, found.severity) == ((120,), "warning")
    (found,) = _found(
        _report(tmp_path, [*kind[:-1], *with_system(FEW[-1:], "Be rude.")]), "system_prompt"
    )
    assert "2 different system prompts" in found.message
    own = [row for i, one in enumerate(FEW) for row in with_system([one], f"Context {i}.")]
    (found,) = _found(_report(tmp_path, own), "system_prompt")
    assert found.severity == "advice"


def test_rows_beyond_the_limit_are_an_error_and_long_ones_within_are_not(tmp_path: Path) -> None:
    long = [*FEW, chat(121, "play " + "x" * 195, "{}")]
    (found,) = _found(_report(tmp_path, long, limit=199), "too_long")
    assert (found.severity, found.lines) == ("error", (121,))
    assert "1 of 121 rows are longer than 199 tokens (the longest has 200)" in found.message
    report = _report(tmp_path, long, limit=200)
    assert _found(report, "too_long") == []
    assert report.lengths is not None
    assert (report.lengths.longest, report.lengths.over) == (200, 0)
    assert sum(count for _, count in report.lengths.histogram) == 121


def test_bad_lines_and_those_that_cannot_be_counted_are_one_finding(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", ROWS)
    with path.open("a") as file:
        file.write("{oops\n")

    def count(row: Row) -> int:
        if row.line == 3:
            raise DataError(3, "messages[0].content", "holds <|im_end|>; write it otherwise")
        return 5

    report = check({"rows.jsonl": read_rows(path)}, count=one_by_one(count)).report
    (found,) = _found(report, "bad_rows")
    assert (found.severity, found.lines) == ("error", (3, 601))
    assert "holds <|im_end|>" in found.examples[0]
    assert "is not JSON" in found.examples[1]


def test_a_template_that_rows_do_not_fit_is_named_once(tmp_path: Path) -> None:
    def count(row: Row) -> int:
        raise DataError(row.line, "chat_template", "writes no end token; use another base")

    rows = read_rows(write_rows(tmp_path / "rows.jsonl", FEW))
    report = check({"rows.jsonl": rows}, count=one_by_one(count)).report
    (found,) = report.of("error")
    assert found.message == (
        "120 of 120 rows do not fit the base's chat template: it writes no end token; use another"
        " base"
    )
    assert found.lines == tuple(range(1, 121))


def test_facts_and_easy_classes_are_advised_upon(tmp_path: Path) -> None:
    def answer(i: int) -> str:
        made = (hashlib.sha256(f"{i} {j}".encode()).hexdigest()[:6] for j in range(40))
        return " ".join(made)

    facts = [chat(row.line, row.prompt[0]["content"], answer(row.line)) for row in ROWS]
    assert [one.severity for one in _found(_report(tmp_path, facts), "facts")] == ["advice"]
    two = [chat(row.line, row.prompt[0]["content"], "ab"[row.line % 2]) for row in ROWS]
    assert [one.severity for one in _found(_report(tmp_path, two), "prompt_first")] == ["advice"]


def test_files_of_two_kinds_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "pairs.jsonl"
    other.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    chats = read_rows(write_rows(tmp_path / "chats.jsonl", ROWS[:3]))
    with pytest.raises(TrainingError, match=r"two kinds \(chats holds chat rows, pairs holds"):
        check({"chats": chats, "pairs": read_rows(other)})


def test_a_file_without_a_good_row_is_refused_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("{oops\n" + "\n" + "[]\n" * 25)
    with pytest.raises(TrainingError) as refused:
        check({"rows": read_rows(path)})
    told = refused.value.message.splitlines()
    assert told[0] == "no row can be used:"
    assert told[1].startswith("  rows, line 1: is not JSON")
    assert told[2].startswith("  rows, line 3: ")
    assert told[-1] == "  and 6 more"


def test_the_sample_is_the_same_for_the_same_rows_in_any_order(tmp_path: Path) -> None:
    first = _report(tmp_path, ROWS).sample
    second = _report(tmp_path, random.Random(5).sample(ROWS, len(ROWS))).sample
    assert {row.input for row in first} == {row.input for row in second}
    assert {row.label for row in first} == {"Weather", "Music", "Rate"}


def test_the_page_shows_everything_and_escapes_it(tmp_path: Path) -> None:
    rows = [
        *FEW,
        chat(121, "<script>alert(1)</script>", "{}"),
        chat(122, "<script>alert(1)</script>", "no"),
    ]
    report = _report(tmp_path, rows, limit=20)
    html = page(report, "<rows>")
    assert "<script>" not in html
    assert "&lt;rows&gt;" in html
    assert "http" not in html.replace("http://www.w3.org", "")
    for finding in report.findings:
        assert finding.code in html
    assert report.version in html
    assert report.lengths is not None
    assert html.count("<rect") == len(report.lengths.histogram)
    assert fragment(report) in html
