"""Loraplex as a user runs it: `loraplex serve` on an engine, a tenant with its key and adapter."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx

from benchmarks.sides import machine
from benchmarks.sides.engine import Engine
from benchmarks.sides.processes import Child, ChildFailed
from benchmarks.sides.question import BASE, Target
from benchmarks.sides.side import START_S, Running, answers, free_port, wait_until
from benchmarks.sides.tiny_model import write_adapter, write_model

_ADMIN_KEY = "the-admin-key-of-the-benchmark"
_TENANT, _ADAPTER = "bench", "support"
_IN_FLIGHT = 4096
_TRIES = 20
_FILES = ("adapter_config.json", "adapter_model.safetensors")


class Loraplex:
    """All policy on: key, adapter, bound on calls in flight, access log, metrics, quality."""

    def __init__(self, workers: int = 1) -> None:
        self.name = "loraplex" if workers == 1 else f"loraplex-{workers}-workers"
        self._workers = workers
        self._key: str | None = None
        """The tenant's, once it was made in the data dir."""

    def prepare(self) -> None:
        """Nothing is needed."""

    def versions(self) -> dict[str, str]:
        return machine.versions()

    def start(self, engine: Engine, folder: Path, cores: Sequence[int]) -> Running:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        command = [str(Path(sys.executable).parent / "loraplex"), "serve"]
        command += ["--engine-url", engine.url, "--served-name", BASE, "--port", str(port)]
        command += ["--model", str(write_model(folder / "model"))]
        command += ["--data-dir", str(folder / "data"), "--metrics-port", str(free_port())]
        if self._workers > 1:
            command += ["--workers", str(self._workers)]
        environ = {
            "LORAPLEX_ADMIN_KEY": _ADMIN_KEY,
            "LORAPLEX_CACHE_DIR": str(folder / "cache"),
            # The default admits 256 calls at once, fewer than the streams of two scenarios.
            "LORAPLEX_MAX_IN_FLIGHT": str(_IN_FLIGHT),
        }
        log = folder / "access.log"
        log.write_bytes(b"")
        child = Child(command, cores=cores, log=log, environ=environ, cwd=folder)
        wait_until(child, _is_ready(url), START_S)
        try:
            key = self._key = self._key or _set_up(url, folder)
        except BaseException as error:  # Ctrl-C too must leave nothing behind
            child.stop()
            if not isinstance(error, httpx.HTTPError):
                raise
            raise ChildFailed(f"loraplex refuses the set-up: {error}\n{child.tail()}") from error
        target = Target(url, _ADAPTER, {"authorization": f"Bearer {key}"})
        wait_until(child, self._all_answer(target), START_S)
        return Running(self.name, target, child)

    def _all_answer(self, target: Target) -> Callable[[httpx.Client], bool]:
        """Whether all workers know the key, in all likelihood: the kernel picks who is asked."""

        def holds(client: httpx.Client) -> bool:
            tries = 1 if self._workers == 1 else _TRIES
            return all(_answers_anew(target) for _ in range(tries))

        return holds


def _answers_anew(target: Target) -> bool:
    """On a connection of its own."""
    with httpx.Client(timeout=10, trust_env=False) as client:
        return answers(target)(client)


def _is_ready(url: str) -> Callable[[httpx.Client], bool]:
    return lambda client: client.get(f"{url}/readyz").status_code == 200


def _set_up(url: str, folder: Path) -> str:
    """A tenant whose adapter is live; its key."""
    headers = {"authorization": f"Bearer {_ADMIN_KEY}"}
    base_url = f"{url}/admin/v1"
    with httpx.Client(base_url=base_url, headers=headers, timeout=60, trust_env=False) as admin:
        admin.post("/tenants", json={"name": _TENANT}).raise_for_status()
        made = admin.post(f"/tenants/{_TENANT}/keys", json={}).raise_for_status()
        adapter = write_adapter(folder / "adapter")
        files = {name: (name, (adapter / name).read_bytes()) for name in _FILES}
        path = f"/tenants/{_TENANT}/adapters/{_ADAPTER}"
        pushed = admin.post(f"{path}/versions", files=files).raise_for_status()
        version = pushed.json()["version"]
        move = {"version": version, "force": True}
        admin.post(f"{path}/promote", json=move).raise_for_status()
    key: str = made.json()["key"]
    return key
