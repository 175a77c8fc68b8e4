"""A handle on a fake vLLM that runs as a process of its own."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from gateway.prover import REQUEST_ID

ROOT = Path(__file__).parents[1]


class FakeEngine:
    """A running `loadtest.fake_vllm` and its controls."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url
        self._http = httpx.Client(base_url=url, timeout=10, trust_env=False)

    @classmethod
    def start(cls, *flags: str, port: int = 0) -> "FakeEngine":
        """Start one, with further flags of the command."""
        command = [sys.executable, "-m", "loadtest.fake_vllm", "--port", str(port), *flags]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("listening on "):
            process.kill()
            process.communicate()
            raise RuntimeError(f"the fake engine did not start: {line!r}")
        return cls(process, line.removeprefix("listening on ").strip())

    def state(self) -> dict[str, Any]:
        """All that it saw: `calls`, `loads`, `adapters`, `open`, `now_s` and more."""
        answer = self._http.get("/_fake/state").raise_for_status().json()
        assert isinstance(answer, dict)
        return answer

    def calls(self, route: str) -> list[dict[str, Any]]:
        """The requests to one route, oldest first, without the gateway's own proofs."""
        calls = self.state()["calls"]
        return [call for call in calls if call["route"] == route and not _is_proof(call)]

    def proofs(self) -> list[dict[str, Any]]:
        """The requests with which the gateway proves versions, oldest first."""
        return [call for call in self.state()["calls"] if _is_proof(call)]

    def control(self, **change: Any) -> None:
        """Set fields of its behaviour, or order `restart`, `forget_adapters`, `forget_calls`."""
        self._http.post("/_fake/control", json=change).raise_for_status()

    def wait_for(
        self, holds: Callable[[dict[str, Any]], bool], *, deadline_s: float = 5.0
    ) -> dict[str, Any]:
        """Its state once `holds(state)` is true."""
        end_s = time.monotonic() + deadline_s
        while not holds(state := self.state()):
            if time.monotonic() > end_s:
                raise TimeoutError(f"not within {deadline_s} s; {state['open']} calls are open")
            time.sleep(0.01)
        return state

    def stop(self) -> None:
        """End it, as `kill -9` does."""
        self._http.close()
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


def _is_proof(call: dict[str, Any]) -> bool:
    body = call["body"]
    return isinstance(body, dict) and str(body.get("request_id")).startswith(REQUEST_ID)
