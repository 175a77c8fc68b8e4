"""Closed loop: users who wait, think and ask, and come and go with the stages."""

import pytest

from loadtest.running.closed_loop import changes, closed_loop
from loadtest.workload.stages import UserStage
from tests.load_runs import FakeRun, planned, singles

FOREVER = [None] * 1000


def test_users_change_when_a_ramp_reaches_the_next() -> None:
    up_and_down = [
        UserStage(users=1, to=3, seconds=4),
        UserStage(users=3, seconds=2),
        UserStage(users=2, to=0, seconds=2),
    ]
    assert list(changes(up_and_down)) == [
        (0.0, 1), (2.0, 2), (4.0, 3), (6.0, 2), (6.0, 1), (7.0, 0), (8.0, 0),
    ]  # fmt: skip
    assert list(changes([UserStage(users=5)])) == [(0.0, 5)]


async def test_each_user_asks_when_the_answer_has_come_and_they_have_thought() -> None:
    run = FakeRun(takes_s=2.0)
    stages = [UserStage(users=2, seconds=10)]
    await closed_loop(singles(*FOREVER, think_s=1.0), stages, run.sender, 10.0)
    assert run.sent_s == [0.0, 0.0, 3.0, 3.0, 6.0, 6.0, 9.0, 9.0]
    assert [sample.intended_s for sample in run.samples] == pytest.approx(run.sent_s)
    assert run.client.most == 2


async def test_it_ends_with_the_requests_though_the_stage_has_no_end() -> None:
    run = FakeRun(takes_s=1.0)
    await closed_loop(singles(*[None] * 7), [UserStage(users=3)], run.sender, None)
    assert len(run.samples) == 7
    assert run.client.most == 3


async def test_a_server_that_is_gone_is_not_flooded() -> None:
    """A refused connection takes no time: users would try thousands of times a second."""
    run = FakeRun(takes_s=0.0, outcome=lambda call: "connection")
    stages = [UserStage(users=2, seconds=3)]
    await closed_loop(singles(*FOREVER), stages, run.sender, 3.0)
    assert run.sent_s == [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]


async def test_users_come_and_go_and_no_request_is_lost() -> None:
    run = FakeRun(takes_s=1.0)
    stages = [UserStage(users=1, seconds=3), UserStage(users=3, seconds=3), UserStage(users=1)]
    await closed_loop(singles(*[None] * 20), stages, run.sender, None)
    per_second = [run.sent_s.count(second) for second in range(7)]
    assert per_second == [1, 1, 1, 3, 3, 3, 1]
    assert sorted(sample.index for sample in run.samples) == list(range(20))


async def test_who_has_to_leave_with_the_last_request_sends_it() -> None:
    """Nobody else is left who could."""
    calls = iter([2.0, 2.0, 1.0, 2.0])
    run = FakeRun(takes_s=lambda call: next(calls))
    stages = [UserStage(users=3, seconds=1.5), UserStage(users=1)]
    await closed_loop(singles(*[None] * 4, think_s=10), stages, run.sender, None)
    assert run.sent_s == [0.0, 0.0, 0.0, 11.0]


async def test_no_turn_of_a_session_is_sent_from_the_end_on() -> None:
    run = FakeRun(takes_s=2.0)
    session = [
        planned(turn, None, turn=turn, turns=9, think_s=1 if turn else 0) for turn in range(9)
    ]
    await closed_loop(iter([session]), [UserStage(users=1, seconds=7)], run.sender, 7.0)
    assert run.sent_s == [0.0, 3.0, 6.0]
    assert run.sender.tally.unsent == 6


async def test_a_stop_ends_it() -> None:
    run = FakeRun(takes_s=1.0)
    run.clock.call_at(run.begin_s + 2.5, run.timetable.stop)
    await closed_loop(singles(*FOREVER), [UserStage(users=2)], run.sender, None)
    assert run.sent_s == [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]
    assert len(run.samples) == 6


@pytest.mark.parametrize(("part", "users"), [(0, 3), (1, 2), (2, 2)])
async def test_processes_share_the_users(part: int, users: int) -> None:
    run = FakeRun(takes_s=1.0)
    stages = [UserStage(users=7, seconds=1)]
    await closed_loop(singles(*FOREVER), stages, run.sender, 1.0, part=part, parts=3)
    assert run.client.most == users
