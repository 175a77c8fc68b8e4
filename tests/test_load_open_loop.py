"""Open loop: sent in time, whatever the server does; sessions, phases, precise alarms."""

import asyncio
import json

import pytest

from loadtest.running.open_loop import open_loop
from loadtest.running.pacing import PreciseClock
from loadtest.running.phases import Phases
from loadtest.running.timetable import Timetable
from tests.load_clock import FakeClock
from tests.load_runs import FakeRun, planned, singles


async def test_requests_are_sent_in_time_whatever_is_under_way() -> None:
    run = FakeRun(takes_s=100.0)
    moments = [0.0, 0.5, 0.5, 2.25, 7.0]
    await open_loop(singles(*moments), run.sender, None)
    assert run.sent_s == moments
    assert run.client.most == 5
    by_index = sorted(run.samples, key=lambda sample: sample.index)
    assert [sample.intended_s for sample in by_index] == moments
    for sample in by_index:
        assert sample.sent_s == sample.intended_s
        assert sample.first_token_s == pytest.approx(sample.intended_s + 50)
        assert sample.last_token_s == sample.ended_s == pytest.approx(sample.intended_s + 100)
        assert sample.gaps == pytest.approx([50.0])
        assert (sample.events, sample.output_tokens, sample.tokens_from) == (2, 2, "events")


async def test_many_at_once_are_all_sent_at_that_moment() -> None:
    run = FakeRun(takes_s=1.0)
    await open_loop(singles(*[3.0] * 200), run.sender, None)
    assert run.sent_s == [3.0] * 200


async def test_nothing_is_sent_from_the_end_on() -> None:
    run = FakeRun(takes_s=9.0)
    await open_loop(singles(0.0, 1.0, 2.0, 3.0), run.sender, 2.0)
    assert run.sent_s == [0.0, 1.0]
    assert len(run.samples) == 2


async def test_a_stop_ends_the_waiting_and_keeps_what_was_sent() -> None:
    run = FakeRun(takes_s=5.0)
    run.clock.call_at(run.begin_s + 1.5, run.timetable.stop)
    await open_loop(singles(0.0, 1.0, 2.0, 3.0), run.sender, None)
    assert run.sent_s == [0.0, 1.0]
    assert len(run.samples) == 2


async def test_failures_are_samples_and_stop_nothing() -> None:
    run = FakeRun(outcome=lambda call: "timeout")
    await open_loop(singles(0.0, 1.0), run.sender, None)
    assert [sample.outcome for sample in run.samples] == ["timeout", "timeout"]


async def test_a_turn_waits_for_the_answer_before_it_and_holds_it() -> None:
    run = FakeRun(takes_s=2.0)
    session = [planned(0, 1.0, turns=3)]
    session += [planned(turn, None, turn=turn, turns=3, think_s=0.5) for turn in (1, 2)]
    await open_loop(iter([session, *singles(1.5)]), run.sender, None)
    assert run.sent_s == [1.0, 1.5, 3.5, 6.0]
    of_session = [call for _, call in run.client.calls if call is not run.client.calls[1][1]]
    roles = [[one["content"] for one in json.loads(call.body)["messages"]] for call in of_session]
    assert roles[0] == ["question 0"]
    assert roles[1][::2] == ["question 0", "question 1"]
    assert roles[2][::2] == ["question 0", "question 1", "question 2"]
    assert roles[2][1] == roles[1][1]
    turns = [sample.intended_s for sample in run.samples if sample.intended_s != 1.5]
    assert turns == [1.0, 3.5, 6.0]


async def test_no_turn_of_a_session_is_sent_from_the_end_on() -> None:
    run = FakeRun(takes_s=2.0)
    session = [planned(0, 0.0, turns=4)]
    session += [planned(turn, None, turn=turn, turns=4, think_s=1) for turn in (1, 2, 3)]
    await open_loop(iter([session]), run.sender, 6.0)
    assert run.sent_s == [0.0, 3.0]
    assert run.sender.tally.unsent == 2


@pytest.mark.parametrize("why", ["failure", "stop"])
async def test_turns_that_cannot_be_reached_are_counted(why: str) -> None:
    run = FakeRun(takes_s=2.0, outcome=lambda call: "http_error" if why == "failure" else "ok")
    session = [planned(0, 0.0, turns=3)]
    session += [planned(turn, None, turn=turn, turns=3, think_s=5) for turn in (1, 2)]
    if why == "stop":
        run.clock.call_at(run.begin_s + 3, run.timetable.stop)
    await open_loop(iter([session]), run.sender, None)
    assert len(run.samples) == 1
    assert run.sender.tally.unsent == 2


async def test_phases_go_by_the_intended_time() -> None:
    phases = Phases(warmup_s=2.0, warmup_requests=1, cooldown_from_s=4.0)
    run = FakeRun(phases, takes_s=10.0)
    await open_loop(singles(0.0, 1.9, 2.0, 3.9, 4.0), run.sender, None)
    found = [sample.phase for sample in sorted(run.samples, key=lambda sample: sample.index)]
    assert found == ["warmup", "warmup", "measured", "measured", "cooldown"]
    assert phases.of(0, 3.0) == "warmup"


async def test_waits_end_in_their_order_and_a_later_one_does_not_hold_up_an_earlier() -> None:
    clock = FakeClock()
    timetable = Timetable(clock, clock.now())
    ended: list[float] = []

    async def wait(at_s: float) -> None:
        assert await timetable.until(at_s)
        ended.append(round(timetable.now(), 6))

    await asyncio.gather(*(wait(at_s) for at_s in (5.0, 1.0, 3.0, 1.0)))
    assert ended == [1.0, 1.0, 3.0, 5.0]
    timetable.stop()
    assert not await timetable.until(0.0)


@pytest.mark.parametrize("precise", [True, False])
async def test_alarms_of_the_real_clock_never_come_early(
    precise: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not precise:
        monkeypatch.setattr("loadtest.running.pacing._TimerFd.make", lambda: None)
    clock = PreciseClock()
    timetable = Timetable(clock, clock.now())
    for at_s in (0.0013, 0.0026, 0.0026, 0.004):
        assert await timetable.until(at_s)
        assert timetable.now() >= at_s
    clock.close()
