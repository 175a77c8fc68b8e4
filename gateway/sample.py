"""What the judge gets of a call: the answer's beginning, and what its request asked for."""

from typing import Any

import msgspec

from gateway.routes import Route

_MOST_BYTES = 256 * 1024


class Sample(msgspec.Struct, frozen=True):
    """One response of the engine, and what its request asked for."""

    route: Route
    tenant: str
    adapter: str
    version: str
    streamed: bool
    content: bytes
    """The body, or the events of the stream, from the start; possibly cut off."""
    wants_json: bool
    json_schema: dict[str, Any] | None


class Kept:
    """Keeps the beginning of an answer as it passes; nothing where it is not wanted."""

    __slots__ = ("_blocks", "_room_bytes")

    def __init__(self, *, wanted: bool, most_bytes: int = _MOST_BYTES) -> None:
        self._room_bytes = most_bytes if wanted else 0
        self._blocks: list[bytes] = []

    def add(self, block: bytes) -> None:
        """Takes the next bytes of the answer."""
        if self._room_bytes > 0:
            size = len(block)
            self._blocks.append(block if size <= self._room_bytes else block[: self._room_bytes])
            self._room_bytes -= size

    def take(self) -> bytes | None:
        """What was kept, once; None where nothing was."""
        blocks, self._blocks = self._blocks, []
        return b"".join(blocks) if blocks else None
