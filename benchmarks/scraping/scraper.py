"""Prometheus' part: whole scrapes over one kept connection, timed, once or again and again."""

import socket
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

_REQUEST = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\naccept: text/plain\r\n\r\n"
_END = b"\r\n0\r\n\r\n"
_BUFFER_BYTES = 2**20


class ScrapeFailed(Exception):
    """The answer was not a whole one with status 200."""


@dataclass(frozen=True)
class Scrape:
    """One scrape: from the request to the answer's last byte."""

    seconds: float
    size_bytes: int
    """As sent, with what chunked encoding adds."""


class Scraper:
    """Scrapes one port; closed at the end of its `with`."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._buffer = bytearray(_BUFFER_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def scrape(self) -> Scrape:
        """One, read as it comes and thrown away. Raises ScrapeFailed, OSError."""
        began_s = time.perf_counter()
        self._socket.sendall(_REQUEST)
        size, last = 0, b""
        while not last.endswith(_END):
            got = self._socket.recv_into(self._buffer)
            if not got or (not size and not self._buffer.startswith(b"HTTP/1.1 200 ")):
                raise ScrapeFailed(bytes(self._buffer[: min(got, 300)]).decode(errors="replace"))
            size += got
            last = (last + self._buffer[max(0, got - len(_END)) : got])[-len(_END) :]
        return Scrape(time.perf_counter() - began_s, size)


class Periodic:
    """Scrapes in a thread, one scrape every `period_s`, within its `with`; see `scrapes` then."""

    def __init__(self, port: int, period_s: float) -> None:
        self._port = port
        self._period_s = period_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._problem: Exception | None = None
        self.scrapes: list[Scrape] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._thread.join()
        if self._problem is not None and error is None:
            raise self._problem

    def _run(self) -> None:
        try:
            with Scraper(self._port) as scraper:
                # Not at the very beginning, where the load is not yet what it will be.
                while not self._stopped.wait(self._period_s / 2):
                    self.scrapes.append(scraper.scrape())
                    if self._stopped.wait(self._period_s / 2):
                        return
        except (ScrapeFailed, OSError) as problem:
            self._problem = problem
