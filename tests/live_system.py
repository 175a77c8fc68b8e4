"""The whole system as its user starts it: `loraplex serve`, two tenants, an adapter each."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from loraplex.demo_data import TENANTS

READY_S = 900.0
STOP_S = 60.0
ROOT = Path(__file__).parents[1]
ADAPTER = "support"
"""The adapter that both tenants have; its content is each tenant's own."""


@dataclass
class LiveSystem:
    """A running gateway with its engine."""

    process: subprocess.Popen[bytes]
    gateway_url: str
    metrics_url: str
    data_dir: Path
    admin_key: str = ""
    engine_url: str = ""
    base: str = ""
    """The base model's served name."""
    keys: dict[str, str] = field(default_factory=dict)
    """Each tenant's key, scope inference."""
    manage_keys: dict[str, str] = field(default_factory=dict)
    """Each tenant's key, scopes inference and manage."""

    @property
    def openai_url(self) -> str:
        """What OpenAI's clients call the base URL."""
        return f"{self.gateway_url}/v1"

    def admin(self, method: str, path: str, *, key: str | None = None, **call: Any) -> Any:
        """The JSON of an admin call that succeeds."""
        headers = {"authorization": f"Bearer {key or self.admin_key}"}
        url = f"{self.gateway_url}/admin/v1{path}"
        answer = httpx.request(method, url, headers=headers, timeout=120, trust_env=False, **call)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def post(self, path: str, body: Any, *, tenant: str = "acme") -> httpx.Response:
        """A plain inference call with a tenant's key."""
        headers = {"authorization": f"Bearer {self.keys[tenant]}"}
        url = self.gateway_url + path
        return httpx.post(url, json=body, headers=headers, timeout=120, trust_env=False)

    def pids(self) -> list[int]:
        """The supervisor and every process below it."""
        listing = subprocess.run(
            ["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
        ).stdout
        parents = {int(pid): int(ppid) for pid, ppid in map(str.split, listing.splitlines())}
        found = [self.process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def log(self) -> str:
        """What the command printed."""
        return (self.data_dir.parent / "serve.log").read_text(errors="replace")

    def stop(self) -> None:
        """End it as Ctrl-C or a service manager does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            for pid in reversed(self.pids()):
                os.kill(pid, signal.SIGKILL)
            self.process.wait()
            raise


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def launch(folder: Path) -> LiveSystem:
    """Start `loraplex serve` on free ports with its data under `folder`, without waiting for it."""
    port, metrics_port = free_port(), free_port()
    data_dir = folder / "data"
    # On a leash: a killed test run must not leave an engine behind.
    command = [sys.executable, "-m", "gateway.leash", str(os.getpid())]
    command += [sys.executable, "-m", "loraplex", "serve", "--data-dir", str(data_dir)]
    command += ["--port", str(port), "--metrics-port", str(metrics_port)]
    inherited = {name: value for name, value in os.environ.items() if name != "LORAPLEX_ADMIN_KEY"}
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=inherited,
            cwd=ROOT,
            start_new_session=True,
        )
    return LiveSystem(
        process=process,
        gateway_url=f"http://127.0.0.1:{port}",
        metrics_url=f"http://127.0.0.1:{metrics_port}/metrics",
        data_dir=data_dir,
    )


def _wait_until_ready(system: LiveSystem) -> None:
    end_s = time.monotonic() + READY_S
    while time.monotonic() < end_s:
        if system.process.poll() is not None:
            raise RuntimeError(f"`loraplex serve` ended:\n{system.log()[-4000:]}")
        try:
            if httpx.get(f"{system.gateway_url}/readyz", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise TimeoutError(f"not ready within {READY_S} s:\n{system.log()[-4000:]}")


def fill(system: LiveSystem) -> None:
    """Wait until it is ready, and give it its tenants with their keys and adapters."""
    _wait_until_ready(system)
    system.admin_key = (system.data_dir / "admin.key").read_text().strip()
    system.engine_url = system.admin("GET", "/engines")["data"][0]["url"]
    models = httpx.get(f"{system.engine_url}/v1/models", trust_env=False).json()["data"]
    system.base = next(model["id"] for model in models if model["parent"] is None)
    for tenant in TENANTS:
        system.admin("POST", "/tenants", json={"name": tenant.name})
        system.keys[tenant.name] = _new_key(system, tenant.name, "inference")
        system.manage_keys[tenant.name] = _new_key(system, tenant.name, "inference", "manage")
        push(system, tenant.name, ADAPTER, tenant.folder)


def _new_key(system: LiveSystem, tenant: str, *scopes: str) -> str:
    body = {"name": "tests", "scopes": list(scopes)}
    key: str = system.admin("POST", f"/tenants/{tenant}/keys", json=body)["key"]
    return key


def push(system: LiveSystem, tenant: str, adapter: str, folder: Path) -> int:
    """Push an adapter folder with a passed evaluation and promote it; the version's number."""
    names = ("adapter_config.json", "adapter_model.safetensors")
    files = {name: (name, (folder / name).read_bytes()) for name in names}
    metadata = {"evaluation": {"verdict": "passed"}}
    files["metadata.json"] = ("metadata.json", json.dumps(metadata).encode())
    path = f"/tenants/{tenant}/adapters/{adapter}"
    version: int = system.admin("POST", f"{path}/versions", files=files)["version"]
    system.admin("POST", f"{path}/promote", json={"version": version})
    return version
