"""The inference routes: their names in settings, metrics and logs, and their paths.

What every request asks of its route is kept in tables and sets by route: Python 3.11 looks up
`Route.CHAT` itself in a function of Python's.
"""

from enum import StrEnum


class Route(StrEnum):
    """One inference route. Its path is the same at the gateway and on vLLM."""

    CHAT = "chat_completions"
    COMPLETIONS = "completions"
    RESPONSES = "responses"
    MESSAGES = "messages"
    COUNT_TOKENS = "count_tokens"

    # Enum's own hash is a function of Python's too.
    __hash__ = str.__hash__

    @property
    def path(self) -> str:
        """The route's path, `/v1` included."""
        return "/v1/" + _PATHS[self]


GENERATING = frozenset(Route) - {Route.COUNT_TOKENS}
"""The routes that generate text, and may stream it."""

_PATHS = {
    Route.CHAT: "chat/completions",
    Route.COMPLETIONS: "completions",
    Route.RESPONSES: "responses",
    Route.MESSAGES: "messages",
    Route.COUNT_TOKENS: "messages/count_tokens",
}
