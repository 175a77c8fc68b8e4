"""The `loraplex` command. Sub-commands are imported only when they run, so that --help is quick."""

import sys
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from loraplex import __version__
from loraplex.errors import CommandError, LoraplexError


@dataclass(frozen=True)
class Lazy:
    """Where a sub-command lies: a Typer of several, or one function. help: its line in --help."""

    module: str
    attribute: str
    help: str


COMMANDS = {
    "serve": Lazy("loraplex.serve", "serve", "Run the gateway, with vLLM as its child."),
    "demo": Lazy("loraplex.demo", "demo", "Show the whole idea on a real model, then clean up."),
    "status": Lazy("loraplex.status", "status", "Show whether the gateway and engines are ready."),
    "data": Lazy("loraplex.data", "app", "Check training data, split it, see it as a model does."),
    "train": Lazy("loraplex.train", "train", "Train an adapter from a recipe, and judge it."),
    "eval": Lazy(
        "loraplex.eval", "evaluate", "Score answers on the engine, with and without an adapter."
    ),
    "merge": Lazy("loraplex.merge", "merge", "Bake adapters into the base, or make them one."),
    "extract": Lazy(
        "loraplex.extract", "extract", "Make an adapter of a fully tuned model and its base."
    ),
    "loadtest": Lazy(
        "loadtest.command.entry", "loadtest", "Load-test an OpenAI-compatible server."
    ),
    "tenants": Lazy("loraplex.tenants", "app", "Create, delete, restore and move tenants."),
    "keys": Lazy("loraplex.keys", "app", "Create, rotate and revoke a tenant's keys."),
    "adapters": Lazy("loraplex.adapters", "app", "Push, compare, promote and roll back adapters."),
    "backup": Lazy("loraplex.backup", "backup", "Back up everything while the gateway runs."),
    "restore": Lazy("loraplex.backup", "restore", "Restore a backup into an empty installation."),
    "audit": Lazy("loraplex.audit", "audit", "Show who changed what, newest first."),
    "gc": Lazy("loraplex.store", "gc", "Remove files that no version uses any more."),
    "verify": Lazy("loraplex.store", "verify", "Read every stored file again, and check it."),
}


class LazyGroup(TyperGroup):
    """Lists COMMANDS without importing them, and imports the one that is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, lazy in COMMANDS.items():
            self.add_command(TyperCommand(name, help=lazy.help))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        name, listed, rest = super().resolve_command(ctx, args)
        return name, listed and load(args[0]), rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (CommandError, LoraplexError) as error:
            from loraplex.output import fail

            fail(error.message)
            raise typer.Exit(error.exit_code if isinstance(error, CommandError) else 1) from None


def load(name: str) -> Any:
    """The sub-command itself."""
    lazy = COMMANDS[name]
    found = getattr(import_module(lazy.module), lazy.attribute)
    if not isinstance(found, typer.Typer):
        single = typer.Typer(add_completion=False, rich_markup_mode="markdown")
        single.command(name)(found)
        return get_command(single)
    command = get_command(found)
    command.name, command.help = name, lazy.help
    return command


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    # Not "rich", which takes `[default: 1]` in a help text for a style and drops it.
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"loraplex {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and end."
        ),
    ] = False,
) -> None:
    """One base model, a fine-tuned model for every customer."""


def main() -> None:
    """The console script."""
    app(prog_name="loraplex", args=sys.argv[1:])
