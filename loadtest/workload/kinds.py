"""One kind of request of the mix: what is drawn for each, and the bodies made of that."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from loadtest.samples import Route
from loadtest.workload.lengths import Column, length_draw, seconds_draw
from loadtest.workload.prompts import (
    FilePrompts,
    Prompt,
    PromptFile,
    Prompts,
    SyntheticPrompts,
    as_text,
    with_prefix,
    without_system,
)
from loadtest.workload.randomness import stream
from loadtest.workload.sessions import Sessions
from loadtest.workload.spec import RequestKind, Workload
from loadtest.workload.trace import Arrival
from loadtest.workload.words import Texts

_ROUTES: dict[str, Route] = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}
_KEPT_PREFIXES = 64


@dataclass(frozen=True, slots=True)
class Turn:
    """What is drawn for one request.

    prompt: its number, or itself where it had to be read. group: of the shared prefix.
    """

    prompt: int | Prompt
    group: int | None
    max_tokens: int
    think_s: float


class Kind:
    """Draws and writes the requests of one kind; every concern has its own random numbers.

    Raises WorkloadError, when made, for a file that cannot be used.
    """

    def __init__(self, workload: Workload, number: int, texts: Texts) -> None:
        spec = workload.mix[number]
        self._spec = spec
        self._workload = workload
        self._texts = texts
        self.route = _ROUTES[spec.route]
        self.stream = spec.stream
        self._prompts = _prompts(spec, workload.seed, number, texts)
        self._draw_max_tokens = length_draw(spec.max_tokens)
        concern = "rows" if _same_rows(spec) else "max_tokens"
        self._max_tokens_rng = stream(workload.seed, "mix", number, concern)
        self._prefix_rng = stream(workload.seed, "mix", number, "prefixes")
        self._prefix = lru_cache(_KEPT_PREFIXES)(
            lambda *concern: texts.text(self._prefix_tokens, "prefix", number, *concern)
        )
        self._sessions = _SessionDraws(spec.sessions, workload.seed, number)

    def plan(self, arrival: Arrival, think_s: float) -> list[Turn]:
        """The turns of an arrival: one, where it is no session. think_s: before the first."""
        return [
            Turn(
                prompt,
                self._group() if place == 0 else None,
                self._max_tokens(arrival),
                think_s if place == 0 else self._sessions.think_s(),
            )
            for place, prompt in enumerate(self._asked(arrival))
        ]

    def body(
        self, turn: Turn, place: int, index: int, who: tuple[str, str]
    ) -> tuple[dict[str, Any], int | None]:
        """The body to send, and the tokens of its prompt where they are known.

        who: the tenant, and the model that is asked.
        """
        prompt = self._prompt(turn, place, index)
        if turn.group is not None:
            prompt = with_prefix(prompt, self._prefix_of(turn.group, *who), self._prefix_tokens)
        messages, tokens = prompt.messages, prompt.tokens
        body: dict[str, Any] = {"model": who[1]}
        if self._spec.route == "chat":
            body["messages"] = list(messages)
            body[self._workload.max_tokens_field] = turn.max_tokens
        else:
            body["prompt"] = as_text(messages, self._prompts.separator)
            if tokens is not None and not self._prompts.adds_up:
                tokens = self._texts.count(body["prompt"])
            body["max_tokens"] = turn.max_tokens
        body["stream"] = self.stream
        if self.stream and self._workload.ask_usage:
            body["stream_options"] = {"include_usage": True}
        return body | self._spec.extra, tokens if place == 0 else None

    def _prompt(self, turn: Turn, place: int, index: int) -> Prompt:
        written = turn.prompt
        prompt = self._prompts.write(written, index) if isinstance(written, int) else written
        return without_system(prompt) if place else prompt

    def _prefix_of(self, group: int, tenant: str, model: str) -> str:
        per = "all" if self._spec.prefix is None else self._spec.prefix.per
        owners = {"all": (), "tenant": (tenant,), "model": (tenant, model)}
        return self._prefix(group, *owners[per])

    def _asked(self, arrival: Arrival) -> Sequence[int | Prompt]:
        """The prompts of an arrival's turns."""
        if self._sessions.recorded and isinstance(self._prompts, FilePrompts):
            return self._prompts.turns(self._prompts.draw())
        wanted = arrival.prompt_tokens
        if wanted is not None:
            wanted = max(1, wanted - self._prefix_tokens)
        return [self._prompts.draw(wanted) for _ in range(self._sessions.turns())]

    def _max_tokens(self, arrival: Arrival) -> int:
        drawn = self._draw_max_tokens(self._max_tokens_rng)
        return drawn if arrival.max_tokens is None else arrival.max_tokens

    def _group(self) -> int | None:
        prefix = self._spec.prefix
        return None if prefix is None else int(self._prefix_rng.random() * prefix.groups)

    @property
    def _prefix_tokens(self) -> int:
        return 0 if self._spec.prefix is None else self._spec.prefix.tokens


class _SessionDraws:
    """How many turns a session has, and its pauses. Without sessions every arrival has one."""

    def __init__(self, spec: Sessions | None, seed: int, number: int) -> None:
        self.recorded = spec is not None and spec.recorded
        self._turns_rng = stream(seed, "mix", number, "turns")
        self._think_rng = stream(seed, "mix", number, "think")
        self._turns = self._think = None
        if spec is not None:
            self._turns = length_draw(spec.turns)
            self._think = seconds_draw(spec.think_s)

    def turns(self) -> int:
        return 1 if self._turns is None else self._turns(self._turns_rng)

    def think_s(self) -> float:
        return 0.0 if self._think is None else self._think(self._think_rng)


def _prompts(spec: RequestKind, seed: int, number: int, texts: Texts) -> Prompts:
    rng = stream(seed, "mix", number, "rows" if _same_rows(spec) else "prompts")
    if isinstance(spec.prompts, PromptFile):
        return FilePrompts(spec.prompts, rng, texts)
    return SyntheticPrompts(length_draw(spec.prompts.tokens), rng, texts)


def _same_rows(spec: RequestKind) -> bool:
    """Whether the lengths of prompts and answers stand in rows of one file: equal streams then
    draw equal rows."""
    return (
        not isinstance(spec.prompts, PromptFile)
        and isinstance(spec.prompts.tokens, Column)
        and isinstance(spec.max_tokens, Column)
        and spec.prompts.tokens.path == spec.max_tokens.path
    )
