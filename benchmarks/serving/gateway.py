"""`loraplex serve` of this source, attached to an engine."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx

from benchmarks.serving.rss import pss_bytes
from benchmarks.sides.processes import Child, ChildFailed
from benchmarks.sides.side import START_S, free_port, wait_until

ROOT = Path(__file__).resolve().parents[2]
ADMIN_KEY = "the-admin-key-of-the-benchmark"
_SEEN_S = 60.0


class Gateway:
    """One worker; it answers when `wait` has returned."""

    def __init__(
        self,
        folder: Path,
        engine_url: str,
        base: str,
        *,
        cores: list[int],
        model: Path | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        """folder: holds `data/`. model: the base's folder; the embedded one. settings: by the
        names of `docs/settings.md`.
        """
        port, metrics_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.metrics_url = f"http://127.0.0.1:{metrics_port}/metrics"
        command = [sys.executable, "-m", "loraplex", "serve", "--engine-url", engine_url]
        command += ["--served-name", base, "--port", str(port), "--data-dir", str(folder / "data")]
        command += ["--metrics-port", str(metrics_port)]
        command += [] if model is None else ["--model", str(model)]
        own = {"LORAPLEX_ADMIN_KEY": ADMIN_KEY}
        own |= {f"LORAPLEX_{k.upper()}": str(v) for k, v in (settings or {}).items()}
        if model is not None:
            own["LORAPLEX_CACHE_DIR"] = str(folder / "cache")
        log = folder / "gateway.log"
        log.write_bytes(b"")
        self.child = Child(command, cores=cores, log=log, environ=own, cwd=ROOT)

    def wait(self) -> None:
        """Until it and its engine are ready. Raises ChildFailed."""
        url = f"{self.url}/readyz"
        wait_until(self.child, lambda client: client.get(url).status_code == 200, START_S)

    def until_key_works(self, key: str) -> float:
        """Seconds until the gateway knows a key that was just made. Raises ChildFailed."""
        headers = {"authorization": f"Bearer {key}"}
        with httpx.Client(base_url=self.url, headers=headers, trust_env=False) as client:
            began_s = time.perf_counter()
            while time.perf_counter() - began_s < _SEEN_S:
                if client.get("/v1/models").status_code == 200:
                    return time.perf_counter() - began_s
                time.sleep(0.005)
        raise ChildFailed(f"the gateway does not follow its registry:\n{self.child.tail()}")

    def worker_bytes(self) -> int:
        """Memory of the process that serves; the supervisor and its guard not counted."""
        return pss_bytes([self.child.find("-m", "gateway")])

    def admin(self) -> httpx.Client:
        """For calls of the admin API; to be closed."""
        headers = {"authorization": f"Bearer {ADMIN_KEY}"}
        url = f"{self.url}/admin/v1"
        return httpx.Client(base_url=url, headers=headers, timeout=120, trust_env=False)

    def stop(self) -> None:
        self.child.stop()
