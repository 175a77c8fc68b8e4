"""The gateway with a key and an adapter for each tenant, on an engine that is fast at first."""

import json
from collections.abc import Sequence
from pathlib import Path

import httpx

from benchmarks.serving.gateway import Gateway
from benchmarks.sides.engine import Engine
from benchmarks.sides.processes import ChildFailed
from benchmarks.sides.question import BASE
from benchmarks.sides.tiny_model import write_adapter, write_model

ADAPTER = "support"
_FILES = ("adapter_config.json", "adapter_model.safetensors")


def start(
    engine: Engine, folder: Path, core: int, tenants: Sequence[str]
) -> tuple[Gateway, dict[str, str]]:
    """It, ready, with its defaults, and the tenants' keys. Raises ChildFailed."""
    model = write_model(folder / "model")
    gateway = Gateway(folder, engine.url, BASE, cores=[core], model=model)
    gateway.wait()
    try:
        with gateway.admin() as admin:
            return gateway, {
                tenant: _set_up(admin, tenant, write_adapter(folder / tenant, seed))
                for seed, tenant in enumerate(tenants)
            }
    except BaseException as error:  # Ctrl-C too must leave nothing behind
        gateway.stop()
        if not isinstance(error, httpx.HTTPError):
            raise
        raise ChildFailed(f"the gateway refuses the set-up: {error}") from error


def _set_up(admin: httpx.Client, tenant: str, adapter: Path) -> str:
    """A tenant whose adapter is live; its key."""
    admin.post("/tenants", json={"name": tenant}).raise_for_status()
    key: str = admin.post(f"/tenants/{tenant}/keys", json={}).raise_for_status().json()["key"]
    files = {name: (name, (adapter / name).read_bytes()) for name in _FILES}
    metadata = json.dumps({"evaluation": {"verdict": "passed"}}).encode()
    files["metadata.json"] = ("metadata.json", metadata)
    path = f"/tenants/{tenant}/adapters/{ADAPTER}"
    version = admin.post(f"{path}/versions", files=files).raise_for_status().json()["version"]
    admin.post(f"{path}/promote", json={"version": version}).raise_for_status()
    return key
