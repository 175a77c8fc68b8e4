"""Why a call of the client failed.

LoraplexError
+-- Unreachable           nothing answers there; nothing was sent
+-- BrokenOff             the connection broke off: whether the call took effect is not known
|   +-- TimedOut          no answer in time
+-- NotAGateway           something answers, and it is no Loraplex gateway
+-- Damaged               what came is not what was asked for
+-- UnusableFolder        a folder that cannot be pushed, or is no place to download into
+-- InvalidMetadata       a profile, lineage or evaluation that no gateway takes
+-- Refused               the gateway's own refusal
    +-- InvalidRequest    400, 413, 415: the request itself is wrong
    +-- InvalidKey        401
    +-- Forbidden         403: the key may not do this
    +-- NotFound          404: it does not exist, or belongs to another tenant
    +-- Conflict          409: the state of things does not allow it
    +-- Stale             412: it changed since it was read (`if_match`)
    +-- Unavailable       503: not now; try again after `retry_after_s`
"""

from loraplex.errors import LoraplexError


class Unreachable(LoraplexError):
    """Nothing answers at the gateway's address; nothing was sent."""


class BrokenOff(LoraplexError):
    """The connection broke off. Whether the call took effect is not known."""


class TimedOut(BrokenOff):
    """No answer came in time."""


class NotAGateway(LoraplexError):
    """What answers is no Loraplex gateway."""


class Damaged(LoraplexError):
    """What came is not what was asked for; nothing of it was kept."""


class UnusableFolder(LoraplexError):
    """A folder that does not hold what is pushed, or that something would be overwritten in."""


class InvalidMetadata(LoraplexError):
    """A serving profile, lineage or evaluation that no gateway takes; param names the field."""


class Refused(LoraplexError):
    """The gateway's own refusal, in its words."""


class InvalidRequest(Refused):
    """The request itself is wrong."""


class InvalidKey(Refused):
    """The key is missing, unknown, expired or revoked."""


class Forbidden(Refused):
    """The key may not do this."""


class NotFound(Refused):
    """It does not exist, or belongs to another tenant: the two look alike."""


class Conflict(Refused):
    """The state of things does not allow it."""


class Stale(Refused):
    """The adapter changed since its revision was read."""


class Unavailable(Refused):
    """Not now: the engine or the database is away, or the gateway has no room."""


REFUSALS: dict[int, type[Refused]] = {
    400: InvalidRequest,
    401: InvalidKey,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: Stale,
    413: InvalidRequest,
    415: InvalidRequest,
    503: Unavailable,
}
