"""The gateway that is soaked: its data, its tenants, its process, and what that process holds."""

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scraping.fleet import register
from benchmarks.sides.engine import ROOT, Engine
from benchmarks.sides.processes import Child, ChildFailed
from benchmarks.sides.question import BASE
from benchmarks.sides.side import START_S, free_port, wait_until
from benchmarks.soaking.probed_gateway import Holdings
from benchmarks.soaking.wire import BODY_LIMIT_BYTES, Caller
from gateway.config import load_settings

CLIENT_S = 5.0
"""How long the gateway waits for a client that reads nothing."""
_TENANTS = 4
_IN_FLIGHT = 4096
_REPORT_S = 30.0


@dataclass(frozen=True)
class Place:
    """Where a gateway's data lie, and who may ask it."""

    data_dir: Path
    cache_dir: Path
    model: Path
    callers: Sequence[Caller]


def make_place(folder: Path) -> Place:
    """Tenants with a live adapter each, in `folder`."""
    fleet = register(folder, _TENANTS, 1, lambda _: None)
    callers = [Caller(one.key, one.adapter, f"{one.tenant}/{one.adapter}@") for one in fleet.active]
    return Place(folder / "data", folder / "cache", fleet.model, callers)


@dataclass
class Gateway:
    """One that answers."""

    port: int
    metrics_port: int
    child: Child
    log: Path
    report: Path
    reports: int = 0

    def holdings(self, *, collected: bool) -> Holdings:
        """What it holds now. Raises ChildFailed where it does not say."""
        self.reports += 1
        os.kill(self.child.pid, signal.SIGUSR2 if collected else signal.SIGUSR1)
        end_s = time.monotonic() + _REPORT_S
        while time.monotonic() < end_s:
            self.child.check()
            if self.report.exists():
                found = Holdings(**json.loads(self.report.read_text()))
                if found.number == self.reports:
                    return found
            time.sleep(0.01)
        raise ChildFailed(f"the gateway does not answer its probe:\n{self.child.tail()}")


def start(place: Place, engine: Engine, folder: Path, cores: Sequence[int]) -> Gateway:
    """Start it on `cores` in front of the engine. Raises ChildFailed.

    folder: for its log, its settings and its reports.
    """
    port, metrics_port = free_port(), free_port()
    settings = load_settings(
        {
            "port": port,
            "metrics_port": metrics_port,
            "data_dir": place.data_dir,
            "cache_dir": place.cache_dir,
            "model": str(place.model),
            "served_name": BASE,
            "engine_url": [engine.url],
            "max_in_flight": _IN_FLIGHT,
            "admin_key": "the-admin-key-of-the-soak",
            "limits": {"body_bytes": BODY_LIMIT_BYTES},
            "timeouts": {"client_s": CLIENT_S},
        }
    )
    document = settings.model_dump(mode="json") | {"admin_key": "the-admin-key-of-the-soak"}
    file, report, log = (folder / f"gateway.{kind}" for kind in ("json", "report", "log"))
    file.write_text(json.dumps(document))
    command = [sys.executable, "-m", "benchmarks.soaking.probed_gateway", str(file), str(report)]
    child = Child(command, cores=cores, log=log, cwd=ROOT)
    ready = f"http://127.0.0.1:{port}/readyz"
    wait_until(child, lambda client: client.get(ready).status_code == 200, START_S)
    return Gateway(port, metrics_port, child, log, report)
