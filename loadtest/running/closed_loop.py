"""Closed loop: users who each wait for their answer, think, and ask again."""

import asyncio
from collections.abc import Iterator, Sequence

from loadtest.running.sending import Sender, body_of
from loadtest.samples import Planned
from loadtest.workload.stages import UserStage


def changes(stages: Sequence[UserStage]) -> Iterator[tuple[float, int]]:
    """The seconds at which the number of users changes, and the number from then on; 0 at the
    end, if there is one."""
    begin_s, users = 0.0, 0
    for stage in stages:
        last = stage.users if stage.to is None else stage.to
        if stage.users != users:
            users = stage.users
            yield begin_s, users
        if stage.seconds is None:
            return
        while users != last:
            # A ramp down loses its first user at once, a ramp up gains its last at its end.
            reached = users if last < users else users + 1
            share = (reached - stage.users) / (last - stage.users)
            users += 1 if last > users else -1
            yield begin_s + share * stage.seconds, users
        begin_s += stage.seconds
    yield begin_s, 0


async def closed_loop(
    sessions: Iterator[list[Planned]],
    stages: Sequence[UserStage],
    sender: Sender,
    end_s: float | None,
    *,
    part: int = 0,
    parts: int = 1,
) -> None:
    """Keeps as many users at work as the stages say until the sessions or the time are over, or
    the run is stopped; then waits for the answers.

    part, parts: only every `parts`-th user, for one of several processes.
    """
    async with asyncio.TaskGroup() as tasks:
        crowd = _Crowd(sessions, sender, end_s, tasks)
        crowd.follower = tasks.create_task(crowd.follow(stages, part, parts))


class _Crowd:
    """The users at work."""

    def __init__(
        self,
        sessions: Iterator[list[Planned]],
        sender: Sender,
        end_s: float | None,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._sessions = sessions
        self._sender = sender
        self._end_s = end_s
        self._tasks = tasks
        self._left: list[list[Planned]] = []
        """Taken by users who then had to leave."""
        self._wanted = 0
        self._exhausted = False
        self._working: set[int] = set()
        self.follower: asyncio.Task[None] | None = None

    async def follow(self, stages: Sequence[UserStage], part: int, parts: int) -> None:
        """Lets users come and go with the stages."""
        for at_s, users in changes(stages):
            if not await self._sender.timetable.until(at_s):
                return
            self._wanted = max(0, -((part - users) // parts))
            for number in range(self._wanted):
                if number not in self._working:
                    self._working.add(number)
                    self._tasks.create_task(self._user(number))

    async def _user(self, number: int) -> None:
        timetable = self._sender.timetable
        free_s: float | None = None
        try:
            while (turns := self._next(number)) is not None:
                now_s = max(0.0, timetable.now())
                intended_s = now_s if free_s is None else free_s + turns[0].think_s
                over = self._end_s is not None and intended_s >= self._end_s
                body = body_of(turns)
                if over or not await timetable.until(intended_s) or self._must_leave(number):
                    self._left.append(turns)
                    return
                free_s = await self._sender.converse(turns, intended_s, body, self._end_s)
        finally:
            self._working.discard(number)

    def _next(self, number: int) -> list[Planned] | None:
        """The next session; None where the user is to leave."""
        if self._must_leave(number) or self._sender.timetable.stopped:
            return None
        turns = self._left.pop() if self._left else next(self._sessions, None)
        if turns is None:
            self._exhausted = True
            if self.follower is not None:
                self.follower.cancel()
        return turns

    def _must_leave(self, number: int) -> bool:
        """Whether there are too many. Not once the sessions are over: what a user who leaves had
        taken, nobody would send any more."""
        return number >= self._wanted and not self._exhausted
