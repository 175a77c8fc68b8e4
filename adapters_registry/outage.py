"""A database server that is away: how it is told from other troubles, and who may ask it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from adapters_registry.errors import DatabaseUnavailable, OutcomeUnknown

# Connection failures; the server shuts down, starts up or has no connection left.
_LOST_STATES = ("08", "57P", "53300")


class Outage:
    """While the server is away one call at a time asks it, and all others are told at once.

    Else each would wait for its own time limit, and together they would fill every thread.
    """

    def __init__(self) -> None:
        self._away = False
        self._asking = threading.Lock()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Around every use of the server. Raises DatabaseUnavailable."""
        asks_alone = self._away
        if asks_alone and not self._asking.acquire(blocking=False):
            raise DatabaseUnavailable("the database does not answer: try again")
        lost = False
        try:
            yield
        except DBAPIError as error:
            lost = is_lost(error)
            raise
        except OutcomeUnknown:
            lost = True
            raise
        finally:
            self._away = lost
            if asks_alone:
                self._asking.release()


def is_lost(error: DBAPIError) -> bool:
    """Whether the server was not reached or went away, as against what it answered."""
    state = getattr(error.orig, "sqlstate", None)
    return error.connection_invalidated or state is None or state.startswith(_LOST_STATES)
