"""What a run leaves, whatever ended it: files, words, exit codes."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from loadtest.client.target import Target
from loadtest.command.ending import Ending, end, keep, problems_of
from loadtest.command.saying import fail
from loadtest.report.make import About, make_result
from loadtest.report.result import Result, read_result
from loadtest.report.writing import replacing
from loadtest.running.options import Options
from loadtest.running.state import RunOutcome
from loadtest.statistics.measured import Measured
from loadtest.workload.loading import make_workload
from tests.load_results import KEPT_UP, MACHINE, result_of, some


def ending(folder: Path, **changed: Any) -> Ending:
    return replace(Ending(folder, True, False, None, "loadtest", {}), **changed)


def kept(folder: Path) -> Result:
    result = result_of(some(8))
    assert keep(result, folder) is None
    return result


def test_a_file_that_was_not_made_is_not_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = kept(tmp_path)
    assert end(result, ending(tmp_path), None) == 0
    assert f"report.html, result.json and tables: {tmp_path}" in capsys.readouterr().err

    def broken(_: Any) -> str:
        raise ValueError("no plot")

    monkeypatch.setattr("loadtest.report.page.page", broken)
    assert keep(result, tmp_path) is None
    assert end(result, ending(tmp_path), None) == 1
    assert f"\nresult.json and tables: {tmp_path}" in f"\n{capsys.readouterr().err}"


def test_without_an_error_none_is_listed() -> None:
    nothing = result_of(some(3, outcome="cancelled"))
    assert [*problems_of(nothing)] == ["no request was answered"]


def test_a_replaced_result_leaves_nothing_behind(tmp_path: Path) -> None:
    end(kept(tmp_path), ending(tmp_path), None)
    (tmp_path / "mine.txt").touch()
    assert keep(result_of(some(3)), tmp_path) is None
    assert {one.name for one in tmp_path.iterdir()} == {"result.json", "mine.txt"}


def test_ctrl_c_while_the_figures_are_pushed_is_no_lost_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def impatient(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("loadtest.report.push.push", impatient)
    assert (
        end(kept(tmp_path), ending(tmp_path, report=False, push="http://gateway:9091"), None) == 1
    )
    assert "error: --push: interrupted; the Pushgateway may not have" in capsys.readouterr().err
    assert read_result(tmp_path).requests.ok == 8


def test_files_of_the_workload_that_are_gone_do_not_cost_the_result(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a prompt\n")
    fields = {
        "models": ["bot"],
        "arrivals": {"kind": "constant", "stages": [{"rate": 1, "seconds": 9}]},
        "mix": [{"prompts": {"kind": "file", "path": str(prompts)}}],
    }
    workload = make_workload(fields, tmp_path)
    prompts.unlink()
    outcome = RunOutcome("completed", None, 9.0, 0, 0, KEPT_UP, 1)
    about = About(datetime(2026, 11, 22, tzinfo=UTC), MACHINE)
    target = Target("http://engine.test")
    result = make_result(Measured(None), outcome, workload, target, Options(), about)
    assert result.schedule.digest == ""


def test_what_a_terminal_would_obey_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    fail("the server has `a\x1b]0;b\x07`\nand more")
    assert capsys.readouterr().err == "error: the server has `a ]0;b `\nand more\n"


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "figures.csv"
    path.write_text("before")

    def half() -> None:
        with replacing(path) as file:
            file.write("half")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        half()
    assert path.read_text() == "before"
    assert [*tmp_path.iterdir()] == [path]
