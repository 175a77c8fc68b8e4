"""Every call of the admin API: its path, its body and what it answers. Pure: nothing is sent here.

`reason` is kept in the audit, and of an adapter's moves in its history too. `if_match`: only if the
adapter is at this revision, else Stale.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from loraplex.client.answers import (
    Adapter,
    AuditEntry,
    Collection,
    DeletedTenant,
    Engine,
    Evaluation,
    Key,
    MadeKey,
    Metadata,
    Move,
    Ready,
    ScopeName,
    Tenant,
    Verdict,
    Verification,
    Version,
    VersionRecord,
)
from loraplex.client.call import (
    Call,
    Moved,
    Unexpected,
    UploadPart,
    list_of,
    nothing,
    object_of,
    text,
    unseen,
)
from loraplex.client.folder import metadata_part, read_folder

_SOURCES = ("s3://", "hf://")


def tenants() -> Call[list[Tenant]]:
    """All tenants for the admin key; its own for a tenant's key."""
    return Call("GET", _admin("tenants"), list_of(Tenant))


def tenant(name: str) -> Call[Tenant]:
    """One tenant with its policy."""
    return Call("GET", _admin("tenants", name), object_of(Tenant))


def create_tenant(name: str, *, reason: str | None = None) -> Call[Tenant]:
    """Makes a tenant."""
    body = _said(name=name, reason=reason)
    return Call("POST", _admin("tenants"), object_of(Tenant), json=body)


def set_policy(
    name: str,
    *,
    allow_base: bool | None = None,
    require_pass: bool | None = None,
    reason: str | None = None,
) -> Call[Tenant]:
    """Changes what the operator allows a tenant; what is None stays as it is.

    allow_base: whether it may call the base model. require_pass: whether a version without a
    passed evaluation can never go live, not even by force.
    """
    policy = _said(allow_base=allow_base, require_pass=require_pass)
    body = _said(policy=policy, reason=reason)
    return Call("PATCH", _admin("tenants", name), object_of(Tenant), json=body)


def delete_tenant(name: str, *, reason: str | None = None) -> Call[None]:
    """Ends a tenant's keys at once. `deleted_tenants` says until when the rest can be restored."""
    return Call("DELETE", _admin("tenants", name), nothing, params=_said(reason=reason))


def deleted_tenants() -> Call[list[DeletedTenant]]:
    """Tenants whose deletion can still be undone, the latest first."""
    return Call("GET", _admin("deleted-tenants"), list_of(DeletedTenant))


def restore_tenant(name: str, *, reason: str | None = None) -> Call[Tenant]:
    """Undoes the latest deletion of that name. Its keys stay dead: make new ones."""
    path = _admin("deleted-tenants", name, "restore")
    return Call("POST", path, object_of(Tenant), json=_said(reason=reason))


def keys(tenant: str) -> Call[list[Key]]:
    """A tenant's keys, without their secrets."""
    return Call("GET", _admin("tenants", tenant, "keys"), list_of(Key))


def create_key(
    tenant: str,
    *,
    name: str | None = None,
    scopes: Iterable[ScopeName] = (),
    expires_at: datetime | None = None,
    reason: str | None = None,
) -> Call[MadeKey]:
    """Makes a key; the answer's `key` is shown this one time.

    scopes: by default `inference`. expires_at: with its time zone.
    """
    body = _said(
        name=name, scopes=list(scopes) or None, expires_at=_moment(expires_at), reason=reason
    )
    return Call("POST", _admin("tenants", tenant, "keys"), object_of(MadeKey), json=body)


def rotate_key(
    tenant: str,
    key_id: str,
    *,
    overlap_s: int | None = None,
    expires_at: datetime | None = None,
    reason: str | None = None,
) -> Call[MadeKey]:
    """Makes a key like an old one, which goes on for overlap_s (by default an hour), then ends."""
    body = _said(overlap_s=overlap_s, expires_at=_moment(expires_at), reason=reason)
    path = _admin("tenants", tenant, "keys", key_id, "rotate")
    return Call("POST", path, object_of(MadeKey), json=body)


