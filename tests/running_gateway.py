"""The real gateway process (`python -m gateway`) attached to a fake engine."""

import json
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from adapters_registry.base_model import BaseModelSpec, load_spec
from gateway.config import load_settings
from tests.adapters_for_tests import good_adapter
from tests.described import described
from tests.fake_engine import FakeEngine

ADMIN_KEY = "the-admin-key-of-this-test"
BASE = "smollm2-135m-instruct"
START_S = 180.0
STOP_S = 60.0


@dataclass(frozen=True)
class TinyModel:
    """A base model too small to be of use, described."""

    folder: Path
    cache_dir: Path
    spec: BaseModelSpec


def make_tiny_model(folder: Path) -> TinyModel:
    """Writes a configuration and has it described."""
    model, cache_dir = folder / "model", folder / "cache"
    model.mkdir(parents=True)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 64,
        "max_position_embeddings": 128,
    }
    (model / "config.json").write_text(json.dumps(config))
    return TinyModel(model, cache_dir, load_spec(model, described(cache_dir, model)))


@dataclass
class RunningGateway:
    """A gateway process and what a test wants of it."""

    process: subprocess.Popen[bytes]
    fake: FakeEngine
    base: BaseModelSpec
    port: int
    metrics_port: int
    log_file: Path
    keys: dict[str, str] = field(default_factory=dict)
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30, trust_env=False))

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def admin(self, method: str, path: str, **call: Any) -> httpx.Response:
        """An admin call that succeeds."""
        answer = self.call(method, f"/admin/v1{path}", key=ADMIN_KEY, **call)
        assert answer.is_success, answer.text
        return answer

    def call(self, method: str, path: str, *, key: str, **call: Any) -> httpx.Response:
        """Any call."""
        headers = {"authorization": f"Bearer {key}", **call.pop("headers", {})}
        return self.http.request(method, self.url + path, headers=headers, **call)

    def post(self, path: str, body: Any, *, tenant: str = "acme", **call: Any) -> httpx.Response:
        """An inference call with a tenant's key."""
        return self.call("POST", path, key=self.keys[tenant], json=body, **call)

    def add_tenant(self, name: str, *scopes: str) -> None:
        """A tenant with one key."""
        self.admin("POST", "/tenants", json={"name": name})
        body = {"scopes": list(scopes or ("inference",))}
        self.keys[name] = self.admin("POST", f"/tenants/{name}/keys", json=body).json()["key"]

    def push(
        self, folder: Path, tenant: str = "acme", adapter: str = "support", **metadata: Any
    ) -> int:
        """A new adapter version with a passed evaluation, promoted; its number."""
        good_adapter(folder, self.base, seed=zlib.crc32(f"{tenant}/{adapter}/{folder}".encode()))
        files: dict[str, Any] = {
            name: (name, (folder / name).read_bytes())
            for name in ("adapter_config.json", "adapter_model.safetensors")
        }
        metadata = {"evaluation": {"verdict": "passed"}} | metadata
        files["metadata.json"] = ("metadata.json", json.dumps(metadata).encode())
        path = f"/tenants/{tenant}/adapters/{adapter}"
        version: int = self.admin("POST", f"{path}/versions", files=files).json()["version"]
        self.admin("POST", f"{path}/promote", json={"version": version})
        return version

    def sample(self, name: str, **labels: str) -> float:
        """The sum of a series over all labels not named."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.metrics_text())
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def metrics_text(self) -> str:
        """What Prometheus would read."""
        return self.http.get(f"http://127.0.0.1:{self.metrics_port}/metrics").text

    def log(self) -> list[dict[str, Any]]:
        """The whole lines of the log; each must be a JSON object."""
        whole, _, _ = self.log_file.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def requests_logged(self) -> list[dict[str, Any]]:
        """The log's lines of inference requests."""
        return [line for line in self.log() if line["event"] == "request" and "route" in line]

    def request_logged(self, request_id: str) -> dict[str, Any]:
        """The log's line of one request, waited for: lines are written some 20 ms at a time."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self.requests_logged() if line["request_id"] == request_id]

        self.wait_for(lambda: bool(found()))
        (line,) = found()
        return line

    def wait_for(self, holds: Callable[[], bool], *, deadline_s: float = 20.0) -> None:
        """Returns once `holds()` is true."""
        end_s = time.monotonic() + deadline_s
        while not holds():
            assert time.monotonic() < end_s, f"not within {deadline_s} s; the log: {self.tail()}"
            time.sleep(0.02)

    def ready(self) -> bool:
        """Whether it says so."""
        try:
            return self.http.get(f"{self.url}/readyz").status_code == 200
        except httpx.TransportError:
            assert self.process.poll() is None, self.tail()
            return False

    def tail(self) -> str:
        """The log's end."""
        return self.log_file.read_text()[-3000:]

    def stop(self) -> int:
        """Ends it as its supervisor does; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.http.close()
        return self.process.wait(STOP_S)


@contextmanager
def running_gateway(
    fake: FakeEngine, folder: Path, model: TinyModel, tenant: str | None = "acme", **settings: Any
) -> Iterator[RunningGateway]:
    """A gateway with this tenant, ready. settings: further ones."""
    port, metrics_port = _free_ports(2)
    flags = {
        "port": port,
        "metrics_port": metrics_port,
        "data_dir": folder / "data",
        "engine_url": [fake.url],
        "model": str(model.folder),
        "cache_dir": model.cache_dir,
        "served_name": BASE,
        **settings,
    }
    document = load_settings(flags).model_dump(mode="json") | {"admin_key": ADMIN_KEY}
    log_file = folder / "gateway.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway"], stdin=subprocess.PIPE, stdout=log, stderr=log
        )
    assert process.stdin is not None
    process.stdin.write(json.dumps(document).encode())
    process.stdin.close()
    gateway = RunningGateway(process, fake, model.spec, port, metrics_port, log_file)
    try:
        gateway.wait_for(gateway.ready, deadline_s=START_S)
        if tenant is not None:
            gateway.add_tenant(tenant)
        yield gateway
    finally:
        gateway.stop()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
