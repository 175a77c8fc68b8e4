"""The event loop of a run."""

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")
_OBJECTS = 20_000
"""So many new ones until the collector looks; as often as it does by default, it takes 3 % of a
busy tester's time to find next to nothing."""


def run_loop(main: Coroutine[Any, Any, _T]) -> _T:
    """On uvloop where it is installed. What lies in memory before is not looked through for
    garbage meanwhile: that would be measured as silence of the server."""
    try:
        import uvloop
    except ImportError:
        make = asyncio.new_event_loop
    else:
        make = uvloop.new_event_loop
    gc.collect()
    gc.freeze()
    usual = gc.get_threshold()
    gc.set_threshold(_OBJECTS, *usual[1:])
    try:
        with asyncio.Runner(loop_factory=make) as runner:
            return runner.run(main)
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()
