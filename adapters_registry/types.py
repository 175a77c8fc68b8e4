"""The registry's nouns: frozen values that the gateway holds in memory and never changes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

NAME_PATTERN = r"[a-z0-9][a-z0-9-]{0,62}"
_NAME = re.compile(NAME_PATTERN)


def is_name(text: str) -> bool:
    """Whether `text` can name a tenant or an adapter."""
    return _NAME.fullmatch(text) is not None


class Scope(StrEnum):
    """What a key may do: call models, or manage its own tenant's adapters and keys."""

    INFERENCE = "inference"
    MANAGE = "manage"

    # Enum's own is a function of Python's, and every request looks for its scope.
    __hash__ = str.__hash__


class VersionState(StrEnum):
    """Where a version stands in its life."""

    CANDIDATE = "candidate"
    LIVE = "live"
    RETIRED = "retired"
    DELETED = "deleted"


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


@dataclass(frozen=True, slots=True)
class Key:
    """A tenant's key as stored: the secret itself is never kept."""

    id: str
    tenant: str
    name: str
    scopes: frozenset[Scope]
    secret_sha256: bytes
    created_at: datetime


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
class Adapter:
    """An adapter: its versions and the pointer to the live one."""

    tenant: str
    name: str
    revision: int
    """Counts the changes of this adapter; the ETag of optimistic concurrency."""
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
