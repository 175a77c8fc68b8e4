"""Who is asked in an evaluation: base, candidate and live, and the engine that answers for them."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from loraplex.adapter_source import adapter_source, fetch_adapter, named_version
from loraplex.cache import cache_dir
from loraplex.client.clients import Client
from loraplex.client.errors import Forbidden, InvalidKey
from loraplex.connection import Connection, client_of, gateway_connection
from loraplex.errors import UsageError
from loraplex.eval_run import Options, Where
from loraplex.refs import Ref

if TYPE_CHECKING:  # the training module is loaded only by the command that needs it
    from adapters_registry.base_model import BaseModelSpec
    from training.bench import Bench
    from training.evaluation.engines import Progress

_KEY_NAME = "loraplex eval"
_KEY_LASTS = timedelta(hours=24)
"""Longer than an evaluation; a key that a killed command could not revoke ends by itself."""
_MOST_RANK = 512


@contextmanager
def open_bench(options: Options, progress: "Progress") -> "Iterator[Bench]":
    """The engine and its subjects for as long as the block runs. Raises CommandError and others."""
    named = {"candidate": options.adapter, "live": options.live}
    adapters = {name: text for name, text in named.items() if text is not None}
    if "live" in adapters and "candidate" not in adapters:
        raise UsageError("--live is what --adapter is compared with; give both")
    if options.where is Where.GATEWAY:
        with _at_gateway(options, adapters) as bench:
            yield bench
        return
    with _offline(options, adapters, progress) as bench:
        yield bench


@dataclass(frozen=True, slots=True)
class _Adapter:
    """An adapter's folder, checked. described: what it is, in words."""

    folder: Path
    described: str
    rank: int


@contextmanager
def _offline(options: Options, adapters: dict[str, str], progress: "Progress") -> "Iterator[Bench]":
    """A vLLM of this command's own; versions are pulled first."""
    from adapters_registry.models import resolve_model
    from training.bench import Bench
    from training.evaluation.engines import Subject
    from training.evaluation.offline import OfflineEngine

    sources = {name: adapter_source(text) for name, text in adapters.items()}
    base = resolve_model(options.base, cache_dir(), report=progress)
    with ExitStack() as stack:
        pulled = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="loraplex-eval-")))
        found = _adapters(sources, base, options, pulled, progress)
        subjects = [Subject("base")] if options.with_base else []
        subjects += [Subject(name, adapter=one.folder) for name, one in found.items()]
        described = {"base": options.base} if options.with_base else {}
        described |= {name: one.described for name, one in found.items()}
        rank = max((one.rank for one in found.values()), default=1)
        engine = OfflineEngine(
            base, max_rank=rank, max_model_len=options.max_model_len, progress=progress
        )
        yield Bench(stack.enter_context(engine), subjects, described)


def _adapters(
    sources: Mapping[str, Path | Ref],
    base: Path,
    options: Options,
    pulled: Path,
    progress: "Progress",
) -> dict[str, _Adapter]:
    """Each adapter as a folder, checked against the base."""
    from adapters_registry.base_model import load_spec

    if not sources:
        return {}
    found = {}
    spec = load_spec(base, cache_dir())
    for name, source in sources.items():
        files = fetch_adapter(
            source, pulled / name, url=options.url, key=options.key, told=progress
        )
        found[name] = _Adapter(files.folder, files.described, _checked_rank(files.folder, spec))
    return found


def _checked_rank(folder: Path, spec: "BaseModelSpec") -> int:
    """The adapter's rank, once it is sure that the engine will apply all of it."""
    from adapters_registry.adapter_config import read_config
    from adapters_registry.manifest import check_adapter

    check_adapter(folder, spec, _MOST_RANK)
    return read_config(folder, _MOST_RANK).max_rank()


@contextmanager
def _at_gateway(options: Options, adapters: dict[str, str]) -> "Iterator[Bench]":
    """The gateway's own engines, asked as a client asks them."""
    from loraplex.train_register import base_name
    from training.bench import Bench
    from training.evaluation.endpoint import EndpointEngine
    from training.evaluation.engines import Subject

    connection = gateway_connection(options.url, options.key)
    refs = {name: named_version(text) for name, text in adapters.items()}
    tenants = {ref.tenant for ref in refs.values()}
    if len(tenants) > 1:
        raise UsageError("--live: with --engine gateway both adapters are of one tenant")
    tenant = next(iter(tenants), None)
    with _inference_key(connection, tenant) as key:
        url = f"{connection.url}/v1"
        subjects: list[Subject] = []
        described: dict[str, str] = {}
        if options.with_base:
            model = base_name(url, key, tenant or "of this key")
            subjects.append(Subject("base", model=model))
            described["base"] = model
        for name, ref in refs.items():
            number = "" if ref.version is None else f"@{ref.version}"
            subjects.append(Subject(name, model=f"{ref.adapter}{number}"))
            described[name] = str(ref)
        with EndpointEngine(url, key) as engine:
            yield Bench(engine, subjects, described)


@contextmanager
def _inference_key(connection: Connection, tenant: str | None) -> Iterator[str]:
    """A key that may ask: the one given, or, where that one manages the tenant, one for now."""
    if connection.key is None:
        raise UsageError("--engine gateway needs a key: pass --key or set LORAPLEX_KEY")
    with client_of(connection) as gateway:
        made = None if tenant is None else _make_key(gateway, tenant)
        try:
            yield connection.key if made is None else made[1]
        finally:
            if made is not None and tenant is not None:
                gateway.revoke_key(tenant, made[0])


def _make_key(gateway: Client, tenant: str) -> tuple[str, str] | None:
    """(id, key); None where the key at hand may not make any, and so is one to ask with."""
    expires_at = datetime.now(UTC) + _KEY_LASTS
    try:
        made = gateway.create_key(
            tenant, name=_KEY_NAME, scopes=["inference"], expires_at=expires_at
        )
    except (Forbidden, InvalidKey):
        return None
    return made["id"], made["key"]