def revoke_key(tenant: str, key_id: str, *, reason: str | None = None) -> Call[None]:
    """Ends a key for good."""
    path = _admin("tenants", tenant, "keys", key_id)
    return Call("DELETE", path, nothing, params=_said(reason=reason))


def adapters(tenant: str) -> Call[list[Adapter]]:
    """A tenant's adapters with their versions."""
    return Call("GET", _admin("tenants", tenant, "adapters"), list_of(Adapter))


def adapter(tenant: str, adapter: str) -> Call[Adapter]:
    """One adapter with its versions."""
    return Call("GET", _adapter(tenant, adapter), object_of(Adapter))


def versions(tenant: str, adapter: str) -> Call[list[Version]]:
    """An adapter's versions, the newest first."""
    return Call("GET", _adapter(tenant, adapter, "versions"), list_of(Version))


def version(tenant: str, adapter: str, version: int) -> Call[VersionRecord]:
    """All that is kept of a version."""
    return Call("GET", _version(tenant, adapter, version), object_of(VersionRecord))


def card(tenant: str, adapter: str, version: int) -> Call[str]:
    """A version's model card, in Markdown."""
    return Call("GET", _version(tenant, adapter, version, "card"), text)


def push(
    tenant: str,
    adapter: str,
    source: str | Path | Iterable[UploadPart],
    *,
    metadata: Metadata | None = None,
    sent: Moved = unseen,
) -> Call[Version]:
    """Makes a new version.

    source: a folder that PEFT saved, the parts of an upload, or `s3://...` or `hf://...`, which
    the gateway fetches (with the admin key alone). A folder's metadata.json may hold
    `serving_profile` and `lineage`; `metadata` wins over it. Files are read while they are sent.
    Raises UnusableFolder, InvalidMetadata before anything is sent.
    """
    path = _adapter(tenant, adapter, "versions")
    if isinstance(source, str) and source.startswith(_SOURCES):
        body = _said(source=source, metadata=metadata or None)
        return Call("POST", path, object_of(Version), json=body, patient=True)
    if isinstance(source, str | Path):
        parts = read_folder(Path(source), metadata).parts
    else:
        parts = (*metadata_part(metadata), *source)
    return Call("POST", path, object_of(Version), parts=parts, sent=sent)


def read_file(
    tenant: str, adapter: str, version: int, name: str, *, take: Callable[[bytes], object]
) -> Call[None]:
    """Reads one of a version's files; `take` is given block after block."""
    path = _version(tenant, adapter, version, "files", name)
    return Call("GET", path, nothing, take=take)


def evaluate(
    tenant: str,
    adapter: str,
    version: int,
    verdict: Verdict,
    *,
    report: Mapping[str, Any] | None = None,
    reason: str | None = None,
    if_match: int | None = None,
) -> Call[Version]:
    """Keeps a verdict on a version, which takes the place of an earlier one."""
    evaluation: Evaluation = {"verdict": verdict, "report": dict(report or {})}
    path = _version(tenant, adapter, version, "evaluation")
    body = {**evaluation, **_said(reason=reason)}
    return Call("POST", path, object_of(Version), json=body, headers=_match(if_match))


def prove(tenant: str, adapter: str, version: int) -> Call[VersionRecord]:
    """Has an engine compare the version's answers with the base's."""
    path = _version(tenant, adapter, version, "prove")
    return Call("POST", path, object_of(VersionRecord), json={})


def delete_version(
    tenant: str,
    adapter: str,
    version: int,
    *,
    reason: str | None = None,
    if_match: int | None = None,
) -> Call[None]:
    """Deletes a version that is not live. Its number is never used again."""
    path = _version(tenant, adapter, version)
    return Call("DELETE", path, nothing, params=_said(reason=reason), headers=_match(if_match))


