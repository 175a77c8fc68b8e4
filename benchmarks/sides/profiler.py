"""py-spy on the gateway while it works, and where its time goes, by function."""

import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from benchmarks.sides import peers

_TOP = 25
_RATE_HZ = 200
_LATE_S = 60.0
# A pool's thread that waits for work, which py-spy takes for one that works.
_WAITS = "_worker (concurrent/futures/thread.py"


@dataclass(frozen=True)
class Line:
    """One function: the share of samples in it, and in it or what it called."""

    function: str
    own: float
    total: float


@dataclass
class Profile:
    """Where a scenario's time went. Empty `lines` where it could not be seen; `note` says why."""

    scenario: str
    samples: int = 0
    by_own: list[Line] = field(default_factory=list)
    by_total: list[Line] = field(default_factory=list)
    note: str = ""


class Spy:
    """One recording. As a context manager, so that it ends with the work it looks at."""

    def __init__(self, scenario: str, pid: int, seconds: float, core: int, folder: Path) -> None:
        self._scenario = scenario
        self._out = folder / f"{scenario}.stacks"
        command = ["taskset", "-c", str(core), str(peers.install(peers.PROFILER)), "record"]
        command += ["--pid", str(pid), "--duration", str(round(seconds))]
        command += ["--rate", str(_RATE_HZ), "--format", "raw", "--function"]
        self._command = [*command, "--output", str(self._out)]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def begin(self) -> None:
        """Look from now on."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def finish(self) -> Profile:
        """What was seen, once the time is over."""
        profile = Profile(self._scenario)
        if self._process is None:
            profile.note = "the work never began"
            return profile
        said = self._process.communicate(timeout=_LATE_S)[0]
        if self._process.returncode or not self._out.exists():
            profile.note = f"py-spy could not look into the process: {said.strip()[-300:]}"
        else:
            summarise(self._out.read_text(), profile)
        return profile


def summarise(stacks: str, profile: Profile) -> None:
    """Fill in from collapsed stacks: `outer;inner COUNT` a line."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for line in stacks.splitlines():
        frames, _, count = line.rpartition(" ")
        if not frames:
            continue
        names = frames.split(";")
        if names[-1].startswith(_WAITS):
            continue
        own[names[-1]] += int(count)
        for name in set(names):
            total[name] += int(count)
    samples = profile.samples = sum(own.values())
    profile.by_own = [Line(n, c / samples, total[n] / samples) for n, c in own.most_common(_TOP)]
    profile.by_total = [Line(n, own[n] / samples, c / samples) for n, c in total.most_common(_TOP)]
