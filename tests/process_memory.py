"""How much memory another process takes at its worst, from the kernel's own count."""

from pathlib import Path


class Memory:
    """The growth of a process's resident memory from now on."""

    def __init__(self, pid: int) -> None:
        self._proc = Path(f"/proc/{pid}")
        (self._proc / "clear_refs").write_text("5")  # has the peak begin anew
        self._before = self._mib("VmRSS")

    def growth_mib(self) -> float:
        """The peak since then."""
        return self._mib("VmHWM") - self._before

    def _mib(self, field: str) -> float:
        for line in (self._proc / "status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / 1024
        raise AssertionError(field)
