"""Which adapters an engine holds, and which one makes room; pure bookkeeping without I/O."""

from collections import Counter, OrderedDict
from collections.abc import Set

from adapters_registry.types import Version


class Residency:
    """The versions loaded on one engine, least recently used first, and the calls that use them.

    capacity: most names kept; below the engine's own limit, since a forgotten name lingers there.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._resident: OrderedDict[str, Version] = OrderedDict()
        self._in_use: Counter[str] = Counter()

    def __contains__(self, name: str) -> bool:
        return name in self._resident

    def __len__(self) -> int:
        return len(self._resident)

    def versions(self) -> list[Version]:
        """The resident versions, least recently used first."""
        return list(self._resident.values())

    def names(self) -> set[str]:
        """What is resident, and what calls want now."""
        return {*self._resident, *self._in_use}

    def touch(self, name: str) -> bool:
        """Marks a name as just used; False where it is not resident."""
        if name not in self._resident:
            return False
        self._resident.move_to_end(name)
        return True

    def add(self, version: Version) -> None:
        """Notes a load that succeeded."""
        self._resident[version.engine_name] = version
        self._resident.move_to_end(version.engine_name)

    def drop(self, name: str) -> None:
        """Notes that the engine no longer holds the name."""
        self._resident.pop(name, None)

    def clear(self) -> None:
        """Notes that the engine lost everything."""
        self._resident.clear()

    def acquire(self, name: str) -> bool:
        """One more call wants the name: from now on it is not chosen to make room.

        Whether it is resident now.
        """
        self._in_use[name] += 1
        return self.touch(name)

    def release(self, name: str) -> None:
        """A call that wanted the name has ended."""
        self._in_use[name] -= 1
        if self._in_use[name] <= 0:
            del self._in_use[name]

    def in_use(self, name: str) -> int:
        """Calls that want the name now."""
        return self._in_use[name]

    @property
    def total_in_use(self) -> int:
        """Calls that want any adapter now."""
        return self._in_use.total()

    def to_evict(self) -> list[str] | None:
        """The idle names to unload before one more is loaded; None where all are in use."""
        excess = len(self._resident) + 1 - self.capacity
        if excess <= 0:
            return []
        idle = [name for name in self._resident if not self._in_use[name]]
        return idle[:excess] if len(idle) >= excess else None

    def strangers(self, known: Set[str]) -> list[str]:
        """Resident names that are not among the known."""
        return [name for name in self._resident if name not in known]
