"""The training benchmark's report: ratios within a round, and claims that can fail."""

from benchmarks.training_rounds.report import Results, Window, claims, markdown
from benchmarks.training_rounds.rows import mixed_rows


def _results(grouped_tokens: int) -> Results:
    windows = [
        Window(number, side, 10.0, tokens * (number + 1), 3.0, 2.5)
        for number in range(3)
        for side, tokens in (("trl", 1000), ("grouped", grouped_tokens))
    ]
    return Results("2026-01-01 00:00 UTC", {"cores": "2"}, {"trl": "1"}, {"steps": "6"}, windows)


def test_a_ratio_is_taken_within_its_round() -> None:
    results = _results(1500)
    assert results.ratios("grouped") == [1.5, 1.5, 1.5]
    assert "| grouped | `fit`, rows of like length" in markdown(results)
    assert "| 300 | 1.50 | 1.50 to 1.50 | 3.000 | 2.500 |" in markdown(results)


def test_a_claim_holds_only_where_the_median_ratio_says_so() -> None:
    assert [held for _, held in claims(_results(1500))] == [True]
    assert [held for _, held in claims(_results(900))] == [False]
    assert "**not held**" in markdown(_results(900))


def test_rows_are_of_mixed_length_and_follow_from_the_seed() -> None:
    rows = mixed_rows(60, 1)
    sizes = sorted(len(row.prompt[0]["content"]) for row in rows)
    assert mixed_rows(60, 1) == rows
    assert mixed_rows(60, 2) != rows
    assert sizes[-1] > 4 * sizes[30]
