"""create_app(config): builds every part of the gateway. Attaches to an engine, never starts one."""

import asyncio
import contextlib
import hashlib
import importlib.metadata
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI

import gateway.error_handlers as error_handlers
from adapters_registry.base_model import load_spec
from adapters_registry.embedded import SERVED_NAME
from adapters_registry.models import resolve_model
from adapters_registry.registry import Registry
from adapters_registry.types import Snapshot
from gateway import admin_api, openai_api, ops_api, upload
from gateway.access import AccessLog, Recorded
from gateway.admin_key import load_or_make
from gateway.config import Settings, SettingsError
from gateway.engine import Engine
from gateway.entry import Entry
from gateway.feedback import Completions
from gateway.housekeeping import keep_house
from gateway.inference import Inference
from gateway.key_use import KeyUse
from gateway.launch import served_name
from gateway.logs import RequestLog
from gateway.metrics import BASE_ADAPTER, Metrics, Subject
from gateway.metrics_server import MetricsServer
from gateway.parts import Parts
from gateway.prover import Prover
from gateway.quality import Quality
from gateway.siblings import Siblings
from gateway.snapshots import Snapshots
from gateway.workers import settings_of, sibling_urls

_log = logging.getLogger(__name__)
_PRUNE_EVERY_S = 5.0
_FIRST_LOOK_S = 10.0
"""How long the engine's first answer is waited for before the gateway listens."""


