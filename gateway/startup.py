"""From settings to a running `loraplex serve`: the checks, the model, the children's commands."""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

from adapters_registry.embedded import SERVED_NAME
from gateway.admin_key import load_or_make
from gateway.config import Settings, SettingsError
from gateway.console import Console
from gateway.engine_admission import EngineRefused, admit
from gateway.launch import EngineLaunch, choose_launch, gateway_environment, served_name
from gateway.machine import detect_machine
from gateway.model_facts import ModelFacts, read_model_facts
from gateway.preflight import (
    engine_problem,
    listening_ports,
    memory_problem,
    pick_port,
    ports_problem,
    settings_problem,
)
from gateway.processes import Command
from gateway.supervisor import Service, StartFailed, Stopped, Supervisor
from gateway.upstream import Upstream, UpstreamError
from gateway.workers import LOOPBACK, gateway_url, operations_url

# With the gateway drained there is nothing left that an engine could lose.
_ENGINE_GRACE_S = 4.0
_AFTER_DRAIN_S = 5.0


class CannotStart(Exception):
    """Why nothing was started."""


async def serve(settings: Settings, environ: Mapping[str, str], console: Console) -> int:
    """Runs until a signal comes. The exit code: 0 after a requested stop (130 for Ctrl-C before
    everything was ready), 1 when something could not start.

    Raises SettingsError.
    """
    startup = Startup(settings, environ, console)
    try:
        await startup.run()
    except Stopped as stopped:
        return 130 if stopped.signal is signal.SIGINT and not startup.ready else 0
    except CannotStart as error:
        console.fail(str(error))
    except StartFailed as failed:
        console.fail(str(failed))
        console.tail(failed.tail)
    return 1


class Startup:
    """One start of `loraplex serve`. `ready` once everything has answered."""

    def __init__(self, settings: Settings, environ: Mapping[str, str], console: Console) -> None:
        self.ready = False
        self._settings = settings
        self._environ = environ
        self._console = console
        self._began_s = time.monotonic()

    async def run(self) -> None:
        """Starts everything and keeps it up.

        Raises Stopped, CannotStart, StartFailed or SettingsError.
        """
        self._settings = with_ports(self._settings)
        if problem := settings_problem(self._settings):
            raise SettingsError(problem)
        _raise_if(ports_problem(listening_ports(self._settings)))
        key = load_or_make(self._settings)
        async with Supervisor(self._console) as supervisor:
            if self._settings.engine_url:
                engines = await self._attach(supervisor)
            else:
                engines = await self._own_engine(supervisor)
            await supervisor.serve(
                [engines, gateway_services(self._settings, key, self._environ)],
                ready_urls=ready_urls(self._settings),
                on_ready=self._welcome,
            )

    async def _own_engine(self, supervisor: Supervisor) -> list[Service]:
        machine = await supervisor.unless_stopped(asyncio.to_thread(detect_machine))
        _raise_if(engine_problem(machine))
        folder = await self._resolve(supervisor, weights=True)
        model = _facts(folder)
        _raise_if(memory_problem(machine, model, self._settings))
        url = f"http://{LOOPBACK}:{self._settings.engine_port}"
        launch = choose_launch(
            machine,
            model,
            folder,
            self._settings,
            port=self._settings.engine_port,
            served_name=served_name(self._settings, folder, SERVED_NAME),
            environ=self._environ,
        )
        self._console.choices(launch.choices)
        self._settings = self._settings.model_copy(update={"engine_url": [url]})
        return [engine_service(launch, self._settings)]

    async def _attach(self, supervisor: Supervisor) -> list[Service]:
        await self._resolve(supervisor, weights=False)
        await supervisor.unless_stopped(self._check_attached())
        return []

    async def _check_attached(self) -> None:
        """Refuses an engine that must not be used. One that does not answer yet may come."""
        url = self._settings.engine_url[0]
        upstream = Upstream(url, connect_s=self._settings.timeouts.connect_s)
        try:
            await admit(upstream, self._settings.served_name or "")
        except EngineRefused as error:
            raise CannotStart(f"the engine at {url} is refused: {error}") from None
        except UpstreamError as error:
            self._console.warn(f"no engine answers at {url} yet ({error}); waiting for it")
        finally:
            await upstream.close()

    async def _resolve(self, supervisor: Supervisor, *, weights: bool) -> Path:
        """The model's folder; from now on the settings name it. Raises CannotStart."""
        outcome = ModelStep(self._console)
        command = model_command(self._settings, self._environ, weights=weights)
        status = await supervisor.step(command, outcome.on_line)
        self._console.end_progress()
        if outcome.folder is None:
            raise CannotStart(outcome.error or f"the model step ended with status {status}")
        name = served_name(self._settings, outcome.folder, SERVED_NAME)
        self._settings = self._settings.model_copy(
            update={"served_name": name, "model": str(outcome.folder)}
        )
        return outcome.folder

    def _welcome(self) -> None:
        self.ready = True
        settings = self._settings
        metrics = f"{operations_url(settings, 0)}/metrics"
        if settings.workers > 1:
            last = settings.metrics_port + settings.workers - 1
            metrics += f"   (and up to port {last}, one for each worker)"
        key = "as set" if settings.admin_key is not None else f"in {settings.admin_key_file}"
        for line in (
            f"Ready after {time.monotonic() - self._began_s:.0f} s.",
            f"  OpenAI API  {gateway_url(settings)}/v1   (base model: {settings.served_name})",
            f"  metrics     {metrics}",
            f"  admin key   {key}",
        ):
            self._console.say(line, "green")


