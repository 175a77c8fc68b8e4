"""`python -m gateway [--worker K]`: one gateway process, its settings on standard input as JSON.

Standard input, since settings hold the admin key: an argument or the environment would show it.
K, from 0, says which of the `workers` that share the port it is.
"""

import argparse
import gc
import logging
import resource
import signal
import socket
import sys
from contextlib import suppress
from types import FrameType

import uvicorn
from fastapi import FastAPI

from gateway.app import create_app
from gateway.config import Settings
from gateway.http_guard import guarded_protocol
from gateway.logs import RequestLines, configure_logging
from gateway.workers import shared_sockets


class _Server(uvicorn.Server):
    """Takes readiness away as soon as the end is asked for."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._app.state.parts.draining = True
        super().handle_exit(sig, frame)


def main() -> None:
    """Runs until SIGTERM or SIGINT, then drains."""
    # Until the server takes the signals over, and when it raises them once more after its end.
    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker = _worker()
    settings = Settings.model_validate_json(sys.stdin.buffer.read())
    configure_logging(settings.log_level)
    _allow_all_sockets()
    request_lines = RequestLines(sys.stdout.buffer, settings.log_level)
    try:
        app = create_app(settings, worker, request_lines)
        sockets = _sockets(settings)
    except Exception as error:
        logging.getLogger("gateway").critical("cannot start: %s", error)
        raise SystemExit(1) from error
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=guarded_protocol(
            settings.timeouts.headers_s,
            client_s=settings.timeouts.client_s,
            lane=app.state.lane,
        ),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # Who called is known by the key alone.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(settings.timeouts.drain_s),
    )
    _spare_the_collector()
    try:
        _Server(config, app).run(sockets)
    finally:
        request_lines.flush()


def _worker() -> int:
    parser = argparse.ArgumentParser(prog="python -m gateway")
    parser.add_argument("--worker", type=int, default=0)
    return int(parser.parse_args().worker)


def _sockets(settings: Settings) -> list[socket.socket] | None:
    """The port that is shared with the other workers; None where the server makes its own."""
    if settings.workers == 1:
        return None
    sockets = shared_sockets(settings.host, settings.port)
    logging.getLogger("gateway").info("listening on %s:%d", settings.host, settings.port)
    return sockets


def _spare_the_collector() -> None:
    """A collection stalls every stream: what is here to stay is not looked at, the rest seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _allow_all_sockets() -> None:
    """A stream takes two descriptors, and the usual soft limit is 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _exit(sig: int, frame: FrameType | None) -> None:
    del sig, frame
    raise SystemExit(0)


if __name__ == "__main__":
    main()
