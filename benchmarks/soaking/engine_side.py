"""The engine's state as the soak needs it, and its faults."""

from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True)
class EngineTotals:
    """What the engine counted of the calls that it may reset."""

    calls: int
    answered: int
    client_closed: int
    reset: int


class EngineSide:
    """Speaks to the fast fake."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def set_reset_share(self, share: float) -> None:
        """This share of calls is broken off from now on."""
        self._control(reset_share=share)

    def open_calls(self) -> int:
        """Calls that are being answered now."""
        state = self._state()
        return int(state["open"]) + int(state["totals"]["open"])

    def totals(self) -> EngineTotals:
        """Its counts so far."""
        totals = self._state()["totals"]
        return EngineTotals(**{name: totals[name] for name in EngineTotals.__annotations__})

    def forget_calls(self) -> None:
        """Drops its records, which make its state long."""
        self._control(forget_calls=True)

    def let_go(self) -> None:
        """Closes every connection, as at a restart; adapters are forgotten."""
        self._control(restart=True)

    def close(self) -> None:
        """Ends the connection to it."""
        self._http.close()

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = self._http.get("/_fake/state").raise_for_status().json()
        return state

    def _control(self, **change: Any) -> None:
        self._http.post("/_fake/control", json=change).raise_for_status()
