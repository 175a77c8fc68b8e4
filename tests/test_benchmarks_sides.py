"""What the benchmark starts and reads: configurations, scripts, processes, the paced client."""

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from adapters_registry.base_model import describe
from adapters_registry.manifest import check_adapter
from benchmarks.sides import machine
from benchmarks.sides.engine import Engine
from benchmarks.sides.gaps import Gaps, Spread
from benchmarks.sides.litellm import litellm_config
from benchmarks.sides.nginx import nginx_config
from benchmarks.sides.paced import Paced, measure_paced
from benchmarks.sides.paced_client import Stream, Tally
from benchmarks.sides.processes import Child, ChildFailed, parse_stat
from benchmarks.sides.question import ROUTE, Target
from benchmarks.sides.side import Direct, Running, check_answers
from benchmarks.sides.tiny_model import write_adapter, write_model
from benchmarks.sides.window import PLAIN, STREAM, delivered
from benchmarks.sides.wrk import WrkResult, parse_result, wrk_script

ROOT = Path(__file__).parents[1]
TARGET = Target("http://127.0.0.1:7", "support", {"authorization": 'Bearer "k"'})


def core() -> int:
    """One that this process may use."""
    return machine.cores()[0]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """The engine as the benchmark starts it."""
    running = Engine(tmp_path, core())
    yield running
    running.stop()


def test_nginx_writes_into_its_folder_alone(tmp_path: Path) -> None:
    text = nginx_config(tmp_path, "http://127.0.0.1:8000", 9000)
    assert "server 127.0.0.1:8000;" in text
    assert "listen 127.0.0.1:9000 " in text
    assert "proxy_buffering off;" in text
    assert text.count("{") == text.count("}")
    paths = re.findall(r"(?:_path|_log|pid) (\S+?);?(?: warn)?;?\n", text)
    assert len(paths) == 8
    assert all(path.startswith(f"{tmp_path}/") for path in paths)


def test_litellm_has_one_model_and_a_key() -> None:
    config = yaml.safe_load(litellm_config("http://127.0.0.1:8000", "m"))
    (model,) = config["model_list"]
    assert model["model_name"] == "m"
    assert model["litellm_params"]["api_base"] == "http://127.0.0.1:8000/v1"
    assert config["general_settings"]["master_key"]


def test_wrks_script_quotes_what_it_sends() -> None:
    text = wrk_script(TARGET, b'{"a": "b\\n"}')
    assert f'wrk.path = "{ROUTE}"' in text
    assert r'wrk.body = "{\"a\": \"b\\n\"}"' in text
    assert r'wrk.headers["authorization"] = "Bearer \"k\""' in text


def test_wrks_result_is_read() -> None:
    said = (
        'Running 1s test\nRESULT {"requests": 10, "duration_us": 2000000, "bytes": 99, '
        '"connect": 0, "read": 3, "write": 0, "status": 1, "timeout": 0, "p50_us": 500.0, '
        '"p90_us": 600.0, "p99_us": 700.0, "max_us": 900.0}\n'
    )
    errors = {"read": 3, "status": 1}
    assert parse_result(said) == WrkResult(10, 2.0, 99, errors, 0.5, 0.6, 0.7, 0.9)
    with pytest.raises(ChildFailed, match="no result"):
        parse_result("unable to connect")


def test_a_slow_side_is_not_credited_with_what_lies_in_buffers() -> None:
    side = Running("x", TARGET, None, stream_bytes=1280)
    slow = WrkResult(40, 8.0, 128_000, {}, 1, 1, 1, 1)
    fast = WrkResult(320, 8.0, 128_000, {}, 1, 1, 1, 1)
    assert delivered(STREAM, side, slow, sent=50_000) == 12_800
    assert delivered(STREAM, side, slow, sent=9_000) == 9_000
    assert delivered(STREAM, side, fast, sent=50_000) == 50_000
    assert delivered(PLAIN, side, fast, sent=50_000) == 0


def test_gaps_are_counted_in_buckets() -> None:
    gaps = Gaps()
    assert gaps.spread() == Spread(0, 0.0, 0.0, 0.0, 0.0)
    gaps.add(0.02, 98)
    gaps.add(0.03)
    gaps.add(7.0)
    found = gaps.spread()
    assert (found.count, found.max_ms) == (100, 7000.0)
    assert (found.p50_ms, found.p90_ms, found.p99_ms) == pytest.approx((20.05, 20.05, 30.05))


def test_a_stat_line_is_read_behind_any_name() -> None:
    fields = ["S", "41", *["0"] * 9, "150", "50", *["0"] * 8, "25", "0"]
    stat = parse_stat(f"77 (a) b (c)) {' '.join(fields)}\n")
    assert stat.parent == 41
    assert stat.cpu_s == pytest.approx(2.0)
    assert stat.rss_bytes == 25 * 4096


