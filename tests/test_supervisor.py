"""The supervisor over real processes: restarts, ends, nothing left behind however it is killed."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from multiprocessing import shared_memory
from pathlib import Path

import pytest

from gateway.backoff import Backoff
from gateway.preflight import pick_port
from gateway.process_group import living_members
from tests.supervised import START_FAILED

ROOT = Path(__file__).parent.parent
DEADLINE_S = 60.0
NO_ORPHAN_S = 10.0
"""What is promised for a kill -9 of any of the processes."""


class System:
    """A supervisor with an engine and a gateway, or several, under test."""

    def __init__(self, folder: Path, step: str = "", gateways: int = 1) -> None:
        self.folder = folder
        engine, *ports = _free_ports(1 + gateways)
        arguments = [str(folder), str(engine), ",".join(map(str, ports)), step]
        self.output = folder / "output"
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.supervised", *arguments],
                cwd=ROOT,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )

    def said(self, text: str) -> bool:
        return text in self.output.read_text()

    def ready(self) -> None:
        self.until(lambda: self.said("READY"))

    def until(self, holds: Callable[[], object], within_s: float = DEADLINE_S) -> None:
        """Waits for a condition."""
        deadline = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.02)

    def pids(self, name: str) -> list[int]:
        """All that were ever noted under the name."""
        file = self.folder / name
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def everyone(self) -> set[int]:
        """Every process that ever belonged to the system, but the supervisor."""
        noted = [*self.folder.glob("*.pids"), *self.folder.glob("*.grandchildren")]
        return {pid for file in noted for pid in self.pids(file.name)} | set(self.guards())

    def guards(self) -> list[int]:
        """The guards that run now under this supervisor."""
        return [pid for pid in children_of(self.process.pid) if "gateway.guard" in command(pid)]

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., System]]:
    systems: list[System] = []

    def start(step: str = "", gateways: int = 1) -> System:
        systems.append(System(tmp_path, step, gateways))
        return systems[-1]

    yield start
    for system in systems:
        everyone = system.everyone()
        if system.process.poll() is None:
            system.process.kill()
            system.process.wait()
        system.until(partial(all_gone, everyone))


def _free_ports(count: int) -> list[int]:
    ports: list[int] = []
    for _ in range(count):
        ports.append(pick_port("127.0.0.1", ports))
    return ports


def lives(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def all_gone(pids: Iterable[int]) -> bool:
    return not any(map(lives, pids))


def command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return ""


def children_of(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def ignores(pid: int, numbers: Iterable[signal.Signals]) -> bool:
    """Whether the process ignores all of the signals, as the kernel sees it."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(status.split("SigIgn:")[1].split()[0], 16)
    return all(mask >> (number - 1) & 1 for number in numbers)


def nobody_left(system: System, everyone: set[int]) -> None:
    assert len(everyone) >= 1
    system.until(lambda: all_gone(everyone), NO_ORPHAN_S)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_gateway_then_the_engine(
    started: Callable[..., System], number: signal.Signals
) -> None:
    system = started()
    system.ready()
    everyone = system.everyone()
    assert len(everyone) == 5
    assert system.end(number) == number
    assert (system.folder / "ended").read_text().split() == ["gateway", "engine"]
    assert all_gone(everyone)


@pytest.mark.parametrize(("held", "other"), [("1", "2"), ("2", "1")])
def test_several_gateways_end_together_and_the_engine_after_the_last(
    started: Callable[..., System], held: str, other: str
) -> None:
    system = started(gateways=2)
    system.ready()
    hold = system.folder / f"gateway {held}.holds"
    hold.touch()
    everyone = system.everyone()
    assert len(everyone) == 7
    system.process.send_signal(signal.SIGTERM)
    ended = system.folder / "ended"
    system.until(lambda: ended.exists() and ended.read_text() == f"gateway {other}\n")
    hold.unlink()
    assert system.process.wait(DEADLINE_S) == signal.SIGTERM
    assert ended.read_text().splitlines() == [f"gateway {other}", f"gateway {held}", "engine"]
    assert all_gone(everyone)


