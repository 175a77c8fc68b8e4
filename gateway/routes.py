"""The inference routes: their names in settings, metrics and logs, and their paths."""

from enum import StrEnum


class Route(StrEnum):
    """One inference route. Its path is the same at the gateway and on vLLM."""

    CHAT = "chat_completions"
    COMPLETIONS = "completions"
    RESPONSES = "responses"
    MESSAGES = "messages"
    COUNT_TOKENS = "count_tokens"

    @property
    def path(self) -> str:
        """The route's path, `/v1` included."""
        return "/v1/" + _PATHS[self]

    @property
    def streams(self) -> bool:
        """Whether a client may ask for a stream."""
        return self is not Route.COUNT_TOKENS


_PATHS = {
    Route.CHAT: "chat/completions",
    Route.COMPLETIONS: "completions",
    Route.RESPONSES: "responses",
    Route.MESSAGES: "messages",
    Route.COUNT_TOKENS: "messages/count_tokens",
}
