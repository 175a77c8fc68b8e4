"""Has an engine show whether versions change its answers: one at a time, in nobody's way."""

import asyncio
import contextlib
import json
import logging
import random
import secrets
import time
from collections import Counter, deque
from collections.abc import Iterator, Set

from adapters_registry.errors import RegistryError
from adapters_registry.registry import Registry
from adapters_registry.strength import largest_update
from adapters_registry.types import (
    Adapter,
    Proof,
    ProofState,
    Snapshot,
    Version,
    VersionRecord,
    VersionState,
)
from gateway.engine import Engine, EngineState
from gateway.errors import (
    EngineFailed,
    EngineTimeout,
    EngineUnavailable,
    GatewayError,
    Overloaded,
)
from gateway.metrics import Metrics
from gateway.proof import MOST_LOGPROBS, PROMPTS, ROUNDS, Run, decide, likely_reason, read_run
from gateway.snapshots import Snapshots
from gateway.threads import finish_in_thread
from gateway.upstream import Header, UpstreamError

_log = logging.getLogger(__name__)

ACTOR = "gateway"
"""Who proved what nobody asked to be proved."""
REQUEST_ID = "loraplex-proof-"
"""How the ids of the engine's requests begin that are none of a tenant's."""
_JSON: Header = (b"content-type", b"application/json")
_ANSWER_BYTES = 4 * 2**20
_TIMEOUT_S = 120.0
_SWEEP_S = 60.0
_LOOK_EVERY_S = 0.5
_MOST_WAITING = 64
_MOST_FAILURES = 1024
_TRIES = 3
"""A version that an engine cannot bear must not be tried for ever."""


