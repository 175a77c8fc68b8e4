"""Two gateway workers on one port, under the real `loraplex serve`, on a fake engine.

The registry is polled once an hour here, and looked at for news every 50 ms: what the other worker
knows by the time of the answer, it was told. The engine has few places for adapters: each worker
keeps one there, and unloads what the other may still want.
"""

import contextlib
import os
import resource
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.fake_engine import FakeEngine
from tests.running_gateway import ADMIN_KEY, RunningGateway, TinyModel
from tests.running_serve import FAKE_BASE, Serve, attached
from tests.test_supervisor import children_of, command

WORKERS = (0, 1)
MANY = 40
"""Connections of which the kernel gives each worker some; all to one is 2 in 2**40."""
CLOSE = {"connection": "close"}
FEW = 1024
"""Open files that most systems allow a process until it asks for more."""


@dataclass
class TwoWorkers:
    """The running command, seen through the shared port and through each worker's own."""

    served: Serve
    shared: RunningGateway
    each: list[RunningGateway]

    def ask(self, model: str = FAKE_BASE) -> httpx.Response:
        """One chat on a connection of its own."""
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
        return self.shared.post("/v1/chat/completions", body, headers=CLOSE)

    def served_by(self, worker: int) -> float:
        """Chats that a worker has counted."""
        return self.each[worker].sample(
            "loraplex_requests_total", route="chat_completions", status="200"
        )

    def status_of_key(self, worker: int, key: str) -> int:
        """What one worker says to a key: 404 where it takes it, since nothing has that id."""
        body = {"completion_id": "chatcmpl-none", "score": 0}
        # Marked as a sibling's own question, so that the other worker is not asked.
        headers = {"x-loraplex-forwarded": "1"}
        return (
            self.each[worker]
            .call("POST", "/v1/feedback", key=key, json=body, headers=headers)
            .status_code
        )

    def refused_by_the_engine(self) -> int:
        """Chats for which the engine did not hold the adapter."""
        calls = self.shared.fake.calls("/v1/chat/completions")
        return sum(call["status"] == 404 for call in calls)

    def pid(self, worker: int) -> int:
        (pid,) = [
            pid
            for pid in children_of(self.served.process.pid)
            if f"-m gateway --worker {worker}" in command(pid)
        ]
        return pid


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeEngine]:
    engine = FakeEngine.start()
    yield engine
    engine.stop()


@pytest.fixture(scope="module")
def two(
    fake: FakeEngine, tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TwoWorkers]:
    """Ready, with the tenant `acme` and version 1 of its adapter `support`."""
    folder = tmp_path_factory.mktemp("two")
    with few_descriptors():
        served = Serve(
            folder,
            *attached(fake.url, tiny_model),
            *("--workers", "2", "--max-loras", "2", "--max-cpu-loras", "4"),
            cache_dir=tiny_model.cache_dir,
            admin_key=ADMIN_KEY,
            registry_poll_s="3600",
        )

    def seen_at(port: int, worker: int) -> RunningGateway:
        metrics_port = served.metrics_port + worker
        return RunningGateway(
            served.process, fake, tiny_model.spec, port, metrics_port, served.output
        )

    shared = seen_at(served.port, 0)
    each = [seen_at(served.metrics_port + worker, worker) for worker in WORKERS]
    try:
        served.until(lambda: "Ready after" in served.text())
        shared.add_tenant("acme")
        shared.push(folder / "first")
        yield TwoWorkers(served, shared, each)
    finally:
        for gateway in (shared, *each):
            gateway.http.close()
        if served.process.poll() is None:
            served.end(signal.SIGTERM)


