"""The registry as the request path sees it: the last snapshot, refreshed off that path."""

import asyncio
import logging
from collections.abc import Callable

from adapters_registry.errors import RegistryError
from adapters_registry.registry import Registry

_log = logging.getLogger(__name__)

Listener = Callable[[], None]


class Snapshots:
    """Holds the newest snapshot, and polls; lives on from the last when the database is away."""

    def __init__(self, registry: Registry, poll_s: float) -> None:
        self._registry = registry
        self._poll_s = poll_s
        self._listeners: list[Listener] = []
        self._reading = asyncio.Lock()
        self.current = registry.snapshot()

    def listen(self, listener: Listener) -> None:
        """Has `listener` called after each change."""
        self._listeners.append(listener)

    async def refresh(self) -> None:
        """Reads the registry now; on return `current` holds every write that was committed before.

        Raises DatabaseUnavailable.
        """
        async with self._reading:
            new = await asyncio.to_thread(self._registry.snapshot)
            old, self.current = self.current, new
        if new.revision != old.revision:
            for listener in self._listeners:
                listener()

    async def catch_up(self) -> None:
        """As `refresh`, but where the database is away the news is left to the poll."""
        try:
            await self.refresh()
        except RegistryError as error:
            _log.warning("the registry's news follows later: %s", error)

    async def poll(self) -> None:
        """Refreshes for ever, whenever the registry's revision has moved."""
        away = False
        while True:
            await asyncio.sleep(self._poll_s)
            try:
                if await asyncio.to_thread(self._registry.revision) != self.current.revision:
                    await self.refresh()
                if away:
                    _log.info("the registry's database is back")
                away = False
            except Exception as error:
                # Whatever it is, the next poll may succeed; a dead poll would keep revoked keys.
                if not away:
                    _log.warning(
                        "serving from the last snapshot: %s",
                        error if isinstance(error, RegistryError) else type(error).__name__,
                    )
                away = True
