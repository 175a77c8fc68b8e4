"""The blind sheet: out as CSV, in again, unblinded; no formula, no text lost."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.errors import EvaluationError
from training.evaluation.blind import guarded, make_sheet, read_key, unblind, unguarded
from training.evaluation.results import EvaluationResult, Example


def _found(pairs: list[tuple[str, str]], **more: str) -> EvaluationResult:
    examples = [
        Example(
            id=str(i + 1),
            suite="test",
            prompt=f"question {i}",
            reference="r",
            answers={"candidate": ours, "base": theirs},
        )
        for i, (ours, theirs) in enumerate(pairs)
    ]
    subjects = {"candidate": "acme/support@3", "base": "smollm2", **more}
    return EvaluationResult(subjects=subjects, items={}, metrics=(), examples=tuple(examples))


def _filled(
    sheet: str, choose: dict[str, str], column: str = "better", delimiter: str = ","
) -> str:
    rows = list(csv.DictReader(io.StringIO(sheet, newline="")))
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, rows[0].keys(), delimiter=delimiter)
    writer.writeheader()
    for row in rows:
        writer.writerow({**row, column: choose.get(row["item"], "")})
    return out.getvalue()


def _choice_of_candidate(sheet: str) -> dict[str, str]:
    rows = csv.DictReader(io.StringIO(sheet, newline=""))
    return {row["item"]: "a" if "ours" in row["answer_a"] else "B" for row in rows}


def test_what_people_chose_is_unblinded() -> None:
    found = _found([(f"ours {i}", f"theirs {i}") for i in range(12)] + [("same", "same")])
    sheet, key = make_sheet(found, seed=4)
    assert set(key.candidate_is.values()) == {"A", "B"}
    chosen = _choice_of_candidate(sheet)
    chosen["3"] = "tie"
    chosen["4"] = "B" if chosen["4"] == "a" else "A"
    chosen["5"] = ""
    result = unblind(_filled(sheet, chosen), read_key(key.model_dump_json()))
    better = result.criteria["better"]
    assert (better.wins, better.losses, better.ties) == (9, 1, 2)
    assert (result.judged, result.open, result.same) == (11, 1, 1)
    assert better.win_rate.value == pytest.approx((9 + 0.5 * 2) / 12)
    assert better.p_value == pytest.approx(22 / 1024)  # 2 * P(at most 1 of 10)
    assert set(result.criteria) == {"better"}


def test_the_sheet_tells_nobody_which_answer_is_whose() -> None:
    sheet, _ = make_sheet(_found([("x", "y")]), seed=1)
    assert "candidate" not in sheet
    assert "base" not in sheet
    assert "smollm2" not in sheet


def test_an_order_is_drawn_anew_unless_a_seed_is_given() -> None:
    found = _found([(f"ours {i}", f"theirs {i}") for i in range(64)])
    assert make_sheet(found, seed=1) == make_sheet(found, seed=1)
    assert make_sheet(found)[0] != make_sheet(found)[0]


def test_every_criterion_has_its_own_result() -> None:
    sheet, key = make_sheet(_found([("ours", "theirs")]), seed=1)
    filled = _filled(_filled(sheet, _choice_of_candidate(sheet)), {"1": "tie"}, "format")
    result = unblind(filled, key)
    assert result.criteria["better"].wins == 1
    assert result.criteria["format"].ties == 1
    assert result.criteria["format"].p_value is None


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_sheet_is_read_as_spreadsheets_save_it(delimiter: str) -> None:
    sheet, key = make_sheet(_found([("ours; a,b", "theirs")]), seed=1)
    filled = "\ufeff" + _filled(sheet, {"1": "TIE"}, delimiter=delimiter)
    assert unblind(filled, key).criteria["better"].ties == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("item,", "number,", "no column item"),
        ("\r\n1,", "\r\n99,", "row '99' is not in the key"),
        ("\r\n2,", "\r\n1,", "row '1' is there twice"),
        (",A,", ",C,", "row '1': better is 'C'; write A, B or tie"),
        (",A,", ",,", "no choice yet"),
    ],
)
def test_a_sheet_that_was_spoilt_is_refused_with_the_place(
    old: str, new: str, message: str
) -> None:
    sheet, key = make_sheet(_found([("ours", "theirs"), ("ours 2", "theirs 2")]), seed=1)
    filled = _filled(sheet, {"1": "A"})
    assert old in filled
    with pytest.raises(EvaluationError, match=message):
        unblind(filled.replace(old, new), key)


def test_a_file_that_is_no_key_is_refused() -> None:
    with pytest.raises(EvaluationError, match="the key is not what was written"):
        read_key('{"rows": 1}')


def test_two_models_are_needed() -> None:
    found = _found([("ours", "theirs")])
    with pytest.raises(EvaluationError, match="answers of candidate and live"):
        make_sheet(found, other="live")


@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00")))
def test_no_cell_is_a_formula_and_none_is_changed(text: str) -> None:
    sheet, _ = make_sheet(_found([(text, text + "x")]), seed=1)
    (row,) = csv.DictReader(io.StringIO(sheet, newline=""))
    for cell in (row["answer_a"], row["answer_b"]):
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert {unguarded(row["answer_a"]), unguarded(row["answer_b"])} == {text, text + "x"}
    assert unguarded(guarded(text)) == text
