"""Where an operator may have an adapter fetched from: an S3 bucket, or the Hugging Face Hub.

Both use the operator's credentials, as the environment's usual variables give them. Two files are
fetched, by their names, and nothing else of the place is looked at.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import httpx

from adapters_registry.artifacts import FILES
from adapters_registry.bucket import (
    Bucket,
    BucketAway,
    BucketRefused,
    NoSuchObject,
    Place,
    parse_place,
)
from adapters_registry.errors import InvalidSource, SourceUnavailable

_HUB_SCHEME = "hf://"
_HUB = re.compile(
    r"hf://(?P<repo>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})"
    r"(?:@(?P<revision>[A-Za-z0-9][\w./-]{0,127}))?",
    re.ASCII,
)
_CHUNK_BYTES = 2**20
_TIMEOUT = httpx.Timeout(30, connect=10)
_REDIRECTS = 5

Opened: TypeAlias = tuple[int | None, Iterator[bytes | memoryview]]
"""A file's size in bytes as far as its place tells, and its content."""


@dataclass(frozen=True, slots=True)
class HubRepo:
    """A model repository of the Hub."""

    repo: str
    """`owner/name`."""
    revision: str
    """A branch, a tag or a commit."""


Source: TypeAlias = Place | HubRepo


def parse_source(text: str) -> Source:
    """`s3://BUCKET/FOLDER` or `hf://OWNER/NAME[@REVISION]`. Raises InvalidSource."""
    if text.startswith(_HUB_SCHEME):
        found = _HUB.fullmatch(text)
        if found is None or ".." in text:
            raise _refuse("must be hf://OWNER/NAME or hf://OWNER/NAME@REVISION")
        return HubRepo(found["repo"], found["revision"] or "main")
    if text.startswith("s3://"):
        try:
            return parse_place(text)
        except ValueError as error:
            raise _refuse(str(error)) from None
    raise _refuse("must be s3://BUCKET/FOLDER or hf://OWNER/NAME[@REVISION]")


def fetch(
    source: Source,
    folder: Path,
    caps: Mapping[str, int],
    *,
    s3_endpoint: str | None = None,
    hub_endpoint: str | None = None,
) -> None:
    """Writes an adapter's two files into `folder`, in little memory.

    caps: the most bytes of each, by name. hub_endpoint: the Hub's URL where it is not the one that
    huggingface_hub's own settings name.
    Raises InvalidSource, SourceUnavailable, OSError where the disk takes no more.
    """
    for name in FILES:
        opened = (
            _from_bucket(source, name, s3_endpoint)
            if isinstance(source, Place)
            else _from_hub(source, name, hub_endpoint)
        )
        with opened as (size_bytes, pieces):
            if size_bytes is not None and size_bytes > caps[name]:
                raise _too_large(name, caps[name])
            _write(folder / name, pieces, caps[name])


def _write(file: Path, pieces: Iterator[bytes | memoryview], cap: int) -> None:
    created = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    received = 0
    with os.fdopen(created, "wb") as writer:
        for piece in pieces:
            received += len(piece)
            if received > cap:
                raise _too_large(file.name, cap)
            writer.write(piece)


@contextmanager
def _from_bucket(place: Place, name: str, endpoint: str | None) -> Iterator[Opened]:
    try:
        yield Bucket(place, endpoint).read(name)
    except NoSuchObject as error:
        raise _refuse(f"the bucket or the file {name} in that folder does not exist") from error
    except BucketRefused as error:
        raise _refuse(error.message) from error
    except BucketAway as error:
        raise SourceUnavailable(f"source: {error.message}", field="source") from error


@contextmanager
def _from_hub(source: HubRepo, name: str, endpoint: str | None) -> Iterator[Opened]:
    url, headers = _hub_request(source, name, endpoint)
    try:
        with (
            # Credentials stay with the host they are for: httpx drops them where another is named.
            httpx.Client(
                follow_redirects=True, max_redirects=_REDIRECTS, timeout=_TIMEOUT
            ) as client,
            client.stream("GET", url, headers=headers) as answer,
        ):
            _check_answer(answer, source, name)
            length = answer.headers.get("content-length", "")
            yield int(length) if length.isdecimal() else None, answer.iter_raw(_CHUNK_BYTES)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SourceUnavailable(
            "source: the Hub does not answer: check the network and HF_ENDPOINT", field="source"
        ) from error


def _hub_request(source: HubRepo, name: str, endpoint: str | None) -> tuple[str, dict[str, str]]:
    try:
        from huggingface_hub import constants, get_token, hf_hub_url
    except ImportError:
        raise InvalidSource(
            "source: huggingface_hub is not installed here: pip install huggingface_hub",
            field="source",
        ) from None
    if constants.HF_HUB_OFFLINE:
        raise SourceUnavailable(
            "source: HF_HUB_OFFLINE is set, so nothing is fetched from the Hub", field="source"
        )
    url = hf_hub_url(source.repo, name, revision=source.revision, endpoint=endpoint)
    # As the bytes are written as they come, none may come compressed.
    headers = {"accept-encoding": "identity"}
    if token := get_token():
        headers["authorization"] = f"Bearer {token}"
    return url, headers


def _check_answer(answer: httpx.Response, source: HubRepo, name: str) -> None:
    if answer.is_success:
        return
    code = answer.headers.get("x-error-code", "")
    if code == "GatedRepo" or answer.status_code == httpx.codes.FORBIDDEN:
        raise _refuse(f"{source.repo} is gated: accept its terms on the Hub and set HF_TOKEN")
    if code == "RevisionNotFound":
        raise _refuse(f"{source.repo} has no revision {source.revision}")
    if code == "RepoNotFound" or answer.status_code == httpx.codes.UNAUTHORIZED:
        raise _refuse(f"{source.repo} is not on the Hub; a private one needs HF_TOKEN")
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise _refuse(f"{source.repo} has no file {name} at revision {source.revision}")
    raise SourceUnavailable(
        f"source: the Hub answered {answer.status_code}; try again later", field="source"
    )


def _refuse(reason: str) -> InvalidSource:
    return InvalidSource(f"source: {reason}", field="source")


def _too_large(name: str, cap: int) -> InvalidSource:
    return _refuse(f"{name} is larger than {cap} bytes")
