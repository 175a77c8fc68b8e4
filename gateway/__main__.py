"""`python -m gateway`: serves the gateway with the settings on standard input, one JSON document.

Standard input, since settings hold the admin key: an argument or the environment would show it.
"""

import logging
import signal
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI

from gateway.app import create_app
from gateway.config import Settings
from gateway.http_guard import guarded_protocol
from gateway.logs import configure_logging


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
    settings = Settings.model_validate_json(sys.stdin.buffer.read())
    configure_logging(settings.log_level)
    try:
        app = create_app(settings)
    except Exception as error:
        logging.getLogger("gateway").critical("cannot start: %s", error)
        raise SystemExit(1) from error
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=guarded_protocol(settings.timeouts.headers_s),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(settings.timeouts.drain_s),
    )
    _Server(config, app).run()


def _exit(sig: int, frame: FrameType | None) -> None:
    del sig, frame
    raise SystemExit(0)


if __name__ == "__main__":
    main()