def test_one_of_several_gateways_is_started_again_alone(started: Callable[..., System]) -> None:
    system = started(gateways=2)
    system.ready()
    os.kill(system.pids("gateway 2.pids")[0], signal.SIGKILL)
    system.until(lambda: system.said("the gateway 2 is up again"))
    started_times = {name: len(system.pids(f"{name}.pids")) for name in ("engine", "gateway 1")}
    assert started_times == {"engine": 1, "gateway 1": 1}


@pytest.mark.parametrize("name", ["gateway 1", "gateway 2"])
def test_several_gateways_are_ready_when_each_is(
    started: Callable[..., System], tmp_path: Path, name: str
) -> None:
    unready = tmp_path / f"{name}.unready"
    unready.touch()
    system = started(gateways=2)
    asked = tmp_path / f"{name}.asked"
    system.until(lambda: asked.exists() and len(asked.read_text().splitlines()) >= 3)
    assert not system.said("READY")
    unready.unlink()
    system.ready()


def test_a_second_signal_does_not_wait(started: Callable[..., System]) -> None:
    system = started()
    system.ready()
    (system.folder / "gateway.holds").touch()
    everyone = system.everyone()
    system.process.send_signal(signal.SIGINT)
    system.until(lambda: system.said("once more to stop at once"))
    assert system.process.poll() is None
    assert system.end(signal.SIGINT) == signal.SIGINT
    assert all_gone(everyone)


@pytest.mark.parametrize("name", ["engine", "gateway"])
def test_a_killed_service_takes_its_group_with_it_and_comes_back(
    started: Callable[..., System], name: str
) -> None:
    system = started()
    system.ready()
    other = {"engine": "gateway", "gateway": "engine"}[name]
    (pid,), (grandchild,) = system.pids(f"{name}.pids"), system.pids(f"{name}.grandchildren")
    os.kill(pid, signal.SIGKILL)
    system.until(lambda: not lives(grandchild), NO_ORPHAN_S)
    system.until(lambda: system.said(f"the {name} is up again"))
    assert system.said(f"the {name} ended: it was killed")
    assert len(system.pids(f"{name}.pids")) == 2
    assert len(system.pids(f"{other}.pids")) == 1


def test_a_service_is_started_again_however_often_it_dies(started: Callable[..., System]) -> None:
    system = started()
    system.ready()
    (system.folder / "engine.fails").write_text("no luck\n")
    os.kill(system.pids("engine.pids")[0], signal.SIGKILL)
    system.until(lambda: len(system.pids("engine.pids")) >= 4)
    (system.folder / "engine.fails").unlink()
    system.until(lambda: system.said("the engine is up again"))
    for seconds in ("0.1", "0.2", "0.4"):
        assert system.said(f"starting it again in {seconds} s")


def test_an_unwell_service_is_started_again(started: Callable[..., System]) -> None:
    system = started()
    system.ready()
    (system.folder / "engine.status").write_text("503")
    system.until(lambda: system.said("the engine ended: its health check failed"))
    (system.folder / "engine.status").unlink()
    system.until(lambda: system.said("the engine is up again"))


def test_a_killed_supervisor_leaves_nobody(started: Callable[..., System]) -> None:
    system = started()
    system.ready()
    everyone = system.everyone()
    assert len(everyone) == 5
    system.end(signal.SIGKILL)
    nobody_left(system, everyone)


def test_a_killed_guard_is_replaced(started: Callable[..., System]) -> None:
    system = started()
    system.ready()
    (guard,) = system.guards()
    os.kill(guard, signal.SIGKILL)
    system.until(lambda: system.guards() not in ([], [guard]))
    everyone = system.everyone()
    system.end(signal.SIGKILL)
    nobody_left(system, everyone)


def test_the_guard_ignores_the_signals_of_a_terminal(started: Callable[..., System]) -> None:
    system = started()
    system.ready()
    (guard,) = system.guards()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    system.until(lambda: ignores(guard, numbers))
    for number in numbers:
        os.kill(guard, number)
    assert system.guards() == [guard]
    everyone = system.everyone()
    system.end(signal.SIGKILL)
    nobody_left(system, everyone)


