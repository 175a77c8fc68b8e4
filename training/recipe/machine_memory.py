"""How much memory this machine has for a run: the GPU's where one is used, else its own."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

# cgroup v1 says "no limit" with a number near 2**63.
_NO_LIMIT_BYTES = 1 << 60
_NVIDIA_SMI = (
    "nvidia-smi",
    "--query-gpu=memory.total,memory.free",
    "--format=csv,noheader,nounits",
)
_NVIDIA_SMI_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class MachineMemory:
    """What one training process may use. gpu: whether it is a GPU's."""

    total_bytes: int
    free_bytes: int
    gpu: bool = False


def machine_memory(num_processes: int = 1) -> MachineMemory:
    """For each of `num_processes`: a GPU of its own, or its share of the machine's memory."""
    import torch

    if torch.cuda.is_available() and (found := _gpus()):
        # Each process takes the next GPU: the one with the least decides.
        return min(found[:num_processes], key=lambda one: one.free_bytes)
    total, free = memory(Path("/"))
    return MachineMemory(total // num_processes, free // num_processes)


def memory(root: Path) -> tuple[int, int]:
    """(all, free) bytes: the least of the kernel's and the control group's."""
    kernel = dict(_pairs(_read(root / "proc/meminfo")))
    total, free = (kernel.get(name, 0) * 1024 for name in ("MemTotal", "MemAvailable"))
    for folder in _groups(root):
        for limit_name, used_name in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit = _read(folder / limit_name).strip()
            if limit.isdigit() and int(limit) < _NO_LIMIT_BYTES:
                # Files that are only kept because there was room are given back when it is wanted.
                kept = dict(_pairs(_read(folder / "memory.stat"))).get("inactive_file", 0)
                used = max(0, int(_read(folder / used_name).strip() or 0) - kept)
                total, free = min(total, int(limit)), min(free, max(0, int(limit) - used))
    return total, free


def _pairs(text: str) -> list[tuple[str, int]]:
    """(name, number) of each line that has them; a unit may follow."""
    lines = [line.split() for line in text.splitlines()]
    return [(w[0].rstrip(":"), int(w[1])) for w in lines if len(w) > 1 and w[1].isdigit()]


def _groups(root: Path) -> list[Path]:
    """The folders of this process's control group and those above it (v2 and v1)."""
    folders = [root / "sys/fs/cgroup", root / "sys/fs/cgroup/memory"]
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, path = line.partition(":")[2].partition(":")
        for mount in folders[:2]:
            inner = mount / path.lstrip("/")
            folders += [inner, *(one for one in inner.parents if one.is_relative_to(mount))]
    return list(dict.fromkeys(folders))


def _gpus() -> list[MachineMemory]:
    try:
        done = subprocess.run(
            _NVIDIA_SMI, capture_output=True, text=True, timeout=_NVIDIA_SMI_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.split(",") for line in done.stdout.splitlines()]
    return [
        MachineMemory(int(total) * 2**20, int(free) * 2**20, gpu=True)
        for total, free in rows
        if total.strip().isdigit() and free.strip().isdigit()
    ]


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""
