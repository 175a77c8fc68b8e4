"""What must hold of a version on the engine before it goes live: it loads, and changes answers."""

import logging

from adapters_registry.moves import Standing, check_promote
from adapters_registry.types import Proof, ProofState, Version, VersionRecord
from gateway.engine import Engine, EngineState
from gateway.errors import (
    Conflict,
    EngineFailed,
    EngineTimeout,
    EngineUnavailable,
    Overloaded,
)
from gateway.parts import Parts
from gateway.threads import finish_in_thread

_log = logging.getLogger(__name__)


async def prepare(parts: Parts, version: Version, *, force: bool) -> None:
    """Has the version loaded, and proved where it is not yet. Takes long: not in a transaction.

    force: goes without both where no engine is up, and without the proof where none can be had.
    Raises Conflict for a version that is inert, or that the engine cannot load or prove, what the
    registry would refuse anyway, and EngineUnavailable, EngineTimeout or Overloaded.
    """
    record = await finish_in_thread(
        parts.registry.version, version.tenant, version.adapter, version.number
    )
    if record.proof is not None:
        _refuse_inert(version, record.proof)
    _check_allowed(parts, record, force=force)
    if force and parts.engine.state is not EngineState.UP:
        return
    await _load(parts.engine, version)
    if record.proof is None:
        await _prove(parts, version, force=force)


async def _load(engine: Engine, version: Version) -> None:
    try:
        await engine.ensure_loaded(version)
    except EngineFailed as error:
        raise Conflict(
            f"{error.message} The live version stays as it is.", code=error.code
        ) from None


def _check_allowed(parts: Parts, record: VersionRecord, *, force: bool) -> None:
    """No load is spent on a promotion that the registry will refuse. Raises IllegalMove."""
    version = record.version
    tenant = parts.snapshots.current.tenants.get(version.tenant)
    check_promote(
        {version.number: Standing(version.state, version.verdict, version.proof)},
        version.number,
        force=force,
        require_pass=tenant is not None and tenant.policy.require_pass,
    )


async def _prove(parts: Parts, version: Version, *, force: bool) -> None:
    try:
        _refuse_inert(version, await parts.prover.ensure(version))
    except (EngineFailed, EngineTimeout, EngineUnavailable, Overloaded) as error:
        if force:
            _log.warning("%s goes live unproved: %s", version.label, error.message)
        elif isinstance(error, EngineFailed):
            raise Conflict(
                f"{error.message} The live version stays as it is; with force it is promoted"
                " unproved.",
                code=error.code,
            ) from None
        else:
            raise


def _refuse_inert(version: Version, proof: Proof) -> None:
    if proof.state is ProofState.INERT:
        raise Conflict(
            f"Version {version.number} is inert: it answers as the base model does (it differs by"
            f" {proof.difference:.2g} nats a token, the base from itself by {proof.noise:.2g})."
            f" {proof.reason or ''}".rstrip(),
            param="version",
            code="adapter_inert",
        )
