"""Ending a whole process group, so that neither processes nor shared memory stay behind."""

import os
import signal
from contextlib import suppress
from pathlib import Path

# Python's helper that unlinks shared memory and semaphores once their owners are gone. vLLM keeps
# hundreds of MiB there; killed with the rest, the helper would leave them behind.
_RESOURCE_TRACKER = b"multiprocessing.resource_tracker"


def strike(group: int) -> bool:
    """Kills the group's processes, all but resource trackers; whether any process is left in it.

    To be called again until it answers False: a tracker ends by itself within moments. One that
    does not is the caller's to end with `kill_all`.
    """
    members = living_members(group)
    for pid in members:
        if not _is_resource_tracker(pid):
            _send(pid, signal.SIGKILL)
    return bool(members)


def kill_all(group: int) -> None:
    """Kills whatever is in the group, at once."""
    _send(-group, signal.SIGKILL)


def terminate(group: int) -> None:
    """Asks every process of the group to end."""
    _send(-group, signal.SIGTERM)


def living_members(group: int) -> list[int]:
    """The group's processes that are not zombies."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            state, of_group = _state_and_group(entry)
            if of_group == group and state not in ("Z", "X"):
                found.append(int(entry.name))
    return found


def _state_and_group(entry: Path) -> tuple[str, int]:
    try:
        stat = (entry / "stat").read_text(errors="replace")
    except OSError:
        return "X", 0
    # The command's name stands in parentheses and may hold spaces and parentheses itself.
    words = stat.rpartition(")")[2].split()
    return words[0], int(words[2])


def _is_resource_tracker(pid: int) -> bool:
    try:
        return _RESOURCE_TRACKER in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _send(target: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(target, number)
