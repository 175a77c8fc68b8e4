"""From the options, and the file they change, to the workload."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtest.command.arrivals import arrivals_of
from loadtest.command.errors import Usage
from loadtest.command.load_options import AskOptions, LoadOptions, WhoOptions
from loadtest.command.values import body_fields, choice, length, pause, prefix, prompt_file
from loadtest.workload.errors import WorkloadError
from loadtest.workload.keys import listed_keys
from loadtest.workload.loading import make_workload, read_fields
from loadtest.workload.spec import MADE_BY_THE_TESTER, Workload, expand

RECORDED = "recorded"


def fields_of(load: LoadOptions, who: WhoOptions, ask: AskOptions) -> dict[str, Any]:
    """A workload's fields, not checked as a whole yet; paths of options are absolute. `models` is
    missing where neither the file nor an option names any. Raises Usage, WorkloadError."""
    fields = {} if load.workload is None else read_fields(load.workload)
    mix = fields.get("mix") if isinstance(fields.get("mix"), list) else [{}]
    fields["mix"] = [
        _asked(ask, load, kind) if isinstance(kind, dict) else kind for kind in mix or [{}]
    ]
    turns = any(isinstance(kind, dict) and kind.get("sessions") for kind in fields["mix"])
    fields["arrivals"] = arrivals_of(load, fields.get("arrivals"), turns=turns)
    fields |= _named(who, fields)
    fields |= _given(
        requests=load.requests, seed=load.seed, ask_usage=ask.usage, tokenizer=_path(ask.tokenizer)
    )
    return fields


def workload_of(fields: dict[str, Any], load: LoadOptions) -> Workload:
    """The workload. Raises WorkloadError."""
    folder = Path.cwd() if load.workload is None else load.workload.absolute().parent
    return make_workload(fields, folder)


def needs_models(fields: dict[str, Any]) -> bool:
    """Whether it must still be said what is asked."""
    return not fields.get("models") and fields["arrivals"]["kind"] != "trace"


def _asked(ask: AskOptions, load: LoadOptions, kind: dict[str, Any]) -> dict[str, Any]:
    """A kind of request, changed by the options."""
    if ask.prompts is not None and ask.prompt_tokens is not None:
        raise Usage("--prompt-tokens: real prompts have their own length; leave one of both out")
    found = kind | _given(route=ask.route and str(ask.route), stream=ask.stream)
    if ask.prompts is not None:
        found["prompts"] = prompt_file(ask.prompts)
    if ask.prompt_tokens is not None:
        tokens = length(ask.prompt_tokens, "--prompt-tokens")
        found["prompts"] = {"kind": "synthetic", "tokens": tokens}
    if ask.max_tokens is not None:
        found["max_tokens"] = length(ask.max_tokens, "--max-tokens")
    if ask.prefix is not None:
        found["prefix"] = prefix(ask.prefix)
    if ask.turns is not None:
        found["sessions"] = _sessions(ask.turns, load)
        if ask.turns == RECORDED and found.get("prompts", {}).get("kind") != "file":
            raise Usage("--turns: recorded turns are those of conversations; give --prompts FILE")
    extra = _extra(ask)
    if ask.ignore_eos:
        extra["ignore_eos"] = True
    return found | ({"extra": {**(kind.get("extra") or {}), **extra}} if extra else {})


def _extra(ask: AskOptions) -> dict[str, Any]:
    found = {} if ask.extra is None else body_fields(ask.extra)
    if made := sorted(MADE_BY_THE_TESTER & found.keys()):
        raise Usage(f"--extra: the tester sets `{made[0]}` itself; take it out")
    return found


def _sessions(turns: str, load: LoadOptions) -> dict[str, Any]:
    found: dict[str, Any] = (
        {"recorded": True} if turns == RECORDED else {"turns": length(turns, "--turns")}
    )
    if load.think is not None:
        found["think_s"] = pause(load.think, "--think")
    return found


def _named(who: WhoOptions, before: dict[str, Any]) -> dict[str, Any]:
    """The tenants and models that options name."""
    found: dict[str, Any] = {}
    if who.keys_file is not None:
        found["keys_file"] = _path(who.keys_file)
    if who.tenant is not None:
        found["tenants"] = list(who.tenant)
    elif who.keys_file is not None and not before.get("tenants"):
        found["tenants"] = _in_file(who.keys_file)
    if who.tenant_choice is not None:
        found["tenant_choice"] = choice(who.tenant_choice, "--tenant-choice")
    if who.model is not None:
        found["models"] = _models(who.model, found.get("tenants") or before.get("tenants") or ())
    if who.model_choice is not None:
        found["model_choice"] = choice(who.model_choice, "--model-choice")
    return found


def _in_file(path: Path) -> list[str]:
    """The names in a file of keys."""
    try:
        names = list(listed_keys(path))
    except WorkloadError as error:
        raise Usage(f"--{str(error).replace('keys_file', 'keys-file')}") from None
    if not names:
        raise Usage(f"--keys-file: {path} holds no line NAME=KEY")
    return names


def _models(given: Sequence[str], tenants: Any) -> list[dict[str, Any]]:
    """Entries; `acme=support` belongs to tenant acme, where there is one of that name."""
    names = {name for tenant in tenants for name in _tenant_names(tenant)}
    found: list[dict[str, Any]] = []
    for text in given:
        if not text.strip():
            raise Usage("--model: is empty; give a model's name")
        owner, equals, name = text.partition("=")
        owned = bool(equals) and owner in names
        found.append({"name": name, "tenant": owner} if owned else {"name": text})
    return found


def _tenant_names(tenant: Any) -> list[str]:
    name = tenant.get("name") if isinstance(tenant, dict) else tenant
    try:
        return expand(str(name))
    except ValueError:
        return []


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path.expanduser().absolute())


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
