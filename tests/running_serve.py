"""The real command `loraplex serve` as a process of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from gateway.preflight import pick_port
from tests.running_gateway import TinyModel

ROOT = Path(__file__).parents[1]
DEADLINE_S = 120.0
FAKE_BASE = "base"
"""What the fake engine calls its model."""
MOST_WORKERS = 4


class Serve:
    """A running `loraplex serve`, with its own data dir and ports."""

    def __init__(
        self, folder: Path, *flags: str, cache_dir: Path | None = None, **environ: str
    ) -> None:
        """environ: LORAPLEX_... variables, in small letters and without the prefix."""
        self.port = pick_port("127.0.0.1")
        self.metrics_port = pick_port("127.0.0.1", [self.port], count=MOST_WORKERS)
        self.output = folder / "output"
        self.data_dir = folder / "data"
        command = [sys.executable, "-m", "loraplex", "serve", "--data-dir", str(self.data_dir)]
        command += ["--metrics-port", str(self.metrics_port)]
        if "--port" not in flags:
            command += ["--port", str(self.port)]
        inherited = {name: v for name, v in os.environ.items() if not name.startswith("LORAPLEX_")}
        own = {"cache_dir": str(cache_dir or folder / "cache")} | environ
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [*command, *flags],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=inherited | {f"LORAPLEX_{name.upper()}": v for name, v in own.items()},
            )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def text(self) -> str:
        return self.output.read_text()

    def until(self, holds: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not holds():
            assert time.monotonic() < deadline, self.text()
            assert self.process.poll() is None, self.text()
            time.sleep(0.05)

    def exit_code(self) -> int:
        return self.process.wait(DEADLINE_S)

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.exit_code()


def attached(url: str, model: TinyModel) -> list[str]:
    """The flags that attach to the engine at `url`, as the fake one is."""
    return ["--engine-url", url, "--model", str(model.folder), "--served-name", FAKE_BASE]
