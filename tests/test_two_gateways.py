"""Two gateways on one PostgreSQL: each follows the other, and both live on while it is away.

The registry is polled once an hour here: what one gateway knows of the other, it was told.
"""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fake_engine import FakeEngine
from tests.postgres_server import PostgresServer, postgres_server
from tests.running_gateway import ADMIN_KEY, BASE, RunningGateway, TinyModel, running_gateway

CHAT = "/v1/chat/completions"
AWAY_S = 7.0
DEADLINE_S = 60.0
FLIPS = 10


@dataclass
class TwoGateways:
    """Two gateways with the adapter `acme/support`, version 2 live after version 1."""

    server: PostgresServer
    first: RunningGateway
    second: RunningGateway

    def promote(self, number: int) -> None:
        path = "/tenants/acme/adapters/support/promote"
        self.first.admin("POST", path, json={"version": number})

    def until_seen(self, number: int) -> float:
        """Seconds until the second gateway answers with this version."""
        began_s = time.monotonic()
        while self.answered_by(self.second) != f"acme/support@{number}":
            assert time.monotonic() - began_s < DEADLINE_S
        return time.monotonic() - began_s

    def answered_by(self, gateway: RunningGateway) -> str:
        answer = gateway.post(CHAT, chat("support"))
        assert answer.status_code == 200, answer.text
        return answer.headers["x-loraplex-version"]


