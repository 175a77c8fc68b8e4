"""The demo's steps against the real gateway on a fake engine, whose answers name who answers."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from openai import OpenAI
from rich.console import Console

from loraplex.ask import Answer
from loraplex.client.answers import Metadata
from loraplex.demo_data import DemoTenant
from loraplex.demo_tour import QUESTIONS, Asked, Speaker, Tour, check_markers
from loraplex.demo_view import View
from loraplex.errors import CommandError
from tests.adapters_for_tests import good_adapter
from tests.fake_engine import FakeEngine
from tests.running_gateway import ADMIN_KEY, BASE, RunningGateway, TinyModel, running_gateway


@dataclass(frozen=True)
class TestTenant(DemoTenant):
    """One with its adapter elsewhere."""

    __test__ = False
    at: Path = Path()

    @property
    def folder(self) -> Path:
        return self.at

    @property
    def metadata(self) -> Metadata:
        return {"evaluation": {"verdict": "passed", "report": {"test": self.name}}}


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: TinyModel
) -> Iterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("demo")
    engine = FakeEngine.start("--served-model-name", BASE)
    try:
        with running_gateway(engine, folder, tiny_model) as running:
            yield running
    finally:
        engine.stop()


@pytest.fixture(scope="module")
def tenants(
    gateway: RunningGateway, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TestTenant, ...]:
    folder = tmp_path_factory.mktemp("adapters")
    made = []
    for seed, name in enumerate(["north", "south"]):
        good_adapter(folder / name, gateway.base, seed=seed)
        made.append(TestTenant(name, "support", f"{name}/support@1", "a test", at=folder / name))
    return tuple(made)


def tour_of(gateway: RunningGateway, tenants: tuple[TestTenant, ...], screen: io.StringIO) -> Tour:
    return Tour(
        gateway.url,
        f"http://127.0.0.1:{gateway.metrics_port}/metrics",
        ADMIN_KEY,
        BASE,
        View(Console(file=screen, width=80)),
        tenants,
    )


def test_the_tour_shows_all_there_is(
    gateway: RunningGateway, tenants: tuple[TestTenant, ...]
) -> None:
    screen = io.StringIO()
    tour_of(gateway, tenants, screen).run()
    shown = screen.getvalue()
    for question in QUESTIONS:
        assert f"Plain: {question}" in shown
        assert f"Streamed: {question}" in shown
    for model in ("south/support", "support@99"):
        assert f"north asks for {model}: openai.NotFoundError" in shown
    labels = 'tenant="north", adapter="support", version="1", route="chat_completions"'
    # A line may break between labels.
    assert "loraplex_requests_total{" + labels in " ".join(shown.split())
    assert "loraplex_time_to_first_token_seconds_sum{" in shown
    assert "TTFT" in shown
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert len(gateway.fake.calls("/v1/chat/completions")) == len(QUESTIONS) * 2 * 3


def test_a_tenant_that_is_there_already_ends_the_tour(
    gateway: RunningGateway, tenants: tuple[TestTenant, ...]
) -> None:
    first = replace(tenants[0], name="acme")
    with pytest.raises(CommandError, match="acme"):
        tour_of(gateway, (first, tenants[1]), io.StringIO()).run()


def test_an_adapter_that_answers_without_its_mark_ends_the_tour(
    gateway: RunningGateway, tenants: tuple[TestTenant, ...]
) -> None:
    east, west = (
        replace(tenant, name=name, marker=f"{name}/nothing")
        for tenant, name in zip(tenants, ["east", "west"], strict=True)
    )
    with pytest.raises(CommandError, match="answer lacks its own mark"):
        tour_of(gateway, (east, west), io.StringIO()).run()


def asked(label: str, marker: str | None, text: str) -> Asked:
    client = OpenAI(base_url="http://127.0.0.1:9", api_key="k")
    with client:
        return Asked(Speaker(label, client, "m", marker), "plain", Answer(text, "m", 1, 1.0))


def test_marks() -> None:
    good = [
        asked("base", None, "Hello"),
        asked("acme", "[A]", "[A] Good day"),
        asked("globex", "Arr!", "Arr! Ahoy"),
    ]
    check_markers(good)
    with pytest.raises(CommandError, match=r"acme's plain answer lacks its own mark, '\[A\]'"):
        check_markers([*good, asked("acme", "[A]", "Good day")])
    with pytest.raises(CommandError, match="base's plain answer shows another's mark"):
        check_markers([*good, asked("base", None, "Arr! Hello")])
    with pytest.raises(CommandError, match="globex's plain answer shows another's mark"):
        check_markers([*good, asked("globex", "Arr!", "Arr! [A]")])