def runs(pid: int) -> bool:
    """Whether there is such a process, and not just what is left of it."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def test_a_child_is_counted_and_ended_with_its_own(tmp_path: Path) -> None:
    inner = "import time; print('up', flush=True); time.sleep(600)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    log = tmp_path / "log"
    child = Child([sys.executable, "-c", outer], cores=[core()], log=log)
    try:
        end_s = time.monotonic() + 30
        while "up" not in log.read_text():
            child.check()
            assert time.monotonic() < end_s
            time.sleep(0.01)
        family = child.family()
        assert len(family) == 2
        assert child.find("-c", inner) in family.keys() - {child.pid}
        with pytest.raises(ChildFailed, match="no process"):
            child.find("-c", "other")
        assert child.cpu_s() > 0
        assert child.rss_bytes() > 2**20
    finally:
        child.stop()
    child.stop()
    end_s = time.monotonic() + 30
    while any(runs(pid) for pid in family):
        assert time.monotonic() < end_s
        time.sleep(0.01)
    with pytest.raises(ChildFailed, match="up"):
        child.check()


def test_the_tiny_adapter_passes_the_gateways_checks(tmp_path: Path) -> None:
    base = describe(write_model(tmp_path / "model"))
    adapter = write_adapter(tmp_path / "adapter")
    assert check_adapter(adapter, base, max_rank=16).rank == 8


def test_the_engine_answers_as_the_sides_are_asked(engine: Engine, tmp_path: Path) -> None:
    running = Direct().start(engine, tmp_path, [core()])
    assert check_answers(running) > 10_000
    with pytest.raises(ChildFailed, match="404"):
        check_answers(Running("x", Target(engine.url, "none"), None))


def test_paced_streams_are_measured(engine: Engine) -> None:
    begun: list[bool] = []
    found = measure_paced(
        Running("direct", engine.target, None),
        engine,
        streams=8,
        token_time_s=0.001,
        seconds=1.0,
        core=core(),
        on_window=lambda: begun.append(True),
    )
    assert begun == [True]
    assert found.errors == {}
    assert found.streams_ended > 0
    assert found.itl.count > 100
    assert 0 < found.itl.p50_ms <= found.itl.p99_ms <= found.itl.max_ms + 0.05
    assert found.ttft.count > 0
    assert found.rss_bytes[0] == 0
    assert engine.totals()["reset"] == 0


def test_growth_is_the_last_quarter_over_the_first() -> None:
    spread = Spread(1, 1.0, 1.0, 1.0, 1.0)
    flat = Paced("x", 1, 0.1, 1.0, 1.0, 1, {}, spread, spread, 0.0, 0.0, 0.0, 0.0, [])
    assert flat.rss_growth == 0.0
    grown = [100, 100, 300, 50, 50, 900, 110, 110]
    assert Paced(**{**vars(flat), "rss_bytes": grown}).rss_growth == pytest.approx(0.1)


class Wire(asyncio.Transport):
    """A transport that keeps what is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.asked.append(bytes(data))

    def abort(self) -> None:
        self.aborted = True


def stream_of(events: int) -> bytes:
    """A chunked answer of events."""
    body = b"".join(b'f\r\ndata: {"a": 1}\n\n\r\n' for _ in range(events))
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"


def make_stream(tokens: int = 2) -> tuple[Stream, Wire, Tally, list[Stream]]:
    """A connection that has asked, its counts, and the list it is put on when it is lost."""
    lost: list[Stream] = []
    wire, tally = Wire(), Tally()
    stream = Stream(tally, lambda: (b"ask", tokens), lost.append)
    stream.connection_made(wire)
    return stream, wire, tally, lost


@pytest.mark.parametrize("size", [20, 33, 64, 10_000])
def test_events_are_found_however_they_are_cut(size: int) -> None:
    stream, wire, tally, _ = make_stream(tokens=7)
    answer = stream_of(7)
    for start in range(0, len(answer), size):
        stream.data_received(answer[start : start + size])
    assert tally.tokens == 7
    assert (tally.streams_ended, tally.errors) == (1, {})
    assert tally.ttft.spread().count == 1
    assert wire.asked == [b"ask", b"ask"]
    assert tally.itl.spread().count == (0 if size == 10_000 else 6)


def test_events_that_come_together_waited_once() -> None:
    stream, _, tally, _ = make_stream()
    answer = stream_of(4)
    first = answer.index(b"data") + 10
    stream.data_received(answer[:first])
    stream.data_received(answer[first:])
    assert tally.itl.spread().count == 3
    assert tally.itl.buckets[0] >= 2


def test_a_refusal_a_short_stream_and_a_lost_connection_are_errors() -> None:
    stream, wire, tally, _ = make_stream()
    stream.data_received(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n")
    assert tally.errors == {"answer: HTTP/1.1 503 Busy": 1}
    assert wire.aborted
    stream, _, tally, _ = make_stream(tokens=3)
    stream.data_received(stream_of(2))
    assert tally.errors == {"stream too short": 1}
    stream, _, tally, lost = make_stream()
    stream.data_received(stream_of(2)[:60])
    stream.connection_lost(None)
    assert tally.errors == {"connection lost in a stream": 1}
    assert lost == [stream]


def test_leaving_is_no_error() -> None:
    stream, wire, tally, _ = make_stream()
    stream.close()
    stream.connection_lost(None)
    assert wire.aborted
    assert tally.errors == {}


def test_the_command_explains_itself() -> None:
    command = [sys.executable, "benchmarks/relay.py"]
    said = subprocess.run([*command, "--help"], capture_output=True, text=True, cwd=ROOT)
    assert said.returncode == 0
    for word in "plain", "stream", "one", "paced", "many", "vllm-router", "litellm", "nginx":
        assert word in said.stdout
    wrong = subprocess.run([*command, "--peers", "x"], capture_output=True, text=True, cwd=ROOT)
    assert wrong.returncode == 2
    assert "vllm-router" in wrong.stderr
