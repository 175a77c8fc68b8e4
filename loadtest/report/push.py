"""Tells a Prometheus Pushgateway what a run came to."""

import base64
import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote, urlsplit, urlunsplit

import httpx

from loadtest.report.exposition import LABELS, exposition
from loadtest.report.result import Result

__all__ = ["PushError", "check_push", "exposition", "push"]

TIMEOUT_S = 10.0
_KIND = "text/plain; version=0.0.4; charset=utf-8"
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
_PLAIN = re.compile(r"[A-Za-z0-9_.~-]+")
_SHOWN = 200


class PushError(Exception):
    """The push did not come about; names --push and the fix, no password."""


def push(result: Result, url: str, job: str, labels: Mapping[str, str]) -> None:
    """Puts the run's figures in the place of those of the same job and labels.

    url: the Pushgateway's, as http://HOST:9091; a user and a password in it are sent as basic
    authentication. Raises PushError.
    """
    address, shown = _address(url, job, labels)
    body = exposition(result).encode("utf-8", "replace")
    try:
        with httpx.Client(timeout=TIMEOUT_S, trust_env=False) as client:
            answer = client.put(address, content=body, headers={"content-type": _KIND})
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise PushError(
            f"--push: {shown} cannot be reached ({_why(error)}); is a Pushgateway"
            " running there? Its usual port is 9091"
        ) from None
    if not answer.is_success:
        raise PushError(f"--push: {shown} answered {answer.status_code}{_said(answer)}")


def check_push(url: str, job: str, labels: Mapping[str, str]) -> None:
    """Raises PushError for what no Pushgateway could be told; sends nothing."""
    _address(url, job, labels)


def _address(url: str, job: str, labels: Mapping[str, str]) -> tuple[str, str]:
    """Where the figures go, and what to call it: without the password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        # Not its words: they quote what may be a piece of a password.
        raise PushError("--push: the address is none; write http://HOST:9091") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PushError("--push: the address is none; write http://HOST:9091")
    if parts.query or parts.fragment:
        raise PushError("--push: the address has a query or fragment; leave it out")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    shown = f"{parts.scheme}://{host}{f':{port}' if port else ''}"
    path = f"{parts.path.rstrip('/')}/metrics/{'/'.join(_grouping(job, labels))}"
    return urlunsplit((parts.scheme, parts.netloc, path, "", "")), shown


def _grouping(job: str, labels: Mapping[str, str]) -> Iterator[str]:
    if not job:
        raise PushError("--push-job: the job has no name; give it one")
    yield _pair("job", job)
    for name, value in labels.items():
        if name == "job" or name in LABELS:
            raise PushError(f"--push-label: `{name}` is one of the figures' own; rename it")
        if not _LABEL.fullmatch(name):
            raise PushError(f"--push-label: `{name}` is no label; use letters, digits and _")
        yield _pair(name, value)


def _pair(name: str, value: str) -> str:
    """As the Pushgateway's addresses have them: what is not plain goes as base64."""
    if _PLAIN.fullmatch(value) and value not in (".", ".."):
        return f"{name}/{quote(value)}"
    coded = base64.urlsafe_b64encode(value.encode("utf-8", "replace")).decode() or "="
    return f"{name}@base64/{coded}"


def _said(answer: httpx.Response) -> str:
    fixes = {
        401: "; give user and password in the address",
        403: "; it does not let this user push",
        404: "; is it a Pushgateway, and is its path prefix in the address?",
        405: "; is it a Pushgateway, and is its path prefix in the address?",
    }
    fix = fixes.get(answer.status_code, "; its log says more")
    text = " ".join(answer.text.split())[:_SHOWN]
    return f" ({text}){fix}" if text else fix


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__
