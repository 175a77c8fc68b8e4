"""A real vLLM on the embedded model, started as `loraplex serve` starts its own."""

import os
from collections.abc import Sequence
from pathlib import Path

import httpx
import platformdirs

from adapters_registry.embedded import SERVED_NAME, ensure_embedded
from benchmarks.serving.rss import pss_bytes
from benchmarks.sides.processes import Child
from benchmarks.sides.side import free_port, wait_until
from gateway.config import Settings, load_settings
from gateway.launch import choose_launch
from gateway.machine import detect_machine
from gateway.model_facts import read_model_facts

CACHE = Path(platformdirs.user_cache_dir("loraplex"))
BASE = SERVED_NAME
_START_S = 900.0
_LOAD_S = 120.0


class Vllm:
    """One engine on all cores. Its adapters come at run time, or are listed at its start."""

    def __init__(
        self, folder: Path, settings: Settings, *, listed: Sequence[tuple[str, Path]] = ()
    ) -> None:
        """listed: names and folders for `--lora-modules`. Begins the start; see `wait`."""
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._http = httpx.Client(base_url=self.url, timeout=_LOAD_S, trust_env=False)
        launch = choose_launch(
            detect_machine(),
            read_model_facts(ensure_embedded(CACHE)),
            ensure_embedded(CACHE),
            settings,
            port=port,
            served_name=BASE,
            environ=os.environ,
        )
        self.flags = {choice.name: choice.value for choice in launch.choices}
        command = [*launch.argv]
        if listed:
            command += ["--lora-modules", *(f"{name}={path}" for name, path in listed)]
        folder.mkdir(parents=True, exist_ok=True)
        cores = sorted(os.sched_getaffinity(0))
        self.child = Child(command, cores=cores, log=folder / "vllm.log", environ=launch.env)

    def wait(self) -> None:
        """Returns when it answers. Raises ChildFailed."""
        url = f"{self.url}/health"
        wait_until(self.child, lambda client: client.get(url).status_code == 200, _START_S)

    def load(self, name: str, path: Path) -> None:
        """What a user of plain vLLM does. Raises httpx.HTTPError."""
        self._post("load", {"lora_name": name, "lora_path": str(path)})

    def unload(self, name: str) -> None:
        """Raises httpx.HTTPError."""
        self._post("unload", {"lora_name": name})

    def memory_bytes(self) -> int:
        """Of all its processes, shared pages counted once."""
        return pss_bytes(self.child.family())

    def stop(self) -> None:
        self._http.close()
        self.child.stop()

    def _post(self, what: str, body: dict[str, str]) -> None:
        # Over a kept connection: making a client takes httpx longer than a small load.
        self._http.post(f"/v1/{what}_lora_adapter", json=body).raise_for_status()


def engine_settings(**fields: object) -> Settings:
    """Settings of `loraplex serve` that matter to the engine, the rest at their defaults."""
    return load_settings({**fields, "model": "embedded"})
