"""A bucket on S3, or on what speaks its protocol: objects streamed out and in, in little memory.

Credentials and the region are the environment's usual AWS variables, which obstore reads by itself.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from adapters_registry.errors import StorageError

if TYPE_CHECKING:
    from obstore.store import S3Config

PART_BYTES = 8 * 2**20
"""Of a multipart upload. With the number sent at once it bounds the memory that an upload takes."""

_PARTS_AT_ONCE = 2
_CHUNK_BYTES = 2**20
_CONNECT_TIME = timedelta(seconds=5)
_IDLE_TIME = timedelta(seconds=30)
_WHOLE_TIME = timedelta(hours=1)
_RETRY_TIME = timedelta(seconds=10)
_RETRIES = 3

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]", re.IGNORECASE)
_SEGMENT = re.compile(r"(?!\.{1,2}$)[\w.!*'()=+@ -]+")
_SCHEME = "s3://"


class NoSuchObject(StorageError):
    """The object is not there, or the whole bucket is not."""


class BucketRefused(StorageError):
    """The credentials are missing, wrong, or do not allow it."""


class BucketAway(StorageError):
    """No answer, or none that can be used; another try may succeed."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where objects lie."""

    bucket: str
    prefix: str
    """Without slashes at its ends; may be empty."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of a listing."""

    key: str
    size_bytes: int
    modified_at: datetime
    """By the bucket's clock."""


def parse_place(url: str) -> Place:
    """`s3://bucket/prefix` in its parts. Raises ValueError that says what is wrong."""
    bucket, _, prefix = url.removeprefix(_SCHEME).partition("/")
    if not url.startswith(_SCHEME) or not _NAME.fullmatch(bucket):
        raise ValueError("must be s3://BUCKET/PREFIX")
    prefix = prefix.rstrip("/")
    if prefix and not all(_SEGMENT.fullmatch(segment) for segment in prefix.split("/")):
        raise ValueError("the path after the bucket must be plain names with single slashes")
    return Place(bucket, prefix)


class Bucket:
    """Objects below one prefix of one bucket; keys are relative to it.

    Its calls block, and raise NoSuchObject, BucketRefused or BucketAway. Making one asks nobody.
    """

    def __init__(self, place: Place, endpoint: str | None = None) -> None:
        """endpoint: the server's URL where it is not AWS's own."""
        # Here, since few have a bucket, and the library is large.
        from obstore.store import S3Store

        at: S3Config = {} if endpoint is None else {"endpoint": endpoint.rstrip("/")}
        with _in_our_words():
            self._store = S3Store(
                place.bucket,
                prefix=place.prefix or None,
                config=at,
                client_options={
                    "allow_http": endpoint is not None and endpoint.startswith("http://"),
                    "connect_timeout": _CONNECT_TIME,
                    "read_timeout": _IDLE_TIME,
                    "timeout": _WHOLE_TIME,
                },
                retry_config={"max_retries": _RETRIES, "retry_timeout": _RETRY_TIME},
            )

    def put(self, key: str, file: Path) -> None:
        """Uploads a file, a few parts at a time; the object is there whole or not at all."""
        with _in_our_words():
            self._store.put(key, file, chunk_size=PART_BYTES, max_concurrency=_PARTS_AT_ONCE)

    def read(self, key: str) -> tuple[int, Iterator[memoryview]]:
        """An object's size in bytes, and its content piece by piece."""
        with _in_our_words():
            found = self._store.get(key)
            size_bytes = found.meta["size"]
        return size_bytes, _pieces(found.stream(min_chunk_size=_CHUNK_BYTES))

    def listing(self, prefix: str = "") -> Iterator[StoredObject]:
        """The objects below a prefix, which ends at a slash of their keys."""
        with _in_our_words():
            for page in self._store.list(prefix or None):
                for found in page:
                    yield StoredObject(found["path"], found["size"], found["last_modified"])

    def delete(self, keys: Sequence[str]) -> None:
        """Deletes objects one after the other, in this order. One that is gone is no error."""
        for key in keys:
            with _in_our_words():
                self._store.delete(key)


def _pieces(stream: Iterator[object]) -> Iterator[memoryview]:
    with _in_our_words():
        for piece in stream:
            yield memoryview(piece)  # type: ignore[arg-type]


@contextmanager
def _in_our_words() -> Iterator[None]:
    """What obstore raises quotes requests and answers; our words hold nothing of them."""
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

    try:
        yield
    except FileNotFoundError as error:
        raise NoSuchObject("the bucket, or the object in it, does not exist") from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise BucketRefused(
            "the bucket refused: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what they allow"
        ) from error
    except BaseError as error:
        raise BucketAway(
            "the bucket does not answer as S3 does: check the endpoint and the network"
        ) from error
