"""The tenants' keys, read from where the workload says; they are shown nowhere."""

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from loadtest.workload.errors import WorkloadError
from loadtest.workload.spec import Tenant, Workload

_KEY = re.compile(r"[!-~]+")


def read_keys(workload: Workload, environ: Mapping[str, str]) -> dict[str, SecretStr]:
    """Each tenant's key by the tenant's name; a tenant without one is left out.

    environ: the process's environment. Raises WorkloadError, which holds no key.
    """
    listed = {} if workload.keys_file is None else listed_keys(workload.keys_file)
    keys: dict[str, SecretStr] = {}
    problems: list[str] = []
    for place, tenant in enumerate(workload.tenants):
        try:
            key = _key_of(tenant, listed, environ)
        except WorkloadError as error:
            problems.append(f"tenants[{place}].{error}")
            continue
        if key is not None:
            keys[tenant.name] = SecretStr(key)
        elif workload.keys_file is not None:
            problems.append(f"keys_file: has no line for the tenant `{tenant.name}`; add it")
    if problems:
        raise WorkloadError("\n".join(problems))
    return keys


def _key_of(tenant: Tenant, listed: Mapping[str, str], environ: Mapping[str, str]) -> str | None:
    if tenant.key_env is not None:
        key = environ.get(tenant.key_env, "").strip()
        if not key:
            raise WorkloadError(f"key_env: `{tenant.key_env}` is not set; export it with the key")
        return checked_key(key, f"key_env: `{tenant.key_env}`")
    if tenant.key_file is not None:
        key = _read(tenant.key_file, "key_file").strip()
        return checked_key(key, f"key_file: {tenant.key_file}")
    return listed.get(tenant.name)


def listed_keys(path: Path) -> dict[str, str]:
    """Keys by names, of lines `NAME=KEY`; comments begin with #. Raises WorkloadError."""
    found: dict[str, str] = {}
    for line, text in enumerate(_read(path, "keys_file").splitlines(), 1):
        if not text.strip() or text.lstrip().startswith("#"):
            continue
        name, equals, key = (part.strip() for part in text.partition("="))
        if not (name and equals):
            raise WorkloadError(f"keys_file: {path}, line {line}: is not NAME=KEY")
        if name in found:
            raise WorkloadError(
                f"keys_file: {path}, line {line}: `{name}` stands there twice; take one out"
            )
        found[name] = checked_key(key, f"keys_file: {path}, line {line}: what follows `=`")
    return found


def _read(path: Path, field: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise WorkloadError(f"{field}: {path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise WorkloadError(f"{field}: {path} is not UTF-8") from error


def checked_key(key: str, where: str) -> str:
    """The same key. where: what the message begins with. Raises WorkloadError, without the key."""
    if _KEY.fullmatch(key) is None:
        fault = "is empty" if not key else "holds spaces, lines or marks that no key has"
        raise WorkloadError(f"{where} {fault}; it must hold the key alone")
    return key
