"""One vLLM server: its state, the adapters on it, and calls to it.

An adapter is loaded under a name and from a path that no other version ever has, so "already
loaded" is success, and a name the engine does not know is refused by it, never answered by the
base model. The check at admission makes sure of that last part.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from adapters_registry.errors import ArtifactDamaged, RegistryError
from adapters_registry.types import Snapshot, Version
from gateway.config import Timeouts
from gateway.engine_admission import Admission, EngineRefused, admit
from gateway.errors import (
    EngineFailed,
    EngineTimeout,
    EngineUnavailable,
    Overloaded,
)
from gateway.metrics import Metrics, Subject
from gateway.residency import Residency
from gateway.upstream import Header, Response, Upstream, UpstreamError, UpstreamTimeout

_log = logging.getLogger(__name__)

_PROBE_EVERY_S = 0.5
_PROBE_TIMEOUT_S = 5.0
_SILENCES_UNTIL_DOWN = 3
_JSON: Header = (b"content-type", b"application/json")
_SMALL_BODY = 2**20


class EngineState(StrEnum):
    """STARTING until it was up once; REFUSED when it would answer what it must not."""

    STARTING = "starting"
    UP = "up"
    DOWN = "down"
    REFUSED = "refused"


_UP = EngineState.UP


class Engine:
    """One engine, attached by its URL; started and stopped by others."""

    def __init__(
        self,
        url: str,
        *,
        base_name: str,
        max_adapters: int,
        timeouts: Timeouts,
        metrics: Metrics,
        verify: Callable[[Version], object],
    ) -> None:
        """verify: raises RegistryError where a version's files are damaged; may block."""
        self.url = url
        self.id = urlsplit(url).netloc.rpartition("@")[2]
        self.state = EngineState.STARTING
        self.reason = "waiting for the engine's first answer"
        self.restarts = 0
        self.looked = asyncio.Event()
        """Whether the watch has tried it once, so that `state` says something."""
        self._base_name = base_name
        self._timeouts = timeouts
        self._metrics = metrics
        self._verify = verify
        self._upstream = Upstream(url, connect_s=timeouts.connect_s)
        # The engine keeps a forgotten name for a while, so stay below its limit.
        self._residency = Residency(max(1, max_adapters - max(1, max_adapters // 8)))
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._to_bring_back: dict[str, Version] = {}
        """What it held when it was lost, until it holds it again."""
        self._swept = True
        """Whether nothing is left on the engine that the registry no longer knows."""
        # Loads stall every stream on the engine, so they go one at a time.
        self._one_change = asyncio.Lock()
        metrics.engine_up.labels(self.id).set(0)
        metrics.engine_restarts.labels(self.id).inc(0)
        metrics.resident.labels(self.id).set(0)

    # calls

    def hold(self, version: Version | None) -> "Hold":
        """Keeps the version (None: the base) from making room for others: `with engine.hold(v)`.

        Entering says whether the engine has it now; `ensure_loaded` is to be called where not.
        Raises EngineUnavailable where the engine is not up.
        """
        return Hold(self, version)

    async def open(
        self, method: bytes, path: bytes, *, headers: Sequence[Header] = (), body: bytes = b""
    ) -> Response:
        """Sends a request on; the response's headers have arrived on return.

        Raises EngineUnavailable, EngineTimeout or EngineFailed.
        """
        self._require_up()
        try:
            return await self._upstream.open(
                method,
                path,
                headers=headers,
                body=body,
                first_byte_s=self._timeouts.first_byte_s,
            )
        except UpstreamTimeout as error:
            raise EngineTimeout("The engine did not answer in time.") from error
        except UpstreamError as error:
            raise EngineUnavailable(
                "The engine broke off before it answered; try again.", retry_after_s=2
            ) from error

    # adapters

    def in_flight(self, version: Version) -> int:
        """Calls that use the version now."""
        return self._residency.in_use(version.engine_name)

    def digests(self) -> set[str]:
        """The contents it holds or is to hold, by the digests' first digits."""
        return {name.rpartition(":")[2] for name in (*self._residency.names(), *self._loads)}

    async def ensure_loaded(self, version: Version) -> None:
        """Returns when the engine holds the version: one load, however many wait.

        Raises EngineUnavailable, Overloaded (all places in use) or EngineFailed (it was refused).
        """
        self._require_up()
        name = version.engine_name
        if self._residency.touch(name):
            return
        load = self._loads.get(name)
        if load is None:
            load = asyncio.create_task(self._load(version), name=f"load {version.label}")
            self._loads[name] = load
            load.add_done_callback(lambda task: self._loaded(name, task))
        # A waiter that goes away does not take the load from the others.
        await asyncio.shield(load)

    def lost(self, version: Version) -> None:
        """Notes that the engine no longer knows the version, as after a restart nobody saw."""
        self._residency.drop(version.engine_name)
        self._count_resident()

    def registry_changed(self) -> None:
        """Has the watch unload what the registry no longer knows."""
        self._swept = False

    def info(self) -> dict[str, Any]:
        """What operators may know of the engine."""
        return {
            "id": self.id,
            "url": self.url,
            "state": self.state.value,
            "reason": self.reason,
            "restarts": self.restarts,
            "resident": [version.label for version in self._residency.versions()],
            "in_flight": self._residency.total_in_use,
        }

    # its life

    async def watch(self, current: Callable[[], Snapshot]) -> None:
        """Probes the engine for ever and keeps `state` true."""
        silences = 0
        while True:
            try:
                problem = await self._probe()
                silences = silences + 1 if isinstance(problem, UpstreamTimeout) else 0
                if problem is None and self.state is not EngineState.UP:
                    await self._admit(current())
                elif problem is None and not self._swept:
                    await self._sweep(current())
                # A refused connection is a fact; silence may be a busy engine.
                elif problem is not None and (not silences or silences >= _SILENCES_UNTIL_DOWN):
                    self._mark_down(str(problem))
            except Exception as error:
                _log.exception("the watch on engine %s goes on after a fault", self.id)
                self._mark_down(f"{type(error).__name__} in the gateway")
            self.looked.set()
            await asyncio.sleep(_PROBE_EVERY_S)

    async def close(self) -> None:
        """Ends every call and load."""
        for load in list(self._loads.values()):
            load.cancel()
        await self._upstream.close()

    # inside

    def _require_up(self) -> None:
        if self.state is not _UP:
            raise EngineUnavailable("The engine is not ready; try again.", retry_after_s=5)

    async def _probe(self) -> UpstreamError | None:
        try:
            response = await self._upstream.open(b"GET", b"/health", first_byte_s=_PROBE_TIMEOUT_S)
            with response:
                await response.read(_PROBE_TIMEOUT_S, _SMALL_BODY)
        except UpstreamError as error:
            return error
        return None if response.status == 200 else UpstreamError(f"/health says {response.status}")

    async def _admit(self, snapshot: Snapshot) -> None:
        """Lets the engine take requests: checked, and with the adapters back that it had."""
        self._to_bring_back |= {v.engine_name: v for v in self._residency.versions()}
        try:
            admission: Admission = await admit(self._upstream, self._base_name)
            self._adopt(admission, snapshot)
            await self._bring_back(snapshot)
        except EngineRefused as refusal:
            if self.state is not EngineState.REFUSED:
                _log.error("engine %s refused: %s", self.id, refusal)
            self.state, self.reason = EngineState.REFUSED, str(refusal)
            return
        except (UpstreamError, EngineUnavailable, EngineTimeout) as error:
            self._mark_down(str(error))
            return
        self._to_bring_back.clear()
        came_back = self.state is EngineState.DOWN
        self.state, self.reason = EngineState.UP, ""
        self._metrics.engine_up.labels(self.id).set(1)
        if came_back:
            self.restarts += 1
            self._metrics.engine_restarts.labels(self.id).inc()
        _log.info("engine %s is up", self.id)

    def _adopt(self, admission: Admission, snapshot: Snapshot) -> None:
        """Takes what the engine says it holds for the truth."""
        known = {version.engine_name: version for version in _versions(snapshot)}
        self._residency.clear()
        for name in admission.adapters:
            if name in known:
                self._residency.add(known[name])
        self._count_resident()

    async def _bring_back(self, snapshot: Snapshot) -> None:
        """Loads the live ones of what it held; the rest come back on demand.

        Raises EngineUnavailable or EngineTimeout where the engine is lost again meanwhile.
        """
        live = {
            adapter.versions[adapter.live].engine_name
            for tenant in snapshot.tenants.values()
            for adapter in tenant.adapters.values()
            if adapter.live is not None
        }
        for name, version in self._to_bring_back.items():
            if name in live and name not in self._residency:
                try:
                    await self._load(version)
                except (EngineFailed, Overloaded) as error:
                    _log.error("%s did not come back: %s", version.label, error)

    def _mark_down(self, reason: str) -> None:
        if self.state is EngineState.UP:
            _log.error("engine %s is down: %s", self.id, reason)
            self.state = EngineState.DOWN
            self._metrics.engine_up.labels(self.id).set(0)
            self._metrics.resident.labels(self.id).set(0)
        self.reason = reason

    async def _load(self, version: Version) -> None:
        async with self._one_change:
            if version.engine_name in self._residency:
                return
            victims = self._residency.to_evict()
            if victims is None:
                raise Overloaded(
                    "Every adapter place on the engine is in use; try again.", retry_after_s=1
                )
            for name in victims:
                await self._unload(name)
            await self._check_files(version)
            await self._post_load(version)
            self._residency.add(version)
            self._count_resident()

    async def _check_files(self, version: Version) -> None:
        try:
            await asyncio.to_thread(self._verify, version)
        except ArtifactDamaged as error:
            _log.error("%s was not loaded: %s", version.label, error)
            raise EngineFailed(
                f"The files of {version.label} are damaged; push the adapter again.",
                code="adapter_damaged",
            ) from error
        except RegistryError as error:
            _log.error("%s was not loaded: %s", version.label, error)
            raise EngineFailed(
                f"The files of {version.label} cannot be read now; try again.",
                code="adapter_unreadable",
            ) from error

    async def _post_load(self, version: Version) -> None:
        subject = Subject(version.tenant, version.adapter, str(version.number))
        self._metrics.note(subject)
        began = time.perf_counter()
        outcome = "failed"
        try:
            status, text = await self._post(
                b"/v1/load_lora_adapter",
                {"lora_name": version.engine_name, "lora_path": str(version.path)},
            )
            if status == 200 or (status == 400 and "already" in text):
                outcome = "loaded"
                return
            told = text.replace(str(version.path), "its files")
            _log.error("the engine refused %s with %d: %s", version.label, status, told)
            raise EngineFailed(
                f"The engine refused to load {version.label}.", code="adapter_load_failed"
            )
        except UpstreamTimeout as error:
            raise EngineTimeout(f"Loading {version.label} took too long.") from error
        except UpstreamError as error:
            raise EngineUnavailable(
                "The engine broke off while it loaded the adapter; try again.", retry_after_s=5
            ) from error
        finally:
            self._metrics.loads.labels(*subject, self.id, outcome).inc()
            self._metrics.load_duration.labels(self.id).observe(time.perf_counter() - began)

    async def _sweep(self, snapshot: Snapshot) -> None:
        known = {version.engine_name for version in _versions(snapshot)}
        async with self._one_change:
            strangers = self._residency.strangers(known)
            idle = [name for name in strangers if not self._residency.in_use(name)]
            # One that is still in use is looked at again.
            self._swept = len(idle) == len(strangers)
            for name in idle:
                await self._unload(name)

    async def _unload(self, name: str) -> None:
        # Dropped first: a call that comes now waits for a new load behind this change.
        self._residency.drop(name)
        self._count_resident()
        with contextlib.suppress(UpstreamError):
            await self._post(b"/v1/unload_lora_adapter", {"lora_name": name})

    async def _post(self, path: bytes, body: dict[str, str]) -> tuple[int, str]:
        response = await self._upstream.open(
            b"POST",
            path,
            headers=[_JSON],
            body=json.dumps(body).encode(),
            first_byte_s=self._timeouts.load_s,
        )
        with response:
            text = await response.read(self._timeouts.idle_s, _SMALL_BODY)
        return response.status, text.decode(errors="replace")

    def _loaded(self, name: str, task: asyncio.Task[None]) -> None:
        self._loads.pop(name, None)
        if not task.cancelled():
            task.exception()  # Looked at here too, since every waiter may be gone.

    def _count_resident(self) -> None:
        self._metrics.resident.labels(self.id).set(len(self._residency))


class Hold:
    """One call's hold on a version."""

    __slots__ = ("_engine", "_name")

    def __init__(self, engine: Engine, version: Version | None) -> None:
        self._engine = engine
        self._name = None if version is None else version.engine_name

    def __enter__(self) -> bool:
        self._engine._require_up()
        return self._name is None or self._engine._residency.acquire(self._name)

    def __exit__(self, *_: object) -> None:
        if self._name is not None:
            self._engine._residency.release(self._name)


def _versions(snapshot: Snapshot) -> Iterable[Version]:
    for tenant in snapshot.tenants.values():
        for adapter in tenant.adapters.values():
            yield from adapter.versions.values()
