"""What the admin API answers and takes, as types: dictionaries, so that new fields do no harm."""

from typing import Any, Literal, NotRequired, TypedDict

VersionState = Literal["candidate", "passed", "rejected", "live", "retired", "deleted"]
Verdict = Literal["passed", "rejected"]
ProofState = Literal["unproved", "proved", "inert"]
ScopeName = Literal["inference", "manage"]


class Policy(TypedDict):
    """What the operator allows a tenant."""

    allow_base: bool
    require_pass: bool


class Tenant(TypedDict):
    name: str
    policy: Policy
    created_at: str


class DeletedTenant(TypedDict):
    """A tenant that can be restored until purge_at."""

    name: str
    deleted_at: str
    purge_at: str


class Key(TypedDict):
    """A key, without its secret."""

    id: str
    name: str
    scopes: list[ScopeName]
    created_at: str
    expires_at: str | None
    last_used_at: str | None


class MadeKey(Key):
    """A new key. `key` is what programs send; no other answer ever holds it."""

    key: str


class Version(TypedDict):
    """A version as lists show it."""

    version: int
    digest: str
    state: VersionState
    verdict: Verdict | None
    proof: ProofState
    rank: int
    size_bytes: int
    warnings: list[str]
    profile: dict[str, Any]
    created_at: str


class Base(TypedDict, total=False):
    """The base model that an adapter was trained on."""

    name: str
    revision: str
    config_sha256: str
    quantization: str
    rope_scaling: dict[str, Any]


class Lineage(TypedDict, total=False):
    """Where a version comes from, as far as its maker says."""

    base: Base
    tokenizer_sha256: str
    chat_template_sha256: str
    dataset: str
    recipe: dict[str, Any]
    parent: int


class Evaluation(TypedDict):
    """A verdict, with the scores and gates that it rests on."""

    verdict: Verdict
    report: dict[str, Any]


class Metadata(TypedDict, total=False):
    """What a push may say beside the files."""

    serving_profile: dict[str, Any]
    lineage: Lineage
    evaluation: Evaluation
    reason: str


class ProofFigures(TypedDict):
    """How far log-probabilities lie from the base's, and the base's from themselves; in nats."""

    difference: float
    noise: float
    tokens: int
    base: str
    reason: str | None


class VersionRecord(Version):
    """All that is kept of a version."""

    created_by: str
    summary: dict[str, Any]
    files: dict[str, str]
    """The SHA-256 of each, by name."""
    lineage: Lineage
    evaluation: Evaluation | None
    proof_figures: ProofFigures | None


class Adapter(TypedDict):
    """An adapter with its versions, the newest first. revision: counts its changes."""

    tenant: str
    adapter: str
    live: int | None
    revision: int
    versions: list[Version]


Move = TypedDict(
    "Move",
    {
        "at": str,
        "actor": str,
        "action": str,
        "from": int | None,
        "to": int | None,
        "reason": str | None,
        "forced": bool,
    },
)
"""One entry of an adapter's history."""


class Engine(TypedDict):
    id: str
    url: str
    state: str
    reason: str | None
    resident: list[str]
    in_flight: int


class AuditEntry(TypedDict):
    """One change of the registry."""

    id: int
    at: str
    actor: str
    action: str
    tenant: str | None
    target: str
    detail: dict[str, Any]


class Ready(TypedDict):
    """reason: why the gateway takes no requests now."""

    status: Literal["ready", "not_ready"]
    reason: NotRequired[str]


class Collection(TypedDict):
    """What a garbage collection did. removed: digests; kept: how many artifacts stay."""

    removed: list[str]
    freed_bytes: int
    kept: int
    purged_tenants: list[str]


class DamagedVersion(TypedDict):
    version: str
    digest: str
    damage: str


class Verification(TypedDict):
    """What reading every artifact again has found."""

    checked: int
    damaged: list[DamagedVersion]
