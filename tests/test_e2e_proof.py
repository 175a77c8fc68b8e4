"""The proof on the real vLLM: a real adapter is told from one that changes nothing."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.proof import FLOOR_NATS, NOISE_FACTOR
from loraplex.demo_data import TENANTS
from tests.live_system import ADAPTER, LiveSystem

pytestmark = pytest.mark.vllm

DEADLINE_S = 300.0
WEIGHTS = "adapter_model.safetensors"


def scaled(folder: Path, by: float) -> Path:
    """The first demo adapter with every B times `by`."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(TENANTS[0].folder, folder)
    tensors = load_file(folder / WEIGHTS)
    changed = {name: t * by if "lora_B" in name else t for name, t in tensors.items()}
    save_file(changed, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def push(live: LiveSystem, adapter: str, folder: Path) -> str:
    """Pushes a passed version 1 of acme's; its path in the API."""
    path = f"/tenants/acme/adapters/{adapter}"
    files: dict[str, Any] = {
        name: (name, (folder / name).read_bytes()) for name in ("adapter_config.json", WEIGHTS)
    }
    passed = json.dumps({"evaluation": {"verdict": "passed"}}).encode()
    files["metadata.json"] = ("metadata.json", passed)
    live.admin("POST", f"{path}/versions", files=files)
    return path


def proved(live: LiveSystem, path: str) -> dict[str, Any]:
    """Version 1 once it is no longer unproved, which nobody asks for."""
    end_s = time.monotonic() + DEADLINE_S
    while (record := live.admin("GET", f"{path}/versions/1"))["proof"] == "unproved":
        assert time.monotonic() < end_s, live.log()[-3000:]
        time.sleep(0.1)
    found: dict[str, Any] = record
    return found


def test_both_demo_adapters_are_proved_far_above_the_noise(live: LiveSystem) -> None:
    for tenant in TENANTS:
        record = proved(live, f"/tenants/{tenant.name}/adapters/{ADAPTER}")
        figures = record["proof_figures"]
        assert record["proof"] == "proved", figures
        assert figures["difference"] > 0.02
        assert figures["difference"] > 5 * figures["noise"]
        assert figures["tokens"] > 100
        assert (figures["base"], figures["reason"]) == (live.base, None)


def test_a_faint_adapter_is_proved_and_a_faded_one_inert(live: LiveSystem, tmp_path: Path) -> None:
    faint = proved(live, push(live, "faint", scaled(tmp_path / "faint", 0.05)))
    assert faint["proof"] == "proved", faint["proof_figures"]

    path = push(live, "faded", scaled(tmp_path / "faded", 1e-30))
    faded = proved(live, path)
    figures = faded["proof_figures"]
    assert faded["proof"] == "inert", figures
    assert figures["difference"] <= max(FLOOR_NATS, NOISE_FACTOR * figures["noise"])
    assert "all but zero" in figures["reason"]
    answer = httpx.post(
        f"{live.gateway_url}/admin/v1{path}/promote",
        json={"version": 1, "force": True},
        headers={"authorization": f"Bearer {live.admin_key}"},
        timeout=120,
        trust_env=False,
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "adapter_inert")
    assert "all but zero" in answer.json()["error"]["message"]
    assert live.admin("GET", path)["live"] is None
    for name in ("faint", "faded"):
        live.admin("DELETE", f"/tenants/acme/adapters/{name}/versions/1")
