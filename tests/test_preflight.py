"""What is found out before anything is started."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.config import load_settings
from gateway.preflight import (
    engine_problem,
    library_loads,
    listening_ports,
    memory_problem,
    pick_port,
    port_problem,
    ports_problem,
    settings_problem,
)
from tests.test_launch import CPU, CUDA, SMOL

GIB = 2**30


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_machine_that_can_start_vllm() -> None:
    assert engine_problem(CPU, loads=lambda _: True) is None
    assert engine_problem(CUDA, loads=lambda _: False) is None


def test_a_missing_library_is_named_with_what_brings_it() -> None:
    problem = engine_problem(CPU, loads=lambda _: False)
    assert problem is not None
    assert "libnuma.so.1" in problem
    assert "apt-get install libnuma1" in problem


def test_libraries_are_looked_for() -> None:
    assert library_loads("libc.so.6")
    assert not library_loads("libnot-there.so.1")


@pytest.mark.parametrize(
    ("machine", "extra"),
    [(replace(CPU, vllm=None), "loraplex[cpu]"), (replace(CUDA, vllm=None), "loraplex[cuda]")],
)
def test_a_missing_vllm_is_named_with_its_extra(machine: object, extra: str) -> None:
    assert extra in str(engine_problem(machine, loads=lambda _: True))  # type: ignore[arg-type]


def test_the_cuda_build_needs_a_gpu() -> None:
    assert "no NVIDIA GPU" in str(engine_problem(replace(CUDA, gpus=())))


def test_adapters_in_a_batch_are_among_those_in_memory() -> None:
    assert settings_problem(load_settings({"max_loras": 8, "max_cpu_loras": 8})) is None
    problem = settings_problem(load_settings({"max_loras": 8, "max_cpu_loras": 7}))
    assert "--max-cpu-loras 7" in str(problem)


def test_each_worker_holds_two_adapters_at_least() -> None:
    shared = {"max_loras": 1, "workers": 3}
    assert settings_problem(load_settings({**shared, "max_cpu_loras": 6})) is None
    assert settings_problem(load_settings({**shared, "max_cpu_loras": 5})) == (
        "--max-cpu-loras 5 is too low for --workers 3, which share them out: "
        "it takes at least 6, or fewer workers"
    )


def test_the_last_worker_s_port_is_one() -> None:
    assert settings_problem(load_settings({"workers": 2, "metrics_port": 65_534})) is None
    problem = settings_problem(load_settings({"workers": 3, "metrics_port": 65_534}))
    assert "choose one of at most 65533" in str(problem)


def test_memory_that_cannot_be_enough() -> None:
    settings = load_settings({})
    assert memory_problem(CPU, SMOL, settings) is None
    problem = memory_problem(replace(CPU, available_bytes=GIB), SMOL, settings)
    assert "1.0 GiB are free" in str(problem)
    assert memory_problem(replace(CUDA, available_bytes=GIB), SMOL, settings) is None


def test_a_context_that_memory_cannot_hold() -> None:
    settings = load_settings({"max_model_len": 1_000_000})
    assert "--max-model-len" in str(memory_problem(CPU, SMOL, settings))


def test_a_taken_port_is_named_with_its_flag(taken: int) -> None:
    assert port_problem("--port", "127.0.0.1", taken) == (
        f"port {taken} on 127.0.0.1 is taken: choose another with --port"
    )


def test_an_address_of_another_machine() -> None:
    assert "192.0.2.1" in str(port_problem("--port", "192.0.2.1", 0))
    assert "--host no.such.invalid" in str(port_problem("--port", "no.such.invalid", 0))


def test_two_flags_with_one_port() -> None:
    port = pick_port("127.0.0.1")
    settings = load_settings({"port": port, "metrics_port": port, "engine_url": ["http://x"]})
    assert ports_problem(listening_ports(settings)) == (
        f"--metrics-port and --port are both {port}: choose another for one of them"
    )


def test_each_worker_takes_a_metrics_port(taken: int) -> None:
    # The one after it, so that no more than the second has to be there.
    settings = load_settings({"metrics_port": taken - 1, "workers": 2, "engine_url": ["http://x"]})
    metrics = [port for flag, _, port in listening_ports(settings) if "metrics" in flag]
    assert metrics == [taken - 1, taken]
    assert ports_problem(listening_ports(settings)[2:]) == (
        f"port {taken} on 127.0.0.1 is taken: "
        "choose another with --metrics-port (each worker takes the next)"
    )


def test_an_attached_engine_s_port_is_not_ours() -> None:
    attached = load_settings({"engine_url": ["http://127.0.0.1:8000"], "engine_port": 8000})
    assert [flag for flag, *_ in listening_ports(attached)] == ["--port", "--metrics-port"]
    own = load_settings({"engine_port": 8000})
    assert ("engine_port", "127.0.0.1", 8000) in listening_ports(own)


def test_a_picked_port_is_free_and_never_a_client_s(tmp_path: Path) -> None:
    range_file = tmp_path / "proc/sys/net/ipv4/ip_local_port_range"
    range_file.parent.mkdir(parents=True)
    range_file.write_text("20002\t60999\n")
    taken: list[int] = []
    for port in (20_000, 20_001):
        if port_problem("", "127.0.0.1", port):
            pytest.skip(f"port {port} is in use here")
    for _ in range(2):
        taken.append(pick_port("127.0.0.1", taken, tmp_path))
    assert sorted(taken) == [20_000, 20_001]
    with pytest.raises(OSError, match="no free port"):
        pick_port("127.0.0.1", taken, tmp_path)


def test_picked_ports_in_a_row_are_all_free(tmp_path: Path) -> None:
    range_file = tmp_path / "proc/sys/net/ipv4/ip_local_port_range"
    range_file.parent.mkdir(parents=True)
    range_file.write_text("20004\t60999\n")
    for port in range(20_000, 20_004):
        if port_problem("", "127.0.0.1", port):
            pytest.skip(f"port {port} is in use here")
    assert pick_port("127.0.0.1", [20_000], tmp_path, count=3) == 20_001
    with pytest.raises(OSError, match="no free port"):
        pick_port("127.0.0.1", [20_001], tmp_path, count=3)
    with socket.create_server(("127.0.0.1", 20_001)):
        assert pick_port("127.0.0.1", [], tmp_path, count=2) == 20_002