def test_an_orphan_that_left_its_group_is_ended_too(started: Callable[..., System]) -> None:
    system = started()
    system.ready()
    (system.folder / "engine.escapes").touch()
    os.kill(system.pids("engine.pids")[0], signal.SIGKILL)
    system.until(lambda: system.said("the engine is up again"))
    escaped = system.pids("engine.grandchildren")[1]
    assert os.getpgid(escaped) == escaped
    system.end(signal.SIGTERM)
    assert not lives(escaped)


@pytest.mark.parametrize("name", ["engine", "gateway"])
def test_what_cannot_start_ends_everything_with_the_reason(
    started: Callable[..., System], tmp_path: Path, name: str
) -> None:
    (tmp_path / f"{name}.fails").write_text("loading\nOSError: the moon is full\n")
    system = started()
    assert system.process.wait(DEADLINE_S) == START_FAILED
    assert system.said(f"error: the {name} could not start: OSError: the moon is full")
    assert system.said("Its last lines:\n  loading\n  OSError")
    assert all_gone(system.everyone())


def test_what_never_answers_ends_everything(started: Callable[..., System], tmp_path: Path) -> None:
    (tmp_path / "engine.status").write_text("503")
    (tmp_path / "engine.limit").write_text("0.5")
    system = started()
    assert system.process.wait(DEADLINE_S) == START_FAILED
    assert system.said("the engine could not start: it did not answer within 0.5 s")
    assert all_gone(system.everyone())


def test_ctrl_c_before_anything_is_ready(started: Callable[..., System], tmp_path: Path) -> None:
    (tmp_path / "engine.status").write_text("503")
    system = started()
    system.until(lambda: system.pids("engine.grandchildren") and system.pids("gateway.pids"))
    everyone = system.everyone()
    assert system.end(signal.SIGINT) == signal.SIGINT
    assert not system.said("READY")
    assert all_gone(everyone)


def test_ctrl_c_while_a_restart_waits(started: Callable[..., System]) -> None:
    system = started()
    system.ready()
    (system.folder / "engine.fails").write_text("no luck\n")
    os.kill(system.pids("engine.pids")[0], signal.SIGKILL)
    system.until(lambda: system.said("starting it again in 0.8 s"))
    assert system.end(signal.SIGINT) == signal.SIGINT
    assert all_gone(system.everyone())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_step_before_ends_with_the_supervisor(
    started: Callable[..., System], number: signal.Signals
) -> None:
    step = (
        "import os, subprocess, sys, time\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print('step', os.getpid(), inner.pid, flush=True)\n"
        "time.sleep(600)"
    )
    system = started(step)
    system.until(lambda: system.said("step"))
    words = system.output.read_text().split("step ")[1].split()
    pids = {int(word) for word in words[:2]}
    system.end(number)
    nobody_left(system, pids)


def test_lines_are_prefixed_for_people(started: Callable[..., System]) -> None:
    system = started("print('{\"not\": \"the gateway\"}'); print('10%\\r20%\\rdone')")
    system.ready()
    assert system.said('model   | {"not": "the gateway"}\nmodel   | done\n')
    assert system.said("engine  | engine says hello\n")
    assert system.said("gateway | gateway says hello\n")


def test_shared_memory_of_a_killed_child_is_given_back(started: Callable[..., System]) -> None:
    step = (
        "import os, signal\n"
        "from multiprocessing import shared_memory\n"
        "memory = shared_memory.SharedMemory(create=True, size=4096)\n"
        "print('memory', memory.name, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    system = started(step)
    system.ready()
    name = system.output.read_text().split("memory ")[1].split()[0]
    with pytest.raises(FileNotFoundError):
        shared_memory.SharedMemory(name)


def test_the_wait_before_a_restart_doubles_and_starts_afresh() -> None:
    backoff = Backoff()
    assert [backoff.after(up_s=1) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert backoff.after(up_s=60) == 1
    assert backoff.after(up_s=59) == 2


def test_living_members_are_those_of_one_group() -> None:
    with subprocess.Popen(["sleep", "600"], process_group=0) as sleeper:
        assert living_members(sleeper.pid) == [sleeper.pid]
        sleeper.kill()
        os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
        assert living_members(sleeper.pid) == []
