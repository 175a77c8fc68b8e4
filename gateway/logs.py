"""JSON logs, one object a line, on standard output."""

import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, BinaryIO

import msgspec

RequestLog = Callable[[int, Mapping[str, Any]], None]
"""Logs that a request ended: the level, and the line's fields."""

_FLUSH_S = 0.02
_LEVELS = {level: name.lower() for name, level in logging.getLevelNamesMapping().items()}


class JsonFormatter(logging.Formatter):
    """`ts`, `level`, `logger`, `event`, and what the caller gave as `extra={"fields": {...}}`."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            entry |= fields
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def configure_logging(level: str) -> None:
    """Sends this process's logs to standard output. level: debug, info, warning or error."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Each request has its own line already; httpx and uvicorn would write paths and headers.
    for name in ("uvicorn.access", "httpx", "httpcore", "python_multipart"):
        logging.getLogger(name).setLevel(logging.WARNING)


class RequestLines:
    """The lines of ended requests, as JsonFormatter would write them, without logging's cost.

    Used on the event loop's thread. A line is written at once when the last one was not just now;
    else it waits for those of the next 20 ms, since each write is a system call.
    """

    def __init__(self, stream: BinaryIO, level: str) -> None:
        """level: debug, info, warning or error; lines below it are left out."""
        self._stream = stream
        self._level = logging.getLevelNamesMapping()[level.upper()]
        self._encode = msgspec.json.Encoder().encode
        self._lines: list[bytes] = []
        self._flushed_s = 0.0
        self._second = 0
        self._second_text = ""
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, level: int, fields: Mapping[str, Any]) -> None:
        """Takes one line."""
        if level < self._level:
            return
        self._lines.append(self._begin(level) + self._encode(fields)[1:])
        if self._timer is None:
            wait_s = self._flushed_s + _FLUSH_S - time.monotonic()
            if wait_s <= 0:
                self.flush()
            else:
                self._timer = asyncio.get_running_loop().call_later(wait_s, self.flush)

    def _begin(self, level: int) -> bytes:
        now_s = time.time()
        second = int(now_s)
        if second != self._second:
            self._second = second
            self._second_text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return (
            f'{{"ts":"{self._second_text}.{int((now_s - second) * 1000):03}+00:00",'
            f'"level":"{_LEVELS[level]}","logger":"loraplex.request","event":"request",'
        ).encode()

    def flush(self) -> None:
        """Writes what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._flushed_s = time.monotonic()
        lines, self._lines = self._lines, []
        with suppress(OSError):  # A full disk must not end the requests too.
            if lines:
                self._stream.write(b"\n".join([*lines, b""]))
                self._stream.flush()
