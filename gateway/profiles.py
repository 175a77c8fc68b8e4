"""A version's serving profile put under a request: the request wins, the profile fills the gaps."""

from collections.abc import Mapping
from typing import Any

from adapters_registry.types import ServingProfile
from gateway.errors import BadRequest
from gateway.routes import Route

_SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)
_SAMPLING_OF: Mapping[Route, tuple[str, ...]] = {
    Route.CHAT: _SAMPLING,
    Route.COMPLETIONS: _SAMPLING,
    Route.RESPONSES: _SAMPLING,
    Route.MESSAGES: ("temperature", "top_p", "top_k"),
    Route.COUNT_TOKENS: (),
}
# The field's names on the route; the first is the one set. Messages always brings its own.
_MAX_TOKENS_OF: Mapping[Route, tuple[str, ...]] = {
    Route.CHAT: ("max_completion_tokens", "max_tokens"),
    Route.COMPLETIONS: ("max_tokens",),
    Route.RESPONSES: ("max_output_tokens",),
}
_STOP_OF: Mapping[Route, str] = {
    Route.CHAT: "stop",
    Route.COMPLETIONS: "stop",
    Route.RESPONSES: "stop",
    Route.MESSAGES: "stop_sequences",
}
_SYSTEM_ROLES = ("system", "developer")


def apply_profile(route: Route, body: Mapping[str, Any], profile: ServingProfile) -> dict[str, Any]:
    """A new body with what the profile adds. A null in the request counts as not sent.

    Raises BadRequest where the version has a chat template of its own and the route takes none.
    """
    filled = dict(body)
    _fill_chat_template(route, filled, profile)
    _fill_system_prompt(route, filled, profile)
    _fill_sampling(route, filled, profile)
    _fill_stop(route, filled, profile)
    return filled


def _fill_chat_template(route: Route, body: dict[str, Any], profile: ServingProfile) -> None:
    if profile.chat_template is None or route is Route.COMPLETIONS:
        return
    if route is not Route.CHAT:
        raise BadRequest(
            "This version has a chat template of its own, which the engine takes only on "
            f"`{Route.CHAT.path}`: call it there, or push a version without `chat_template` in its "
            "profile.",
            param="model",
            code="chat_template_not_supported",
        )
    body["chat_template"] = profile.chat_template


def _fill_system_prompt(route: Route, body: dict[str, Any], profile: ServingProfile) -> None:
    prompt = profile.system_prompt
    if prompt is None:
        return
    if route is Route.CHAT and isinstance(body.get("messages"), list):
        if not _has_system(body["messages"]):
            body["messages"] = [{"role": "system", "content": prompt}, *body["messages"]]
    elif route is Route.RESPONSES:
        if body.get("instructions") is None and not _has_system(body.get("input")):
            body["instructions"] = prompt
    elif (
        route in (Route.MESSAGES, Route.COUNT_TOKENS)
        and body.get("system") is None
        and not _has_system(body.get("messages"))
    ):
        body["system"] = prompt


def _has_system(messages: Any) -> bool:
    return isinstance(messages, list) and any(
        isinstance(message, dict) and message.get("role") in _SYSTEM_ROLES for message in messages
    )


def _fill_sampling(route: Route, body: dict[str, Any], profile: ServingProfile) -> None:
    defaults = profile.sampling
    for field in _SAMPLING_OF[route]:
        value = getattr(defaults, field)
        if value is not None and body.get(field) is None:
            body[field] = value
    names = _MAX_TOKENS_OF.get(route, ())
    if names and defaults.max_tokens is not None and all(body.get(name) is None for name in names):
        body[names[0]] = defaults.max_tokens


def _fill_stop(route: Route, body: dict[str, Any], profile: ServingProfile) -> None:
    field = _STOP_OF.get(route)
    if field is not None and profile.stop and body.get(field) is None:
        body[field] = list(profile.stop)
