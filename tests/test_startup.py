"""The children that settings stand for: their commands, their ports, where they are asked."""

import json
import sys
from collections.abc import Collection

import pytest

from gateway.config import Settings, load_settings
from gateway.startup import gateway_services, ready_urls, with_ports


def of(workers: int) -> Settings:
    flags = {"workers": workers, "port": 8080, "metrics_port": 9464}
    return load_settings(flags)


def test_one_worker_is_asked_where_its_clients_ask() -> None:
    (service,) = gateway_services(of(1), "the-key", {})
    assert service.command.name == "gateway"
    assert service.alive_url == "http://127.0.0.1:8080/livez"
    assert ready_urls(of(1)) == ["http://127.0.0.1:8080/readyz"]


def test_each_of_several_workers_is_asked_where_no_other_answers() -> None:
    services = gateway_services(of(3), "the-key", {"LORAPLEX_PORT": "1", "LANG": "C"})
    assert [service.command.name for service in services] == ["gateway 1", "gateway 2", "gateway 3"]
    assert {service.prefix for service in services} == {"gateway"}
    for worker, service in enumerate(services):
        program = (sys.executable, "-m", "gateway", "--worker", str(worker))
        assert service.command.argv == program
        assert service.alive_url == f"http://127.0.0.1:{9464 + worker}/livez"
        assert json.loads(service.command.stdin)["admin_key"] == "the-key"
        assert "LORAPLEX_PORT" not in service.command.env
    ports = (9464, 9465, 9466, 8080)
    assert ready_urls(of(3)) == [f"http://127.0.0.1:{port}/readyz" for port in ports]


def test_ports_left_to_us_are_picked_apart_and_given_ones_are_kept() -> None:
    given = {"workers": 4, "port": 0, "metrics_port": 0, "engine_port": 0}
    for _ in range(20):
        found = with_ports(load_settings(given))
        metrics = range(found.metrics_port, found.metrics_port + 4)
        taken = [found.port, found.engine_port, *metrics]
        assert 0 not in taken
        assert len(set(taken)) == 6
    kept = with_ports(load_settings({"port": 8080, "metrics_port": 9464, "engine_port": 8000}))
    assert (kept.port, kept.metrics_port, kept.engine_port) == (8080, 9464, 8000)


@pytest.mark.parametrize("left", ["port", "engine_port"])
def test_a_picked_port_is_none_of_the_given(left: str) -> None:
    seen: list[Collection[int]] = []

    def pick(host: str, taken: Collection[int], *, count: int) -> int:
        seen.append(taken)
        return 30_000

    given = {"workers": 2, "port": 8080, "metrics_port": 9464, "engine_port": 8000, left: 0}
    assert getattr(with_ports(load_settings(given), pick), left) == 30_000
    ((*taken,),) = seen
    assert {9464, 9465} <= {*taken}
