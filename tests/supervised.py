"""A supervisor over tiny services, run as a program, so that it can be killed like the real one.

`python -m tests.supervised FOLDER ENGINE_PORT GATEWAY_PORTS [STEP]`: GATEWAY_PORTS are joined with
commas, and with more than one the services are "gateway 1" and so on. STEP is Python code to be run
first, as the model step is. Prints READY once all is up. The exit code is the signal's number after
one, or 100 when something could not start.
"""

import asyncio
import sys
from pathlib import Path

from gateway.console import Console
from gateway.launch import own_environment
from gateway.processes import Command
from gateway.supervisor import Service, StartFailed, Stopped, Supervisor, Timings

START_FAILED = 100
_TIMINGS = Timings(poll_s=0.05, health_s=0.05, backoff_first_s=0.1, guard_again_s=0.05)
_SERVICE = Path(__file__).parent / "tiny_service.py"


async def main(folder: Path, engine: int, gateways: dict[str, int], step: str) -> int:
    """The exit code."""
    console = Console()
    try:
        async with Supervisor(console, _TIMINGS) as supervisor:
            if step:
                command = Command("model", (sys.executable, "-c", step), own_environment())
                await supervisor.step(command, lambda line: console.child_line("model", line))
            await supervisor.serve(
                [
                    [_service("engine", engine, folder)],
                    [_service(name, port, folder) for name, port in gateways.items()],
                ],
                ready_urls=[f"http://127.0.0.1:{port}/readyz" for port in gateways.values()],
                on_ready=lambda: console.say("READY"),
            )
    except Stopped as stopped:
        return stopped.signal
    except StartFailed as failed:
        console.fail(str(failed))
        console.tail(failed.tail)
    return START_FAILED


def _service(name: str, port: int, folder: Path) -> Service:
    limit = folder / f"{name}.limit"
    return Service(
        Command(
            name,
            (sys.executable, str(_SERVICE), name, str(port), str(folder)),
            own_environment(),
        ),
        alive_url=f"http://127.0.0.1:{port}/health",
        start_limit_s=float(limit.read_text()) if limit.exists() else 60,
        stop_grace_s=60,
    )


if __name__ == "__main__":
    folder, engine, gateway_ports, *step = sys.argv[1:]
    ports = [int(port) for port in gateway_ports.split(",")]
    names = ["gateway"] if len(ports) == 1 else [f"gateway {k + 1}" for k in range(len(ports))]
    gateways = dict(zip(names, ports, strict=True))
    sys.exit(asyncio.run(main(Path(folder), int(engine), gateways, "".join(step))))
