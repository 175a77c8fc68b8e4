"""YAML as a recipe is written: safe, no key twice, errors with line and column."""

from typing import Any

import yaml

from training.errors import RecipeError


def parse_yaml(text: str, name: str) -> Any:
    """What `text` holds. name: of the file, for messages. Raises RecipeError."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506  # a SafeLoader
    except yaml.YAMLError as error:
        raise RecipeError(f"{name}: {_place(error)}{_fault(error)}") from error


def parse_value(text: str) -> Any:
    """One value, as `--set` has it. Raises RecipeError."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506  # a SafeLoader
    except yaml.YAMLError as error:
        raise RecipeError(f"`{text}` is not YAML: {_fault(error)}") from error


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses a key that stands twice, where YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if key.value in seen and key.value != "<<":
                raise yaml.constructor.ConstructorError(
                    problem=f"`{key.value}` stands here and in line {seen[key.value]};"
                    " remove one of them",
                    problem_mark=key.start_mark,
                )
            seen[key.value] = line
        return super().construct_mapping(node, deep)


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""


def _fault(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        words = [error.problem or "cannot be read"]
        if isinstance(error, yaml.parser.ParserError | yaml.scanner.ScannerError):
            words.append("check the indentation, and quote texts with special characters")
        return "; ".join(words)
    return " ".join(str(error).split())
