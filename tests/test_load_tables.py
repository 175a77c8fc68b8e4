"""A result as CSV files: what is in them, and that no name becomes a formula."""

import csv
from pathlib import Path

import pytest

from loadtest.report.tables import harmless, write_tables
from tests.load_engines import failed, sample
from tests.load_results import result_of, some


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def figure(rows: list[dict[str, str]], of: str, name: str, figure: str, statistic: str) -> str:
    wanted = (of, name, figure, statistic)
    columns = ("of", "name", "figure", "statistic")
    (found,) = [row["value"] for row in rows if tuple(row[one] for one in columns) == wanted]
    return found


def test_three_files_are_written(tmp_path: Path) -> None:
    written = write_tables(result_of(some(4)), tmp_path)
    assert written == [tmp_path / name for name in ("requests.csv", "figures.csv", "timeline.csv")]
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in written}


def test_each_request_is_a_row_with_its_times_in_seconds(tmp_path: Path) -> None:
    made = [
        sample(0, 1.25, tenant="acme", model="bot", phase="warmup", cold_start=True),
        failed(1, 2.0, tenant="globex", sent_s=None, prompt_tokens=None),
    ]
    first, second = rows_of(write_tables(result_of(made), tmp_path)[0])
    assert (first["tenant"], first["model"], first["phase"]) == ("acme", "bot", "warmup")
    assert float(first["intended_s"]) == 1.25
    assert float(first["ttft_s"]) == pytest.approx(0.2)
    assert float(first["e2e_s"]) == pytest.approx(0.71)
    assert (first["output_tokens"], first["cold_start"]) == ("11", "1")
    assert (second["outcome"], second["tenant"]) == ("http_error", "globex")
    # What is not known is empty, not nan or -1.
    for column in ("sent_s", "ttft_s", "e2e_s", "prompt_tokens", "output_tokens"):
        assert second[column] == ""


def test_figures_are_of_all_and_of_each_tenant_and_model(tmp_path: Path) -> None:
    result = result_of(some(40, fails=lambda i: i == 7), price=3.6, apart=1)
    rows = rows_of(write_tables(result, tmp_path)[1])
    assert figure(rows, "all", "", "requests", "ok") == "39"
    assert figure(rows, "all", "", "errors", "http_503") == "1"
    assert float(figure(rows, "all", "", "ttft", "p95")) == pytest.approx(result.ttft_s.p95)
    assert figure(rows, "tenant", "acme", "requests", "sent") == "20"
    assert figure(rows, "other tenants", "", "requests", "failed") == "1"
    assert figure(rows, "model", "bot", "goodput", "share") != ""
    assert figure(rows, "all", "", "cost", "price_per_hour") == "3.6"
    assert figure(rows, "all", "", "queue", "p50") == ""
    assert {row["unit"] for row in rows if row["figure"] == "ttft"} == {"s", "values"}


def test_the_timeline_has_a_row_a_stretch(tmp_path: Path) -> None:
    result = result_of(some(40))
    rows = rows_of(write_tables(result, tmp_path)[2])
    assert len(rows) == len(result.timeline)
    assert float(rows[1]["begin_s"]) == 1
    assert float(rows[1]["arrivals_per_s"]) == 10


@pytest.mark.parametrize(
    "name",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "  =cmd|'/c calc'!A0", "＝1"],  # noqa: RUF001
)
def test_no_name_becomes_a_formula(tmp_path: Path, name: str) -> None:
    written = write_tables(result_of([sample(0, tenant=name, model=name)]), tmp_path)
    (row,) = rows_of(written[0])
    assert row["tenant"] == row["model"] == f"'{name}"
    assert f"'{name}" in {one["name"] for one in rows_of(written[1])}


def test_other_names_stay_as_they_are(tmp_path: Path) -> None:
    names = ['a,"b"', "line\nbreak", "日本", "a=b", ""]
    made = [sample(i, i / 10, tenant=name) for i, name in enumerate(names)]
    rows = rows_of(write_tables(result_of(made), tmp_path)[0])
    assert [row["tenant"] for row in rows] == names
    assert harmless("a-b") == "a-b"


def test_an_empty_run_has_empty_tables(tmp_path: Path) -> None:
    requests, figures, timeline = write_tables(result_of([]), tmp_path)
    assert rows_of(requests) == rows_of(timeline) == []
    assert figure(rows_of(figures), "all", "", "requests", "sent") == "0"
