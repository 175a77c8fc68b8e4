"""The folder that a run's files go into, found and tried before anything is sent."""

from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

from loadtest.command.errors import CommandEnd, Usage
from loadtest.command.options import OutputOptions
from loadtest.report.result import RESULT_FILE

_NEEDED_BY_THE_PAGE = ("jinja2", "matplotlib")


def out_folder(options: OutputOptions, now: datetime) -> Path:
    """The folder, made and writable. Raises Usage, CommandEnd."""
    check_output(options)
    folder = options.out or _new(Path(), f"loadtest-{now:%Y%m%d-%H%M%S}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / f".{RESULT_FILE}.trial"
        trial.touch()
        trial.unlink()
    except FileExistsError:
        raise CommandEnd(f"--out: {folder} is a file; give a folder") from None
    except OSError as error:
        raise CommandEnd(f"--out: {folder} cannot be written ({error.strerror})") from None
    return folder


def check_output(options: OutputOptions) -> None:
    """Raises Usage, CommandEnd where what is asked for could not be made at the end. A result that
    lies there already may have taken hours: it is replaced only with --overwrite."""
    check_page(options)
    if options.out and (options.out / RESULT_FILE).exists() and not options.overwrite:
        raise Usage(
            f"--out: {options.out} holds a result already; give another folder, or --overwrite"
        )


def check_page(options: OutputOptions) -> None:
    """Raises CommandEnd where the report could not be made at the end."""
    missing = [name for name in _NEEDED_BY_THE_PAGE if find_spec(name) is None]
    if options.report and missing:
        raise CommandEnd(
            f"report.html needs {' and '.join(missing)}: pip install 'loraplex[loadtest]', or give"
            " --no-report for result.json and the tables alone"
        )


def _new(folder: Path, name: str) -> Path:
    """The name, with a number where several runs began in one second."""
    found, number = folder / name, 1
    while found.exists():
        number += 1
        found = folder / f"{name}-{number}"
    return found
