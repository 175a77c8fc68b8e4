"""Versions proved after a push and before a promotion, through the real gateway process."""

import itertools
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters_registry.types import Proof, Version
from gateway.proof import ROUNDS
from tests.adapters_for_tests import good_adapter
from tests.admin_gateway import StandInProver, admin_gateway
from tests.fake_engine import FakeEngine
from tests.running_gateway import BASE, RunningGateway, TinyModel, running_gateway

PASSED = {"verdict": "passed"}
DEADLINE_S = 60.0


class Adapter:
    """An adapter of acme's that no other test has."""

    _numbers = itertools.count(1)

    def __init__(self, gateway: RunningGateway, folder: Path) -> None:
        self.gateway = gateway
        self.name = f"a{next(self._numbers)}"
        self.path = f"/tenants/acme/adapters/{self.name}"
        good_adapter(folder, gateway.base)
        self.files = {
            name: (name, (folder / name).read_bytes())
            for name in ("adapter_config.json", "adapter_model.safetensors")
        }

    def push(self, **metadata: Any) -> dict[str, Any]:
        """A new version, as its push was answered."""
        text = json.dumps({"evaluation": PASSED} | metadata).encode()
        files = {**self.files, "metadata.json": ("metadata.json", text)}
        answer = self.gateway.admin("POST", f"{self.path}/versions", files=files)
        found: dict[str, Any] = answer.json()
        return found

    def show(self, number: int = 1) -> dict[str, Any]:
        found: dict[str, Any] = self.gateway.admin("GET", f"{self.path}/versions/{number}").json()
        return found

    def proof(self, number: int = 1) -> str:
        return str(self.show(number)["proof"])

    def promote(self, number: int = 1, **call: Any) -> httpx.Response:
        body = {"version": number} | call.pop("json", {})
        return self.call("POST", "/promote", json=body, **call)

    def call(self, method: str, path: str, **call: Any) -> httpx.Response:
        key = call.pop("key", "the-admin-key-of-this-test")
        return self.gateway.call(method, f"/admin/v1{self.path}{path}", key=key, **call)

    def live(self) -> int | None:
        found: int | None = self.gateway.admin("GET", self.path).json()["live"]
        return found

    def asked(self) -> int:
        """How often the engine was asked for a run of one of its versions."""
        models = [call["body"]["model"] for call in self.gateway.fake.proofs()]
        return sum(model.startswith(f"acme/{self.name}@") for model in models)

    def is_inert(self) -> None:
        """From now on, on the engine."""
        self.gateway.fake.control(inert=f"acme/{self.name}@")

    def wait_for(self, holds: Callable[[], bool]) -> None:
        self.gateway.wait_for(holds, deadline_s=DEADLINE_S)


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: TinyModel
) -> Iterator[RunningGateway]:
    fake = FakeEngine.start("--served-model-name", BASE)
    folder = tmp_path_factory.mktemp("gateway")
    try:
        with running_gateway(fake, folder, tiny_model) as found:
            yield found
    finally:
        fake.stop()


@pytest.fixture
def adapter(gateway: RunningGateway, tmp_path: Path) -> Adapter:
    gateway.fake.control(
        inert=None, status=None, hold_after_tokens=None, health="ok", forget_calls=True
    )
    gateway.wait_for(gateway.ready, deadline_s=DEADLINE_S)
    return Adapter(gateway, tmp_path / "adapter")


