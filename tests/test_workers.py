"""Which addresses and which share each of several workers has."""

import socket
from contextlib import ExitStack

import pytest

from gateway.config import Settings, SettingsError, load_settings
from gateway.preflight import pick_port
from gateway.workers import (
    gateway_url,
    operations_url,
    settings_of,
    shared_sockets,
    sibling_urls,
)


def of(workers: int, **settings: object) -> Settings:
    return load_settings({"workers": workers, "metrics_port": 9464, **settings})


def test_one_worker_has_everything() -> None:
    settings = of(1)
    assert settings_of(settings, 0) == settings
    assert sibling_urls(settings, 0) == []


def test_each_worker_has_its_share_and_a_port_of_its_own() -> None:
    settings = of(3, max_in_flight=10, max_cpu_loras=11)
    shares = [settings_of(settings, worker) for worker in range(3)]
    assert [share.metrics_port for share in shares] == [9464, 9465, 9466]
    # Rounded up: together no fewer than asked for. Rounded down: never more than the engine holds.
    assert {share.max_in_flight for share in shares} == {4}
    assert {share.max_cpu_loras for share in shares} == {3}
    assert {share.port for share in shares} == {settings.port}


@pytest.mark.parametrize("worker", [-1, 2])
def test_a_worker_that_there_is_not(worker: int) -> None:
    with pytest.raises(SettingsError, match="there are 2 workers"):
        settings_of(of(2), worker)


def test_siblings_are_all_the_others() -> None:
    assert sibling_urls(of(3), 1) == ["http://127.0.0.1:9464", "http://127.0.0.1:9466"]


@pytest.mark.parametrize(
    ("host", "metrics_host", "expected"),
    [
        ("0.0.0.0", None, ("http://127.0.0.1:8080", "http://127.0.0.1:9465")),
        ("::", None, ("http://[::1]:8080", "http://[::1]:9465")),
        ("192.0.2.1", "127.0.0.1", ("http://192.0.2.1:8080", "http://127.0.0.1:9465")),
        ("fe80::1", "::", ("http://[fe80::1]:8080", "http://[::1]:9465")),
    ],
)
def test_addresses_as_this_machine_asks_at_them(
    host: str, metrics_host: str | None, expected: tuple[str, str]
) -> None:
    settings = of(2, host=host, metrics_host=metrics_host)
    assert (gateway_url(settings), operations_url(settings, 1)) == expected


def test_workers_share_a_port_and_only_who_listens_gets_connections() -> None:
    port = pick_port("127.0.0.1")
    with ExitStack() as stack:
        (one,) = shared_sockets("127.0.0.1", port)
        stack.enter_context(one)
        (other,) = shared_sockets("127.0.0.1", port)
        stack.enter_context(other)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        other.listen()
        for _ in range(32):
            with socket.create_connection(("127.0.0.1", port)):
                other.accept()[0].close()
        one.listen()
        with pytest.raises(OSError, match="Address already in use"):
            socket.create_server(("127.0.0.1", port))
