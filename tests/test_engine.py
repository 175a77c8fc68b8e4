"""The engine's life and its adapters, against a fake vLLM over real HTTP."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from adapters_registry.types import Snapshot, Version
from gateway.config import Timeouts
from gateway.engine import Engine, EngineState
from gateway.errors import EngineFailed, EngineUnavailable, Overloaded
from gateway.metrics import Metrics
from tests.fake_engine import FakeEngine
from tests.snapshots_for_tests import snapshot, version


@pytest.fixture
def fake() -> Iterator[FakeEngine]:
    engine = FakeEngine.start("--served-model-name", "base")
    yield engine
    if engine.process.poll() is None:
        engine.stop()


@contextlib.asynccontextmanager
async def watched(
    fake: FakeEngine,
    current: Callable[[], Snapshot] = snapshot,
    *,
    base_name: str = "base",
    max_adapters: int = 16,
) -> AsyncIterator[Engine]:
    engine = Engine(
        fake.url,
        base_name=base_name,
        max_adapters=max_adapters,
        timeouts=Timeouts(),
        metrics=Metrics(),
        verify=lambda version: version,
    )
    task = asyncio.create_task(engine.watch(current))
    try:
        yield engine
    finally:
        task.cancel()
        await asyncio.wait([task])
        await engine.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - the state is another process's
            await asyncio.sleep(0.01)


async def reaches(engine: Engine, state: EngineState) -> None:
    await until(lambda: engine.state is state)


def on_disk(tmp_path: Path, number: int, tenant: str = "acme") -> Version:
    path = tmp_path / f"{tenant}{number}"
    path.mkdir()
    (path / "adapter_config.json").write_text("{}")
    (path / "adapter_model.safetensors").write_bytes(b"")
    return version(tenant, number=number, path=path)


def loaded(fake: FakeEngine) -> list[str]:
    # An empty name is the gateway's question whether adapters can be loaded at all.
    return [load["name"] for load in fake.state()["loads"] if load["name"]]


@contextlib.asynccontextmanager
async def used(engine: Engine, wanted: Version | None) -> AsyncIterator[None]:
    """A call's hold on a version."""
    with engine.hold(wanted) as resident:
        if not resident and wanted is not None:
            await engine.ensure_loaded(wanted)
        yield


async def test_an_engine_that_serves_the_base_is_up(fake: FakeEngine) -> None:
    async with watched(fake) as engine:
        with pytest.raises(EngineUnavailable):
            async with used(engine, None):
                pass
        await reaches(engine, EngineState.UP)
        async with used(engine, None):
            pass


async def test_another_base_is_refused_with_the_way_out(fake: FakeEngine) -> None:
    async with watched(fake, base_name="other") as engine:
        await reaches(engine, EngineState.REFUSED)
        assert "--served-name" in engine.reason


async def test_an_engine_that_answers_for_any_name_is_refused(fake: FakeEngine) -> None:
    fake.control(skip_name_validation=True)
    async with watched(fake) as engine:
        await reaches(engine, EngineState.REFUSED)
        assert "VLLM_SKIP_MODEL_NAME_VALIDATION" in engine.reason
        with pytest.raises(EngineUnavailable):
            await engine.ensure_loaded(version())
        fake.control(skip_name_validation=False)
        await reaches(engine, EngineState.UP)


async def test_however_many_wait_there_is_one_load(fake: FakeEngine, tmp_path: Path) -> None:
    one = on_disk(tmp_path, 1)
    fake.control(load_time_s=0.2)
    async with watched(fake) as engine:
        await reaches(engine, EngineState.UP)
        waiters = [asyncio.create_task(engine.ensure_loaded(one)) for _ in range(100)]
        await asyncio.sleep(0)
        waiters[0].cancel()  # One that goes away does not take the load along.
        done = await asyncio.gather(*waiters, return_exceptions=True)
        assert [result for result in done if result is not None] == [done[0]]
        assert loaded(fake) == [one.engine_name]


async def test_already_loaded_is_success(fake: FakeEngine, tmp_path: Path) -> None:
    one = on_disk(tmp_path, 1)
    async with watched(fake) as engine, watched(fake) as other:
        await reaches(engine, EngineState.UP)
        await reaches(other, EngineState.UP)
        await engine.ensure_loaded(one)
        await other.ensure_loaded(one)
        assert other.info()["resident"] == [one.label]


async def test_a_refused_load_is_told_and_not_kept(fake: FakeEngine, tmp_path: Path) -> None:
    one = on_disk(tmp_path, 1)
    fake.control(load_error="no")
    async with watched(fake) as engine:
        await reaches(engine, EngineState.UP)
        with pytest.raises(EngineFailed):
            await engine.ensure_loaded(one)
        assert engine.info()["resident"] == []
        fake.control(load_error=None)
        await engine.ensure_loaded(one)
        assert engine.info()["resident"] == [one.label]


async def test_names_stay_below_the_engines_limit(fake: FakeEngine, tmp_path: Path) -> None:
    versions = [on_disk(tmp_path, n) for n in range(1, 8)]
    async with watched(fake, max_adapters=4) as engine:
        await reaches(engine, EngineState.UP)
        async with used(engine, versions[0]):
            for v in versions[1:]:
                async with used(engine, v):
                    pass
                assert len(fake.state()["adapters"]) <= 3
            assert versions[0].engine_name in fake.state()["adapters"]
        async with (
            used(engine, versions[0]),
            used(engine, versions[1]),
            used(engine, versions[2]),
        ):
            with pytest.raises(Overloaded):
                await engine.ensure_loaded(versions[3])


async def test_live_versions_come_back_before_the_engine_is_up_again(
    fake: FakeEngine, tmp_path: Path
) -> None:
    live, other = on_disk(tmp_path, 1), on_disk(tmp_path, 2)
    registry = snapshot(live, other, live={("acme", "support"): 1})
    async with watched(fake, lambda: registry) as engine:
        await reaches(engine, EngineState.UP)
        for v in (live, other):
            await engine.ensure_loaded(v)
        port = int(fake.url.rpartition(":")[2])
        fake.stop()
        await reaches(engine, EngineState.DOWN)
        assert engine.info()["state"] == "down"
        again = FakeEngine.start("--served-model-name", "base", port=port)
        try:
            await reaches(engine, EngineState.UP)
            assert list(again.state()["adapters"]) == [live.engine_name]
            assert engine.info()["resident"] == [live.label]
            assert engine.info()["restarts"] == 1
            await engine.ensure_loaded(other)
        finally:
            again.stop()


async def test_what_the_registry_forgot_is_unloaded_when_idle(
    fake: FakeEngine, tmp_path: Path
) -> None:
    one, two = on_disk(tmp_path, 1), on_disk(tmp_path, 2)
    known = [snapshot(one, two)]
    async with watched(fake, lambda: known[-1]) as engine:
        await reaches(engine, EngineState.UP)
        async with used(engine, one):
            await engine.ensure_loaded(two)
            known.append(snapshot())
            engine.registry_changed()
            await until(lambda: engine.info()["resident"] == [one.label])
        await until(lambda: engine.info()["resident"] == [])


async def test_an_engine_that_kept_running_is_believed(fake: FakeEngine, tmp_path: Path) -> None:
    one = on_disk(tmp_path, 1)
    async with watched(fake) as engine:
        await reaches(engine, EngineState.UP)
        await engine.ensure_loaded(one)
    async with watched(fake, lambda: snapshot(one)) as restarted:
        await reaches(restarted, EngineState.UP)
        assert restarted.info()["resident"] == [one.label]
