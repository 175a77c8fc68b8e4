"""What an archive of a tenant says: its documents, and whether they make sense; pure.

    tenant.json                         name and policy
    adapters/<name>/adapter.json        an adapter with all its versions and its history
    artifacts/<digest>/<file>           the files of each version that is not deleted
    manifest.json                       the list of the others

No keys: a secret never leaves an installation, and the importing side makes new ones.
"""

import json
import re
from collections.abc import Callable
from functools import partial
from typing import Annotated, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from adapters_registry.archive import MOST_JSON_BYTES, ReadArchive, invalid, refuse
from adapters_registry.archived_artifacts import most_bytes as most_artifact_bytes
from adapters_registry.checks import check_profile, check_reason
from adapters_registry.errors import RegistryError
from adapters_registry.moves import PROMOTE, ROLLBACK
from adapters_registry.types import (
    NAME_PATTERN,
    Evaluation,
    Lineage,
    Proof,
    ProofState,
    ServingProfile,
    TenantPolicy,
    Verdict,
    VersionState,
)

TENANT_FILE = "tenant.json"
_ADAPTER_FILE = re.compile(rf"adapters/(?P<name>{NAME_PATTERN})/adapter\.json")
# What a version that was never live is called says how it was judged.
_JUDGED = {
    VersionState.CANDIDATE: None,
    VersionState.PASSED: Verdict.PASSED,
    VersionState.REJECTED: Verdict.REJECTED,
}

_Form = TypeVar("_Form", bound=BaseModel)
_Number = Annotated[int, Field(ge=1, le=2**31 - 1)]
_Count = Annotated[int, Field(ge=0, le=2**62)]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Actor = Annotated[str, Field(pattern=r"^[a-z][a-z0-9:._-]{0,99}$")]


class TenantForm(BaseModel):
    """tenant.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    policy: TenantPolicy


class VersionForm(BaseModel):
    """A version; of a deleted one what is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: _Number
    digest: _Sha256
    state: VersionState
    rank: _Number
    size_bytes: _Count
    warnings: tuple[str, ...]
    profile: ServingProfile
    summary: dict[str, JsonValue]
    files: dict[str, _Sha256]
    lineage: Lineage
    verdict: Verdict | None
    evaluation: Evaluation | None
    proof_state: ProofState
    proof: Proof | None
    created_at: AwareDatetime
    created_by: _Actor
    deleted_at: AwareDatetime | None

    @property
    def lives(self) -> bool:
        """Whether it is not deleted, so that its files must be there."""
        return self.state is not VersionState.DELETED


class MoveForm(BaseModel):
    """One line of an adapter's history."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: AwareDatetime
    actor: _Actor
    action: str = Field(pattern=r"^[a-z][a-z_-]{0,31}$")
    from_version: _Number | None
    to_version: _Number | None
    reason: str | None
    forced: bool


class AdapterForm(BaseModel):
    """adapters/<name>/adapter.json; the history's oldest line first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    revision: _Count
    live: _Number | None
    next_number: _Number
    versions: tuple[VersionForm, ...]
    history: tuple[MoveForm, ...]


def adapter_file(name: str) -> str:
    """Where an adapter's document lies."""
    return f"adapters/{name}/adapter.json"


def most_bytes(name: str, weights_bytes: int) -> int | None:
    """The largest size of a member; None for what has no place in a tenant's archive."""
    if name == TENANT_FILE or _ADAPTER_FILE.fullmatch(name):
        return MOST_JSON_BYTES
    return most_artifact_bytes(name, weights_bytes)


def read_tenant(archive: ReadArchive) -> tuple[TenantForm, list[AdapterForm]]:
    """The documents, each sound in itself. Raises InvalidArchive."""
    tenant = _parse(archive, TENANT_FILE, TenantForm)
    adapters = []
    for file in archive.names:
        if found := _ADAPTER_FILE.fullmatch(file):
            form = _parse(archive, file, AdapterForm)
            if form.name != found["name"]:
                raise refuse(f"{file}: name: is not that of its folder")
            _check_adapter(form, file)
            adapters.append(form)
    return tenant, adapters


def _parse(archive: ReadArchive, file: str, form: type[_Form]) -> _Form:
    content = archive.read(file)
    try:
        # NaN and infinity are no JSON, and no answer of the API could hold them.
        json.dumps(json.loads(content), allow_nan=False)
        return form.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise invalid(file, error) from None
    except (ValueError, RecursionError):
        raise refuse(f"{file}: is not JSON") from None


def _check_adapter(form: AdapterForm, file: str) -> None:
    numbers = [version.number for version in form.versions]
    if numbers != sorted(set(numbers)) or (numbers and numbers[-1] >= form.next_number):
        raise refuse(f"{file}: versions: must have numbers that rise, all below next_number")
    live = [version.number for version in form.versions if version.state is VersionState.LIVE]
    if live != ([] if form.live is None else [form.live]):
        raise refuse(f"{file}: live: must be the one version in the state live, or null")
    for version in form.versions:
        if problem := _problem(version, numbers):
            raise refuse(f"{file}: version {version.number}: {problem}")
    _check_history(form, set(numbers), file)


def _problem(version: VersionForm, numbers: list[int]) -> str | None:
    """What of a version contradicts the rest."""
    evaluation, proof = version.evaluation, version.proof
    if version.state in _JUDGED and version.verdict != _JUDGED[version.state]:
        return "verdict: is not that of its state"
    if version.verdict != (evaluation and evaluation.verdict):
        return "verdict: is not that of its evaluation"
    if version.proof_state != (proof.state if proof else ProofState.UNPROVED):
        return "proof_state: is not that of its proof"
    if version.lives != (version.deleted_at is None):
        return "deleted_at: is not that of its state"
    if version.lineage.parent is not None and version.lineage.parent not in numbers:
        return "lineage.parent: is no version of this adapter"
    return _words(partial(check_profile, version.profile))


def _check_history(form: AdapterForm, numbers: set[int], file: str) -> None:
    live = None
    for place, move in enumerate(form.history):
        if {move.from_version, move.to_version} - numbers - {None}:
            raise refuse(f"{file}: history.{place}: names a version that is not there")
        if problem := _words(partial(check_reason, move.reason)):
            raise refuse(f"{file}: history.{place}: {problem}")
        if move.action in (PROMOTE, ROLLBACK):
            live = move.to_version
    if live != form.live:
        raise refuse(f"{file}: live: is not the version that the history leads to")


def _words(check: Callable[[], None]) -> str | None:
    """Why a check refuses, if it does."""
    try:
        check()
    except RegistryError as error:
        return error.message
    return None
