"""What the gateway's metrics say was counted."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import httpx
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

_TOTALS = ("loraplex_requests_total", "loraplex_other_requests_total")
_PROBES = ("/livez", "/readyz")
"""Asked by whoever waits for the gateway, not by the client."""


@dataclass(frozen=True)
class Counts:
    """Requests that ended, by status, and those in flight."""

    by_status: dict[int, int]
    in_flight: int

    @property
    def total(self) -> int:
        return sum(self.by_status.values())


def read_counts(metrics_port: int) -> Counts:
    """Scrapes the gateway, on a connection of its own."""
    with httpx.Client(timeout=30, trust_env=False) as client:
        answer = client.get(f"http://127.0.0.1:{metrics_port}/metrics").raise_for_status()
    return count(text_string_to_metric_families(answer.text))


def count(families: Iterable[Metric]) -> Counts:
    """Sums up over tenants, adapters and routes."""
    by_status: Counter[int] = Counter()
    in_flight = 0.0
    for family in families:
        for sample in family.samples:
            if sample.name in _TOTALS and sample.labels.get("path") not in _PROBES:
                by_status[int(sample.labels["status"])] += int(sample.value)
            elif sample.name == "loraplex_requests_in_flight":
                in_flight += sample.value
    return Counts(dict(by_status), int(in_flight))
