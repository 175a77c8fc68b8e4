"""Chat completions of an OpenAI endpoint: many at once, bounded, tried again where it is busy."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import httpx

from training.data.rows import Message
from training.errors import EvaluationError

_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_TRIES = 6
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 60.0
_SHOWN_CHARS = 300


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to ask. url: up to and with /v1. timeout_s: of one answer."""

    url: str
    key: str | None = field(default=None, repr=False)
    concurrency: int = 16
    timeout_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Completion:
    """What came back. stopped: whether it ended by itself, rather than at the limit."""

    text: str
    stopped: bool


def complete(
    endpoint: Endpoint,
    model: str,
    prompts: Sequence[Sequence[Message]],
    *,
    max_tokens: int,
    on_done: Callable[[int], None],
) -> list[Completion]:
    """Greedy answers, in the order of the prompts. on_done: told how many have come.

    Raises EvaluationError at the first that fails for good; the others are then given up.
    """
    asked = _complete(endpoint, model, prompts, max_tokens, on_done, failing=True)
    return [one for one in asyncio.run(asked) if isinstance(one, Completion)]


def complete_each(
    endpoint: Endpoint,
    model: str,
    prompts: Sequence[Sequence[Message]],
    *,
    max_tokens: int,
    on_done: Callable[[int], None],
) -> list[Completion | EvaluationError]:
    """As `complete`, with the reason in the place of each answer that could not be had."""
    return asyncio.run(_complete(endpoint, model, prompts, max_tokens, on_done, failing=False))


async def _complete(
    endpoint: Endpoint,
    model: str,
    prompts: Sequence[Sequence[Message]],
    max_tokens: int,
    on_done: Callable[[int], None],
    *,
    failing: bool,
) -> list[Completion | EvaluationError]:
    done = 0
    gate = asyncio.Semaphore(endpoint.concurrency)

    async def one(prompt: Sequence[Message]) -> Completion | EvaluationError:
        nonlocal done
        found: Completion | EvaluationError
        async with gate:
            try:
                found = await _ask(client, model, prompt, max_tokens)
            except EvaluationError as error:
                if failing:
                    raise
                found = error
        done += 1
        on_done(done)
        return found

    async with _client(endpoint) as client:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(prompt)) for prompt in prompts]
        except* EvaluationError as failed:
            first = failed.exceptions[0]
            assert isinstance(first, EvaluationError)
            raise first from None
    return [task.result() for task in tasks]


def _client(endpoint: Endpoint) -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
    return httpx.AsyncClient(
        base_url=endpoint.url.rstrip("/") + "/",
        headers=headers,
        timeout=httpx.Timeout(endpoint.timeout_s, connect=15),
        # A proxy is for other machines.
        trust_env=not _on_this_machine(endpoint.url),
        limits=httpx.Limits(max_connections=endpoint.concurrency),
    )


def _on_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _ask(
    client: httpx.AsyncClient, model: str, prompt: Sequence[Message], max_tokens: int
) -> Completion:
    body = {
        "model": model,
        "messages": list(prompt),
        "max_tokens": max_tokens,
        "temperature": 0,
    }
    problem = ""
    for attempt in range(_TRIES):
        wait_s = min(_FIRST_WAIT_S * 2**attempt, _LONGEST_WAIT_S)
        try:
            answer = await client.post("chat/completions", json=body)
        except httpx.TimeoutException:
            problem = "gave no answer in time"
        except httpx.TransportError as error:
            problem = f"cannot be reached: {str(error) or type(error).__name__}"
        else:
            if answer.is_success:
                return _read(answer, client)
            problem = f"answers {answer.status_code}: {_message(answer)}"
            if answer.status_code not in _BUSY:
                raise EvaluationError(f"{client.base_url} {problem}{_advice(answer, model)}")
            wait_s = _retry_after_s(answer, wait_s)
        if attempt + 1 < _TRIES:
            await asyncio.sleep(wait_s)
    raise EvaluationError(f"{client.base_url} {problem} ({_TRIES} tries)")


def _read(answer: httpx.Response, client: httpx.AsyncClient) -> Completion:
    try:
        choice = answer.json()["choices"][0]
        text = choice["message"]["content"]
        return Completion(text or "", choice.get("finish_reason") == "stop")
    except (ValueError, LookupError, TypeError, AttributeError):
        raise EvaluationError(
            f"{client.base_url} answers no chat completion; is the URL right, up to /v1?"
        ) from None


def _message(answer: httpx.Response) -> str:
    """The endpoint's own words, in OpenAI's shape or any other."""
    try:
        found: Any = answer.json()
        error = found.get("error", found)
        said = error["message"] if isinstance(error, dict) else error
    except (ValueError, LookupError, AttributeError):
        said = answer.text
    return " ".join(str(said).split())[:_SHOWN_CHARS]


def _advice(answer: httpx.Response, model: str) -> str:
    if answer.status_code in (401, 403):
        return "; give a key that may ask there"
    if answer.status_code == 404:
        return f"; does it serve {model!r}, and does the URL end in /v1?"
    return ""


def _retry_after_s(answer: httpx.Response, otherwise_s: float) -> float:
    """What the endpoint asks for, in seconds or as a date; never longer than a minute."""
    said = answer.headers.get("retry-after", "")
    try:
        wait_s = float(said)
    except ValueError:
        try:
            wait_s = (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return otherwise_s
    return min(max(0.0, wait_s), _LONGEST_WAIT_S)
