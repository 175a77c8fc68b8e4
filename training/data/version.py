"""The version of a data set: a digest of what its rows say, in whatever order and format."""

import hashlib
import json
from collections.abc import Iterable, Mapping

from training.data.rows import Chat, Row


def row_digest(row: Row) -> bytes:
    """SHA-256 of the row's messages and label. Where it stood in its file does not count."""
    content: dict[str, object] = {"prompt": [_pair(one) for one in row.prompt]}
    if isinstance(row, Chat):
        content["answer"] = _pair(row.answer)
    else:
        content |= {"chosen": _pair(row.chosen), "rejected": _pair(row.rejected)}
    if row.label is not None:
        content["label"] = row.label
    return hashlib.sha256(_canonical(content)).digest()


def version_of(digests: Iterable[bytes]) -> str:
    """SHA-256 in hex over the digests of all rows; their order does not count."""
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def version_of_parts(parts: Mapping[str, str]) -> str:
    """SHA-256 in hex of a data set in parts. parts: name of the part -> its version."""
    return hashlib.sha256(_canonical(dict(parts))).hexdigest()


def _pair(message: Mapping[str, str]) -> list[str]:
    return [message["role"], message["content"]]


def _canonical(content: object) -> bytes:
    return json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
