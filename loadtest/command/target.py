"""From the options and the environment to the target."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import SecretStr

from loadtest.client.target import Target, TargetError
from loadtest.command.errors import Usage
from loadtest.command.options import TargetOptions
from loadtest.command.values import pairs
from loadtest.workload.errors import WorkloadError
from loadtest.workload.keys import checked_key, read_keys
from loadtest.workload.spec import Workload


def target_of(options: TargetOptions, environ: Mapping[str, str]) -> Target:
    """The target, without tenants' keys yet. Raises Usage, which holds no key."""
    url = options.url or environ.get("LORAPLEX_URL")
    if not url:
        raise Usage("--url: is missing; give the server's address, or set LORAPLEX_URL")
    key = _key(options, environ)
    try:
        target = Target(
            url,
            key=None if key is None else SecretStr(key),
            headers=pairs(options.header, ":", "--header"),
            ca_file=options.ca_file,
            check_certificate=not options.insecure,
        )
        target.ssl_context()
    except TargetError as error:
        raise Usage(str(error)) from None
    if not target.tls and (options.ca_file is not None or options.insecure):
        option = "--insecure" if options.ca_file is None else "--ca-file"
        raise Usage(f"{option}: has no meaning with http://; leave it out, or check --url")
    return target


def with_tenants(target: Target, workload: Workload, environ: Mapping[str, str]) -> Target:
    """The target with a key for each tenant. Raises WorkloadError."""
    return replace(target, keys=read_keys(workload, environ))


def _key(options: TargetOptions, environ: Mapping[str, str]) -> str | None:
    if options.key is not None and options.key_file is not None:
        raise Usage("--key-file: stands beside --key; keep one of them")
    try:
        if options.key is not None:
            return checked_key(options.key.strip(), "--key:")
        if options.key_file is not None:
            return checked_key(_read(options.key_file).strip(), f"--key-file: {options.key_file}")
        key = environ.get("LORAPLEX_KEY", "").strip()
        return checked_key(key, "LORAPLEX_KEY:") if key else None
    except WorkloadError as error:
        raise Usage(str(error)) from None


def _read(path: Path) -> str:
    try:
        return path.expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise Usage(f"--key-file: {path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise Usage(f"--key-file: {path} is not UTF-8") from None
