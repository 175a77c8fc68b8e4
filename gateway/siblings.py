"""The gateway's other workers on this machine, each reached on its operations port."""

import asyncio
import logging
from collections.abc import Iterable, Sequence

import httpx

from adapters_registry.types import Version

_log = logging.getLogger(__name__)

FORWARDED = "x-loraplex-forwarded"
"""Marks a client's request that a worker sent on, so that it goes no further."""
_KEY_HEADERS = frozenset({"authorization", "x-api-key"})
_TIMEOUT_S = 3.0


class Siblings:
    """Every call is best effort, and nothing at all where a worker is alone."""

    def __init__(self, urls: Sequence[str], admin_key: str, timeout_s: float = _TIMEOUT_S) -> None:
        """urls: of the others' operations ports. timeout_s: for one whole answer of one of them."""
        self._urls = tuple(urls)
        self._as_admin = [("authorization", f"Bearer {admin_key}")]
        self._timeout_s = timeout_s
        self._http = httpx.AsyncClient(trust_env=False, timeout=timeout_s) if urls else None

    async def refresh(self) -> None:
        """Has each read the registry; on return those that answered know every write before.

        One that does not answer in time is logged, and knows it after its next poll.
        """
        await asyncio.gather(*map(self._refresh, self._urls))

    async def in_flight(self, version: Version) -> int:
        """Calls that use the version now on the others; none on one that does not answer."""
        query = httpx.QueryParams(
            tenant=version.tenant, adapter=version.adapter, version=version.number
        )
        urls = [f"{url}/admin/v1/in-flight?{query}" for url in self._urls]
        answers = await asyncio.gather(*(self._ask("GET", url, self._as_admin) for url in urls))
        return sum(answer.json()["in_flight"] for answer in answers if answer and answer.is_success)

    async def take_feedback(self, headers: Iterable[tuple[str, str]], body: bytes) -> bool:
        """Whether another worker knew the completion, and took what a user thought of it.

        headers, body: of the request to /v1/feedback, whose key is sent on.
        """
        sent = [*headers]
        if any(name == FORWARDED for name, _ in sent):
            return False
        passed = [(name, value) for name, value in sent if name in _KEY_HEADERS]
        passed += [("content-type", "application/json"), (FORWARDED, "1")]
        for url in self._urls:
            answer = await self._ask("POST", f"{url}/v1/feedback", passed, body)
            if answer is not None and answer.status_code == httpx.codes.ACCEPTED:
                return True
        return False

    async def close(self) -> None:
        """Ends every connection."""
        if self._http is not None:
            await self._http.aclose()

    async def _refresh(self, url: str) -> None:
        answer = await self._ask("POST", f"{url}/admin/v1/refresh", self._as_admin)
        if answer is None or not answer.is_success:
            told = "no answer" if answer is None else f"it answered {answer.status_code}"
            _log.warning(
                "the worker at %s did not read the registry (%s); its poll will", url, told
            )

    async def _ask(
        self, method: str, url: str, headers: list[tuple[str, str]], body: bytes = b""
    ) -> httpx.Response | None:
        """None where no answer came in time."""
        assert self._http is not None
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._http.request(method, url, headers=headers, content=body)
        except (httpx.HTTPError, TimeoutError):
            return None
