"""A look at the target before the run: is it there, does it take the keys, has it the models?

One `GET /v1/models` a key, which costs a server nothing. What it cannot tell, the run's first
answers do (loadtest.running.first_answers).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loadtest.client.target import Target
from loadtest.command.errors import CommandEnd, Usage
from loadtest.workload.spec import Workload

if TYPE_CHECKING:  # Imported by the command that asks, not by --help.
    import httpx

_PATIENCE_S = 10.0
_MOST_KEYS = 100
_SHOWN = 20
_REFUSED = (401, 403)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the server said to one key. problem: why a run would be in vain. remark: what is odd,
    but may be as it should."""

    tenant: str
    models: tuple[str, ...] = ()
    problem: str | None = None
    remark: str | None = None


def look(target: Target, tenants: Iterable[str] = ()) -> list[Seen]:
    """Asks once for each tenant's key, or for the only one. Ends at the first problem."""
    seen: list[Seen] = []
    asked: set[str | None] = set()
    for tenant in [*tenants][:_MOST_KEYS] or [""]:
        key = target.key_of(tenant)
        if key in asked:
            continue
        asked.add(key)
        seen.append(_ask(target, tenant))
        if seen[-1].problem is not None:
            break
    return seen


def only_model(seen: Seen) -> str:
    """The one model that the server has. Raises CommandEnd, Usage where a choice must be made."""
    if seen.problem is not None:
        raise CommandEnd(seen.problem)
    if not seen.models:
        why = seen.remark or "the server does not list what it has"
        raise Usage(f"--model: is missing, and must be named: {why}")
    if len(seen.models) > 1:
        raise Usage(f"--model: is missing; the server has {_listed(seen.models)}")
    return seen.models[0]


def remarks(workload: Workload, seen: Iterable[Seen]) -> Iterator[str]:
    """What looks wrong, in sentences: odd answers, models that a tenant's list lacks."""
    for one in seen:
        if one.remark is not None:
            yield one.remark
        if one.models:
            yield from _unlisted(workload, one)


def known_models(seen: Iterable[Seen]) -> str | None:
    """Names for a message that a model is not there; None where the server told none."""
    names = dict.fromkeys(name for one in seen for name in one.models)
    return _listed(tuple(names)) if names else None


def _unlisted(workload: Workload, seen: Seen) -> Iterator[str]:
    # A pinned version, as support@3, is served though it is not listed.
    asked = [
        model.name
        for model in workload.models
        if model.tenant in (None, seen.tenant) and model.name.partition("@")[0] not in seen.models
    ]
    missing = [name for name in asked if name not in seen.models]
    if missing:
        whose = f" for tenant `{seen.tenant}`" if seen.tenant else ""
        yield (
            f"the server does not list {_listed(tuple(missing))}{whose}; it has"
            f" {_listed(seen.models)}"
        )


def _ask(target: Target, tenant: str) -> Seen:
    import httpx

    key = target.key_of(tenant)
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    url = f"{'https' if target.tls else 'http'}://{_netloc(target)}{target.prefix}/v1/models"
    verify = target.ssl_context() or True
    try:
        with httpx.Client(verify=verify, timeout=_PATIENCE_S, trust_env=False) as client:
            answer = client.get(url, headers=headers | dict(target.headers))
    except httpx.ReadTimeout:
        slow = f"{target.url} did not answer GET /v1/models within {_PATIENCE_S:g} s"
        return Seen(tenant, remark=f"{slow}; is it overloaded?")
    except httpx.HTTPError as error:
        return Seen(tenant, problem=_unreachable(target, error))
    return _judged(target, tenant, answer)


def _judged(target: Target, tenant: str, answer: "httpx.Response") -> Seen:
    status, asked = answer.status_code, f"{target.url} answered {answer.status_code}"
    if status in _REFUSED:
        return Seen(tenant, problem=f"{asked}: {_key_fault(target, tenant)}")
    if answer.is_redirect:
        where = answer.headers.get("location", "elsewhere")
        return Seen(tenant, problem=f"{asked}: it sends to {where}; give that address as --url")
    if status != 200:
        return Seen(tenant, remark=f"{asked} to GET /v1/models; is --url right?")
    try:
        names = tuple(str(model["id"]) for model in answer.json()["data"])
    except (ValueError, KeyError, TypeError):
        remark = f"{target.url} answers GET /v1/models without a list of models; is --url right?"
        return Seen(tenant, remark=remark)
    return Seen(tenant, names)


def _key_fault(target: Target, tenant: str) -> str:
    if target.key_of(tenant) is None:
        return "it wants a key; give --key-file, --key or LORAPLEX_KEY"
    if tenant in target.keys:
        where = "--keys-file, or where the workload's file says that it is"
        return f"it does not take the key of tenant `{tenant}`; check {where}"
    return "it does not take the key; check --key, --key-file or LORAPLEX_KEY"


def _unreachable(target: Target, error: Exception) -> str:
    import httpx

    said = str(error)
    if isinstance(error, httpx.TimeoutException):
        fix = f"no connection within {_PATIENCE_S:g} s; is a firewall between, or --url wrong?"
    elif "refused" in said:
        fix = "nothing listens there; start the server, or check --url"
    elif "Name or service" in said or "name resolution" in said or "No address" in said:
        fix = "no such host; check --url"
    elif "certificate" in said.lower():
        fix = "its certificate is not trusted; give its authority with --ca-file, or --insecure"
    elif "SSL" in said:
        fix = "it does not speak TLS there; is it http:// instead of https://?"
    elif isinstance(error, httpx.RemoteProtocolError | httpx.ReadError):
        fix = "what answers there is no HTTP server; check --url"
        if not target.tls:
            fix += ", or is it https:// there?"
    else:
        fix = f"{said or type(error).__name__}; check --url"
    return f"{target.url} cannot be reached: {fix}"


def _netloc(target: Target) -> str:
    host = f"[{target.host}]" if ":" in target.host else target.host
    return f"{host}:{target.port}"


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown
