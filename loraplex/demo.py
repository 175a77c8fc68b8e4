"""`loraplex demo`: starts everything, takes the tour, and leaves nothing behind."""

import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console

from loraplex.demo_tour import Tour
from loraplex.demo_view import View
from loraplex.errors import CommandError
from loraplex.local_gateway import LocalGateway, local_gateway, wait_until_ready

_BASE = "base"
_SERVE_ARGS = ("--model", "embedded", "--served-name", _BASE)


def demo() -> None:
    """Show two tenants on one model: start everything, ask, compare, and clean up."""
    if find_spec("openai") is None:
        raise CommandError(
            "the demo asks through OpenAI's client, which is not installed: pip install openai"
        )
    view, started = View(Console()), time.monotonic()
    with (
        _ended_by_signals(),
        _log_kept_on_failure() as log,
        tempfile.TemporaryDirectory(prefix="loraplex-demo-") as folder,
        local_gateway(Path(folder), log, _SERVE_ARGS) as gateway,
    ):
        _start(gateway, view)
        Tour(gateway.url, gateway.metrics_url, gateway.admin_key, _BASE, view).run()
        view.say("\nStopping the demo's gateway and engine.")
    view.say(f"Done in {time.monotonic() - started:.0f} s.")


def _start(gateway: LocalGateway, view: View) -> None:
    view.step("Starting vLLM on the embedded model, and the gateway in front of it")
    started = time.monotonic()
    with view.waiting() as news:
        wait_until_ready(gateway, news)
    view.say(f"Ready on {gateway.url} after {time.monotonic() - started:.0f} s.")


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block in order, as Ctrl-C does, so that nothing is left behind."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _log_kept_on_failure() -> Iterator[Path]:
    """A file for the gateway's log. It stays, and is named, only where something went wrong."""
    with tempfile.NamedTemporaryFile(prefix="loraplex-demo-", suffix=".log", delete=False) as file:
        log = Path(file.name)
    try:
        yield log
    except Exception as error:
        raise CommandError(f"{_reason(error)}\nThe log of gateway and engine: {log}") from error
    except BaseException:
        log.unlink()
        raise
    log.unlink()


def _reason(error: Exception) -> str:
    return error.message if isinstance(error, CommandError) else f"{type(error).__name__}: {error}"
