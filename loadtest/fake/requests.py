"""Reading a request as vLLM does: its checks, in its words, and what is to be answered."""

import json
from collections.abc import Iterator
from typing import Any

from loadtest.fake.answers import Answer, Json, error_body, random_id
from loadtest.fake.http import Exchange
from loadtest.fake.next_tokens import next_tokens
from loadtest.fake.state import Behaviour

JSON = "application/json"
INPUT = {
    "/v1/chat/completions": "messages",
    "/v1/completions": "prompt",
    "/v1/responses": "input",
    "/v1/messages": "messages",
    "/v1/messages/count_tokens": "messages",
}
_REQUIRED = {
    "/v1/chat/completions": ("messages",),
    "/v1/responses": ("input",),
    "/v1/messages": ("model", "messages", "max_tokens"),
    "/v1/messages/count_tokens": ("model", "messages"),
    "/v1/load_lora_adapter": ("lora_name", "lora_path"),
    "/v1/unload_lora_adapter": ("lora_name",),
}


class Refused(Exception):
    """A request that vLLM would refuse with this status and body."""

    def __init__(self, status: int, body: Json) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


def make_answer(
    exchange: Exchange, body: Json, name: str, behaviour: Behaviour, *, base: str
) -> Answer:
    """What `name` answers. base: the name of the base model."""
    prompt = body.get("prompt")
    prompts = len(prompt) if isinstance(prompt, list) and isinstance(prompt[0], str | list) else 1
    pieces, finish_reason = _pieces(body, name, behaviour)
    return Answer(
        model=name,
        pieces=pieces,
        finish_reason=finish_reason,
        prompt_tokens=prompt_tokens(body, INPUT[exchange.path]),
        choices=prompts * (body.get("n") or 1),
        request=body,
        request_id=exchange.headers.get("x-request-id") or random_id(),
        next_tokens=_next_tokens(body, name, behaviour, base),
    )


def _next_tokens(
    body: Json, name: str, behaviour: Behaviour, base: str
) -> tuple[dict[str, float], ...] | None:
    if not (body.get("prompt") and body.get("logprobs") and body.get("return_tokens_as_token_ids")):
        return None
    inert = behaviour.inert is not None and name.startswith(behaviour.inert)
    voice = base if inert else name
    return next_tokens(body["prompt"], voice, body["logprobs"], behaviour.logprob_noise)


def _pieces(body: Json, name: str, behaviour: Behaviour) -> tuple[tuple[str, ...], str]:
    """The text token by token and why it ends."""
    asked = _max_tokens(body)
    if behaviour.text is not None:
        words = behaviour.text.split(" ")
        tokens = [words[0], *(f" {word}" for word in words[1:])]
    else:
        length = asked if asked is not None and body.get("ignore_eos") else behaviour.tokens
        tokens = [f"«{name}»", *[" token"] * (length - 1)]
    if asked is not None and asked <= len(tokens):
        return tuple(tokens[:asked]), "length"
    return (*tokens, ""), "stop"


def _max_tokens(body: Json) -> int | None:
    for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
        if body.get(name) is not None:
            return int(body[name])
    return None


def prompt_tokens(body: Json, field: str) -> int:
    """The words of the prompt; near enough to tokens."""
    return max(1, sum(len(text.split()) for text in _texts(body[field])))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        yield from _texts(value.get("content") or value.get("text") or "")
    elif isinstance(value, int):
        yield "token"


def check(route: str, body: Json, max_model_len: int) -> None:
    """The commonest refusals of values, in vLLM's order and words."""
    asked = _max_tokens(body)
    if asked is not None and asked < 1:
        text = f"max_tokens must be at least 1, got {asked}. (parameter=max_tokens, value={asked})"
        raise _bad(text, "max_tokens")
    temperature = body.get("temperature")
    if temperature is not None and not 0 <= temperature <= 2:
        value = float(temperature)
        text = f"temperature must be in [0, 2], got {value}. (parameter=temperature, value={value})"
        raise _bad(text, "temperature")
    if body.get("n") is not None and body["n"] < 1:
        raise _bad(f"n must be at least 1, got {body['n']}.", None)
    if prompt_tokens(body, INPUT[route]) > max_model_len:
        least = max_model_len + 1
        raise _bad(
            f"This model's maximum context length is {max_model_len} tokens. However, your prompt "
            f"contains at least {least} input tokens, which exceeds this limit even without any "
            "output tokens. Please reduce the length of the input prompt. "
            f"(parameter=input_tokens, value={least})",
            "input_tokens",
        )


def _bad(text: str, param: str | None) -> Refused:
    return Refused(400, error_body(text, "BadRequestError", 400, param))


def _invalid(param: str, *problems: Json) -> Refused:
    """A refusal by the request's schema."""
    errors = "error" if len(problems) == 1 else "errors"
    lines = [f"{len(problems)} validation {errors}:", *(f"  {problem}" for problem in problems)]
    return Refused(400, error_body("\n".join(lines), "Bad Request", 400, param))


def as_anthropic(refusal: Refused) -> Refused:
    """As `/v1/messages` says it: a schema's refusal stays in OpenAI's shape, as in vLLM."""
    error = refusal.body["error"]
    if error["type"] == "Bad Request":
        return refusal
    inner = {"type": error["type"], "message": error["message"]}
    return Refused(refusal.status, {"type": "error", "error": inner})


def require_fields(route: str, body: Json) -> None:
    """What the request's schema demands, all at once."""
    missing = [name for name in _REQUIRED.get(route, ()) if name not in body]
    found = {"msg": "Field required", "input": f"<dict of {len(body)} items>"}
    problems = [{"type": "missing", "loc": f"body.{name}"} | found for name in missing]
    if problems:
        raise _invalid(problems[0]["loc"], *problems)
    if route == "/v1/completions" and not body.get("prompt"):
        text = "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)"
        raise _bad(text, "prompt")


def json_object(exchange: Exchange) -> Json:
    """The body, which must be a JSON object and be said to be one."""
    if exchange.headers.get("content-type", "").split(";")[0].strip().lower() != JSON:
        text = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
        raise Refused(400, error_body(text, "Bad Request", 400))
    try:
        body = json.loads(exchange.body)
    except ValueError as error:
        place = getattr(error, "pos", 0)
        problem = {
            "type": "json_invalid",
            "loc": f"body.{place}",
            "msg": "JSON decode error",
            "input": "<dict of 0 items>",
            "ctx": {"error": getattr(error, "msg", "not UTF-8")},
        }
        raise _invalid(f"body.{place}", problem) from None
    if not isinstance(body, dict):
        problem = {
            "type": "model_attributes_type",
            "loc": "body",
            "msg": "Input should be a valid dictionary or object to extract fields from",
        }
        raise _invalid("body", problem)
    return body


def parsed_or_none(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None
