"""Whole runs of the load tester against a fake engine over HTTP, in one process and in several."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from loadtest.client.reply import Timeouts
from loadtest.client.target import Target, TargetError
from loadtest.running.drive import Driver
from loadtest.running.options import Options
from loadtest.running.pacing import PreciseClock
from loadtest.running.run import run
from loadtest.running.state import Progress, RunOutcome
from loadtest.samples import Sample
from loadtest.workload.errors import WorkloadError
from loadtest.workload.loading import make_workload
from loadtest.workload.spec import Workload
from tests.fake_engine import FakeEngine

ROOT = Path(__file__).parents[1]
ROUTE = "/v1/chat/completions"
ALL_AT_ONCE = {"kind": "constant", "stages": [{"rate": "inf"}]}


def workload(arrivals: dict[str, Any] | None = None, **fields: Any) -> Workload:
    kind = {
        "prompts": {"kind": "synthetic", "tokens": {"kind": "fixed", "value": 4}},
        "max_tokens": {"kind": "fixed", "value": 3},
        "extra": {"ignore_eos": True},
    }
    given = {"models": ["base"], "arrivals": arrivals or ALL_AT_ONCE}
    return make_workload(given | {"mix": [kind | fields.pop("mix", {})]} | fields, Path.cwd())


def ran(
    engine: FakeEngine | str,
    load: Workload,
    options: Options | None = None,
    each: Callable[[Sample], object] | None = None,
    **target: Any,
) -> tuple[RunOutcome, list[Sample]]:
    samples: list[Sample] = []

    def take(sample: Sample) -> None:
        samples.append(sample)
        if each is not None:
            each(sample)

    url = engine if isinstance(engine, str) else engine.url
    outcome = run(load, Target(url, **target), options or Options(), take)
    return outcome, sorted(samples, key=lambda sample: sample.index)


def interrupt_at(engine: FakeEngine, calls: int) -> threading.Thread:
    """Presses Ctrl-C when the engine has so many calls open."""

    def press() -> None:
        engine.wait_for(lambda state: state["open"] >= calls, deadline_s=30)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    return thread


@pytest.mark.parametrize("processes", [1, 2])
def test_every_request_of_the_schedule_is_a_sample(fake_engine: FakeEngine, processes: int) -> None:
    outcome, samples = ran(fake_engine, workload(requests=20), Options(processes=processes))
    assert (outcome.ended, outcome.problem, outcome.sent) == ("completed", None, 20)
    assert outcome.processes == processes
    assert [sample.index for sample in samples] == list(range(20))
    for sample in samples:
        assert (sample.outcome, sample.status, sample.error) == ("ok", 200, None)
        assert (sample.output_tokens, sample.tokens_from, sample.events) == (3, "server", 3)
        assert sample.prompt_tokens is not None
        moments = [sample.intended_s, sample.sent_s, sample.first_token_s, sample.last_token_s]
        known = [moment for moment in [*moments, sample.ended_s] if moment is not None]
        assert len(known) == 5
        assert known == sorted(known)
        assert len(sample.gaps) == 2
    assert outcome.seconds >= max(sample.ended_s or 0 for sample in samples)
    bodies = sorted(json.dumps(call["body"]) for call in fake_engine.calls(ROUTE))
    assert len(set(bodies)) == 20


def test_sessions_of_a_closed_loop(fake_engine: FakeEngine) -> None:
    closed = {"kind": "closed", "stages": [{"users": 2}]}
    sessions = {"sessions": {"turns": {"kind": "fixed", "value": 3}}}
    outcome, samples = ran(fake_engine, workload(closed, requests=12, mix=sessions))
    assert [sample.outcome for sample in samples] == ["ok"] * 12
    assert outcome.unsent == 0
    lengths = sorted(len(call["body"]["messages"]) for call in fake_engine.calls(ROUTE))
    assert lengths == [1] * 4 + [3] * 4 + [5] * 4
    last = max(fake_engine.calls(ROUTE), key=lambda call: len(call["body"]["messages"]))
    assert last["body"]["messages"][1]["content"].startswith("«base»")


@pytest.mark.parametrize("ask_usage", [True, False])
def test_tokens_are_the_servers_else_events(fake_engine: FakeEngine, ask_usage: bool) -> None:
    _, samples = ran(fake_engine, workload(requests=2, ask_usage=ask_usage))
    assert {sample.tokens_from for sample in samples} == {"server" if ask_usage else "events"}
    assert {sample.output_tokens for sample in samples} == {3}


def test_tokens_are_counted_where_the_server_does_not(
    fake_engine: FakeEngine, tmp_path: Path
) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    words = {"[UNK]": 0, "token": 1}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.save(str(tmp_path / "tokenizer.json"))
    fake_engine.control(text="a b c d e")
    load = workload(requests=1, ask_usage=False)
    _, samples = ran(fake_engine, load, Options(tokenizer=tmp_path))
    assert samples[0].tokens_from == "tokenizer"
    said = fake_engine.calls(ROUTE)[0]["tokens_sent"]
    assert samples[0].output_tokens == samples[0].events == said


def test_one_answer_in_ten_fails(fake_engine: FakeEngine) -> None:
    ran(fake_engine, workload(requests=1))
    fake_engine.control(status=500, faulty_calls=2)
    outcome, samples = ran(fake_engine, workload(requests=20))
    failed = [sample for sample in samples if sample.outcome == "http_error"]
    assert outcome.ended == "completed"
    assert [(sample.status, sample.error) for sample in failed] == [
        (500, "InternalServerError")
    ] * 2


def test_timeouts_are_samples(fake_engine: FakeEngine) -> None:
    fake_engine.control(frozen=True)
    options = Options(timeouts=Timeouts(first_byte_s=0.05))
    outcome, samples = ran(fake_engine, workload(requests=3), options)
    assert outcome.ended == "completed"
    assert {(sample.outcome, sample.error) for sample in samples} == {("timeout", "first byte")}


def test_a_dead_server_ends_the_run_at_once() -> None:
    engine = FakeEngine.start()
    engine.stop()
    url = engine.url
    slowly = {"kind": "constant", "stages": [{"rate": 0.001, "seconds": 100_000}]}
    outcome, samples = ran(url, workload(slowly))
    assert outcome.ended == "target"
    assert outcome.problem is not None
    assert f"{url} cannot be reached: nothing listens there" in outcome.problem
    assert [sample.error for sample in samples] == ["connection refused"]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_wrong_model_ends_the_run_unless_asked_to_go_on(
    fake_engine: FakeEngine, processes: int
) -> None:
    one_by_one = {"kind": "closed", "stages": [{"users": processes}]}
    load = workload(one_by_one, requests=40, models=["nobody"])
    outcome, samples = ran(fake_engine, load, Options(processes=processes))
    assert outcome.ended == "target"
    assert "no model `nobody`" in (outcome.problem or "")
    assert len(samples) < 40
    going_on = Options(keep_going=True, processes=processes)
    outcome, samples = ran(fake_engine, load, going_on)
    assert (outcome.ended, outcome.problem, len(samples)) == ("completed", None, 40)


@pytest.mark.parametrize("processes", [1, 2])
def test_an_interruption_lets_what_was_sent_end(fake_engine: FakeEngine, processes: int) -> None:
    """The engine holds its answers until no more is sent."""
    fake_engine.control(hold_after_tokens=1)
    load = workload({"kind": "closed", "stages": [{"users": 4}]}, requests=1000)
    progress: list[Progress] = []
    samples: list[Sample] = []

    def let_go() -> None:
        interrupt_at(fake_engine, 4).join()
        # A run that is stopped sends nothing when these answers end.
        fake_engine.control(hold_after_tokens=None)

    thread = threading.Thread(target=let_go)
    thread.start()
    outcome = run(
        load, Target(fake_engine.url), Options(grace_s=60, processes=processes), samples.append,
        on_progress=progress.append,
    )  # fmt: skip
    thread.join()
    assert outcome.ended == "interrupted"
    assert {sample.outcome for sample in samples} == {"ok"}
    assert 4 <= len(samples) == outcome.sent < 1000
    assert not progress[0].stopped
    assert any(one.stopped for one in progress)


@pytest.mark.parametrize("processes", [1, 2])
def test_what_does_not_end_in_its_grace_is_cancelled(
    fake_engine: FakeEngine, processes: int
) -> None:
    fake_engine.control(hold_after_tokens=1)
    thread = interrupt_at(fake_engine, 5)
    options = Options(grace_s=0.01, processes=processes)
    outcome, samples = ran(fake_engine, workload(requests=5), options)
    thread.join()
    assert outcome.ended == "interrupted"
    assert [sample.outcome for sample in samples] == ["cancelled"] * 5
    assert outcome.sent == 5


async def test_a_second_interruption_leaves_no_grace(fake_engine: FakeEngine) -> None:
    fake_engine.control(hold_after_tokens=1)
    samples: list[Sample] = []
    begun = asyncio.Event()
    clock = PreciseClock()
    options, target = Options(grace_s=1000), Target(fake_engine.url)
    driver = Driver(workload(requests=5), target, options, samples.append, clock)

    def tell(progress: Progress) -> None:
        if progress.sent == 5:
            begun.set()

    run = asyncio.create_task(driver.run(clock.now(), tell))
    await begun.wait()
    driver.interrupt()
    driver.interrupt()
    assert (await run).ended == "interrupted"
    assert [sample.outcome for sample in samples] == ["cancelled"] * 5
    clock.close()


def test_a_process_that_dies_is_told_of_and_the_rest_is_kept(fake_engine: FakeEngine) -> None:
    fake_engine.control(hold_after_tokens=1)

    def kill_one() -> None:
        fake_engine.wait_for(lambda state: state["open"] >= 4, deadline_s=30)
        os.kill(_children()[0], signal.SIGKILL)

    thread = threading.Thread(target=kill_one)
    thread.start()
    options = Options(grace_s=0.01, processes=2)
    outcome, samples = ran(fake_engine, workload(requests=4), options)
    thread.join()
    assert outcome.ended == "interrupted"
    assert "processes died (exit code -9)" in (outcome.problem or "")
    assert [sample.outcome for sample in samples] == ["cancelled"] * 2


def _children() -> list[int]:
    """Of those that run the tester; multiprocessing has helpers of its own."""
    tasks = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    names = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in tasks}
    return [pid for pid, name in names.items() if b"spawn_main" in name]


def test_no_process_outlives_its_parent(fake_engine: FakeEngine) -> None:
    fake_engine.control(hold_after_tokens=1)
    program = (
        "import tests.test_load_run as own\n"
        "if __name__ == '__main__':\n"
        f"    load = own.workload(requests=4)\n"
        f"    own.ran({fake_engine.url!r}, load, own.Options(processes=2))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    fake_engine.wait_for(lambda state: state["open"] == 4, deadline_s=60)
    parent.kill()
    parent.wait()
    fake_engine.wait_for(lambda state: state["open"] == 0, deadline_s=60)


def test_what_the_callback_raises_comes_through(fake_engine: FakeEngine) -> None:
    def fail(sample: Sample) -> None:
        raise LookupError(sample.index)

    with pytest.raises(LookupError):
        ran(fake_engine, workload(requests=3), each=fail)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_workload_that_cannot_be_run_is_refused_before(processes: int) -> None:
    load = workload(requests=3).model_copy(update={"tokenizer": Path("/no/such/tokenizer")})
    with pytest.raises(WorkloadError, match="tokenizer"):
        ran("http://127.0.0.1:1", load, Options(processes=processes))


def test_a_target_that_cannot_be_asked_is_refused_before(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="--ca-file"):
        ran("https://127.0.0.1:1", workload(requests=1), ca_file=tmp_path / "none")


def test_no_key_is_in_what_comes_out(fake_engine: FakeEngine) -> None:
    key = SecretStr("sk-very-secret")
    outcome, samples = ran(fake_engine, workload(requests=2), key=key)
    assert "sk-very-secret" not in repr((outcome, samples))


def test_a_limit_of_connections_marks_the_tester_as_bound(fake_engine: FakeEngine) -> None:
    outcome, samples = ran(fake_engine, workload(requests=5), Options(max_connections=1))
    assert [sample.outcome for sample in samples] == ["ok"] * 5
    assert outcome.tester.bound
    assert "4 requests waited for a connection" in " ".join(outcome.tester.reasons)


def test_options_that_leave_nothing_to_measure_are_refused() -> None:
    with pytest.raises(WorkloadError, match="warm-up and cool-down take all"):
        Options(warmup_s=3, cooldown_s=3).phases(6.0)
    with pytest.raises(WorkloadError, match="cooldown_s: the schedule has no end"):
        Options(cooldown_s=3).phases(None)
    with pytest.raises(WorkloadError, match="processes"):
        replace(Options(), processes=0)
    phases = Options(warmup_s=1, cooldown_s=2, stop_after_s=8).phases(60.0)
    assert phases.cooldown_from_s == 6.0


def test_the_last_request_of_a_trace_is_sent(fake_engine: FakeEngine, tmp_path: Path) -> None:
    """The schedule's own end is its last arrival, not what comes before it."""
    trace = tmp_path / "trace.csv"
    trace.write_text("timestamp\n0\n0.01\n0.02\n0.02\n")
    load = workload({"kind": "trace", "path": str(trace)})
    outcome, samples = ran(fake_engine, load)
    assert (outcome.sent, len(samples)) == (4, 4)
    assert {sample.phase for sample in samples} == {"measured"}


def test_a_kill_of_the_whole_group_ends_it_in_order(fake_engine: FakeEngine) -> None:
    """As `timeout` and systemd do it: every process gets the signal, not the parent alone."""
    fake_engine.control(hold_after_tokens=1)

    def kill_all() -> None:
        fake_engine.wait_for(lambda state: state["open"] >= 4, deadline_s=30)
        for pid in [*_children(), os.getpid()]:
            os.kill(pid, signal.SIGTERM)

    thread = threading.Thread(target=kill_all)
    thread.start()
    outcome, samples = ran(fake_engine, workload(requests=4), Options(grace_s=0.01, processes=2))
    thread.join()
    assert (outcome.ended, outcome.problem) == ("interrupted", None)
    assert [sample.outcome for sample in samples] == ["cancelled"] * 4
