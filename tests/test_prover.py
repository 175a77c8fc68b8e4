"""Proofs on a fake engine over real HTTP, kept in a real registry."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from adapters_registry.errors import UnknownVersion
from adapters_registry.registry import Registry
from adapters_registry.types import (
    Evaluation,
    Proof,
    ProofState,
    ServingProfile,
    Verdict,
    Version,
    VersionState,
)
from gateway.config import Timeouts
from gateway.engine import Engine, EngineState
from gateway.errors import (
    EngineFailed,
    EngineTimeout,
    EngineUnavailable,
    GatewayError,
    Overloaded,
)
from gateway.metrics import Metrics
from gateway.proof import PROMPTS, ROUNDS
from gateway.prover import Prover, left_over
from gateway.snapshots import Snapshots
from tests.adapters_for_tests import good_adapter, tiny_base
from tests.fake_engine import FakeEngine
from tests.snapshots_for_tests import snapshot, version

ADMIN = "admin"
CALLS = 2 * ROUNDS + 1
"""Of one proof."""
NEVER_S = 3600.0


@dataclass
class Lab:
    """A prover and what it works on."""

    fake: FakeEngine
    registry: Registry
    engine: Engine
    prover: Prover
    metrics: Metrics
    folder: Path

    def push(self, tenant: str = "acme", verdict: Verdict | None = None) -> Version:
        evaluation = None if verdict is None else Evaluation(verdict=verdict)
        return self.registry.push(
            tenant,
            "support",
            good_adapter(self.folder, tiny_base()),
            base=tiny_base(),
            max_rank=16,
            profile=ServingProfile(),
            evaluation=evaluation,
            actor=ADMIN,
        )

    def proof(self, pushed: Version) -> Proof | None:
        return self.registry.version(pushed.tenant, pushed.adapter, pushed.number).proof

    def actions(self, pushed: Version) -> list[tuple[str, str]]:
        """Who did what, newest first."""
        moves = self.registry.history(pushed.tenant, pushed.adapter)
        return [(move.actor, move.action) for move in moves]

    def outcomes(self) -> dict[str, float]:
        return {
            outcome: count
            for outcome in ("proved", "inert", "failed")
            if (count := self.metrics.proofs.labels(outcome).value)
        }


@pytest.fixture
def fake() -> Iterator[FakeEngine]:
    engine = FakeEngine.start("--served-model-name", "base")
    yield engine
    if engine.process.poll() is None:
        engine.stop()


@contextlib.asynccontextmanager
async def lab(
    fake: FakeEngine, folder: Path, *, timeout_s: float = 60.0, sweep_s: float = NEVER_S
) -> AsyncIterator[Lab]:
    """With the tenants acme and globex; the engine is up."""
    registry = Registry.open(f"sqlite:///{folder}/registry.db", folder / "artifacts")
    for name in ("acme", "globex"):
        registry.create_tenant(name, actor=ADMIN)
    metrics, snapshots = Metrics(), Snapshots(registry, 1.0)
    engine = Engine(
        fake.url,
        base_name="base",
        max_adapters=16,
        timeouts=Timeouts(),
        metrics=metrics,
        verify=lambda version: version,
    )
    watch = asyncio.create_task(engine.watch(lambda: snapshots.current))
    prover = Prover(
        engine, registry, snapshots, metrics, "base", timeout_s=timeout_s, sweep_s=sweep_s
    )
    try:
        await until(lambda: engine.state is EngineState.UP)
        yield Lab(fake, registry, engine, prover, metrics, folder / "adapter")
    finally:
        watch.cancel()
        await asyncio.wait([watch])
        await engine.close()
        registry.close()


@contextlib.asynccontextmanager
async def running(prover: Prover) -> AsyncIterator[None]:
    """Its own task, as in the gateway."""
    task = asyncio.create_task(prover.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - the state is another process's
            await asyncio.sleep(0.01)


async def test_a_version_that_answers_otherwise_is_proved(fake: FakeEngine, tmp_path: Path) -> None:
    async with lab(fake, tmp_path) as own:
        pushed = own.push()
        found = await own.prover.ensure(pushed)
        assert found.state is ProofState.PROVED
        assert found.difference > 1 > found.noise == 0
        assert (found.tokens > 50, found.base, found.reason) == (True, "base", None)
        assert own.proof(pushed) == found
        assert own.actions(pushed)[0] == ("gateway", "proved")
        assert own.outcomes() == {"proved": 1}


async def test_one_that_answers_as_the_base_is_inert_and_says_why(
    fake: FakeEngine, tmp_path: Path
) -> None:
    fake.control(inert="acme/support@1")
    async with lab(fake, tmp_path) as own:
        found = await own.prover.ensure(own.push())
        assert (found.state, found.difference) == (ProofState.INERT, 0)
        assert found.reason is not None
        assert "applies none of its modules (q_proj, v_proj)" in found.reason
        assert (await own.prover.ensure(own.push())).state is ProofState.PROVED
        assert own.outcomes() == {"inert": 1, "proved": 1}


async def test_an_engines_noise_is_no_proof_and_hides_none(
    fake: FakeEngine, tmp_path: Path
) -> None:
    fake.control(inert="acme/support@1", logprob_noise=0.05)
    async with lab(fake, tmp_path) as own:
        inert = await own.prover.ensure(own.push())
        assert inert.state is ProofState.INERT
        assert inert.noise > 0.01
        assert "noise" in (inert.reason or "")
        proved = await own.prover.ensure(own.push())
        assert proved.state is ProofState.PROVED
        assert proved.noise > 0.01


async def test_what_the_engine_is_asked(fake: FakeEngine, tmp_path: Path) -> None:
    async with lab(fake, tmp_path) as own:
        pushed = own.push()
        await own.prover.ensure(pushed)
        calls = fake.proofs()
        names = ["base", pushed.engine_name]
        assert [call["body"]["model"] for call in calls] == [*names * ROUNDS, "base"]
        for call in calls:
            body = call["body"]
            assert body["prompt"] == list(PROMPTS)
            assert (body["logprobs"], body["max_tokens"], body["temperature"]) == (20, 1, 0)
        for own_each_time in ("request_id", "cache_salt"):
            assert len({call["body"][own_each_time] for call in calls}) == CALLS


async def test_a_proof_is_made_once_however_many_wait(fake: FakeEngine, tmp_path: Path) -> None:
    async with lab(fake, tmp_path) as own:
        pushed = own.push()
        found = await asyncio.gather(*(own.prover.ensure(pushed) for _ in range(20)))
        assert len(set(map(Proof.model_dump_json, found))) == 1
        assert len(fake.proofs()) == CALLS
        assert [action for _, action in own.actions(pushed)] == ["proved", "push"]


async def test_a_proof_that_is_asked_for_is_made_anew(fake: FakeEngine, tmp_path: Path) -> None:
    fake.control(inert="acme/support")
    async with lab(fake, tmp_path) as own:
        pushed = own.push()
        assert (await own.prover.ensure(pushed)).state is ProofState.INERT
        fake.control(inert=None)
        found = await own.prover.prove(pushed, actor="key:1")
        assert found.state is ProofState.PROVED
        assert own.proof(pushed) == found
        assert own.actions(pushed)[0] == ("key:1", "proved")


async def test_a_tenant_asks_for_one_proof_at_a_time(fake: FakeEngine, tmp_path: Path) -> None:
    async with lab(fake, tmp_path) as own:
        mine, other, theirs = own.push(), own.push(), own.push("globex")
        fake.control(frozen=True)
        first = asyncio.create_task(own.prover.prove(mine, actor=ADMIN))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as caught:
            await own.prover.prove(other, actor=ADMIN)
        assert (caught.value.code, caught.value.retry_after_s) == ("proof_running", 5)
        waiting = asyncio.create_task(own.prover.prove(theirs, actor=ADMIN))
        fake.control(frozen=False)
        assert {(await each).state for each in (first, waiting)} == {ProofState.PROVED}
        assert (await own.prover.prove(other, actor=ADMIN)).state is ProofState.PROVED


# When it cannot be had


async def stays_unproved(own: Lab, pushed: Version, error: type[GatewayError]) -> GatewayError:
    with pytest.raises(error) as caught:
        await own.prover.ensure(pushed)
    assert own.proof(pushed) is None
    assert own.outcomes()["failed"] == 1
    assert str(own.folder.parent) not in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    "fault",
    [{"status": 500}, {"status": 400}, {"garbage": "body"}, {"error_after_tokens": 0}],
    ids=str,
)
async def test_an_answer_without_figures_is_no_proof(
    fake: FakeEngine, tmp_path: Path, fault: dict[str, object]
) -> None:
    async with lab(fake, tmp_path) as own:
        pushed = own.push()
        fake.control(**fault)
        error = await stays_unproved(own, pushed, EngineFailed)
        assert error.code == "proof_failed"
        fake.control(status=None, garbage=None, error_after_tokens=None)
        assert (await own.prover.ensure(pushed)).state is ProofState.PROVED


async def test_an_engine_that_dies_in_the_middle_leaves_it_unproved(
    fake: FakeEngine, tmp_path: Path
) -> None:
    async with lab(fake, tmp_path) as own:
        pushed = own.push()
        fake.control(hold_after_tokens=0)
        proving = asyncio.create_task(stays_unproved(own, pushed, EngineUnavailable))
        await until(lambda: bool(fake.proofs()))
        fake.stop()
        await proving


async def test_an_engine_that_is_away_is_told_at_once(fake: FakeEngine, tmp_path: Path) -> None:
    async with lab(fake, tmp_path) as own:
        pushed = own.push()
        fake.control(health="dead")
        await until(lambda: own.engine.state is EngineState.DOWN)
        await stays_unproved(own, pushed, EngineUnavailable)
        assert fake.proofs() == []


async def test_a_version_that_left_the_engine_is_loaded_again_the_next_time(
    fake: FakeEngine, tmp_path: Path
) -> None:
    async with lab(fake, tmp_path) as own:
        pushed = own.push()
        fake.control(hold_after_tokens=0)
        proving = asyncio.create_task(stays_unproved(own, pushed, EngineUnavailable))
        await until(lambda: bool(fake.proofs()))
        fake.control(forget_adapters=True, hold_after_tokens=None)
        assert "no longer holds acme/support@1" in (await proving).message
        assert (await own.prover.ensure(pushed)).state is ProofState.PROVED


async def test_a_proof_does_not_wait_for_ever(fake: FakeEngine, tmp_path: Path) -> None:
    async with lab(fake, tmp_path, timeout_s=0.5) as own:
        pushed = own.push()
        fake.control(hold_after_tokens=0)
        error = await stays_unproved(own, pushed, EngineTimeout)
        assert error.code == "proof_timeout"


async def test_nothing_is_kept_of_a_version_that_was_deleted_meanwhile(
    fake: FakeEngine, tmp_path: Path
) -> None:
    async with lab(fake, tmp_path) as own:
        pushed = own.push()
        fake.control(hold_after_tokens=0)
        proving = asyncio.create_task(own.prover.ensure(pushed))
        await until(lambda: bool(fake.proofs()))
        assert own.engine.in_flight(pushed) == 0  # Else it could not be deleted now.
        own.registry.delete_version("acme", "support", 1, actor=ADMIN)
        fake.control(hold_after_tokens=None)
        with pytest.raises(UnknownVersion):
            await proving
        assert [action for _, action in own.actions(pushed)] == ["delete", "push"]


# Unasked


async def test_what_is_offered_is_proved(fake: FakeEngine, tmp_path: Path) -> None:
    async with lab(fake, tmp_path) as own, running(own.prover):
        versions = [own.push() for _ in range(3)]
        for pushed in versions:
            own.prover.offer(pushed)
        await until(lambda: own.outcomes() == {"proved": 3})
        assert all(own.proof(pushed) for pushed in versions)


async def test_what_is_offered_waits_for_the_engine(fake: FakeEngine, tmp_path: Path) -> None:
    async with lab(fake, tmp_path) as own, running(own.prover):
        fake.control(health="dead")
        await until(lambda: own.engine.state is EngineState.DOWN)
        pushed = own.push()
        own.prover.offer(pushed)
        await asyncio.sleep(0.7)  # It looks twice a second.
        assert own.proof(pushed) is None
        fake.control(health="ok")
        await until(lambda: own.proof(pushed) is not None)


async def test_a_broken_off_proof_is_tried_again(fake: FakeEngine, tmp_path: Path) -> None:
    async with lab(fake, tmp_path) as own, running(own.prover):
        fake.control(die_after_tokens=0, faulty_calls=1)
        pushed = own.push()
        own.prover.offer(pushed)
        await until(lambda: own.outcomes() == {"failed": 1, "proved": 1})
        assert own.proof(pushed) is not None


async def test_what_is_unproved_is_found_and_a_hopeless_one_given_up(
    fake: FakeEngine, tmp_path: Path
) -> None:
    async with lab(fake, tmp_path, sweep_s=0.01) as own:
        hopeless = own.push("globex")
        fake.control(status=500)
        await own.prover._snapshots.refresh()
        async with running(own.prover):
            await until(lambda: own.outcomes() == {"failed": 3})
            fake.control(status=None)
            old, rejected, new = own.push(), own.push(verdict=Verdict.REJECTED), own.push()
            await own.prover._snapshots.refresh()
            await until(lambda: own.proof(new) is not None)
            last = own.push("acme")
            await own.prover._snapshots.refresh()
            await until(lambda: own.proof(last) is not None)
            await until(lambda: own.outcomes() == {"failed": 3, "proved": 2})
        assert [own.proof(each) for each in (hopeless, old, rejected)] == [None] * 3


def test_left_over_are_the_last_and_the_live_ones() -> None:
    one, two, three = (version(number=number) for number in (1, 2, 3))
    other = version("globex")
    own = snapshot(one, two, three, live={("acme", "support"): 1})
    assert left_over(own, frozenset()) in (one, three)
    assert left_over(own, {three.engine_name}) == one
    assert left_over(own, {one.engine_name, three.engine_name}) is None
    assert left_over(snapshot(one, other), {one.engine_name}) == other
    assert left_over(snapshot(), frozenset()) is None


@pytest.mark.parametrize(
    "done",
    [{"proof": ProofState.PROVED}, {"proof": ProofState.INERT}, {"state": VersionState.REJECTED}],
    ids=str,
)
def test_what_is_proved_or_rejected_is_not_left_over(done: dict[str, ProofState]) -> None:
    assert left_over(snapshot(replace(version(), **done)), frozenset()) is None  # type: ignore[arg-type]
