"""Several gateway processes ("workers", counted from 0) on one port: addresses, sockets, shares."""

import socket
from contextlib import ExitStack

from gateway.config import Settings, SettingsError

LOOPBACK = "127.0.0.1"
_ANY_ADDRESS = {"0.0.0.0": LOOPBACK, "::": "::1"}  # noqa: S104 - asked at, not bound to


def settings_of(settings: Settings, worker: int) -> Settings:
    """What one worker runs with: its own operations port, its share of what there is once.

    The shares of `max_cpu_loras` add up to no more than the whole: every worker keeps an account
    of its own of what it put on the engine, and the engine has to hold all of it.
    Raises SettingsError.
    """
    shares = settings.workers
    if not 0 <= worker < shares:
        raise SettingsError(f"--worker {worker}: there are {shares} workers, counted from 0")
    return settings.model_copy(
        update={
            "metrics_port": settings.metrics_port + worker,
            "max_in_flight": -(-settings.max_in_flight // shares),
            "max_cpu_loras": settings.max_cpu_loras // shares,
        }
    )


def gateway_url(settings: Settings) -> str:
    """Where the gateway answers on this machine, whichever worker it is."""
    return f"http://{reachable(settings.host)}:{settings.port}"


def operations_url(settings: Settings, worker: int) -> str:
    """Where one worker is asked, and no other, on this machine."""
    host = reachable(settings.metrics_host or settings.host)
    return f"http://{host}:{settings.metrics_port + worker}"


def sibling_urls(settings: Settings, worker: int) -> list[str]:
    """The operations addresses of the other workers."""
    return [operations_url(settings, k) for k in range(settings.workers) if k != worker]


def reachable(host: str) -> str:
    """A listening address as a URL on this machine names it."""
    host = _ANY_ADDRESS.get(host, host)
    return f"[{host}]" if ":" in host else host


def shared_sockets(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to an address that every worker binds; the kernel spreads the connections.

    They do not listen yet: only who does gets connections. Raises OSError.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with ExitStack() as undo:
        bound = []
        for family, _, _, _, address in found:
            one = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(address)
            bound.append(one)
        undo.pop_all()
    return bound