@pytest.fixture(scope="module")
def server(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """One of our own, since it is stopped."""
    with postgres_server(postgres.programs) as own:
        yield own


@pytest.fixture(scope="module")
def two(
    server: PostgresServer, tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TwoGateways]:
    engine = FakeEngine.start("--served-model-name", BASE)
    try:
        with server.database() as url:
            shared: dict[str, Any] = {
                "database_url": url,
                "data_dir": tmp_path_factory.mktemp("shared"),
                "registry_poll_s": 3600,
            }
            one, other = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")
            with (
                running_gateway(engine, one, tiny_model, **shared) as first,
                running_gateway(engine, other, tiny_model, tenant=None, **shared) as second,
            ):
                for number in (1, 2):
                    assert first.push(one / f"adapter-{number}") == number
                second.keys = first.keys
                both = TwoGateways(server, first, second)
                both.until_seen(2)
                yield both
    finally:
        engine.stop()


def chat(model: str) -> dict[str, Any]:
    return {"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "hello"}]}


def test_a_promotion_and_a_rollback_are_seen_by_the_other(two: TwoGateways) -> None:
    rollback = "/tenants/acme/adapters/support/rollback"
    seen_s = []
    for number in [1, 2] * (FLIPS // 2):
        if number == 1:
            two.first.admin("POST", rollback, json={"to": 1})
        else:
            two.promote(2)
        seen_s.append(two.until_seen(number))
    print(f"seen after {[round(one_s, 3) for one_s in seen_s]} s")


def test_a_key_is_made_and_revoked_for_both(two: TwoGateways) -> None:
    made = two.first.admin("POST", "/tenants/acme/keys", json={"scopes": ["inference"]}).json()

    def status() -> int:
        return two.second.call("POST", CHAT, key=made["key"], json=chat("support")).status_code

    two.second.wait_for(lambda: status() == 200, deadline_s=DEADLINE_S)
    two.first.admin("DELETE", f"/tenants/acme/keys/{made['id']}")
    two.second.wait_for(lambda: status() == 401, deadline_s=DEADLINE_S)


@dataclass
class Load:
    """What was asked of both gateways, and what came of it."""

    served: list[int] = field(default_factory=list)
    revoked: list[int] = field(default_factory=list)
    expiring: list[int] = field(default_factory=list)


@pytest.mark.parametrize("how", ["frozen", "stopped"])
def test_without_the_database_inference_goes_on_and_admin_comes_back(
    two: TwoGateways, how: str
) -> None:
    revoked = two.first.admin("POST", "/tenants/acme/keys", json={"scopes": ["inference"]}).json()
    two.first.admin("DELETE", f"/tenants/acme/keys/{revoked['id']}")
    end = datetime.now(UTC) + timedelta(seconds=AWAY_S * 0.8)
    body = {"scopes": ["inference"], "expires_at": end.isoformat()}
    expiring = two.first.admin("POST", "/tenants/acme/keys", json=body).json()
    for gateway in (two.first, two.second):
        gateway.wait_for(lambda: _status(gateway, revoked["key"]) == 401)  # noqa: B023
        gateway.wait_for(lambda: _status(gateway, expiring["key"]) == 200)  # noqa: B023

    load = Load()
    with under_load(two, load, revoked["key"], expiring["key"]):
        (two.server.pause if how == "frozen" else two.server.stop)()
        away_until_s = time.monotonic() + AWAY_S
        refused: list[tuple[httpx.Response, float]] = []

        def insist(gateway: RunningGateway) -> None:
            while time.monotonic() < away_until_s:
                began_s = time.monotonic()
                answer = _make_tenant(gateway, f"{how}-while-away")
                refused.append((answer, time.monotonic() - began_s))
                time.sleep(0.05)

        try:
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(insist, (two.first, two.second)))
        finally:
            (two.server.resume if how == "frozen" else two.server.start)()
        back_s = time.monotonic()
        for gateway in (two.first, two.second):
            gateway.wait_for(
                lambda: _make_tenant(gateway, f"{how}-{gateway.port}").status_code == 201,  # noqa: B023
                deadline_s=DEADLINE_S,
            )
        recovered_s = time.monotonic() - back_s
        number = 1 if two.answered_by(two.second).endswith("@2") else 2
        two.promote(number)
        seen_s = two.until_seen(number)

    assert set(load.served) == {200}
    assert set(load.revoked) == {401}
    alive = load.expiring.count(200)
    assert load.expiring == [200] * alive + [401] * (len(load.expiring) - alive)
    assert load.expiring[-1] == 401
    assert {answer.status_code for answer, _ in refused} == {503}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer, _ in refused)
    assert {answer.json()["error"]["code"] for answer, _ in refused} == {"registry_unavailable"}
    for gateway in (two.first, two.second):
        names = {one["name"] for one in gateway.admin("GET", "/tenants").json()["data"]}
        assert f"{how}-while-away" not in names
    print(
        f"{how}: {len(load.served)} served, {len(refused)} refused, the slowest in"
        f" {max(took_s for _, took_s in refused):.2f} s; admin back after {recovered_s:.2f} s,"
        f" a promotion seen after {seen_s:.3f} s"
    )


@contextmanager
def under_load(two: TwoGateways, load: Load, revoked: str, expiring: str) -> Iterator[None]:
    """Both gateways are asked with a good key, a revoked one and one that expires."""
    over = threading.Event()
    asked = [(two.first.keys["acme"], load.served), (revoked, load.revoked)]

    def ask(gateway: RunningGateway, key: str, statuses: list[int]) -> None:
        while not over.is_set():
            statuses.append(_status(gateway, key))
            over.wait(0.05)

    with ThreadPoolExecutor(5) as pool:
        try:
            running = [
                pool.submit(ask, gateway, key, statuses)
                for gateway in (two.first, two.second)
                for key, statuses in asked
            ]
            running.append(pool.submit(ask, two.second, expiring, load.expiring))
            yield
        finally:
            over.set()
    for one in running:
        one.result()


def _status(gateway: RunningGateway, key: str) -> int:
    return gateway.call("POST", CHAT, key=key, json=chat("support")).status_code


def _make_tenant(gateway: RunningGateway, name: str) -> httpx.Response:
    return gateway.call("POST", "/admin/v1/tenants", key=ADMIN_KEY, json={"name": name})


def test_a_gateway_that_starts_without_the_database_says_so(
    two: TwoGateways, tiny_model: TinyModel, tmp_path: Path
) -> None:
    nobody = two.server.url("nobody")
    with (
        pytest.raises(AssertionError, match="cannot start: the database cannot be opened"),
        running_gateway(two.first.fake, tmp_path, tiny_model, database_url=nobody),
    ):
        pass
    log = (tmp_path / "gateway.log").read_text()
    assert 'database \\"nobody\\" does not exist' in log
    assert two.server.password not in log
