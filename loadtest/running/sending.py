"""Sends a planned request and makes its sample."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from loadtest.client.client import Call
from loadtest.client.reply import Reply
from loadtest.client.said import Said
from loadtest.running.phases import Phases
from loadtest.running.timetable import Timetable
from loadtest.samples import Planned, Sample, TokensFrom, encode
from loadtest.workload.sessions import Conversation
from loadtest.workload.tokenizer import Tokenizer

OnSample = Callable[[Sample], object]

RECONNECT_S = 1.0
"""A user whose connection failed tries again after it, so that a server that is gone, or comes
back, is not flooded."""


class Asks(Protocol):
    """A client, as far as it is needed here."""

    async def ask(self, call: Call) -> Reply: ...


@dataclass(slots=True)
class Tally:
    """Requests so far. `unsent` belong to sessions that broke off or were stopped."""

    sent: int = 0
    ended: int = 0
    unsent: int = 0


class Sender:
    """Sends requests and sessions; every one that was begun ends as a sample."""

    def __init__(
        self,
        client: Asks,
        timetable: Timetable,
        begin_s: float,
        phases: Phases,
        on_sample: OnSample,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        """begin_s: the clock's time at the run's begin."""
        self.timetable = timetable
        self.tally = Tally()
        self._client = client
        self._begin_s = begin_s
        self._phases = phases
        self._on_sample = on_sample
        self._tokenizer = tokenizer

    async def converse(
        self,
        turns: list[Planned],
        intended_s: float,
        payload: bytes | None = None,
        end_s: float | None = None,
    ) -> float:
        """Sends a session's turns, each when the answer before has come and its time has.

        intended_s: of the first. payload: its body, if made already. end_s: from then on nothing
        is sent. What follows a failure, a stop or the end is not sent. Returns from when the same
        user can ask again.
        """
        conversation, ended_s = Conversation(), intended_s
        for place, planned in enumerate(turns):
            if place:
                intended_s = ended_s + planned.think_s
                over = end_s is not None and intended_s >= end_s
                if over or not await self.timetable.until(intended_s):
                    self.tally.unsent += len(turns) - place
                    break
            words = place + 1 < len(turns)
            if payload is None or len(turns) > 1:
                payload = encode(conversation.ask(planned))
            sample, said = await self._send(planned, intended_s, payload, words=words)
            ended_s = self.timetable.now() if sample.ended_s is None else sample.ended_s
            if sample.outcome != "ok":
                self.tally.unsent += len(turns) - place - 1
                if sample.outcome == "connection":
                    ended_s += RECONNECT_S
                break
            if said is not None:
                conversation.hear(planned, said.text)
        return ended_s

    async def _send(
        self, planned: Planned, intended_s: float, payload: bytes, *, words: bool
    ) -> tuple[Sample, Said | None]:
        self.tally.sent += 1
        call = Call(
            planned.route, planned.tenant, payload, planned.stream,
            words or self._tokenizer is not None,
        )  # fmt: skip
        reply = await self._client.ask(call)
        sample = self._sample(planned, intended_s, reply)
        self.tally.ended += 1
        self._on_sample(sample)
        return sample, reply.said

    def _sample(self, planned: Planned, intended_s: float, reply: Reply) -> Sample:
        times, begin_s = reply.times, self._begin_s
        tokens, tokens_from = self._output_tokens(reply)
        return Sample(
            index=planned.index,
            tenant=planned.tenant,
            model=planned.model,
            phase=self._phases.of(planned.index, intended_s),
            intended_s=intended_s,
            sent_s=None if reply.sent_s is None else reply.sent_s - begin_s,
            first_token_s=times[0] - begin_s if times else None,
            last_token_s=times[-1] - begin_s if times else None,
            ended_s=None if reply.ended_s is None else reply.ended_s - begin_s,
            gaps=_gaps(reply),
            events=len(times),
            prompt_tokens=(
                planned.prompt_tokens if reply.prompt_tokens is None else reply.prompt_tokens
            ),
            output_tokens=tokens,
            tokens_from=tokens_from,
            outcome=reply.outcome,
            status=reply.status,
            error=reply.error,
            cold_start=reply.cold_start,
            queue_s=reply.queue_s,
        )

    def _output_tokens(self, reply: Reply) -> tuple[int | None, TokensFrom]:
        if reply.output_tokens is not None:
            return reply.output_tokens, "server"
        if self._tokenizer is not None and reply.said is not None:
            return sum(map(self._tokenizer.count, reply.said.texts)), "tokenizer"
        return len(reply.times) or None, "events"


def _gaps(reply: Reply) -> NDArray[np.float64]:
    return np.diff(np.frombuffer(reply.times, np.float64)) if reply.times else np.zeros(0)


def body_of(turns: list[Planned]) -> bytes | None:
    """What can be made ready before it is time: the body of a request that stands alone."""
    return turns[0].payload() if len(turns) == 1 else None
