"""Work in a child process: its stages, its reasons to fail, and that it never outlives us."""

import os
import signal
import subprocess
import sys
import time

import pytest

from adapters_registry.child import run_child
from adapters_registry.errors import ModelError

CHILD = "tests.child_for_tests"
DEADLINE_S = 60

Stages = list[tuple[str, float | None]]


def _run(behaviour: str) -> Stages:
    stages: Stages = []
    run_child(CHILD, [behaviour], lambda stage, fraction: stages.append((stage, fraction)))
    return stages


@pytest.mark.parametrize("behaviour", ["works", "prints"])
def test_stages_arrive_in_order_and_nothing_else_does(behaviour: str) -> None:
    assert _run(behaviour) == [("first", 0.0), ("last", 1.0)]


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("refuses", "no such thing: pip install it"),
        ("raises", "failed: RuntimeError: out of luck"),
        ("dies", "ended by SIGKILL (the machine may be out of memory)"),
    ],
)
def test_a_failed_child_is_a_model_error_with_the_reason(behaviour: str, reason: str) -> None:
    with pytest.raises(ModelError) as failed:
        _run(behaviour)
    assert reason in failed.value.message


def test_a_report_that_raises_ends_the_child() -> None:
    pids = []

    def interrupt(stage: str, _fraction: float | None) -> None:
        if stage.startswith("pid"):
            pids.append(int(stage.split()[1]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_child(CHILD, ["waits"], interrupt)
    assert not _is_running(pids[0])


_PARENT = f"""
from adapters_registry.child import run_child
run_child("{CHILD}", ["waits"], lambda stage, _fraction: print(stage, flush=True))
"""


def test_a_child_ends_when_its_parent_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "first\n"
        pid = int(parent.stdout.readline().split()[1])
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + DEADLINE_S
    while _is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_running(pid)


def _is_running(pid: int) -> bool:
    """A process that ended and that nobody waited for yet does not count."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    listing = ["ps", "-o", "stat=", "-p", str(pid)]
    state = subprocess.run(listing, capture_output=True, text=True).stdout
    return state.strip() != "" and not state.startswith("Z")