class ModelStep:
    """What the model step has said; see model_step."""

    def __init__(self, console: Console) -> None:
        self.folder: Path | None = None
        self.error: str | None = None
        self._console = console
        self._began_s = time.monotonic()

    def on_line(self, line: str) -> None:
        """Takes a line of its output."""
        fields = _object(line)
        if "folder" in fields:
            self.folder = Path(fields["folder"])
        elif "error" in fields:
            self.error = fields["error"]
        elif "stage" in fields:
            fraction = fields.get("fraction")
            percent = "" if fraction is None else f" {fraction:.0%}"
            self._console.progress(f"model: {fields['stage']}{percent}", self._began_s)
        else:
            self._console.child_line("model", line)


def model_command(settings: Settings, environ: Mapping[str, str], *, weights: bool) -> Command:
    """The step that finds, fetches or converts the model."""
    asked = {"model": settings.model, "cache_dir": str(settings.cache_dir), "weights": weights}
    return Command(
        "model",
        (sys.executable, "-m", "gateway.model_step"),
        gateway_environment(environ),
        json.dumps(asked).encode(),
    )


class PickPort(Protocol):
    """As `preflight.pick_port`."""

    def __call__(self, host: str, taken: Collection[int], *, count: int) -> int: ...


def with_ports(settings: Settings, pick: PickPort = pick_port) -> Settings:
    """The settings with a number for every port that was left to us.

    The gateway's and the engine's addresses must stay the same when they are started again.
    """
    wanted = {
        "port": (settings.host, 1),
        "metrics_port": (settings.metrics_host or settings.host, settings.workers),
        "engine_port": (LOOPBACK, 1),
    }
    ports = {name: getattr(settings, name) for name in wanted}
    for name, (host, count) in wanted.items():
        if not ports[name]:
            taken = {ports[other] + k for other in wanted for k in range(wanted[other][1])}
            ports[name] = pick(host, taken, count=count)
    return settings.model_copy(update=ports)


def engine_service(launch: EngineLaunch, settings: Settings) -> Service:
    """vLLM as a child."""
    return Service(
        Command("engine", launch.argv, launch.env),
        alive_url=f"http://{LOOPBACK}:{settings.engine_port}/health",
        start_limit_s=settings.timeouts.engine_start_s,
        stop_grace_s=_ENGINE_GRACE_S,
    )


def gateway_services(settings: Settings, key: str, environ: Mapping[str, str]) -> list[Service]:
    """The gateway's workers as children, with the settings and the admin key on standard input."""
    document = {**settings.model_dump(mode="json"), "admin_key": key}
    services = []
    for worker in range(settings.workers):
        alone = settings.workers == 1
        command = Command(
            "gateway" if alone else f"gateway {worker + 1}",
            (sys.executable, "-m", "gateway", "--worker", str(worker)),
            gateway_environment(environ),
            json.dumps(document).encode(),
        )
        # On the port that they share, any of them would answer.
        url = gateway_url(settings) if alone else operations_url(settings, worker)
        services.append(
            Service(
                command,
                alive_url=f"{url}/livez",
                start_limit_s=settings.timeouts.engine_start_s,
                stop_grace_s=settings.timeouts.drain_s + _AFTER_DRAIN_S,
                prefix="gateway",
            )
        )
    return services


def ready_urls(settings: Settings) -> list[str]:
    """What has to answer 200 before requests are invited: each worker, then the port."""
    workers = range(settings.workers if settings.workers > 1 else 0)
    urls = [operations_url(settings, worker) for worker in workers]
    return [f"{url}/readyz" for url in [*urls, gateway_url(settings)]]


def _object(line: str) -> dict[str, Any]:
    """The JSON object that the line holds, or an empty one."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _facts(folder: Path) -> ModelFacts:
    try:
        return read_model_facts(folder)
    except ValueError as error:
        raise CannotStart(f"--model: {error}") from None


def _raise_if(problem: str | None) -> None:
    if problem is not None:
        raise CannotStart(problem)