class Prover:
    """Proves versions on one engine, and keeps the figures with them.

    It holds no version on the engine while it asks: a proof that nobody waits for must not keep its
    version from being deleted. A version that leaves the engine meanwhile stays unproved.
    """

    def __init__(
        self,
        engine: Engine,
        registry: Registry,
        snapshots: Snapshots,
        metrics: Metrics,
        base_name: str,
        *,
        logprobs: int = MOST_LOGPROBS,
        timeout_s: float = _TIMEOUT_S,
        sweep_s: float = _SWEEP_S,
    ) -> None:
        """logprobs: the most that the engine gives for a token. timeout_s: for all that one proof
        asks of the engine. sweep_s: about how often one of the versions is taken up that nobody
        offered.
        """
        self._engine = engine
        self._registry = registry
        self._snapshots = snapshots
        self._metrics = metrics
        self._base_name = base_name
        self._timeout_s = timeout_s
        self._sweep_s = sweep_s
        self._logprobs = min(logprobs, MOST_LOGPROBS)
        self._one_proof = asyncio.Lock()
        self._asking: set[str] = set()
        """Tenants with a proof that they asked for."""
        self._waiting: deque[Version] = deque(maxlen=_MOST_WAITING)
        self._offered = asyncio.Event()
        self._failures: Counter[str] = Counter()

    def offer(self, version: Version) -> None:
        """Has the version proved when the engine is up. Where too many wait, a sweep finds it."""
        if version.state is not VersionState.REJECTED:
            self._waiting.append(version)
            self._offered.set()

    async def ensure(self, version: Version) -> Proof:
        """The proof of the version, made now where there is none.

        Raises EngineUnavailable, EngineTimeout, EngineFailed or Overloaded, and then the version
        stays unproved; UnknownVersion and its kin where it was deleted meanwhile.
        """
        async with self._one_proof:
            record = await self._record(version)
            return record.proof or await self._prove(version, ACTOR)

    async def prove(self, version: Version, *, actor: str) -> Proof:
        """As `ensure`, but proves anew. A tenant gets one at a time: others wait behind it."""
        if version.tenant in self._asking:
            raise Overloaded(
                "Another version of this tenant is being proved; try again.",
                code="proof_running",
                retry_after_s=5,
            )
        self._asking.add(version.tenant)
        try:
            async with self._one_proof:
                return await self._prove(version, actor)
        finally:
            self._asking.discard(version.tenant)

    async def run(self) -> None:
        """Proves for ever what was offered, and slowly what was left unproved."""
        sweep_at_s = self._next_sweep_s()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._offered.wait()
            self._offered.clear()
            for version in self._taken():
                await self._try(version)
            if self._is_up() and time.monotonic() >= sweep_at_s:
                sweep_at_s = self._next_sweep_s()
                await self._sweep()

    # inside

    def _is_up(self) -> bool:
        return self._engine.state is EngineState.UP

    def _next_sweep_s(self) -> float:
        """Gateways on one database drift apart, so that they rarely take up the same version."""
        return time.monotonic() + self._sweep_s * random.uniform(0.5, 1.5)  # noqa: S311

    def _taken(self) -> Iterator[Version]:
        """Those that wait now, for as long as the engine is up."""
        for _ in range(len(self._waiting)):
            if not self._is_up():
                return
            yield self._waiting.popleft()

    async def _sweep(self) -> None:
        gave_up = frozenset(name for name, count in self._failures.items() if count >= _TRIES)
        # In a thread, since there may be many thousands.
        version = await asyncio.to_thread(left_over, self._snapshots.current, gave_up)
        if version is not None:
            await self._try(version)

    async def _try(self, version: Version) -> None:
        """Whatever comes of it, the next one has its turn."""
        try:
            await self.ensure(version)
            self._failures.pop(version.engine_name, None)
        except (Overloaded, RegistryError) as error:
            _log.info("%s stays unproved for now: %s", version.label, error)
        except GatewayError as error:
            _log.warning("%s stays unproved: %s", version.label, error.message)
            self._count_failure(version, again=isinstance(error, EngineUnavailable))
        except Exception:
            _log.exception("%s stays unproved after a fault", version.label)
            self._count_failure(version, again=False)

    def _count_failure(self, version: Version, *, again: bool) -> None:
        if len(self._failures) >= _MOST_FAILURES:
            self._failures.clear()
        self._failures[version.engine_name] += 1
        if again and self._failures[version.engine_name] < _TRIES:
            self._waiting.append(version)

    async def _record(self, version: Version) -> VersionRecord:
        return await finish_in_thread(
            self._registry.version, version.tenant, version.adapter, version.number
        )

    async def _prove(self, version: Version, actor: str) -> Proof:
        outcome = "failed"
        try:
            proof = await self._measured(version)
            await finish_in_thread(
                self._registry.record_proof,
                version.tenant,
                version.adapter,
                version.number,
                proof,
                actor=actor,
            )
            outcome = proof.state.value
        finally:
            self._metrics.proofs.labels(outcome).inc()
        _log.info(
            "%s is %s: it differs by %.2g nats, the base from itself by %.2g",
            version.label,
            proof.state,
            proof.difference,
            proof.noise,
        )
        with contextlib.suppress(RegistryError):  # It is written; the poll brings the snapshot.
            await self._snapshots.refresh()
        return proof

    async def _measured(self, version: Version) -> Proof:
        try:
            async with asyncio.timeout(self._timeout_s):
                base, runs = await self._runs(version)
        except TimeoutError:
            raise EngineTimeout(
                f"The engine took too long over the proof of {version.label}; try again.",
                code="proof_timeout",
            ) from None
        proof = decide(base, runs, base_name=self._base_name)
        if proof.state is not ProofState.INERT:
            return proof
        reason = await finish_in_thread(_reason, proof, await self._record(version))
        return proof.model_copy(update={"reason": reason})

    async def _runs(self, version: Version) -> tuple[list[Run], list[Run]]:
        """The base's runs and, between them, the version's."""
        await self._engine.ensure_loaded(version)
        base: list[Run] = [await self._ask(version, self._base_name)]
        runs: list[Run] = []
        for _ in range(ROUNDS):
            runs.append(await self._ask(version, version.engine_name))
            base.append(await self._ask(version, self._base_name))
        return base, runs

    async def _ask(self, version: Version, model: str) -> Run:
        """One run of `model`, which is the version or the base."""
        body = {
            "model": model,
            "prompt": PROMPTS,
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": self._logprobs,
            "return_tokens_as_token_ids": True,  # Texts of several tokens may look alike.
            # Another one each time: what the prefix cache kept of a run would hide the noise.
            "cache_salt": secrets.token_hex(16),
            "request_id": REQUEST_ID + secrets.token_hex(8),
        }
        response = await self._engine.open(
            b"POST", b"/v1/completions", headers=[_JSON], body=json.dumps(body).encode()
        )
        try:
            with response:
                raw = await response.read(self._timeout_s, _ANSWER_BYTES)
        except UpstreamError as error:
            raise EngineUnavailable(
                f"The engine broke off in the proof of {version.label}; try again.", retry_after_s=5
            ) from error
        if response.status == 404 and model == version.engine_name:
            self._engine.lost(version)
            raise EngineUnavailable(
                f"The engine no longer holds {version.label}; try again.", retry_after_s=1
            )
        try:
            if response.status != 200:
                raise ValueError(f"status {response.status}")
            return read_run(raw)
        except ValueError as error:
            _log.error("no proof of %s: the engine answered with %s", version.label, error)
            raise EngineFailed(
                f"The engine gave no log-probabilities to prove {version.label} with; it stays"
                " unproved.",
                code="proof_failed",
            ) from None


def left_over(snapshot: Snapshot, but: Set[str]) -> Version | None:
    """The newest version that is unproved and of use: the last of its adapter, or live.

    but: names on the engine of those not wanted.
    """
    found = (
        version
        for tenant in snapshot.tenants.values()
        for adapter in tenant.adapters.values()
        for version in _of_use(adapter)
        if version.proof is ProofState.UNPROVED
        and version.state is not VersionState.REJECTED
        and version.engine_name not in but
    )
    return max(found, key=lambda version: version.created_at, default=None)


def _of_use(adapter: Adapter) -> list[Version]:
    numbers = {max(adapter.versions, default=None), adapter.live} - {None}
    return [adapter.versions[number] for number in numbers if number is not None]


def _reason(proof: Proof, record: VersionRecord) -> str:
    """Reads the version's files."""
    targets = record.summary.get("targets")
    names = [str(name) for name in targets] if isinstance(targets, list) else []
    return likely_reason(proof, largest_update(record.version.path), names)
