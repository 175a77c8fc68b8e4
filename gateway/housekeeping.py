"""What a gateway does for order by itself: tenants purged, files removed that nothing uses."""

import asyncio
import logging
from datetime import timedelta

from adapters_registry.errors import RegistryError
from adapters_registry.housekeeping import Collected
from gateway.admin_parts import change
from gateway.parts import Parts
from gateway.threads import finish_in_thread
from gateway.upload import sweep

_log = logging.getLogger(__name__)

ACTOR = "gateway"
"""Who did it, in the audit."""


async def keep_house(parts: Parts) -> None:
    """Collects garbage again and again, for ever."""
    settings = parts.settings
    while True:
        await asyncio.sleep(settings.gc_every_s)
        try:
            done = await collect(parts, settings.gc_grace_s, ACTOR)
        except RegistryError as error:
            _log.warning("no garbage was collected: %s", error.message)
            continue
        if done.removed or done.purged:
            _log.info(
                "garbage: %d contents removed, %d bytes; %d tenants purged",
                len(done.removed),
                done.freed_bytes,
                len(done.purged),
            )


async def collect(parts: Parts, grace_s: float, actor: str) -> Collected:
    """One garbage collection, which spares what this gateway's engine holds.

    Raises StorageError, DatabaseUnavailable.
    """
    await finish_in_thread(sweep, parts.settings.staging_dir)
    return await change(
        parts,
        parts.registry.collect_garbage,
        grace=timedelta(seconds=grace_s),
        actor=actor,
        keep=parts.engine.digests(),
    )
