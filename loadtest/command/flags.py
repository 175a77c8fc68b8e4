"""One command of several groups of options, each a frozen dataclass and a panel of --help."""

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import fields
from inspect import Parameter, Signature
from typing import Annotated, Any, ClassVar, Protocol, get_args, get_type_hints

from typer.models import OptionInfo


class Group(Protocol):
    """Fields are `Annotated[type, typer.Option("--name", …)]` with a default."""

    PANEL: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]


def as_command(groups: tuple[type[Group], ...], run: Callable[..., None]) -> Callable[..., None]:
    """A function for Typer whose parameters are all options; calls `run` with a value of each
    group."""

    def command(**given: Any) -> None:
        run(*(group(**{one.name: given[one.name] for one in fields(group)}) for group in groups))

    parameters = [parameter for group in groups for parameter in _parameters(group)]
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    command.__doc__ = run.__doc__
    return command


def given(group: Group) -> list[str]:
    """The options of a group that were given, as they are written."""
    return [
        option_of(group, one.name)
        for one in fields(group)
        if getattr(group, one.name) != one.default
    ]


def option_of(group: Group, field: str) -> str:
    """A field's option, as it is written."""
    option = get_args(get_type_hints(type(group), include_extras=True)[field])[1]
    # Typer keeps the first name where others have their default.
    return str(option.default).partition("/")[0]


def _parameters(group: type[Group]) -> Iterator[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for one in fields(group):
        kind, option = get_args(hints[one.name])[:2]
        assert isinstance(option, OptionInfo)
        option = copy(option)
        option.rich_help_panel = group.PANEL
        yield Parameter(
            one.name,
            Parameter.KEYWORD_ONLY,
            default=one.default,
            annotation=Annotated[kind, option],
        )
