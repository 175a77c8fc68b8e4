"""The description of a workload: when requests come, for whom, to which models, what they hold.

It holds no key: tenants name the file or the environment variable that does, so that it can be
written into results.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from loadtest.workload.arrivals import Arrivals, Trace
from loadtest.workload.choices import Choice, Weights
from loadtest.workload.lengths import Fixed, Length
from loadtest.workload.part import Part
from loadtest.workload.prompts import Prefix, PromptFile, Synthetic
from loadtest.workload.sessions import Sessions

MADE_BY_THE_TESTER = {
    "model", "messages", "prompt", "max_tokens", "max_completion_tokens", "stream",
}  # fmt: skip
_MANY = 100_000
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


class Tenant(Part):
    """Someone with a key of their own."""

    name: str = Field(min_length=1)
    weight: float = Field(default=1.0, ge=0)
    key_env: str | None = None
    """The environment variable that holds the key."""
    key_file: Path | None = None
    """The file that holds the key, alone in it."""

    @model_validator(mode="before")
    @classmethod
    def _no_key(cls, given: Any) -> Any:
        if isinstance(given, dict) and {"key", "api_key"} & given.keys():
            raise ValueError(
                "key: keys don't stand in a workload; put it in a file or an environment variable"
                " and name that with key_file or key_env"
            )
        return given

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.key_env is not None and self.key_file is not None:
            raise ValueError("key_env: stands beside key_file; keep one of them")
        return self


class Model(Part):
    """A model or adapter that requests name."""

    name: str = Field(min_length=1)
    tenant: str | None = None
    """Whose it is: only that tenant asks it. Left out: every tenant does."""
    weight: float = Field(default=1.0, ge=0)


class RequestKind(Part):
    """One kind of request of the mix."""

    share: float = Field(default=1.0, gt=0)
    """How often it comes, relative to the others'."""
    route: Literal["chat", "completions"] = "chat"
    stream: bool = True
    prompts: Annotated[Synthetic | PromptFile, Field(discriminator="kind")] = Synthetic()
    prefix: Prefix | None = None
    max_tokens: Length = Fixed(value=128)
    """The answers' limit. With a vLLM server, `extra: {ignore_eos: true}` makes them so long."""
    sessions: Sessions | None = None
    extra: dict[str, Any] = Field(default_factory=dict)
    """Fields added to the body as they are, as `temperature`."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        made = sorted(MADE_BY_THE_TESTER & self.extra.keys())
        if made:
            raise ValueError(f"extra.{made[0]}: the tester sets it itself; take it out")
        if self.sessions and self.sessions.recorded and not isinstance(self.prompts, PromptFile):
            raise ValueError("sessions.recorded: needs prompts of kind `file`")
        return self


def expand(name: str) -> list[str]:
    """The names that a pattern stands for: `adapter-{1..3}` for three, `a-{01..20}` for twenty.

    Raises ValueError.
    """
    found = _RANGE.search(name)
    if found is None:
        return [name]
    first, last = found.groups()
    if int(first) > int(last) or int(last) - int(first) >= _MANY:
        raise ValueError(f"`{name}`: the range must go up, over at most {_MANY} names")
    width = len(first) if first.startswith("0") else 0
    numbers = [f"{number:0{width}d}" for number in range(int(first), int(last) + 1)]
    begin, end = name[: found.start()], name[found.end() :]
    return [begin + number + rest for number in numbers for rest in expand(end)]


def _expanded(given: Any) -> Any:
    """Entries from names, and several from a pattern."""
    entries = [given] if isinstance(given, str | dict) else given
    if not isinstance(entries, list | tuple):
        return given
    found: list[Any] = []
    for entry in entries:
        fields = {"name": entry} if isinstance(entry, str) else entry
        if isinstance(fields, dict) and isinstance(fields.get("name"), str):
            found += [{**fields, "name": name} for name in expand(fields["name"])]
        else:
            found.append(fields)
    return found


class Workload(Part):
    """What a load test sends. The same workload has the same schedule, byte for byte."""

    seed: int = Field(default=0, ge=0)
    arrivals: Arrivals
    requests: int | None = Field(default=None, ge=1)
    """Ends the schedule after so many, in whole sessions, if the stages do not end it before."""
    models: Annotated[tuple[Model, ...], BeforeValidator(_expanded)] = ()
    """Names do for entries, and `adapter-{1..100}` for a hundred. Of a trace that names models,
    they may be left out."""
    model_choice: Choice = Weights()
    tenants: Annotated[tuple[Tenant, ...], BeforeValidator(_expanded)] = ()
    tenant_choice: Choice | None = None
    """Left out where models belong to tenants: a model is chosen first, and its tenant asks it.
    Given, or where tenants have weights, a tenant is chosen first, then one of the models that the
    tenant may ask."""
    keys_file: Path | None = None
    """Keys of many tenants: a line `NAME=KEY` each."""
    mix: tuple[RequestKind, ...] = Field(default=(RequestKind(),), min_length=1)
    tokenizer: Path | None = None
    """The model's folder or tokenizer.json: synthetic prompts then have exactly their tokens."""
    ask_usage: bool = True
    """Whether streams are asked for the server's token counts (`stream_options`)."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What chat bodies call the answer's limit; some servers take only the newer name."""

    @property
    def choice_of_tenants(self) -> Choice | None:
        """`tenant_choice`; where it is left out, weights are enough to say it."""
        weighted = any(tenant.weight != 1 for tenant in self.tenants)
        return Weights() if self.tenant_choice is None and weighted else self.tenant_choice

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for check in (self._check_end, self._check_names, self._check_owners, self._check_trace):
            check()
        return self

    def _check_end(self) -> None:
        if isinstance(self.arrivals, Trace) or self.requests is not None:
            return
        if self.arrivals.stages[-1].seconds is None:
            raise ValueError("requests: is missing, and the last stage has no `seconds`")

    def _check_names(self) -> None:
        if not self.models and not isinstance(self.arrivals, Trace):
            raise ValueError("models: is missing; name at least one")
        _check_unique("tenants", [tenant.name for tenant in self.tenants])
        _check_unique("models", [(model.tenant, model.name) for model in self.models])
        _check_weights("model", self.model_choice, [model.weight for model in self.models])
        _check_weights("tenant", self.choice_of_tenants, [tenant.weight for tenant in self.tenants])

    def _check_owners(self) -> None:
        names = {tenant.name for tenant in self.tenants}
        for place, model in enumerate(self.models):
            if model.tenant is not None and model.tenant not in names:
                raise ValueError(
                    f"models[{place}].tenant: `{model.tenant}` is not among the tenants; add it"
                )
        shared = any(model.tenant is None for model in self.models)
        owners = {model.tenant for model in self.models}
        idle = [tenant.name for tenant in self.tenants if tenant.name not in owners]
        if idle and self.models and not shared:
            raise ValueError(f"tenants: `{idle[0]}` may ask no model; give it one, or take it out")

    def _check_trace(self) -> None:
        if not isinstance(self.arrivals, Trace):
            return
        for place, kind in enumerate(self.mix):
            if kind.sessions is not None:
                raise ValueError(
                    f"mix[{place}].sessions: a trace's rows are single requests; take it out"
                )


def _check_unique(field: str, names: list[Any]) -> None:
    seen = set()
    for place, name in enumerate(names):
        if name in seen:
            raise ValueError(f"{field}[{place}].name: stands there twice; take one out")
        seen.add(name)


def _check_weights(item: str, choice: Choice | None, weights: list[float]) -> None:
    weighted = isinstance(choice, Weights)
    if not weighted and any(weight != 1 for weight in weights):
        raise ValueError(f"{item}_choice: must be `weights`, because {item}s have a weight")
    if weighted and weights and not any(weights):
        raise ValueError(f"{item}s: all have weight 0; give one a weight above it")
