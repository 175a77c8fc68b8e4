"""What a process tells of itself."""

import os
import time
from pathlib import Path

from gateway.process_series import ProcessSeries
from gateway.series import Series
from tests.test_series import parsed, text_of


def read(proc: Path | None = None) -> dict[str, float]:
    series = Series()
    (ProcessSeries(series, proc) if proc else ProcessSeries(series)).refresh()
    return {name: value for (name, _), value in parsed(text_of(series)).items()}


def test_this_process_by_what_python_knows_of_it() -> None:
    before, count = sum(os.times()[:2]), len([*Path("/proc/self/fd").iterdir()])
    found = read()
    after = sum(os.times()[:2])
    assert before - 0.02 <= found["process_cpu_seconds_total"] <= after + 0.02
    # A listing has one more open, for itself.
    assert found["process_open_fds"] in (count - 1, count)
    assert 2**20 < found["process_resident_memory_bytes"] < 2**40
    assert 0 < time.time() - found["process_start_time_seconds"] < 24 * 3600


def test_a_command_whose_name_looks_like_fields(tmp_path: Path) -> None:
    fields = [str(number) for number in range(50)]
    (tmp_path / "self" / "fd").mkdir(parents=True)
    (tmp_path / "self" / "stat").write_text(f"7 (a) b (1 2) {' '.join(fields)}\n")
    (tmp_path / "stat").write_text("cpu 1 2 3\nbtime 1700000000\n")
    found = read(tmp_path)
    ticks_a_s = os.sysconf("SC_CLK_TCK")
    assert found["process_cpu_seconds_total"] == (11 + 12) / ticks_a_s
    assert found["process_resident_memory_bytes"] == 21 * os.sysconf("SC_PAGE_SIZE")
    assert found["process_start_time_seconds"] == 1_700_000_000 + 19 / ticks_a_s


def test_without_proc_nothing_fails(tmp_path: Path) -> None:
    assert set(read(tmp_path).values()) == {0}


def test_they_are_named_as_everywhere() -> None:
    assert set(read()) == {
        "process_cpu_seconds_total",
        "process_open_fds",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
    }
