"""What the client did and saw, and what the gateway's log says of it."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

_CLOSED, _BROKEN = 499, 502
_EXAMPLES = 10


@dataclass
class ClientBooks:
    """The client's side. A request is one whose head was sent whole."""

    requests: int = 0
    beginnings: int = 0
    """Connections left inside a request's head."""
    left: Counter[str] = field(default_factory=Counter)
    """Requests left, by stage."""
    refused: Counter[str] = field(default_factory=Counter)
    """By flaw."""
    paces: Counter[str] = field(default_factory=Counter)
    """Slow readers and writers."""
    answered: dict[str, int] = field(default_factory=dict)
    """Request id to the status of an answer that came whole."""
    begun: set[str] = field(default_factory=set)
    """Ids of answers that were left, or cut off by the gateway, after their head."""
    unanswered: int = 0
    """Requests left before the answer's head."""
    cut_off: Counter[str] = field(default_factory=Counter)
    """Readers whose connection the gateway ended since they took next to nothing, by pace: the
    silent ones, and others where the client itself was held up."""
    connections: int = 0
    resets: int = 0
    """Connections that the client reset."""
    problems: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def note(self, problem: str, example: str) -> None:
        """Takes down what must not be."""
        self.problems[problem] += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(f"{problem}: {example}")

    def answered_by_status(self) -> Counter[int]:
        """Of the answers that came whole."""
        return Counter(self.answered.values())

    @property
    def cancelled(self) -> int:
        """Requests that the client left."""
        return self.left.total()


@dataclass
class LogBooks:
    """The gateway's log: one line a request."""

    statuses: dict[str, int] = field(default_factory=dict)
    """Request id to the status that the request is counted under."""
    lines: int = 0
    """Of requests."""
    doubled: int = 0
    """Lines of a request that had one."""
    cancelled_after_start: int = 0
    """Requests whose answer had begun when the client left."""
    complaints: list[str] = field(default_factory=list)
    """Warnings, errors, and what is no log line at all."""

    def take(self, lines: Iterable[bytes]) -> None:
        """Reads on."""
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                self.complaints.append(line.decode(errors="replace"))
                continue
            if entry.get("event") == "request":
                self._take_request(entry)
            elif entry.get("level") not in ("debug", "info"):
                self.complaints.append(line.decode(errors="replace"))

    def by_status(self) -> Counter[int]:
        """Requests by the status they are counted under."""
        return Counter(self.statuses.values())

    def _take_request(self, entry: dict[str, object]) -> None:
        self.lines += 1
        request_id, status = str(entry["request_id"]), entry["status"]
        self.doubled += request_id in self.statuses
        if entry["outcome"] == "cancelled":
            self.cancelled_after_start += status is not None
            status = _CLOSED
        elif entry["outcome"] == "broken":
            status = _BROKEN
        assert isinstance(status, int)
        self.statuses[request_id] = status


class LogFile:
    """A log that grows, read piece by piece."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read_bytes = 0

    def new_lines(self) -> list[bytes]:
        """The whole lines that came since the last call."""
        with self._file.open("rb") as log:
            log.seek(self._read_bytes)
            whole, end, _ = log.read().rpartition(b"\n")
        self._read_bytes += len(whole) + len(end)
        return whole.split(b"\n") if whole else []


@dataclass(frozen=True)
class Matched:
    """The client's books beside the log's."""

    missing: int
    """Answers that the client saw and the log does not know."""
    other_status: int
    """Answers logged with another status than they came with."""
    unread: int
    """Requests in the log of which the client saw no answer."""
    odd: dict[int, int]
    """Statuses, and how many, of requests that the client left and that no leaving explains."""
    example: str = ""


def match(client: ClientBooks, log: LogBooks, explained: frozenset[int]) -> Matched:
    """Compares them id by id. explained: the statuses that a request may have that was left."""
    missing = [i for i in (*client.answered, *client.begun) if i not in log.statuses]
    differ = [
        request_id
        for request_id, status in client.answered.items()
        if log.statuses.get(request_id, status) != status
    ]
    odd = Counter(
        status
        for request_id, status in log.statuses.items()
        if request_id not in client.answered and status not in explained
    )
    unread = sum(i not in client.answered and i not in client.begun for i in log.statuses)
    shown = [f"{i}: {client.answered.get(i)}, logged {log.statuses.get(i)}" for i in differ]
    return Matched(len(missing), len(differ), unread, dict(odd), next(iter([*shown, *missing]), ""))
