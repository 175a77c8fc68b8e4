"""Parts of a model card in Markdown, in which no word of an adapter's maker becomes markup."""

import json
from collections.abc import Iterable, Mapping

FENCE = "~~~~"


def section(title: str, body: str) -> str:
    """A part under a heading; nothing where it has no body."""
    return f"## {title}\n\n{body}" if body else ""


def table(fields: Mapping[str, object]) -> str:
    """Names and values, a pair a row."""
    lines: Iterable[str] = (f"| {cell(name)} | {cell(value)} |" for name, value in fields.items())
    return "\n".join(["| | |", "|---|---|", *lines, ""])


def items(texts: Iterable[str]) -> str:
    """A list, one item a line."""
    return "".join(f"- {cell(each)}\n" for each in texts)


def json_block(value: Mapping[str, object]) -> str:
    """A code block; nothing where there is nothing to tell."""
    if not value:
        return ""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return f"{FENCE}json\n{text}\n{FENCE}\n"


def shown(value: object) -> str:
    """A value as a cell tells it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def cell(value: object) -> str:
    """One line, in which nothing ends the cell or begins markup."""
    text = " ".join(str(value).split())
    for mark in "\\`|*_~[]<>&":
        text = text.replace(mark, f"\\{mark}")
    return text
