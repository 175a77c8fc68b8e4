"""The registry as the request path sees it: the last snapshot, refreshed off that path."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing

from adapters_registry.errors import RegistryError
from adapters_registry.registry import Registry
from gateway.backoff import Backoff
from gateway.threads import finish_in_thread

_log = logging.getLogger(__name__)

Listener = Callable[[], None]


class Snapshots:
    """Holds the newest snapshot, followed by news of the database and, if they fail, by a poll.

    It lives on from the last one when the database is away.
    """

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
            new = await finish_in_thread(self._registry.snapshot, self.current)
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

    async def follow(self) -> None:
        """Refreshes for ever, whenever the database tells of a change."""
        pause = Backoff(first_s=0.1, most_s=1.0, stable_s=10.0)
        told = False
        while True:
            began_s = time.monotonic()
            try:
                async with aclosing(self._registry.news()) as news:
                    async for _ in news:
                        await self.refresh()
                        told = False
            except Exception as error:
                # Whatever it is, the poll goes on meanwhile, and the next try may succeed.
                if not told:
                    _log.warning("no news from the registry: %s", _described(error))
                told = True
            await asyncio.sleep(pause.after(time.monotonic() - began_s))

    async def poll(self) -> None:
        """Refreshes for ever, every `poll_s`."""
        away = False
        while True:
            await asyncio.sleep(self._poll_s)
            try:
                await self.refresh()
                if away:
                    _log.info("the registry's database is back")
                away = False
            except Exception as error:
                # Whatever it is, the next poll may succeed; a dead poll would keep revoked keys.
                if not away:
                    _log.warning("serving from the last snapshot: %s", _described(error))
                away = True


def _described(error: Exception) -> str:
    """Only the registry's own words are known to hold no address."""
    return str(error) if isinstance(error, RegistryError) else type(error).__name__
