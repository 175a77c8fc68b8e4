"""The fast fake engine as every side's upstream, on the load generator's core."""

import sys
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import httpx

from benchmarks.sides.processes import Child, ChildFailed
from benchmarks.sides.question import BASE, Target

ROOT = Path(__file__).resolve().parents[2]
_START_S = 30.0
_CONTEXT = 4096
_TOKENS = 2048
"""Longer than any request asks for, so that all get as many tokens as they asked for."""
# Not one word again and again: LiteLLM takes that for a model gone wrong and ends the stream.
_WORDS = ("Thank", "you", "for", "waiting", "the", "parcel", "with", "your", "shoes", "is", "near")


class Engine:
    """`loadtest.fake_vllm --fast`, its pace and its totals."""

    def __init__(self, folder: Path, core: int, flags: Sequence[str] = ("--fast",)) -> None:
        """Starts it. flags: without `--fast` it keeps to batch limits, and no totals.

        Raises ChildFailed.
        """
        log = folder / "engine.log"
        command = [sys.executable, "-m", "loadtest.fake_vllm", *flags, "--port", "0"]
        command += ["--served-model-name", BASE, "--max-model-len", str(_CONTEXT)]
        self.child = Child(command, cores=[core], log=log, cwd=ROOT)
        try:
            self.url = self._wait_for_url(log)
            self._http = httpx.Client(base_url=self.url, timeout=30, trust_env=False)
            self._control(text=" ".join(islice(cycle(_WORDS), _TOKENS)))
        except BaseException:  # Ctrl-C too must leave nothing behind
            self.child.stop()
            raise

    @property
    def target(self) -> Target:
        """The engine itself, as a side."""
        return Target(self.url, BASE)

    def totals(self) -> dict[str, int]:
        """Its counts so far: `calls`, `tokens_sent`, `open` and more."""
        state: dict[str, Any] = self._http.get("/_fake/state").raise_for_status().json()
        totals: dict[str, int] = state["totals"]
        return totals

    def set_pace(self, token_time_s: float) -> None:
        """How long a token takes; 0 is as fast as it can."""
        self._control(token_time_s=token_time_s)

    def stop(self) -> None:
        """End it."""
        self._http.close()
        self.child.stop()

    def _control(self, **change: Any) -> None:
        self._http.post("/_fake/control", json=change).raise_for_status()

    def _wait_for_url(self, log: Path) -> str:
        end_s = time.monotonic() + _START_S
        while time.monotonic() < end_s:
            self.child.check()
            for line in log.read_text().splitlines():
                if line.startswith("listening on "):
                    return line.removeprefix("listening on ")
            time.sleep(0.02)
        raise ChildFailed(f"the engine does not start:\n{self.child.tail()}")
