"""The registry's nouns: frozen values that the gateway holds in memory and never changes."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, JsonValue

NAME_PATTERN = r"[a-z0-9][a-z0-9-]{0,62}"
_NAME = re.compile(NAME_PATTERN)


def is_name(text: str) -> bool:
    """Whether `text` can name a tenant or an adapter."""
    return _NAME.fullmatch(text) is not None


def _plain(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Raises ValueError for NaN and infinity, which JSON has no words for."""
    json.dumps(value, allow_nan=False)
    return value


JsonObject = Annotated[dict[str, JsonValue], AfterValidator(_plain)]
"""What a maker may say in fields of its own, fit to be stored and sent on."""


class Scope(StrEnum):
    """What a key may do: call models, or manage its own tenant's adapters and keys."""

    INFERENCE = "inference"
    MANAGE = "manage"

    # Enum's own is a function of Python's, and every request looks for its scope.
    __hash__ = str.__hash__


class VersionState(StrEnum):
    """Where a version stands in its life."""

    CANDIDATE = "candidate"
    PASSED = "passed"
    REJECTED = "rejected"
    LIVE = "live"
    RETIRED = "retired"
    DELETED = "deleted"


class Verdict(StrEnum):
    """What an evaluation against the base, and the version then live, came to."""

    PASSED = "passed"
    REJECTED = "rejected"


class ProofState(StrEnum):
    """Whether an engine was seen to answer otherwise with the version than without it."""

    UNPROVED = "unproved"
    PROVED = "proved"
    INERT = "inert"


class SamplingDefaults(BaseModel):
    """Sampling fields used where a request names none. Names and ranges are vLLM's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    max_tokens: int | None = Field(None, ge=1)


class ServingProfile(BaseModel):
    """How a version wants to be asked. The request wins over it, and it over the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    system_prompt: str | None = Field(None, max_length=32_768)
    sampling: SamplingDefaults = SamplingDefaults()
    stop: tuple[str, ...] = Field((), max_length=4)
    chat_template: str | None = Field(None, max_length=65_536)


class TenantPolicy(BaseModel):
    """What the operator allows a tenant."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    allow_base: bool = True
    require_pass: bool = False
    """Whether a version without a passed evaluation can never go live, not even by force."""


class BaseIdentity(BaseModel):
    """Which base model an adapter was trained on, as far as its maker says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = Field(None, max_length=512)
    revision: str | None = Field(None, max_length=128)
    config_sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    quantization: str | None = Field(None, max_length=128)
    rope_scaling: JsonObject | None = None


class Lineage(BaseModel):
    """Where a version comes from. All of it is its maker's word; None where nothing was said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: BaseIdentity = BaseIdentity()
    tokenizer_sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    chat_template_sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    dataset: str | None = Field(
        None, max_length=512, description="The data set's version, as its digest."
    )
    recipe: JsonObject | None = Field(None, description="The training recipe as it ran.")
    parent: int | None = Field(
        None, ge=1, le=2**31 - 1, description="The version of this adapter it was trained from."
    )


class Evaluation(BaseModel):
    """A verdict on a version, with what it rests on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdict: Verdict
    report: JsonObject = Field(default_factory=dict, description="Scores and gates.")


class Proof(BaseModel):
    """How far a version's log-probabilities lie from the base's, against the base's own noise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: ProofState
    difference: FiniteFloat
    """Mean absolute difference from the base over the prompts' likeliest next tokens, in nats."""
    noise: FiniteFloat
    """The same of the base with itself."""
    tokens: int
    """How many were compared."""
    base: str
    """The engine's name of the base model."""
    reason: str | None = None
    """Of a version that is inert, why it likely is."""


@dataclass(frozen=True, slots=True)
class Key:
    """A tenant's key as stored: the secret itself is never kept."""

    id: str
    tenant: str
    name: str
    scopes: frozenset[Scope]
    secret_sha256: bytes
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """One immutable adapter version."""

    tenant: str
    adapter: str
    number: int
    digest: str
    """SHA-256 of the content, 64 hex digits."""
    state: VersionState
    rank: int
    size_bytes: int
    warnings: tuple[str, ...]
    profile: ServingProfile
    path: Path
    """Absolute, content-addressed folder with adapter_config.json and adapter_model.safetensors."""
    created_at: datetime
    verdict: Verdict | None = None
    """Of its latest evaluation."""
    proof: ProofState = ProofState.UNPROVED
    label: str = field(init=False)
    """The name shown to people: `tenant/adapter@N`."""
    engine_name: str = field(init=False)
    """The name on an engine, unique in the world: `tenant/adapter@N:digest12`."""

    def __post_init__(self) -> None:
        label = f"{self.tenant}/{self.adapter}@{self.number}"
        # Made once: every request asks for them.
        object.__setattr__(self, "label", label)
        object.__setattr__(self, "engine_name", f"{label}:{self.digest[:12]}")


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """All that is kept of a version."""

    version: Version
    created_by: str
    """`admin` or `key:<id>`."""
    summary: Mapping[str, object]
    """What was found in the files: alpha, dtypes, adapted modules."""
    files: Mapping[str, str]
    """Each file's SHA-256, by name."""
    lineage: Lineage
    evaluation: Evaluation | None
    proof: Proof | None


@dataclass(frozen=True, slots=True)
class DeletedTenant:
    """A tenant whose deletion can still be undone."""

    name: str
    deleted_at: datetime
    purge_at: datetime


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter: its versions and the pointer to the live one."""

    tenant: str
    name: str
    revision: int
    """Counts the changes of this adapter but proofs; the ETag of optimistic concurrency."""
    live: int | None
    versions: Mapping[int, Version]
    """Without the deleted ones."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant with its policy and its adapters by name."""

    name: str
    policy: TenantPolicy
    adapters: Mapping[str, Adapter]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that the request path needs to know, at one revision of the registry."""

    revision: int
    tenants: Mapping[str, Tenant]
    keys: Mapping[str, Key]
    """Keys that are not revoked, by id."""


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One move of an adapter's live pointer, or another change of its life."""

    at: datetime
    actor: str
    """`admin` or `key:<id>`."""
    action: str
    tenant: str
    adapter: str
    from_version: int | None
    to_version: int | None
    reason: str | None
    forced: bool


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change of the registry, written in the same transaction as the change."""

    id: int
    at: datetime
    actor: str
    action: str
    tenant: str | None
    target: str
    detail: Mapping[str, object]
