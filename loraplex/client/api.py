"""The admin API's calls as methods of both clients: of one plain, of the other awaited."""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar, overload

from loraplex.client import calls
from loraplex.client.call import Call, Steps
from loraplex.client.download import download

if TYPE_CHECKING:
    from loraplex.client.clients import AsyncClient, Client

P = ParamSpec("P")
T = TypeVar("T")


class Route(Generic[P, T]):
    """A method made of what builds its call, or its several calls."""

    def __init__(self, build: Callable[P, Call[T] | Steps[T]]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, client: None, owner: object = None) -> Self: ...
    @overload
    def __get__(self, client: "Client", owner: object = None) -> Callable[P, T]: ...
    @overload
    def __get__(
        self, client: "AsyncClient", owner: object = None
    ) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, client: Any, owner: object = None) -> Any:
        if client is None:
            return self

        @wraps(self._build)
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            made = self._build(*args, **kwargs)
            return client.send(made) if isinstance(made, Call) else client.run(made)

        return method


class AdminApi:
    """Tenants and their keys, adapters and their versions, the store, the gateway itself."""

    tenants = Route(calls.tenants)
    tenant = Route(calls.tenant)
    create_tenant = Route(calls.create_tenant)
    set_policy = Route(calls.set_policy)
    delete_tenant = Route(calls.delete_tenant)
    deleted_tenants = Route(calls.deleted_tenants)
    restore_tenant = Route(calls.restore_tenant)
    export_tenant = Route(calls.export_tenant)
    import_tenant = Route(calls.import_tenant)

    keys = Route(calls.keys)
    create_key = Route(calls.create_key)
    rotate_key = Route(calls.rotate_key)
    revoke_key = Route(calls.revoke_key)

    adapters = Route(calls.adapters)
    adapter = Route(calls.adapter)
    promote = Route(calls.promote)
    rollback = Route(calls.rollback)
    history = Route(calls.history)

    push = Route(calls.push)
    versions = Route(calls.versions)
    version = Route(calls.version)
    card = Route(calls.card)
    evaluate = Route(calls.evaluate)
    prove = Route(calls.prove)
    download = Route(download)
    read_file = Route(calls.read_file)
    delete_version = Route(calls.delete_version)

    gc = Route(calls.gc)
    verify = Route(calls.verify)
    backup = Route(calls.backup)
    audit = Route(calls.audit)
    engines = Route(calls.engines)
    ready = Route(calls.ready)
