"""How adapters and versions are named on the command line."""

from dataclasses import dataclass
from typing import Annotated

import typer

from loraplex.errors import UsageError


@dataclass(frozen=True)
class Ref:
    """`TENANT/ADAPTER` or `TENANT/ADAPTER@N`."""

    tenant: str
    adapter: str
    version: int | None = None

    def __str__(self) -> str:
        name = f"{self.tenant}/{self.adapter}"
        return name if self.version is None else f"{name}@{self.version}"


def parse_ref(text: str) -> Ref:
    """The adapter, and the version if one is named."""
    from adapters_registry.types import is_name

    name, at, number = text.partition("@")
    tenant, _, adapter = name.partition("/")
    numbered = number.isascii() and number.isdigit() and int(number) > 0
    if not is_name(tenant) or not is_name(adapter) or (at and not numbered):
        raise UsageError(
            f"{text!r} names no adapter; write TENANT/ADAPTER or TENANT/ADAPTER@N, "
            "in lower-case letters, digits and hyphens, like acme/support@3"
        )
    return Ref(tenant, adapter, int(number) if at else None)


def adapter_ref(text: str) -> Ref:
    """The adapter, where no version may be named."""
    ref = parse_ref(text)
    if ref.version is not None:
        raise UsageError(f"{text!r} names one version; here it is {ref.tenant}/{ref.adapter}")
    return ref


def version_ref(text: str) -> tuple[Ref, int]:
    """The adapter and its version, which must be named."""
    ref = parse_ref(text)
    if ref.version is None:
        raise UsageError(f"which version of {text}? Write {text}@N; `adapters show {text}` lists N")
    return ref, ref.version


AdapterName = Annotated[str, typer.Argument(metavar="TENANT/ADAPTER")]
VersionName = Annotated[str, typer.Argument(metavar="TENANT/ADAPTER@N")]
AnyName = Annotated[str, typer.Argument(metavar="TENANT/ADAPTER[@N]")]
Reason = Annotated[
    str | None, typer.Option("--reason", help="Why; kept in the history and the audit.")
]
IfMatch = Annotated[
    int | None,
    typer.Option("--if-match", metavar="REVISION", help="Only if the adapter is at this revision."),
]
