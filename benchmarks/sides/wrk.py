"""wrk as the load generator: its script, its call, its figures."""

import json
import math
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.sides.peers import system_tool
from benchmarks.sides.processes import ChildFailed
from benchmarks.sides.question import ROUTE, Target

RESULT_HOOK = """\
done = function(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format(
        'RESULT {"requests": %d, "duration_us": %d, "bytes": %d, "connect": %d, "read": %d, ' ..
        '"write": %d, "status": %d, "timeout": %d, "p50_us": %.1f, "p90_us": %.1f, ' ..
        '"p99_us": %.1f, "max_us": %.1f}\\n',
        summary.requests, summary.duration, summary.bytes, errors.connect, errors.read,
        errors.write, errors.status, errors.timeout, latency:percentile(50),
        latency:percentile(90), latency:percentile(99), latency.max))
end
"""
"""The end of a script whose output `parse_result` reads."""
_ERRORS = ("connect", "read", "write", "status", "timeout")


@dataclass(frozen=True)
class WrkResult:
    """What wrk saw. Latencies in milliseconds."""

    requests: int
    seconds: float
    bytes_read: int
    """Heads and chunk sizes included."""
    errors: dict[str, int]
    """By kind, those that came: `status` are answers of 400 and above."""
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float


def wrk_script(target: Target, content: bytes) -> str:
    """Lua that asks `content` of the target and prints the result as JSON."""
    headers = {"Content-Type": "application/json", **target.headers}
    lines = [
        'wrk.method = "POST"',
        f"wrk.path = {lua_string(ROUTE)}",
        f"wrk.body = {lua_string(content.decode())}",
        *(f"wrk.headers[{lua_string(k)}] = {lua_string(v)}" for k, v in headers.items()),
    ]
    return "\n".join([*lines, RESULT_HOOK])


def parse_result(output: str) -> WrkResult:
    """From what the script printed. Raises ChildFailed."""
    found = [line[7:] for line in output.splitlines() if line.startswith("RESULT ")]
    if not found:
        raise ChildFailed(f"wrk gave no result:\n{output[-1000:]}")
    said: dict[str, Any] = json.loads(found[-1])
    return WrkResult(
        requests=said["requests"],
        seconds=said["duration_us"] / 1e6,
        bytes_read=said.get("bytes", 0),
        errors={name: said[name] for name in _ERRORS if said[name]},
        **{f"{name}_ms": said[f"{name}_us"] / 1e3 for name in ("p50", "p90", "p99", "max")},
    )


def run_wrk(
    target: Target,
    content: bytes,
    *,
    connections: int,
    seconds: float,
    core: int,
    folder: Path,
) -> WrkResult:
    """Ask as fast as answers come. Raises ChildFailed, PeerMissing."""
    script = folder / "wrk.lua"
    script.write_text(wrk_script(target, content))
    pinned = ["taskset", "-c", str(core), str(system_tool("wrk"))]
    flags = ["--threads", "1", "--connections", str(connections), "--timeout", "60"]
    flags += ["--duration", f"{math.ceil(seconds)}s", "--script", str(script)]
    done = subprocess.run(
        [*pinned, *flags, target.url], check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise ChildFailed(f"wrk failed:\n{done.stderr[-1000:]}")
    return parse_result(done.stdout)


def lua_string(text: str) -> str:
    """A Lua string literal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
