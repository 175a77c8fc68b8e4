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
from prometheus_client import start_http_server

import gateway.error_handlers as error_handlers
from adapters_registry.base_model import load_spec
from adapters_registry.embedded import SERVED_NAME
from adapters_registry.models import resolve_model
from adapters_registry.registry import Registry
from adapters_registry.types import Snapshot
from gateway import admin_api, openai_api, ops_api, upload
from gateway.access import AccessLog
from gateway.admin_key import load_or_make
from gateway.config import Settings, SettingsError
from gateway.engine import Engine
from gateway.feedback import Completions
from gateway.inference import Inference
from gateway.launch import served_name
from gateway.metrics import BASE_ADAPTER, NOBODY, Metrics, Subject
from gateway.parts import Parts
from gateway.quality import Quality
from gateway.snapshots import Snapshots

_log = logging.getLogger(__name__)
_PRUNE_EVERY_S = 5.0


def create_app(config: Settings) -> FastAPI:
    """The gateway as an ASGI application. Its tasks run from its lifespan's start to its end.

    Raises SettingsError, ModelError, or a RegistryError where the database cannot be opened.
    """
    parts = build(config)
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
    app.add_middleware(AccessLog, metrics=parts.metrics)
    return app


def build(config: Settings) -> Parts:
    """Builds the parts, without starting anything."""
    if not config.engine_url:
        raise SettingsError("engine_url: the gateway needs an engine; `loraplex serve` starts one")
    model_dir = resolve_model(config.model, config.cache_dir, report=_report, weights=False)
    base_name = served_name(config, model_dir, SERVED_NAME)
    admin_key_sha256 = hashlib.sha256(load_or_make(config).encode()).digest()
    registry = Registry.open(config.sqlalchemy_url, config.artifacts_dir)
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
        engine=engine,
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
    # A thread of its own: making the text of a scrape must not stall the relay's loop.
    server, thread = start_http_server(
        settings.metrics_port, settings.metrics_host or settings.host, parts.metrics.registry
    )
    async with parts.quality:
        tasks = [
            _supervised(parts.snapshots.poll(), "registry poll"),
            _supervised(parts.engine.watch(lambda: parts.snapshots.current), "engine watch"),
            _supervised(_keep_series_of_the_living(parts), "series of the gone"),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await parts.engine.close()
    await asyncio.to_thread(server.shutdown)
    server.server_close()
    thread.join()
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
    """Removes the series of what is gone, again and again: calls may outlive a deletion."""
    while True:
        parts.metrics.keep_only(_subjects(parts.snapshots.current))
        await asyncio.sleep(_PRUNE_EVERY_S)


def _subjects(snapshot: Snapshot) -> set[Subject]:
    subjects = {NOBODY}
    for tenant in snapshot.tenants.values():
        subjects |= {Subject(tenant.name), Subject(tenant.name, BASE_ADAPTER, "0")}
        subjects |= {
            Subject(tenant.name, adapter.name, str(number))
            for adapter in tenant.adapters.values()
            for number in adapter.versions
        }
    return subjects


def _report(stage: str, fraction: float | None) -> None:
    _log.info("model: %s%s", stage, "" if fraction is None else f" {fraction:.0%}")