def error(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


# After a push


def test_a_push_is_proved_without_being_asked(adapter: Adapter) -> None:
    counted = adapter.gateway.sample("loraplex_proofs_total", outcome="proved")
    assert adapter.push()["proof"] == "unproved"
    adapter.wait_for(lambda: adapter.proof() == "proved")
    found = adapter.show()
    assert found["state"] == "passed"
    figures = found["proof_figures"]
    assert figures["difference"] > 1 > figures["noise"]
    assert (figures["base"], figures["reason"]) == (BASE, None)
    newest = adapter.call("GET", "/history").json()["data"][0]
    assert (newest["action"], newest["actor"], newest["to"]) == ("proved", "gateway", 1)
    proved = partial(adapter.gateway.sample, "loraplex_proofs_total", outcome="proved")
    adapter.wait_for(lambda: proved() == counted + 1)


def test_neither_a_push_nor_a_deletion_waits_for_the_proof(adapter: Adapter) -> None:
    adapter.gateway.fake.control(hold_after_tokens=0)
    adapter.push()
    adapter.wait_for(lambda: bool(adapter.gateway.fake.proofs()))
    assert adapter.call("DELETE", "/versions/1").status_code == 204
    adapter.gateway.fake.control(hold_after_tokens=None)
    adapter.push()
    adapter.wait_for(lambda: adapter.proof(2) == "proved")
    actions = [move["action"] for move in adapter.call("GET", "/history").json()["data"]]
    assert actions == ["proved", "push", "delete", "push"]


def test_a_rejected_version_is_not_worth_a_proof(adapter: Adapter) -> None:
    adapter.push(evaluation={"verdict": "rejected"})
    adapter.push()
    adapter.wait_for(lambda: adapter.proof(2) == "proved")
    assert adapter.proof(1) == "unproved"


# Before a promotion


def test_a_promotion_proves_first(adapter: Adapter) -> None:
    adapter.push()
    assert adapter.promote().json()["live"] == 1
    assert adapter.proof() == "proved"
    assert adapter.asked() == ROUNDS


@pytest.mark.parametrize("force", [False, True])
def test_an_inert_version_is_not_promoted_even_by_force(adapter: Adapter, force: bool) -> None:
    adapter.push()
    adapter.promote().raise_for_status()
    adapter.is_inert()
    adapter.push()
    answer = adapter.promote(2, json={"force": force})
    assert error(answer) == (409, "adapter_inert")
    message = answer.json()["error"]["message"]
    assert "Version 2 is inert: it answers as the base model does" in message
    assert "0 nats" in message
    assert "Likely the engine applies none of its modules (q_proj, v_proj)" in message
    assert adapter.live() == 1
    assert adapter.proof(2) == "inert"
    assert adapter.show(2)["proof_figures"]["reason"] in message
    # The second time nothing is asked of the engine.
    asked = adapter.asked()
    assert error(adapter.promote(2, json={"force": force})) == (409, "adapter_inert")
    assert adapter.asked() == asked


def test_a_proof_is_not_spent_on_a_promotion_that_must_fail(adapter: Adapter) -> None:
    adapter.gateway.fake.control(hold_after_tokens=0)  # The push's own proof cannot end.
    adapter.push(evaluation=None)
    assert error(adapter.promote()) == (409, "illegal_move")


def test_one_of_many_promotions_wins_and_one_proof_is_made(adapter: Adapter) -> None:
    adapter.push()
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: adapter.promote(), range(8)))
    assert sorted(answer.status_code for answer in answers) == [200, *[409] * 7]
    assert {error(answer)[1] for answer in answers if answer.is_error} == {"illegal_move"}
    assert adapter.asked() == ROUNDS
    actions = [move["action"] for move in adapter.call("GET", "/history").json()["data"]]
    assert actions == ["promote", "proved", "push"]


def test_a_revision_that_was_read_before_the_proof_still_holds(adapter: Adapter) -> None:
    adapter.push()
    tag = adapter.call("GET", "").headers["etag"]
    adapter.wait_for(lambda: adapter.proof() == "proved")
    assert adapter.call("GET", "").headers["etag"] == tag
    assert adapter.promote(headers={"if-match": tag}).status_code == 200


# Where no proof can be had


def test_without_an_engine_it_stays_unproved_and_only_force_helps(adapter: Adapter) -> None:
    adapter.gateway.fake.control(health="dead")
    adapter.wait_for(lambda: not adapter.gateway.ready())
    assert adapter.push()["proof"] == "unproved"
    refused = adapter.promote()
    assert error(refused) == (503, "engine_unavailable")
    assert "retry-after" in refused.headers
    assert error(adapter.call("POST", "/versions/1/prove")) == (503, "engine_unavailable")
    forced = adapter.promote(json={"force": True})
    assert forced.json()["live"] == 1
    assert forced.json()["versions"][0]["proof"] == "unproved"
    assert adapter.show()["proof_figures"] is None
    adapter.gateway.fake.control(health="ok")
    adapter.wait_for(lambda: adapter.proof() == "proved")
    assert adapter.live() == 1


def test_an_engine_that_cannot_prove_needs_force(adapter: Adapter) -> None:
    adapter.gateway.fake.control(status=500)
    adapter.push()
    answer = adapter.promote()
    assert error(answer) == (409, "proof_failed")
    assert "with force it is promoted unproved" in answer.json()["error"]["message"]
    assert adapter.live() is None
    assert adapter.promote(json={"force": True}).json()["live"] == 1
    assert adapter.proof() == "unproved"


async def test_a_version_that_is_deleted_during_its_proof_is_missing(tmp_path: Path) -> None:
    class Deleting(StandInProver):
        async def ensure(self, version: Version) -> Proof:
            own.parts.registry.delete_version("acme", "support", 1, actor="admin")
            return await super().ensure(version)

    async with admin_gateway(tmp_path) as own:
        await own.tenant("acme")
        await own.push()
        own.parts.prover = Deleting()
        answer = await own.admin.post(
            "/tenants/acme/adapters/support/promote", json={"version": 1, "force": True}
        )
        assert answer.status_code == 404


# Asked for


def test_a_version_is_proved_anew_for_those_who_may_manage_it(adapter: Adapter) -> None:
    adapter.is_inert()
    adapter.push()
    manager = adapter.gateway.admin("POST", "/tenants/acme/keys", json={"scopes": ["manage"]})
    key = manager.json()["key"]
    found = adapter.call("POST", "/versions/1/prove", key=key).json()
    assert (found["proof"], found["proof_figures"]["noise"]) == ("inert", 0)
    adapter.gateway.fake.control(inert=None)
    found = adapter.call("POST", "/versions/1/prove", key=key).json()
    assert found["proof"] == "proved"
    assert found == adapter.show()
    assert adapter.call("GET", "/history").json()["data"][0]["actor"].startswith("key:")
    assert adapter.promote().status_code == 200
    inference = adapter.gateway.keys["acme"]
    assert adapter.call("POST", "/versions/1/prove", key=inference).status_code == 403
    assert adapter.call("POST", "/versions/9/prove").status_code == 404
