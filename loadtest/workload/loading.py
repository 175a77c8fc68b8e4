"""From a YAML or JSON file, or from fields, to a workload with absolute paths."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from loadtest.workload.errors import WorkloadError
from loadtest.workload.explain import explain
from loadtest.workload.part import Part
from loadtest.workload.spec import Workload


def load_workload(path: Path, changes: Mapping[str, Any] | None = None) -> Workload:
    """The workload in a file; paths in it are relative to its folder.

    changes: fields that replace the file's. Raises WorkloadError.
    """
    return make_workload(read_fields(path) | dict(changes or {}), path.absolute().parent)


def read_fields(path: Path) -> dict[str, Any]:
    """What stands in a workload's file, not looked at yet. Raises WorkloadError."""
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WorkloadError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise WorkloadError(f"{path}: is not UTF-8") from error
    except yaml.YAMLError as error:
        # Not chained: the error quotes the file, in which someone may have put a key.
        raise WorkloadError(f"{path.name}{_yaml_fault(error)}") from None
    if not isinstance(given, dict):
        raise WorkloadError(f"{path.name}: holds no fields; write at least `arrivals` and `models`")
    return given


def make_workload(fields: Mapping[str, Any], folder: Path) -> Workload:
    """The workload of these fields, paths made absolute in `folder`.

    Raises WorkloadError: a line a problem, with the field and the fix.
    """
    try:
        workload = Workload.model_validate(fields)
    except ValidationError as error:
        # Not chained, for the same reason.
        raise WorkloadError("\n".join(explain(error))) from None
    found = _resolved(workload, folder)
    assert isinstance(found, Workload)
    return found


def _resolved(value: Any, folder: Path) -> Any:
    """The same with every path in it absolute."""
    if isinstance(value, Path):
        return folder / value.expanduser()
    if isinstance(value, tuple):
        return tuple(_resolved(one, folder) for one in value)
    if isinstance(value, Part):
        found = {name: _resolved(getattr(value, name), folder) for name in value.model_fields_set}
        return value.model_copy(update=found)
    return value


def _yaml_fault(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return ": is not YAML"
    mark = error.problem_mark
    fix = "check the indentation, and quote texts with special characters"
    return f", line {mark.line + 1}, column {mark.column + 1}: is not YAML; {fix}"
