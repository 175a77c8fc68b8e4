"""`loraplex serve` over a registry that is full already, with its metrics port known."""

import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scraping.fleet import Fleet
from benchmarks.sides.engine import Engine
from benchmarks.sides.processes import Child
from benchmarks.sides.question import BASE
from benchmarks.sides.side import START_S, free_port, wait_until


@dataclass(frozen=True)
class Gateway:
    """One that answers."""

    url: str
    metrics_port: int
    child: Child


def start(fleet: Fleet, engine: Engine, folder: Path, core: int) -> Gateway:
    """Start it on `core` in front of the engine. Raises ChildFailed."""
    port, metrics_port = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    command = [str(Path(sys.executable).parent / "loraplex"), "serve"]
    command += ["--engine-url", engine.url, "--served-name", BASE, "--model", str(fleet.model)]
    command += ["--port", str(port), "--metrics-port", str(metrics_port)]
    command += ["--data-dir", str(folder / "data")]
    environ = {
        "LORAPLEX_ADMIN_KEY": "the-admin-key-of-the-benchmark",
        "LORAPLEX_CACHE_DIR": str(folder / "cache"),
        "LORAPLEX_MAX_IN_FLIGHT": "4096",
        # So that no active adapter has to make room for another.
        "LORAPLEX_MAX_CPU_LORAS": str(4 * len(fleet.active)),
    }
    log = folder / "access.log"
    child = Child(command, cores=[core], log=log, environ=environ, cwd=folder)
    wait_until(child, lambda client: client.get(f"{url}/readyz").status_code == 200, START_S)
    return Gateway(url, metrics_port, child)
