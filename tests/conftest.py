"""Fixtures that many test files share."""

import importlib.util
import os
from collections.abc import Iterator

import pytest

from tests.fake_engine import FakeEngine
from tests.live_system import LiveSystem, start


@pytest.fixture
def fake_engine() -> Iterator[FakeEngine]:
    """A fake vLLM over real HTTP."""
    engine = FakeEngine.start()
    yield engine
    engine.stop()


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSystem]:
    """The whole system on the real vLLM, tenants acme and globex with an adapter `support` each."""
    if importlib.util.find_spec("vllm") is None:
        missing = "vLLM is not installed; `make setup` installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    system = start(tmp_path_factory.mktemp("live"))
    yield system
    system.stop()
