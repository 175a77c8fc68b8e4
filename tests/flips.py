"""An adapter's live version moved to and fro under load, and who answered each request."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass(frozen=True)
class Answer:
    """What one request came to. Times are monotonic seconds."""

    sent_s: float
    headers_s: float
    status: int
    label: str
    """Of `x-loraplex-version`."""
    models: frozenset[str]
    """Every `model` in the body, of each event of a stream."""
    text: str
    streamed: bool

    @property
    def version(self) -> int:
        """The number in the label."""
        return int(self.label.rpartition("@")[2])


@dataclass(frozen=True)
class Flip:
    """One move of the live pointer."""

    version: int
    sent_s: float
    acknowledged_s: float


@dataclass
class Flipping:
    """A chat client and an admin client of one gateway, and what both saw.

    adapter: `tenant/name`, with version `live` live.
    """

    url: str
    key: str
    admin_key: str
    adapter: str
    live: int
    max_tokens: int = 8
    answers: list[Answer] = field(default_factory=list)
    flips: list[Flip] = field(default_factory=list)
    http: httpx.AsyncClient = field(
        default_factory=lambda: httpx.AsyncClient(timeout=300, trust_env=False)
    )

    def __post_init__(self) -> None:
        self.flips.append(Flip(self.live, 0.0, 0.0))

    async def flip(self, version: int, *, back: bool = False) -> None:
        """Promotes a version, or rolls back to it; on return the gateway has acknowledged."""
        tenant, _, name = self.adapter.partition("/")
        move, body = ("rollback", {"to": version}) if back else ("promote", {"version": version})
        path = f"/admin/v1/tenants/{tenant}/adapters/{name}/{move}"
        sent_s = time.monotonic()
        answer = await self.http.post(self.url + path, json=body, headers=_bearer(self.admin_key))
        assert answer.status_code == 200, answer.text
        assert answer.json()["live"] == version
        self.flips.append(Flip(version, sent_s, time.monotonic()))

    async def ask(self, *, stream: bool) -> Answer:
        """One chat with the adapter by its name alone."""
        body = {
            "model": self.adapter.partition("/")[2],
            "messages": [{"role": "user", "content": "Hi"}],
            "max_tokens": self.max_tokens,
            "temperature": 0,
            "stream": stream,
        }
        sent_s = time.monotonic()
        call = self.http.stream(
            "POST", f"{self.url}/v1/chat/completions", json=body, headers=_bearer(self.key)
        )
        async with call as response:
            headers_s = time.monotonic()
            raw = (await response.aread()).decode()
        label = response.headers.get("x-loraplex-version", "")
        models, text = (_of_stream if stream else _of_body)(raw, response.status_code)
        answer = Answer(sent_s, headers_s, response.status_code, label, models, text, stream)
        self.answers.append(answer)
        return answer

    @asynccontextmanager
    async def load(self, rate: float) -> AsyncIterator[None]:
        """So many requests a second, every other one a stream, until the block ends."""
        async with asyncio.TaskGroup() as group:
            dispatcher = group.create_task(self._dispatch(group, rate))
            yield
            dispatcher.cancel()

    async def _dispatch(self, group: asyncio.TaskGroup, rate: float) -> None:
        began_s = time.monotonic()
        number = 0
        while True:
            await asyncio.sleep(max(0.0, began_s + number / rate - time.monotonic()))
            group.create_task(self.ask(stream=number % 2 == 1))
            number += 1

    def check(self) -> None:
        """No answer failed, each says truly who gave it, and that was live when it was asked."""
        for answer in self.answers:
            assert answer.status == 200, answer
            assert answer.label.startswith(f"{self.adapter}@"), answer
            (model,) = answer.models
            assert model.rpartition(":")[0] == answer.label, answer
            assert answer.version in self._live_during(answer), (answer, self.flips)

    def _live_during(self, answer: Answer) -> set[int]:
        """Acknowledged last before the request was sent, or moved to until its headers came."""
        before = [flip for flip in self.flips if flip.acknowledged_s <= answer.sent_s]
        meanwhile = [
            flip
            for flip in self.flips
            if flip.acknowledged_s > answer.sent_s and flip.sent_s < answer.headers_s
        ]
        return {flip.version for flip in [before[-1], *meanwhile]}


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def _of_body(raw: str, status: int) -> tuple[frozenset[str], str]:
    if status != 200:
        return frozenset(), raw
    body: dict[str, Any] = json.loads(raw)
    return frozenset({body["model"]}), body["choices"][0]["message"]["content"]


def _of_stream(raw: str, status: int) -> tuple[frozenset[str], str]:
    if status != 200:
        return frozenset(), raw
    assert raw.endswith("data: [DONE]\n\n"), raw[-200:]
    events = [json.loads(line[6:]) for line in raw.splitlines() if line.startswith("data: {")]
    pieces = [
        choice["delta"].get("content") or "" for event in events for choice in event["choices"]
    ]
    return frozenset(event["model"] for event in events), "".join(pieces)
