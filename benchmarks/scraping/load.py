"""The active adapters' traffic: every series once, then wrk at a share of the full rate."""

import asyncio
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import httpx

from benchmarks.scraping.fleet import Active
from benchmarks.sides.peers import system_tool
from benchmarks.sides.processes import ChildFailed
from benchmarks.sides.question import PLAIN_TOKENS, ROUTE, body
from benchmarks.sides.wrk import WrkResult, parse_result

CONNECTIONS = 64
_AT_ONCE = 16
_TUNING_S = 5
_FULL_RUNS = 3
_TUNINGS = 6
_NEAR = 0.03
_SCRIPT = """\
local requests = {{}}
local function add(model, key, body)
    local headers = {{}}
    headers["Content-Type"] = "application/json"
    headers["Authorization"] = "Bearer " .. key
    requests[#requests + 1] = {{headers, body}}
end
{requests}
init = function(args)
    math.randomseed(4711)
    for i, found in ipairs(requests) do
        requests[i] = wrk.format("POST", "{path}", found[1], found[2])
    end
end
request = function() return requests[math.random(#requests)] end
{delay}
done = function(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format(
        'RESULT {{"requests": %d, "duration_us": %d, "connect": %d, "read": %d, "write": %d, ' ..
        '"status": %d, "timeout": %d, "p50_us": %.1f, "p90_us": %.1f, "p99_us": %.1f, ' ..
        '"max_us": %.1f}}\\n',
        summary.requests, summary.duration, errors.connect, errors.read, errors.write,
        errors.status, errors.timeout, latency:percentile(50), latency:percentile(90),
        latency:percentile(99), latency.max))
end
"""


async def touch_all(url: str, active: Sequence[Active]) -> None:
    """Every active adapter on two routes, plain and streamed. Raises ChildFailed."""
    places = asyncio.Semaphore(_AT_ONCE)
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:

        async def ask(one: Active) -> None:
            async with places:
                for path, asked in _calls(one.adapter):
                    headers = {"authorization": f"Bearer {one.key}"}
                    answer = await client.post(path, json=asked, headers=headers)
                    if answer.status_code != 200:
                        raise ChildFailed(f"{one.tenant}: {answer.status_code} {answer.text}")

        await asyncio.gather(*map(ask, active))


def _calls(model: str) -> list[tuple[str, dict[str, object]]]:
    calls = []
    for streamed in (False, True):
        asked = json.loads(body(model, PLAIN_TOKENS, streamed=streamed))
        calls.append((ROUTE, asked))
        text = {name: value for name, value in asked.items() if name != "messages"}
        calls.append(("/v1/completions", text | {"prompt": "Once upon a time"}))
    return calls


class Load:
    """wrk on `core`, whose every request goes to one of the active adapters by chance."""

    def __init__(self, url: str, active: Sequence[Active], core: int, folder: Path) -> None:
        self._url = url
        self._core = core
        self._script = folder / "scrape.lua"
        self._requests = "\n".join(
            f"add({_lua(one.adapter)}, {_lua(one.key)}, "
            f"{_lua(body(one.adapter, PLAIN_TOKENS, streamed=False).decode())})"
            for one in active
        )
        self.pause_ms = 0.0
        """How long a connection waits between an answer and its next request, on average."""

    def run(self, seconds: int) -> WrkResult:
        """Ask for so long. Raises ChildFailed where anything but answers came."""
        delay = ""
        if self.pause_ms:
            # wrk waits whole milliseconds; by chance, so that connections do not march in step.
            longest_ms = 2 * self.pause_ms + 1
            delay = f"delay = function() return math.floor(math.random() * {longest_ms:.3f}) end"
        self._script.write_text(_SCRIPT.format(requests=self._requests, path=ROUTE, delay=delay))
        command = ["taskset", "-c", str(self._core), str(system_tool("wrk")), "--threads", "1"]
        command += ["--connections", str(CONNECTIONS), "--timeout", "60"]
        command += ["--duration", f"{seconds}s", "--script", str(self._script), self._url]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise ChildFailed(f"wrk failed:\n{done.stderr[-1000:]}")
        result = parse_result(done.stdout)
        if result.errors:
            raise ChildFailed(f"not all were answered: {result.errors}")
        return result

    def slow_down(self, share: float) -> tuple[float, float]:
        """Find the pause at which the rate is `share` of the full one; both rates, full first."""
        self.pause_ms = 0.0
        full = max(rate(self.run(_TUNING_S)) for _ in range(_FULL_RUNS))
        wanted = share * full
        self.pause_ms = 1000 * CONNECTIONS * (1 / wanted - 1 / full)
        for _ in range(_TUNINGS):
            found = rate(self.run(_TUNING_S))
            if abs(found / wanted - 1) < _NEAR:
                break
            self.pause_ms += 1000 * CONNECTIONS * (1 / wanted - 1 / found)
        return full, found


def rate(result: WrkResult) -> float:
    """Requests a second."""
    return result.requests / result.seconds


def _lua(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
