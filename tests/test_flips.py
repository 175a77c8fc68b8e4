"""Many moves of one adapter at once, and moves under load, through the real gateway."""

import asyncio
import itertools
import multiprocessing
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters_registry.errors import IllegalMove, StaleRevision
from adapters_registry.registry import Registry
from adapters_registry.types import Evaluation, ServingProfile, Verdict
from tests.adapters_for_tests import good_adapter, tiny_base
from tests.fake_engine import FakeEngine
from tests.flips import Flipping
from tests.running_gateway import ADMIN_KEY, BASE, RunningGateway, TinyModel, running_gateway

AT_ONCE = 50
FLIPS = 100
RATE = 50.0
EVERY_S = 0.02
DEADLINE_S = 120
PASSED = Evaluation(verdict=Verdict.PASSED)


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: TinyModel
) -> Iterator[RunningGateway]:
    engine = FakeEngine.start("--served-model-name", BASE)
    try:
        with running_gateway(engine, tmp_path_factory.mktemp("flips"), tiny_model) as running:
            yield running
    finally:
        engine.stop()


def check_serial(history: list[dict[str, Any]], succeeded: int) -> None:
    """Each move began where the one before it had ended. history: newest first."""
    moves = [entry for entry in history[::-1] if entry["action"] in ("promote", "rollback")]
    ends = [None, *(entry["to"] for entry in moves)]
    assert [entry["from"] for entry in moves] == ends[:-1]
    assert all(entry["from"] != entry["to"] for entry in moves)
    assert len(moves) == succeeded


