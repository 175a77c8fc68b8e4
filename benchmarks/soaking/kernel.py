"""What the kernel tells of a process: memory, threads, descriptors, and whose its sockets are."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_LISTENS = "0A"
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Sockets:
    """A process's TCP sockets."""

    listening: int = 0
    clients: int = 0
    """Accepted on the gateway's port."""
    metrics: int = 0
    """Accepted on the metrics port."""
    engine: int = 0
    """Connected to the engine."""
    other: int = 0
    """Connected elsewhere, or to nothing any more."""

    @property
    def total(self) -> int:
        return self.listening + self.clients + self.metrics + self.engine + self.other


@dataclass(frozen=True)
class Process:
    """One look at a process."""

    rss_bytes: int
    threads: int
    descriptors: int
    """Open files of every kind."""
    sockets: Sockets


@dataclass(frozen=True)
class Ports:
    """Whose a socket is, by port."""

    gateway: int
    metrics: int
    engine: int


def look(pid: int, ports: Ports) -> Process:
    """Looks at it now."""
    folder = Path(f"/proc/{pid}")
    links = [_link(each) for each in (folder / "fd").iterdir()]
    inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
    rss_pages = int((folder / "statm").read_text().split()[1])
    return Process(
        rss_bytes=rss_pages * _PAGE_BYTES,
        threads=sum(1 for _ in (folder / "task").iterdir()),
        descriptors=len([link for link in links if link]),
        sockets=sort_sockets(inodes, _table(folder), ports),
    )


def cpu_s(pid: int) -> float:
    """CPU seconds so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICKS_S


def sort_sockets(
    inodes: set[str], table: Mapping[str, tuple[int, int, str]], ports: Ports
) -> Sockets:
    """table: inode to local port, remote port and state, of all TCP sockets.

    A socket of the process that no table knows is a closed one or not TCP; those of the event
    loop's own are among them, so they are left to the count of descriptors.
    """
    found = {"listening": 0, "clients": 0, "metrics": 0, "engine": 0, "other": 0}
    for inode in inodes & table.keys():
        local, remote, state = table[inode]
        if state == _LISTENS:
            kind = "listening"
        elif local == ports.gateway:
            kind = "clients"
        elif local == ports.metrics:
            kind = "metrics"
        else:
            kind = "engine" if remote == ports.engine else "other"
        found[kind] += 1
    return Sockets(**found)


def _link(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except OSError:  # It has just been closed.
        return ""


def _table(folder: Path) -> dict[str, tuple[int, int, str]]:
    found = {}
    for name in ("tcp", "tcp6"):
        file = folder / "net" / name
        lines = file.read_text().splitlines()[1:] if file.exists() else []
        for line in lines:
            fields = line.split()
            local, remote = (int(fields[k].rpartition(":")[2], 16) for k in (1, 2))
            found[fields[9]] = (local, remote, fields[3])
    return found