@contextlib.contextmanager
def few_descriptors() -> Iterator[None]:
    """What is started in the block may open as many files as most systems allow at first."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FEW, before[1]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def until_counted(two: TwoWorkers, before: list[float], sent: int) -> list[float]:
    """What each worker counted since, once it is all that was sent."""
    counts: list[float] = []

    def all_are() -> bool:
        counts[:] = [two.served_by(worker) - before[worker] for worker in WORKERS]
        return sum(counts) >= sent

    two.served.until(all_are)
    return counts


def test_both_answer_on_one_port_and_their_metrics_add_up(two: TwoWorkers) -> None:
    before = [two.served_by(worker) for worker in WORKERS]
    assert {two.ask().status_code for _ in range(MANY)} == {200}
    counts = until_counted(two, before, MANY)
    assert sum(counts) == MANY
    assert all(counts)


def test_connections_are_not_bounded_by_the_usual_limit_of_open_files(two: TwoWorkers) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert most > FEW, "this machine allows too few open files to show it"
    for worker in WORKERS:
        limits = Path(f"/proc/{two.pid(worker)}/limits").read_text()
        assert f"Max open files {most} {most} files" in " ".join(limits.split())


def test_a_key_holds_on_both_from_its_making_to_its_end(two: TwoWorkers) -> None:
    for _ in range(4):
        made = two.shared.admin("POST", "/tenants/acme/keys", json={}, headers=CLOSE).json()
        assert [two.status_of_key(worker, made["key"]) for worker in WORKERS] == [404, 404]
        two.shared.admin("DELETE", f"/tenants/acme/keys/{made['id']}", headers=CLOSE)
        assert [two.status_of_key(worker, made["key"]) for worker in WORKERS] == [401, 401]


def test_a_promotion_holds_on_both(two: TwoWorkers, tmp_path: Path) -> None:
    number = two.shared.push(tmp_path / "next")
    before = [two.served_by(worker) for worker in WORKERS]
    versions = {two.ask("support").headers["x-loraplex-version"] for _ in range(MANY)}
    assert versions == {f"acme/support@{number}"}
    assert all(until_counted(two, before, MANY))


def test_what_one_worker_unloads_the_other_still_serves(two: TwoWorkers, tmp_path: Path) -> None:
    names = ("sales", "legal", "billing")
    for name in names:
        two.shared.push(tmp_path / name, adapter=name)
    before = [two.served_by(worker) for worker in WORKERS]
    refused = two.refused_by_the_engine()
    asked = 0
    # Which worker is asked is chance, so it may take a while until one misses what it had.
    while asked < MANY or (two.refused_by_the_engine() == refused and asked < 20 * MANY):
        for name in names:
            answer = two.ask(name)
            assert answer.status_code == 200
            assert f"acme/{name}@1:" in answer.json()["choices"][0]["message"]["content"]
        asked += len(names)
    assert all(until_counted(two, before, asked))
    assert two.refused_by_the_engine() > refused


@pytest.mark.parametrize("asked", WORKERS)
def test_feedback_finds_the_worker_that_answered(two: TwoWorkers, asked: int) -> None:
    def rated(worker: int) -> float:
        return two.each[worker].sample("loraplex_feedback_total")

    before = [rated(worker) for worker in WORKERS]
    ids = [two.ask().json()["id"] for _ in range(MANY)]

    def rate(completion: str) -> httpx.Response:
        body = {"completion_id": completion, "score": 1}
        return two.each[asked].call("POST", "/v1/feedback", key=two.shared.keys["acme"], json=body)

    answers = [rate(completion) for completion in ids]
    assert [answer.status_code for answer in answers] == [202] * MANY
    assert answers[0].json() == {"completion_id": ids[0], "accepted": True}
    counts = [rated(worker) - before[worker] for worker in WORKERS]
    assert sum(counts) == MANY
    assert all(counts)
    assert rate(ids[0]).status_code == 404


def test_a_version_in_flight_on_either_is_not_deleted(
    two: TwoWorkers, fake: FakeEngine, tmp_path: Path
) -> None:
    number = two.shared.push(tmp_path / "held")
    two.shared.admin("POST", "/tenants/acme/adapters/support/rollback", json={})
    path = f"/admin/v1/tenants/acme/adapters/support/versions/{number}"

    def delete() -> httpx.Response:
        return two.shared.call("DELETE", path, key=ADMIN_KEY, headers=CLOSE)

    fake.control(hold_after_tokens=1)
    try:
        with streaming(two, f"support@{number}"):
            refusals = [delete() for _ in range(MANY)]
    finally:
        fake.control(hold_after_tokens=None)
    assert {answer.status_code for answer in refusals} == {409}
    assert {answer.json()["error"]["code"] for answer in refusals} == {"version_in_flight"}
    two.served.until(lambda: delete().status_code == 204)


@contextlib.contextmanager
def streaming(two: TwoWorkers, model: str) -> Iterator[None]:
    """While the block runs, a stream is under way."""
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    headers = {"authorization": f"Bearer {two.shared.keys['acme']}"}
    url = f"{two.shared.url}/v1/chat/completions"
    with (
        httpx.Client(timeout=30, trust_env=False) as http,
        http.stream("POST", url, json=body, headers=headers) as answer,
    ):
        assert answer.status_code == 200
        chunks = answer.iter_bytes()  # which ends the answer when it is let go of
        next(chunks)
        yield


def test_a_killed_worker_comes_back_while_the_other_serves(two: TwoWorkers) -> None:
    worker = 1
    pid = two.pid(worker)
    other = two.pid(1 - worker)
    os.kill(pid, signal.SIGKILL)
    # Gone, not only a zombie: its sockets are open until the last of its threads has ended.
    two.served.until(lambda: not Path(f"/proc/{pid}").exists())
    statuses = []

    def is_back() -> bool:
        statuses.append(two.ask("support").status_code)
        return f"the gateway {worker + 1} is up again" in two.served.text()

    two.served.until(is_back)
    assert set(statuses) == {200}
    assert two.pid(1 - worker) == other
    two.served.until(two.each[worker].ready)
    two.served.until(lambda: two.ask("support").is_success and two.served_by(worker))
    assert two.status_of_key(worker, two.shared.keys["acme"]) == 404
