"""What is asked of the gateway, one request after the other: seeded, and in exact shares; pure.

Requests are dealt from decks of `DECK`: every thousand holds each kind as often as `SHARES` says.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum


class Route(StrEnum):
    """What is asked."""

    CHAT = "/v1/chat/completions"
    COMPLETIONS = "/v1/completions"
    RESPONSES = "/v1/responses"
    MESSAGES = "/v1/messages"
    COUNT_TOKENS = "/v1/messages/count_tokens"
    MODELS = "/v1/models"

    @property
    def streams(self) -> bool:
        """Whether a stream may be asked for."""
        return self not in (Route.COUNT_TOKENS, Route.MODELS)


class Flaw(StrEnum):
    """Why a request is refused."""

    WRONG_KEY = "wrong key"
    UNKNOWN_MODEL = "unknown model"
    BAD_JSON = "broken JSON"
    BAD_FIELD = "field out of bounds"
    BAD_VALUE = "value that the engine refuses"
    TOO_LARGE = "body over the limit"
    UNKNOWN_ROUTE = "unknown route"
    WRONG_METHOD = "wrong method"


STATUS = {
    Flaw.WRONG_KEY: 401,
    Flaw.UNKNOWN_MODEL: 404,
    Flaw.BAD_JSON: 400,
    Flaw.BAD_FIELD: 400,
    Flaw.BAD_VALUE: 400,
    Flaw.TOO_LARGE: 413,
    Flaw.UNKNOWN_ROUTE: 404,
    Flaw.WRONG_METHOD: 405,
}


class Stage(StrEnum):
    """Where the client leaves."""

    IN_HEAD = "inside the head"
    IN_BODY = "inside the body"
    SENT = "before the answer"
    IN_ANSWER = "inside the answer"
    AT_END = "at the answer's end"


class Pace(StrEnum):
    """How the client reads, or writes."""

    USUAL = "as it comes"
    SLOW = "in small bites"
    HALTING = "with a halt"
    SILENT = "no more after a while"
    SLOW_WRITER = "request in pieces"


SLOW_READERS = (Pace.SLOW, Pace.HALTING, Pace.SILENT)


@dataclass(frozen=True, slots=True)
class Planned:
    """One request, or where it leaves in the head the beginning of one."""

    route: Route = Route.CHAT
    streamed: bool = False
    flaw: Flaw | None = None
    leaves: Stage | None = None
    pace: Pace = Pace.USUAL
    number: int = -1
    caller: int = 0
    """Which of the callers asks."""
    where: float = 0.0
    """How far into its stage it leaves, and where it halts: 0 to 1."""
    resets: bool = False
    """It leaves with a TCP reset instead of an orderly end."""
    renews: bool = False
    """It comes on a new connection."""

    @property
    def is_request(self) -> bool:
        """Whether its head is sent whole."""
        return self.leaves is not Stage.IN_HEAD


def _both(**fields: object) -> list[Planned]:
    """Chat and text completions."""
    routes = (Route.CHAT, Route.COMPLETIONS)
    return [replace(Planned(route=route), **fields) for route in routes]  # type: ignore[arg-type]


DECK = 1000
"""Requests in one deck; the beginnings of requests come in addition."""

SHARES: Sequence[tuple[int, Sequence[Planned]]] = (
    # So many of each kind. Cancellations are 10 %, those inside the head not counted.
    (10, _both(leaves=Stage.IN_HEAD)),
    (5, _both(leaves=Stage.IN_BODY)),
    (5, _both(leaves=Stage.IN_BODY, streamed=True)),
    (7, _both(leaves=Stage.SENT)),
    (8, _both(leaves=Stage.SENT, streamed=True)),
    (12, _both(leaves=Stage.IN_ANSWER, streamed=True)),
    (3, _both(leaves=Stage.IN_ANSWER, streamed=True, pace=Pace.SLOW)),
    (10, _both(leaves=Stage.AT_END, streamed=True)),
    # Slow readers and writers: 4 %.
    (10, _both(pace=Pace.SLOW, streamed=True)),
    (4, _both(pace=Pace.HALTING, streamed=True)),
    (1, _both(pace=Pace.SILENT, streamed=True)),
    (3, _both(pace=Pace.SLOW_WRITER)),
    (2, _both(pace=Pace.SLOW_WRITER, streamed=True)),
    # Refusals: 5 %.
    (12, [Planned(flaw=Flaw.WRONG_KEY)]),
    (5, _both(flaw=Flaw.UNKNOWN_MODEL)),
    (8, [Planned(flaw=Flaw.BAD_JSON)]),
    (6, [Planned(flaw=Flaw.BAD_FIELD)]),
    (6, [Planned(flaw=Flaw.BAD_VALUE, streamed=True)]),
    (2, [Planned(flaw=Flaw.TOO_LARGE)]),
    (3, [Planned(flaw=Flaw.UNKNOWN_ROUTE)]),
    (3, [Planned(flaw=Flaw.WRONG_METHOD)]),
    # The rest.
    (8, [Planned(route=Route.RESPONSES), Planned(route=Route.MESSAGES)]),
    (7, [Planned(route=r, streamed=True) for r in (Route.RESPONSES, Route.MESSAGES)]),
    (5, [Planned(route=Route.COUNT_TOKENS), Planned(route=Route.MODELS)]),
    (235, _both()),
    (150, _both(streamed=True)),
)

_RENEWED = 0.03


def deck() -> list[Planned]:
    """One of each request, in order."""
    return [kind for count, kinds in SHARES for kind in kinds for _ in range(count)]


def plan(requests: int, seed: int, callers: int, *, silent: bool = True) -> Iterator[Planned]:
    """So many requests; what leaves inside the head comes in addition. The same for the same seed.

    callers: how many there are to choose from. silent: whether some readers fall silent; if not
    they read on after a halt.
    """
    dice = random.Random(seed)
    asked = 0
    for number, card in enumerate(_cards(dice)):
        if asked == requests:
            return
        asked += card.is_request
        if card.pace is Pace.SILENT and not silent:
            card = replace(card, pace=Pace.HALTING)
        yield replace(
            card,
            number=number,
            caller=dice.randrange(callers),
            where=dice.random(),
            resets=dice.random() < 0.5,
            renews=dice.random() < _RENEWED,
        )


def _cards(dice: random.Random) -> Iterator[Planned]:
    while True:
        cards = deck()
        dice.shuffle(cards)
        yield from cards
