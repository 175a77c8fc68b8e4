"""Fixtures that many test files share."""

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from subprocess import PIPE
from typing import NoReturn

import platformdirs
import pytest
import uvloop
from hypothesis import HealthCheck, settings

from adapters_registry.embedded import ensure_embedded
from tests.fake_engine import FakeEngine
from tests.live_system import ROOT, LiveSystem, fill, launch
from tests.postgres_server import PostgresServer, find_programs, postgres_server
from tests.running_gateway import TinyModel, make_tiny_model
from tests.s3_server import CREDENTIALS, S3Bucket, S3Server
from tests.tiny_base import make_tiny_adapter, make_tiny_base
from tests.training_runs import FinishedRun, finish_run
from training.evaluation.offline import OfflineEngine


@pytest.fixture
def fake_engine() -> Iterator[FakeEngine]:
    """A fake vLLM over real HTTP."""
    engine = FakeEngine.start()
    yield engine
    engine.stop()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A server that speaks S3's protocol."""
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Bucket:
    """A new bucket on it, with its credentials in the environment."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return s3_server.bucket()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """A base model's configuration, for a gateway on a fake engine."""
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real PostgreSQL server, for as long as the tests run."""
    if (programs := find_programs()) is None:
        missing = "PostgreSQL is not installed: apt-get install postgresql"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    with postgres_server(programs) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind."""
    yield from _database(request, tmp_path)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared_database_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The same for tests of one file that change nothing."""
    yield from _database(request, tmp_path_factory.mktemp("shared"))


def _database(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{folder}/data/registry.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.database() as url:
        yield url


# vLLM takes most of a minute to start, on one core. What the session's tests want of it is begun
# with the session, beside the tests before those.


def _wanted(request: pytest.FixtureRequest, fixture: str) -> bool:
    """Whether a test of the session uses it, and vLLM is installed."""
    used = any(fixture in getattr(item, "fixturenames", ()) for item in request.session.items)
    return used and importlib.util.find_spec("vllm") is not None


def _no_vllm() -> NoReturn:
    missing = "vLLM is not installed; `make setup` installs it"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture(scope="session", autouse=True)
def launched(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveSystem | None]:
    """The whole system on its way, where it is wanted."""
    system = launch(tmp_path_factory.mktemp("live")) if _wanted(request, "live") else None
    yield system
    if system is not None:
        system.stop()


@pytest.fixture(scope="session")
def live(launched: LiveSystem | None) -> LiveSystem:
    """The whole system on the real vLLM, tenants acme and globex with an adapter `support` each."""
    if launched is None:
        _no_vllm()
    fill(launched)
    return launched


@pytest.fixture(scope="session", autouse=True)
def asked(request: pytest.FixtureRequest) -> Iterator["subprocess.Popen[str] | None"]:
    """tests/vllm_facts.py at work, where it is wanted."""
    if not _wanted(request, "vllm_asked"):
        yield None
        return
    command = [sys.executable, "-m", "tests.vllm_facts"]
    environment = os.environ | {"VLLM_LOGGING_LEVEL": "ERROR", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=PIPE, stderr=PIPE
    ) as process:
        yield process
        process.kill()


@pytest.fixture(scope="session")
def vllm_asked(asked: "subprocess.Popen[str] | None") -> "subprocess.Popen[str]":
    """tests/vllm_facts.py, whose output nobody has read."""
    if asked is None:
        _no_vllm()
    return asked


@pytest.fixture(scope="session", autouse=True)
def entered(request: pytest.FixtureRequest) -> Iterator["Future[OfflineEngine] | None"]:
    """The offline engine on its way, where it is wanted."""
    if not _wanted(request, "offline_engine"):
        yield None
        return
    engine = OfflineEngine(request.getfixturevalue("tiny_base"), max_rank=8)
    with ThreadPoolExecutor(1) as pool:
        entering = pool.submit(engine.__enter__)
        yield entering
        engine.close()


def pytest_configure() -> None:
    """A run under nohup ignores SIGHUP, and what the tests start would inherit that."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # How long an example takes says how busy the machine is.
    settings.register_profile(
        "untimed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("untimed")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the gateway's own event loop, whose transports differ from asyncio's."""
    del config, item
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model small enough to train in seconds, with weights."""
    return make_tiny_base(tmp_path_factory.mktemp("bases") / "tiny-llama")


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> FinishedRun:
    """A training run on the tiny base that passed its gates."""
    return finish_run(tmp_path_factory.mktemp("finished"), tiny_base)


@pytest.fixture(scope="session")
def embedded_model() -> Path:
    """The embedded model's folder, converted first on a new machine."""
    cache_dir = os.environ.get("LORAPLEX_CACHE_DIR") or platformdirs.user_cache_dir("loraplex")
    return ensure_embedded(Path(cache_dir))


@pytest.fixture(scope="session")
def tiny_adapter(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of it, of rank 4, that changes its answers."""
    return make_tiny_adapter(tiny_base, tmp_path_factory.mktemp("adapters") / "tiny")


@pytest.fixture(scope="session")
def offline_engine(entered: "Future[OfflineEngine] | None") -> OfflineEngine:
    """The session's one offline engine, on the tiny base. An error ends it: cause none on it."""
    if entered is None:
        _no_vllm()
    return entered.result()
