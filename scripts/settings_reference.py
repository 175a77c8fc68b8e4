"""Prints docs/settings.md, made from the settings themselves."""

import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gateway.config import Settings

HEAD = """\
# Settings

Every setting of `loraplex serve`. A flag wins over the environment, the environment over the file
(`--config FILE`), the file over the default.

In the file, YAML, the names are those below and nested ones are nested:

```yaml
model: embedded
max_lora_rank: 16
limits:
  max_tokens: 4096
```

In the environment the names are in capitals with `LORAPLEX_` before them, and `__` where the name
has a dot. A list is written as words, quoted as in a shell:
`LORAPLEX_ENGINE_ARGS='--max-num-seqs 64'`.

This page is printed by `scripts/settings_reference.py`; a test compares them.
"""


def reference() -> str:
    """The whole page."""
    nested = {name: field for name, field in Settings.model_fields.items() if _model(field)}
    plain = {name: field for name, field in Settings.model_fields.items() if name not in nested}
    parts = [HEAD, "## The gateway and its engine", "", *_table(plain, "")]
    for name, field in nested.items():
        model = _model(field)
        assert model is not None
        parts += ["", f"## {name.capitalize()}", (model.__doc__ or "").strip(), ""]
        parts += _table(model.model_fields, f"{name}.")
    return "\n".join(parts) + "\n"


def _model(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _table(fields: dict[str, FieldInfo], prefix: str) -> list[str]:
    rows = ["| setting | environment | default | meaning |", "| --- | --- | --- | --- |"]
    for name, field in fields.items():
        full = prefix + name
        variable = "LORAPLEX_" + full.replace(".", "__").upper()
        meaning = (field.description or "").replace("|", "\\|")
        rows.append(f"| `{full}` | `{variable}` | {_default(field)} | {meaning} |")
    return rows


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value == []:
        return "unset"
    if isinstance(value, Path) and value.is_relative_to(Path.home()):
        value = "~" / value.relative_to(Path.home())
    return f"`{value}`"


if __name__ == "__main__":
    sys.stdout.write(reference())
