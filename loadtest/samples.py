"""What passes between the load tester's parts: a request as planned, and what became of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Route = Literal["/v1/chat/completions", "/v1/completions"]
Phase = Literal["warmup", "measured", "cooldown"]
TokensFrom = Literal["server", "tokenizer", "events"]
Outcome = Literal["ok", "http_error", "timeout", "connection", "bad_answer", "cancelled"]

_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Planned:
    """A request of the schedule, before it is sent."""

    index: int
    """Its place in the schedule, from 0: the same in every run of the same workload."""
    at_s: float | None
    """When to send it, in seconds from the run's begin; None where an answer decides that: in a
    closed loop, and for every turn of a session but the first."""
    tenant: str
    """Whose key it is sent with; "" where the workload has no tenants."""
    model: str
    """As figures call it: TENANT/MODEL where several tenants have one of that name; `body` has the
    name that is asked for."""
    route: Route
    body: Mapping[str, Any]
    """JSON to send (`payload`). Of a session's later turns it holds only what the turn adds:
    `loadtest.workload.sessions.Conversation` puts in what was said before."""
    stream: bool
    max_tokens: int
    session: int | None
    """The session's number; None for a request that stands alone."""
    turn: int
    """Its place in the session, from 0."""
    prompt_tokens: int | None
    """Tokens of the prompt's text as planned, without what a chat template adds: exact where the
    workload names a tokenizer, else about; None where unknown (real prompts, later turns)."""
    turns: int = 1
    """How many requests the session has."""
    think_s: float = 0.0
    """Seconds between the answer before it (of the session, or of the closed loop's user) and
    its sending. Nothing is waited for before a user's first request."""

    def payload(self) -> bytes:
        """The body as it is sent."""
        return encode(self.body)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """What became of one request. All times are seconds from the run's begin, on one clock."""

    index: int
    tenant: str
    model: str
    phase: Phase
    intended_s: float
    """When it should have been sent: latencies count from here (no coordinated omission)."""
    sent_s: float | None
    first_token_s: float | None
    last_token_s: float | None
    ended_s: float | None
    """The times are None where the moment never came."""
    gaps: NDArray[np.float64] = field(repr=False)
    """Seconds between token events, one fewer than `events`; empty where not streamed."""
    events: int
    """Token events received."""
    prompt_tokens: int | None
    output_tokens: int | None
    tokens_from: TokensFrom
    outcome: Outcome
    status: int | None
    """The HTTP status; None where no answer began."""
    error: str | None
    """The kind or code of the failure, never the prompt or a key; None where `outcome` is ok."""
    cold_start: bool
    """Whether the server said that it had to load the adapter first."""
    queue_s: float | None
    """Seconds the server says the request waited; None where it does not say."""


def encode(body: Mapping[str, Any]) -> bytes:
    """A request's body as JSON: no spaces, text as UTF-8, the keys in their order."""
    return _JSON.encode(body).encode()
