"""When keys were last used: noted in memory by every request, written down now and then."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from adapters_registry.errors import RegistryError
from adapters_registry.types import Key
from gateway.threads import finish_in_thread

_log = logging.getLogger(__name__)
_WRITE_EVERY_S = 60.0

Write = Callable[[Mapping[str, datetime]], None]


class KeyUse:
    """What this process saw of keys since it last wrote it down."""

    def __init__(self, write: Write) -> None:
        """write: keeps times by key id; blocks, and raises RegistryError where it cannot."""
        self._write = write
        self.noted: dict[str, float] = {}
        """perf_counter seconds by key id. A request stores its item, and makes nothing for it."""

    def seen(self, key: Key) -> Key:
        """The key with its last use, where that is not written down yet."""
        at_s = self.noted.get(key.id)
        return key if at_s is None else replace(key, last_used_at=_on_the_clock(at_s))

    async def write(self) -> None:
        """Writes down what is noted. Raises RegistryError; then the next call does it."""
        noted = dict(self.noted)
        if not noted:
            return
        used = {key_id: _on_the_clock(at_s) for key_id, at_s in noted.items()}
        await finish_in_thread(self._write, used)
        for key_id, at_s in noted.items():
            if self.noted.get(key_id) == at_s:  # Not used again meanwhile.
                del self.noted[key_id]

    async def keep_writing(self, every_s: float = _WRITE_EVERY_S) -> None:
        """Writes for ever, and once more at its end."""
        try:
            while True:
                await asyncio.sleep(every_s)
                await self._write_or_tell()
        finally:
            await self._write_or_tell()

    async def _write_or_tell(self) -> None:
        try:
            await self.write()
        except RegistryError as error:
            _log.warning("when keys were last used is not written down yet: %s", error)


def _on_the_clock(at_s: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=time.perf_counter() - at_s)