def create_app(config: Settings, worker: int = 0, request_log: RequestLog | None = None) -> FastAPI:
    """The gateway as an ASGI application. Its tasks run from its lifespan's start to its end.

    worker: which of the `workers` that share the port it is, from 0. request_log: takes the lines
    of ended requests; Python's logging does when it is None. The server is to give the requests of
    `app.state.lane` to the relay (`http_guard.guarded_protocol`).
    Raises SettingsError, ModelError, or a RegistryError where the database cannot be opened.
    """
    parts = build(config, worker)
    app = FastAPI(
        title="Loraplex",
        version=importlib.metadata.version("loraplex"),
        lifespan=_lifespan,
        # Nothing answers without a key but the probes, and no redirect follows a Host header.
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.parts = parts
    app.include_router(openai_api.router)
    app.include_router(admin_api.router)
    app.include_router(ops_api.router)
    error_handlers.install(app)
    access = AccessLog(parts.metrics, request_log)
    app.add_middleware(Recorded, access=access)
    app.state.lane = {
        (b"POST", route.path.encode()): Entry(route, parts, access)
        for route in openai_api.relayed_routes(app)
    }
    return app


def build(config: Settings, worker: int = 0) -> Parts:
    """Builds the parts, without starting anything."""
    if not config.engine_url:
        raise SettingsError("engine_url: the gateway needs an engine; `loraplex serve` starts one")
    model_dir = resolve_model(config.model, config.cache_dir, report=_report, weights=False)
    base_name = served_name(config, model_dir, SERVED_NAME)
    admin_key = load_or_make(config)
    admin_key_sha256 = hashlib.sha256(admin_key.encode()).digest()
    siblings = Siblings(sibling_urls(config, worker), admin_key)
    config = settings_of(config, worker)
    registry = Registry.open(
        config.sqlalchemy_url,
        config.artifacts_dir,
        artifacts_url=config.artifacts_url,
        s3_endpoint=config.s3_endpoint,
    )
    snapshots = Snapshots(registry, config.registry_poll_s)
    _check_base_name(base_name, snapshots.current)
    metrics = Metrics()
    engine = Engine(
        config.engine_url[0],
        base_name=base_name,
        max_adapters=config.max_cpu_loras,
        timeouts=config.timeouts,
        metrics=metrics,
        verify=lambda version: registry.artifacts.verify(version.digest),
    )
    quality = Quality(metrics)
    completions = Completions()
    inference = Inference(
        config, base_name, admin_key_sha256, snapshots, engine, metrics, quality, completions
    )
    snapshots.listen(engine.registry_changed)
    return Parts(
        settings=config,
        base=load_spec(model_dir, config.cache_dir),
        base_name=base_name,
        admin_key_sha256=admin_key_sha256,
        registry=registry,
        snapshots=snapshots,
        siblings=siblings,
        key_use=KeyUse(registry.note_key_use),
        engine=engine,
        prover=Prover(
            engine, registry, snapshots, metrics, base_name, logprobs=config.limits.logprobs
        ),
        metrics=metrics,
        quality=quality,
        completions=completions,
        inference=inference,
        started_at=int(time.time()),
    )


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    parts: Parts = app.state.parts
    settings = parts.settings
    upload.sweep(settings.staging_dir)
    operations = MetricsServer(
        parts.metrics,
        app,
        host=settings.metrics_host or settings.host,
        port=settings.metrics_port,
        timeouts=settings.timeouts,
    )
    async with operations, parts.quality:
        # From here on siblings tell of their changes; those of this worker's start are read now.
        await parts.snapshots.catch_up()
        tasks = [
            _supervised(parts.snapshots.follow(), "registry news"),
            _supervised(parts.snapshots.poll(), "registry poll"),
            _supervised(parts.engine.watch(lambda: parts.snapshots.current), "engine watch"),
            _supervised(_keep_series_of_the_living(parts), "series of the gone"),
            _supervised(parts.prover.run(), "proofs of versions"),
            _supervised(parts.key_use.keep_writing(), "last use of keys"),
            _supervised(keep_house(parts), "housekeeping"),
        ]
        try:
            # Beside a worker that serves, one that does not know its engine yet would answer 503.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FIRST_LOOK_S):
                    await parts.engine.looked.wait()
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await parts.siblings.close()
            await parts.engine.close()
    parts.registry.close()


def _supervised(coroutine: Any, name: str) -> asyncio.Task[None]:
    """A task for the application's whole life; its failure is a bug, and is told."""
    task: asyncio.Task[None] = asyncio.create_task(coroutine, name=name)

    def tell(ended: asyncio.Task[None]) -> None:
        if not ended.cancelled() and (error := ended.exception()):
            _log.critical("%s ended", name, exc_info=error)

    task.add_done_callback(tell)
    return task


def _check_base_name(base_name: str, snapshot: Snapshot) -> None:
    """An adapter of the base's name would be answered by the base. Raises SettingsError."""
    for tenant in snapshot.tenants.values():
        for adapter in tenant.adapters:
            if base_name in (adapter, f"{tenant.name}/{adapter}"):
                raise SettingsError(
                    f"served_name: {tenant.name} has an adapter `{adapter}`, so the base model "
                    f"cannot be called `{base_name}`; choose another with --served-name"
                )


async def _keep_series_of_the_living(parts: Parts) -> None:
    """Removes the series of what is gone or idle, again and again: calls may outlive a deletion."""
    known = _Subjects(parts.snapshots)
    while True:
        idle_s = parts.settings.metrics_idle_s
        for _ in parts.metrics.pruning(known, time.monotonic(), idle_s):
            await asyncio.sleep(0)
        await asyncio.sleep(_PRUNE_EVERY_S)


class _Subjects:
    """The subjects that may have series as of now, as a container.

    Only those that have some are looked up: to list them all, of thousands, would stall the loop.
    """

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots

    def __contains__(self, subject: object) -> bool:
        assert isinstance(subject, Subject)
        tenant = self._snapshots.current.tenants.get(subject.tenant)
        if tenant is None:
            return False
        if subject.adapter in ("", BASE_ADAPTER):
            return True
        adapter, number = tenant.adapters.get(subject.adapter), subject.version
        return adapter is not None and number.isdecimal() and int(number) in adapter.versions


def _report(stage: str, fraction: float | None) -> None:
    _log.info("model: %s%s", stage, "" if fraction is None else f" {fraction:.0%}")