def promote(
    tenant: str,
    adapter: str,
    version: int,
    *,
    force: bool = False,
    reason: str | None = None,
    if_match: int | None = None,
) -> Call[Adapter]:
    """Makes a version the live one. force: without a passed evaluation, and without an engine."""
    body = _said(version=version, force=force or None, reason=reason)
    path = _adapter(tenant, adapter, "promote")
    return Call("POST", path, object_of(Adapter), json=body, headers=_match(if_match))


def rollback(
    tenant: str,
    adapter: str,
    *,
    to: int | None = None,
    reason: str | None = None,
    if_match: int | None = None,
) -> Call[Adapter]:
    """Makes the version that was live before, or `to`, the live one again."""
    path = _adapter(tenant, adapter, "rollback")
    body = _said(to=to, reason=reason)
    return Call("POST", path, object_of(Adapter), json=body, headers=_match(if_match))


def history(tenant: str, adapter: str) -> Call[list[Move]]:
    """What happened to an adapter, newest first."""
    return Call("GET", _adapter(tenant, adapter, "history"), list_of(Move))


def export_tenant(
    name: str, *, take: Callable[[bytes], object], expect: Moved = unseen
) -> Call[None]:
    """Reads one tenant, without its keys, as a tar of plain files.

    take: given block after block. expect: told before how many bytes will come.
    """
    path = _admin("tenants", name, "export")
    return Call("GET", path, nothing, take=take, expect=expect, patient=True)


def import_tenant(
    file: Path, *, name: str | None = None, reason: str | None = None, sent: Moved = unseen
) -> Call[Tenant]:
    """Makes a tenant from an export, under its own name or another. It has no keys yet."""
    return Call(
        "POST",
        _admin("tenants", "import"),
        object_of(Tenant),
        params=_said(name=name, reason=reason),
        headers={"content-type": "application/x-tar"},
        file=file,
        sent=sent,
        patient=True,
    )


def backup(*, take: Callable[[bytes], object], expect: Moved = unseen) -> Call[None]:
    """Reads all there is as a tar; take and expect as of `export_tenant`."""
    return Call("GET", _admin("backup"), nothing, take=take, expect=expect, patient=True)


def gc(*, grace_s: float | None = None) -> Call[Collection]:
    """Removes files that no version has used for grace_s, and tenants deleted for good.

    With a shorter time than calls last, other gateways may lose what they still answer with.
    """
    body = _said(grace_s=grace_s)
    return Call("POST", _admin("gc"), object_of(Collection), json=body, patient=True)


def verify() -> Call[Verification]:
    """Reads every stored file again."""
    return Call("POST", _admin("verify"), object_of(Verification), json={}, patient=True)


def engines() -> Call[list[Engine]]:
    """The engines as the gateway sees them."""
    return Call("GET", _admin("engines"), list_of(Engine))


def audit(*, limit: int | None = None, before: int | None = None) -> Call[list[AuditEntry]]:
    """A page of the audit, newest first. before: the last id of the page at hand."""
    page = _said(limit=limit, before=before)
    return Call("GET", _admin("audit"), list_of(AuditEntry), params=page)


def ready() -> Call[Ready]:
    """Whether the gateway takes requests, and if not, why. Needs no key."""

    def read(answer: Any) -> Ready:
        body = object_of(Ready)(answer)
        if "status" not in body:
            raise Unexpected
        return body

    return Call("GET", "/readyz", read, also=(503,))


def _said(**fields: Any) -> dict[str, Any]:
    """The fields that say something."""
    return {name: value for name, value in fields.items() if value is not None}


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _match(revision: int | None) -> dict[str, str]:
    return {} if revision is None else {"if-match": f'"{revision}"'}


def _admin(*segments: str | int) -> str:
    return "/admin/v1" + "".join(f"/{quote(str(segment), safe='')}" for segment in segments)


def _adapter(tenant: str, adapter: str, *more: str | int) -> str:
    return _admin("tenants", tenant, "adapters", adapter, *more)


def _version(tenant: str, adapter: str, version: int, *more: str) -> str:
    return _adapter(tenant, adapter, "versions", version, *more)
