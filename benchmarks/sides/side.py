"""A side: one way from the load generator to the engine; and the wait until it answers."""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx

from benchmarks.sides.engine import Engine
from benchmarks.sides.processes import Child, ChildFailed
from benchmarks.sides.question import ROUTE, STREAM_TOKENS, Target, body

START_S = 180.0


@dataclass(frozen=True)
class Running:
    """A side that answers. The engine itself has no child of its own."""

    name: str
    target: Target
    child: Child | None
    stream_bytes: int = 0
    """Of one streamed answer, once one was looked at."""

    def cpu_s(self) -> float:
        return 0.0 if self.child is None else self.child.cpu_s()

    def rss_bytes(self) -> int:
        return 0 if self.child is None else self.child.rss_bytes()

    def stop(self) -> None:
        if self.child is not None:
            self.child.stop()


class Side(Protocol):
    """One proxy, or none."""

    name: str

    def prepare(self) -> None:
        """Install what it needs. Raises PeerMissing."""
        ...

    def versions(self) -> dict[str, str]:
        """Of what it is made of, once prepared."""
        ...

    def start(self, engine: Engine, folder: Path, cores: Sequence[int]) -> Running:
        """Start it in front of the engine; it answers when this returns. Raises ChildFailed.

        folder: its own, kept from one start to the next.
        """
        ...


class Direct:
    """No proxy: what the engine and the load generator can do by themselves."""

    name = "direct"

    def prepare(self) -> None:
        """Nothing is needed."""

    def versions(self) -> dict[str, str]:
        return {}

    def start(self, engine: Engine, folder: Path, cores: Sequence[int]) -> Running:
        return Running(self.name, engine.target, None)


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(child: Child, holds: Callable[[httpx.Client], bool], limit_s: float) -> None:
    """Returns once `holds(client)`; ends the child and raises ChildFailed when it does not."""
    try:
        _wait(child, holds, limit_s)
    except BaseException:  # Ctrl-C too must leave nothing behind
        child.stop()
        raise


def _wait(child: Child, holds: Callable[[httpx.Client], bool], limit_s: float) -> None:
    end_s = time.monotonic() + limit_s
    with httpx.Client(timeout=10, trust_env=False) as client:
        while time.monotonic() < end_s:
            child.check()
            with contextlib.suppress(httpx.TransportError):
                if holds(client):
                    return
            time.sleep(0.1)
    raise ChildFailed(f"{child.name} does not answer within {limit_s:g} s:\n{child.tail()}")


def answers(target: Target) -> Callable[[httpx.Client], bool]:
    """Whether the target answers a plain request."""

    def holds(client: httpx.Client) -> bool:
        return _ask(client, target, streamed=False).status_code == 200

    return holds


def check_answers(running: Running) -> int:
    """One plain and one streamed answer must be whole; the size of the streamed one in bytes.

    Raises ChildFailed.
    """
    with httpx.Client(timeout=30, trust_env=False) as client:
        plain = _ask(client, running.target, streamed=False)
        streamed = _ask(client, running.target, streamed=True)
    problem = _plain_problem(plain) or _stream_problem(streamed.text)
    if problem:
        raise ChildFailed(f"{running.name} answers wrongly: {problem}")
    return len(streamed.content)


def _ask(client: httpx.Client, target: Target, *, streamed: bool) -> httpx.Response:
    headers = {"content-type": "application/json", **target.headers}
    content = body(target.model, STREAM_TOKENS, streamed=streamed)
    return client.post(target.url + ROUTE, content=content, headers=headers)


def _plain_problem(answer: httpx.Response) -> str | None:
    if answer.status_code != 200:
        return f"status {answer.status_code}: {answer.text[:300]}"
    tokens = answer.json()["usage"]["completion_tokens"]
    return None if tokens == STREAM_TOKENS else f"{tokens} tokens instead of {STREAM_TOKENS}"


def _stream_problem(text: str) -> str | None:
    events = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    if not events or events[-1] != "[DONE]":
        return f"the stream does not end: {text[-300:]}"
    choices = [choice for event in events[:-1] for choice in json.loads(event)["choices"]]
    said = [choice["delta"].get("content") for choice in choices]
    tokens = sum(bool(piece) for piece in said)
    return None if tokens == STREAM_TOKENS else f"{tokens} tokens instead of {STREAM_TOKENS}"