async def test_fifty_moves_at_once_make_one_serial_history(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    for number in range(1, 6):
        assert gateway.push(tmp_path / str(number), adapter="raced") == number
    path = "/tenants/acme/adapters/raced"
    before = gateway.admin("GET", path).json()
    audited = gateway.admin("GET", "/audit").json()["data"][0]["id"]
    chance = random.Random(4)

    async def move(http: httpx.AsyncClient, number: int) -> tuple[bool, httpx.Response]:
        """Every third one was decided on the same state of the adapter."""
        guarded = number % 3 == 0
        headers = {"authorization": f"Bearer {ADMIN_KEY}"}
        headers |= {"if-match": f'"{before["revision"]}"'} if guarded else {}
        target = chance.randint(1, 5)
        name, body = chance.choice(
            [("promote", {"version": target}), ("rollback", {"to": target}), ("rollback", {})]
        )
        url = f"{gateway.url}/admin/v1{path}/{name}"
        return guarded, await http.post(url, json=body, headers=headers)

    async with httpx.AsyncClient(
        timeout=DEADLINE_S, trust_env=False, limits=httpx.Limits(max_connections=AT_ONCE)
    ) as http:
        answers = await asyncio.gather(*(move(http, number) for number in range(AT_ONCE)))
    codes = Counter(
        (answer.status_code, answer.json().get("error", {}).get("code")) for _, answer in answers
    )
    assert codes.keys() <= {(200, None), (409, "illegal_move"), (412, "stale_revision")}, codes
    won = {answer.json()["revision"]: answer.json() for _, answer in answers if answer.is_success}
    assert codes[200, None] == len(won) > 0
    assert sum(guarded and answer.is_success for guarded, answer in answers) <= 1
    assert codes[412, "stale_revision"] > 0
    assert sorted(won) == list(range(before["revision"] + 1, before["revision"] + len(won) + 1))
    after = gateway.admin("GET", path).json()
    assert (after["revision"], after["live"]) == (max(won), won[max(won)]["live"])
    live = [one["version"] for one in after["versions"] if one["state"] == "live"]
    assert live == [after["live"]]
    history = gateway.admin("GET", f"{path}/history").json()["data"]
    check_serial(history, len(won) + 5)
    told = [entry["to"] for entry in history[: len(won)]][::-1]
    assert told == [won[revision]["live"] for revision in sorted(won)]
    changes = gateway.admin("GET", "/audit", params={"limit": 1000}).json()["data"]
    since = [entry for entry in changes if entry["id"] > audited]
    assert len(since) == len(won)
    assert {entry["action"] for entry in since} <= {"version.promote", "version.rollback"}


def _move_by_chance(url: str, artifacts: Path, seed: int, times: int) -> list[tuple[int, int]]:
    """The revision and the live version after each of this process's moves that succeeded."""
    chance, won = random.Random(seed), []
    registry = Registry.open(url, artifacts)
    for _ in range(times):
        seen = registry.snapshot().tenants["acme"].adapters["support"].revision
        if_match = chance.choice([None, seen])
        try:
            if chance.random() < 0.5:
                target = chance.randint(1, 5)
                moved = registry.promote(
                    "acme", "support", target, actor="admin", if_match=if_match
                )
            else:
                moved = registry.rollback("acme", "support", actor="admin", if_match=if_match)
        except (IllegalMove, StaleRevision):
            continue
        assert moved.live is not None
        won.append((moved.revision, moved.live))
    registry.close()
    return won


def test_processes_that_move_by_chance_make_one_serial_history(
    database_url: str, tmp_path: Path
) -> None:
    registry = Registry.open(database_url, tmp_path / "artifacts")
    registry.create_tenant("acme", actor="admin")
    folder = good_adapter(tmp_path / "in", tiny_base())
    for _ in range(5):
        registry.push(
            "acme", "support", folder, base=tiny_base(), max_rank=16, profile=ServingProfile(),
            actor="admin", evaluation=PASSED,
        )  # fmt: skip
    registry.promote("acme", "support", 1, actor="admin")
    first = registry.snapshot().tenants["acme"].adapters["support"].revision
    work = [(database_url, tmp_path / "artifacts", seed, 17) for seed in range(3)]
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        lists = pool.starmap_async(_move_by_chance, work).get(DEADLINE_S)
    won = dict(sorted(itertools.chain(*lists)))
    assert len(won) == sum(map(len, lists)) > 0
    assert list(won) == list(range(first + 1, first + 1 + len(won)))
    adapter = registry.snapshot().tenants["acme"].adapters["support"]
    assert (adapter.revision, adapter.live) == (max(won), won[max(won)])
    moved = [each for each in registry.history("acme", "support")[::-1] if each.action != "push"]
    assert [each.to_version for each in moved] == [1, *won.values()]
    assert [each.from_version for each in moved] == [None, 1, *won.values()][:-1]
    assert registry.revision() == len(registry.audit(limit=1000))
    registry.close()


async def test_a_hundred_flips_under_load_fail_nobody(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    for number in (1, 2):
        assert gateway.push(tmp_path / str(number), adapter="flipped") == number
    gateway.fake.control(token_time_s=0.006)
    flipping = Flipping(gateway.url, gateway.keys["acme"], ADMIN_KEY, "acme/flipped", live=2)
    try:
        async with flipping.http, flipping.load(RATE):
            for number in range(FLIPS):
                version = number % 2 + 1
                await flipping.flip(version, back=number % 4 == 2)
                # Sent after the acknowledgement, and answered before the next move is asked for.
                assert (await flipping.ask(stream=False)).version == version
                await asyncio.sleep(EVERY_S)
    finally:
        gateway.fake.control(token_time_s=0.0)
    flipping.check()
    for answer in flipping.answers:
        (model,) = answer.models
        assert answer.text.startswith(f"«{model}»"), answer
    streams = [answer for answer in flipping.answers if answer.streamed]
    assert {answer.version for answer in streams} == {1, 2}
    revision = gateway.admin("GET", "/tenants/acme/adapters/flipped").json()["revision"]
    history = gateway.admin("GET", "/tenants/acme/adapters/flipped/history").json()["data"]
    check_serial(history, FLIPS + 2)
    assert revision == sum(entry["action"] != "proved" for entry in history)
