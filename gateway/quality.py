"""Quality of live answers, first form: samples go in from the request's path, verdicts to metrics.

Nothing here delays a request: a sample is dropped, and counted, where the judge is behind. It rests
for many times as long as it worked, since it holds the interpreter's lock and with it the relay: of
a few answers a second each is judged, of thousands a share.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self

from gateway.answers import answers
from gateway.judge import Verdict, judge
from gateway.routes import Route
from gateway.sample import Sample

_log = logging.getLogger("loraplex.quality")
_STINT_S = 0.001
"""About how long the judge works in one go."""
_HOP_S = 0.0005
"""What a go costs at least: the way to its thread and back."""
_REST = 49
"""How many times as long as it worked the judge rests: 2 % of one core at most."""


class QualityMetrics(Protocol):
    """Where verdicts go."""

    def observe_answer(self, tenant: str, adapter: str, version: str, verdict: Verdict) -> None:
        """Counts one judged answer."""

    def dropped(self, count: int) -> None:
        """Counts samples that were not judged."""


class Quality:
    """Judges samples in a thread, one after the other: `async with Quality(metrics)`."""

    def __init__(
        self, metrics: QualityMetrics, *, max_samples: int = 512, max_bytes: int = 32 * 2**20
    ) -> None:
        self._metrics = metrics
        self._max_bytes = max_bytes
        self._waiting_bytes = 0
        self._max_samples = max_samples
        self._samples: deque[Sample] = deque()
        self._arrived = asyncio.Event()
        self._judged: list[tuple[Sample, list[Verdict] | Exception]] = []
        self._worker: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._worker = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Stops; what still waits is dropped."""
        if self._worker is None:
            return
        self._worker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._worker
        self._worker = None
        if untold := len(self._samples) + len(self._judged):
            self._metrics.dropped(untold)

    @property
    def has_room(self) -> bool:
        """Whether a sample would be taken now."""
        return len(self._samples) < self._max_samples and self._waiting_bytes < self._max_bytes

    def offer(self, sample: Sample) -> None:
        """Takes a sample, or drops it. Never waits."""
        size_bytes = len(sample.content)
        full = len(self._samples) >= self._max_samples
        if full or self._waiting_bytes + size_bytes > self._max_bytes:
            self._metrics.dropped(1)
            return
        self._waiting_bytes += size_bytes
        self._samples.append(sample)
        if not self._arrived.is_set():
            self._arrived.set()

    def pass_over(self) -> None:
        """Counts an answer that was not kept, since there was no room."""
        self._metrics.dropped(1)

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            worked_s = await asyncio.to_thread(self._judge_for_a_while)
            for sample, verdicts in self._judged:
                self._waiting_bytes -= len(sample.content)
                self._tell(sample, verdicts)
            self._judged.clear()
            if not self._samples:
                self._arrived.clear()
            await asyncio.sleep(worked_s * _REST)

    def _judge_for_a_while(self) -> float:
        """Judges what waits, in a thread; the CPU seconds it took."""
        began_s = time.thread_time()
        worked_s = 0.0
        while self._samples and worked_s < _STINT_S:
            sample = self._samples.popleft()
            try:
                self._judged.append((sample, verdicts_on(sample)))
            except Exception as error:
                self._judged.append((sample, error))
            worked_s = time.thread_time() - began_s
        return max(worked_s, _HOP_S)

    def _tell(self, sample: Sample, verdicts: list[Verdict] | Exception) -> None:
        if isinstance(verdicts, Exception):
            # One answer that no judge expected must not end the judgement of all others.
            _log.warning("an answer could not be judged: %s", type(verdicts).__name__)
            self._metrics.dropped(1)
            return
        for verdict in verdicts:
            self._metrics.observe_answer(sample.tenant, sample.adapter, sample.version, verdict)


def verdicts_on(sample: Sample) -> list[Verdict]:
    """The verdicts on a sample's answers."""
    found = answers(sample.route, sample.content, streamed=sample.streamed)
    return [
        judge(answer, wants_json=sample.wants_json, json_schema=sample.json_schema)
        for answer in found
    ]


def expected_json(route: Route, body: Mapping[str, Any]) -> tuple[bool, dict[str, Any] | None]:
    """Whether a request that passed `fields.check` asks for JSON, and by which schema."""
    if body.get("echo"):
        return False, None  # The answer begins with the prompt.
    wanted = _FORMAT_OF[route](body)
    kind = wanted.get("type")
    if kind in ("json_object", "json_schema"):
        # Chat's schema lies one level deeper than that of responses and messages.
        return True, _schema(_inner(wanted, "json_schema").get("schema", wanted.get("schema")))
    constraint = _inner(body, "structured_outputs")
    if constraint.get("json") is not None:
        return True, _schema(constraint["json"])
    return bool(constraint.get("json_object")), None


def _inner(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = value.get(name)
    return inner if isinstance(inner, Mapping) else {}


def _schema(value: Any) -> dict[str, Any] | None:
    if isinstance(value, str):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(value)
    return value if isinstance(value, dict) else None


_FORMAT_OF: Mapping[Route, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {
    Route.CHAT: lambda body: _inner(body, "response_format"),
    Route.COMPLETIONS: lambda body: _inner(body, "response_format"),
    Route.RESPONSES: lambda body: _inner(_inner(body, "text"), "format"),
    Route.MESSAGES: lambda body: _inner(_inner(body, "output_config"), "format"),
    Route.COUNT_TOKENS: lambda body: {},
}
