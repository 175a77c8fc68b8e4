"""What became of one request, and how long to wait for it."""

from array import array
from dataclasses import dataclass, field

from loadtest.client.said import Said
from loadtest.samples import Outcome


@dataclass(frozen=True, slots=True)
class Timeouts:
    """In seconds; None waits for ever."""

    connect_s: float = 10.0
    first_byte_s: float | None = 300.0
    """From the sending to the answer's body's first byte."""
    idle_s: float | None = 120.0
    """Silence in the middle of a body."""
    total_s: float | None = 600.0


@dataclass(slots=True)
class Reply:
    """What became of one request; its times are the clock's."""

    outcome: Outcome
    sent_s: float | None = None
    """When its sending began: connecting, where there was no open connection, comes after it."""
    ended_s: float | None = None
    """When the answer had come whole, or the failure was seen."""
    status: int | None = None
    error: str | None = None
    """The kind of the failure: never a prompt, a key or a server's own words."""
    times: "array[float]" = field(default_factory=lambda: array("d"))
    """When each token event came; empty where not streamed."""
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    """As the server counted them; None where it did not say."""
    said: Said | None = None
    """Where it was asked for."""
    cold_start: bool = False
    queue_s: float | None = None
