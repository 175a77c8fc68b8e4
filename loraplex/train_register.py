"""The registry's side of a training run: checks before it, the live version, the push after it."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import httpx

from loraplex.client.answers import Metadata, Version
from loraplex.client.clients import Client, is_loopback
from loraplex.client.errors import Forbidden, NotFound
from loraplex.client.folder import read_folder
from loraplex.connection import Connection, client_of
from loraplex.errors import CommandError
from loraplex.refs import Ref

if TYPE_CHECKING:  # the trainer's libraries are loaded only when a run is asked for
    from training.bench import Bench, Candidate
    from training.pipeline import RunResult

_KEY_NAME = "evaluation of a training run"
_KEY_LASTS = timedelta(days=1)
"""Longer than an evaluation; a key that a killed run could not revoke ends by itself."""
_LIST_S = 30.0


@dataclass(frozen=True)
class Registration:
    """Where a run's version goes."""

    connection: Connection
    ref: Ref

    def check(self) -> None:
        """Raises CommandError unless the gateway answers and takes versions and verdicts."""
        with client_of(self.connection) as gateway:
            gateway.adapters(self.ref.tenant)
            if gateway.tenant(self.ref.tenant)["policy"]["require_pass"]:
                _check_is_admin(gateway, self.ref.tenant)

    @contextmanager
    def offline(self, candidate: "Candidate") -> "Iterator[Bench]":
        """A vLLM of our own, with the version that is live now beside base and candidate."""
        from training.bench import offline_bench

        with tempfile.TemporaryDirectory(prefix="loraplex-live-") as folder:
            candidate.progress("receiving the live version", None)
            live = self.pull_live(Path(folder) / "live")
            with offline_bench(candidate, live) as bench:
                yield bench

    @contextmanager
    def at_gateway(self, candidate: "Candidate") -> "Iterator[Bench]":
        """The gateway's own engines, asked with a key that lasts as long as the block.

        The candidate is pushed first, without a verdict.
        """
        from training.bench import Bench
        from training.evaluation.endpoint import EndpointEngine

        tenant, adapter = self.ref.tenant, self.ref.adapter
        with client_of(self.connection) as gateway:
            candidate.progress("pushing the candidate", None)
            pushed = _pushed(gateway, self.ref, candidate.adapter, candidate.run)
            version = pushed or _push(gateway, self.ref, candidate.adapter, candidate.metadata)
            expires_at = datetime.now(UTC) + _KEY_LASTS
            key = gateway.create_key(
                tenant, name=_KEY_NAME, scopes=["inference"], expires_at=expires_at
            )
            try:
                url = f"{self.connection.url}/v1"
                models = {"base": base_name(url, key["key"], tenant)}
                models["candidate"] = f"{adapter}@{version['version']}"
                if (live := _live(gateway, self.ref)) is not None:
                    models["live"] = f"{adapter}@{live['version']}"
                with EndpointEngine(url, key["key"]) as engine:
                    yield Bench(engine, *_named(models, self.ref))
            finally:
                gateway.revoke_key(tenant, key["id"])

    def register(self, result: "RunResult") -> Version:
        """The run's version with its verdict: as it lies there, or pushed now."""
        report = result.report.compact()
        with client_of(self.connection) as gateway:
            version = _pushed(gateway, self.ref, result.adapter_dir, result.report.run)
            if result.verdict == "inconclusive":
                return version or _push(gateway, self.ref, result.adapter_dir, result.metadata)
            evaluation = {"verdict": result.verdict, "report": report}
            if version is None:
                said = {**result.metadata, "evaluation": evaluation}
                return _push(gateway, self.ref, result.adapter_dir, said)
            if version["verdict"] == result.verdict:
                return version
            number = version["version"]
            return gateway.evaluate(
                self.ref.tenant, self.ref.adapter, number, result.verdict, report=report
            )

    def pull_live(self, folder: Path) -> tuple[Path, str] | None:
        """The version that is live now, in `folder`, and what it is; None where there is none."""
        tenant, adapter = self.ref.tenant, self.ref.adapter
        with client_of(self.connection) as gateway:
            version = _live(gateway, self.ref)
            if version is None:
                return None
            gateway.download(tenant, adapter, version["version"], folder)
            return folder, f"{self.ref}@{version['version']}, digest {version['digest'][:12]}"


def _check_is_admin(gateway: Client, tenant: str) -> None:
    try:
        gateway.deleted_tenants()
    except Forbidden:
        raise CommandError(
            f"tenant {tenant} takes verdicts from the operator alone (its policy requires a passed "
            "evaluation): pass the admin key with --key"
        ) from None


def _live(gateway: Client, ref: Ref) -> Version | None:
    return next((one for one in _versions(gateway, ref) if one["state"] == "live"), None)


def _versions(gateway: Client, ref: Ref) -> list[Version]:
    """None of an adapter that is not there yet."""
    try:
        return gateway.versions(ref.tenant, ref.adapter)
    except NotFound:
        gateway.adapters(ref.tenant)  # raises where the tenant itself is missing
        return []


def _pushed(gateway: Client, ref: Ref, folder: Path, run: str) -> Version | None:
    """The version that this run has pushed before, if it has."""
    from adapters_registry.artifacts import FILES, content_digest

    digest = content_digest({name: _sha256(folder / name) for name in FILES})
    for version in _versions(gateway, ref):
        if version["digest"] != digest:
            continue
        record = gateway.version(ref.tenant, ref.adapter, version["version"])
        if (record["lineage"].get("recipe") or {}).get("run") == run:
            return version
    return None


def _sha256(file: Path) -> str:
    import hashlib

    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _push(gateway: Client, ref: Ref, folder: Path, metadata: Mapping[str, Any]) -> Version:
    upload = read_folder(folder, cast(Metadata, dict(metadata)))
    return gateway.push(ref.tenant, ref.adapter, upload.parts)


def base_name(url: str, key: str, tenant: str) -> str:
    """The gateway's name of the base model. Raises CommandError where the tenant may not ask it."""
    answer = httpx.get(
        f"{url}/models",
        headers={"authorization": f"Bearer {key}"},
        timeout=_LIST_S,
        trust_env=not is_loopback(url),
    )
    models = answer.json()["data"] if answer.is_success else []
    for model in models:
        if "parent" not in model:
            return str(model["id"])
    raise CommandError(
        f"tenant {tenant} may not call the base model, so nothing can be compared with it: allow "
        "it in the tenant's policy, or evaluate with an engine of this machine"
    )


def _named(models: Mapping[str, str], ref: Ref) -> tuple[list[Any], dict[str, str]]:
    """The subjects by their models, and what each is in words."""
    from training.evaluation.engines import Subject

    subjects = [Subject(name, model=model) for name, model in models.items()]
    words = {
        name: model if name == "base" else f"{ref.tenant}/{model}" for name, model in models.items()
    }
    return subjects, words
