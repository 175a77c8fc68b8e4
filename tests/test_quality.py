"""Samples are judged off the request's path: none is waited for, and what is dropped is counted."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.judge import Verdict
from gateway.quality import Quality, expected_json
from gateway.routes import Route
from gateway.sample import Sample

DEADLINE_S = 30


@dataclass
class Recorded:
    """Metrics that remember."""

    verdicts: list[tuple[str, str, str, Verdict]] = field(default_factory=list)
    dropped_count: int = 0

    def observe_answer(self, tenant: str, adapter: str, version: str, verdict: Verdict) -> None:
        self.verdicts.append((tenant, adapter, version, verdict))

    def dropped(self, count: int) -> None:
        self.dropped_count += count


def body(*texts: str) -> bytes:
    choices = [
        {"index": index, "message": {"content": text}, "finish_reason": "stop"}
        for index, text in enumerate(texts)
    ]
    return json.dumps({"choices": choices}).encode()


SAMPLE = Sample(
    route=Route.CHAT,
    tenant="acme",
    adapter="support",
    version="3",
    streamed=False,
    content=body("Hello"),
    wants_json=False,
    json_schema=None,
)


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "the condition never came true"
        await asyncio.sleep(0.005)


async def test_every_answer_of_a_sample_is_judged_under_its_version() -> None:
    metrics = Recorded()
    async with Quality(metrics) as quality:
        quality.offer(
            replace(SAMPLE, content=body('{"a": 1}', "no json"), wants_json=True, json_schema={})
        )
        await until(lambda: len(metrics.verdicts) == 2)
    assert {verdict[:3] for verdict in metrics.verdicts} == {("acme", "support", "3")}
    assert [verdict.json_valid for *_, verdict in metrics.verdicts] == [True, False]
    assert metrics.dropped_count == 0


async def test_offer_drops_and_counts_what_is_too_much() -> None:
    metrics = Recorded()
    quality = Quality(metrics, max_samples=2)
    for _ in range(5):
        quality.offer(SAMPLE)
    assert metrics.dropped_count == 3
    async with quality:
        await until(lambda: len(metrics.verdicts) == 2)
        quality.offer(SAMPLE)
        await until(lambda: len(metrics.verdicts) == 3)
    assert metrics.dropped_count == 3


async def test_the_bytes_that_wait_are_bounded_and_freed_again() -> None:
    metrics = Recorded()
    quality = Quality(metrics, max_bytes=2 * len(SAMPLE.content))
    for _ in range(3):
        quality.offer(SAMPLE)
    assert metrics.dropped_count == 1
    async with quality:
        await until(lambda: len(metrics.verdicts) == 2)
        quality.offer(SAMPLE)
        await until(lambda: len(metrics.verdicts) == 3)


async def test_what_still_waits_at_the_end_is_counted_as_dropped() -> None:
    metrics = Recorded()
    quality = Quality(metrics)
    async with quality:
        for _ in range(4):
            quality.offer(SAMPLE)
    assert metrics.dropped_count + len(metrics.verdicts) == 4


async def test_one_sample_that_cannot_be_judged_does_not_end_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = Recorded()
    secret = "my-private-prompt"
    unhashable = {"choices": [{"index": [secret], "message": {"content": secret}}]}
    async with Quality(metrics) as quality:
        quality.offer(replace(SAMPLE, content=json.dumps(unhashable).encode()))
        quality.offer(SAMPLE)
        await until(lambda: len(metrics.verdicts) == 1)
    assert metrics.dropped_count == 1
    assert "TypeError" in caplog.text
    assert secret not in caplog.text


async def test_the_loop_is_free_while_an_answer_is_judged() -> None:
    metrics = Recorded()
    schema = {
        "$defs": {
            f"l{i}": {"anyOf": [{"$ref": f"#/$defs/l{i + 1}"}, {"$ref": f"#/$defs/l{i + 1}"}]}
            for i in range(40)
        }
        | {"l40": {"type": "string"}},
        "$ref": "#/$defs/l0",
    }
    ticks = 0
    async with Quality(metrics) as quality:
        quality.offer(replace(SAMPLE, content=body("1"), wants_json=True, json_schema=schema))
        while not metrics.verdicts:
            await asyncio.sleep(0.001)
            ticks += 1
    # The schema takes its whole budget of 250 ms; a blocked loop would have ticked once or twice.
    assert ticks > 5


FORMAT = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}
FLAT_FORMAT = {"type": "json_schema", "name": "s", "schema": {"type": "object"}}


@pytest.mark.parametrize(
    ("route", "request_body", "expected"),
    [
        (Route.CHAT, {}, (False, None)),
        (Route.CHAT, {"response_format": None}, (False, None)),
        (Route.CHAT, {"response_format": {"type": "text"}}, (False, None)),
        (Route.CHAT, {"response_format": {"type": "json_object"}}, (True, None)),
        (Route.CHAT, {"response_format": FORMAT}, (True, {"type": "object"})),
        (Route.CHAT, {"response_format": {"type": "structural_tag"}}, (False, None)),
        (Route.COMPLETIONS, {"response_format": FORMAT}, (True, {"type": "object"})),
        (Route.COMPLETIONS, {"response_format": FORMAT, "echo": True}, (False, None)),
        (Route.CHAT, {"structured_outputs": {"json": {"a": 1}}}, (True, {"a": 1})),
        (Route.CHAT, {"structured_outputs": {"json": '{"a": 1}'}}, (True, {"a": 1})),
        (Route.CHAT, {"structured_outputs": {"json_object": True}}, (True, None)),
        (Route.CHAT, {"structured_outputs": {"regex": "a"}}, (False, None)),
        (Route.RESPONSES, {"text": {"format": FLAT_FORMAT}}, (True, {"type": "object"})),
        (Route.RESPONSES, {"text": {"format": {"type": "text"}}}, (False, None)),
        (Route.RESPONSES, {"structured_outputs": {"json": {"a": 1}}}, (True, {"a": 1})),
        (
            Route.MESSAGES,
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
            (True, {"type": "object"}),
        ),
        (Route.MESSAGES, {"output_config": {"effort": "low"}}, (False, None)),
        (Route.COUNT_TOKENS, {"output_config": {"format": FLAT_FORMAT}}, (False, None)),
    ],
)
def test_what_json_a_request_asks_for(
    route: Route, request_body: dict[str, Any], expected: tuple[bool, dict[str, Any] | None]
) -> None:
    assert expected_json(route, request_body) == expected
