"""Where an adapter comes from: what its own files add, and what its base has that ours has not."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from adapters_registry.artifacts import CONFIG_FILE
from adapters_registry.base_model import BaseModelSpec
from adapters_registry.errors import UnknownVersion
from adapters_registry.safetensors_header import shown
from adapters_registry.types import BaseIdentity, Lineage, VersionState

_NAME_CHARS = 512
_REVISION_CHARS = 128
_COMMIT = re.compile(r"[0-9a-f]{40}")


def completed(lineage: Lineage, folder: Path) -> Lineage:
    """The lineage with the base that `adapter_config.json` names, where its maker named none.

    folder: of an adapter that was checked.
    """
    config = json.loads((folder / CONFIG_FILE).read_bytes())
    base = lineage.base
    named = {
        "name": base.name or _text(config.get("base_model_name_or_path"), _NAME_CHARS),
        "revision": base.revision or _text(config.get("revision"), _REVISION_CHARS),
    }
    return lineage.model_copy(update={"base": base.model_copy(update=named)})


def check_parent(lineage: Lineage, states: Mapping[int, VersionState]) -> None:
    """Raises UnknownVersion for a parent that this adapter never had."""
    if lineage.parent is not None and lineage.parent not in states:
        raise UnknownVersion(
            f"lineage.parent: version {lineage.parent} of this adapter does not exist",
            field="lineage.parent",
        )


def differences(lineage: Lineage, base: BaseModelSpec) -> tuple[str, ...]:
    """What the maker says of the base that is not so of the one that serves, in words.

    Names are compared when the files are checked; what either side does not know says nothing.
    """
    identity = lineage.base
    found = []
    for what, trained, served in (
        ("revision", _commit(identity.revision), base.revision),
        ("config", identity.config_sha256, base.config_sha256),
        ("tokenizer", lineage.tokenizer_sha256, base.tokenizer_sha256),
        ("chat template", lineage.chat_template_sha256, base.chat_template_sha256),
    ):
        if trained is not None and served is not None and trained != served:
            found.append(
                f"trained with another {what} of the base ({shown(trained[:12])}) than the one"
                f" that serves ({shown(served[:12])})"
            )
    return (*found, *_of_weights(identity, base))


def _of_weights(identity: BaseIdentity, base: BaseModelSpec) -> list[str]:
    found = []
    if identity.quantization is not None and identity.quantization != base.quantization:
        found.append(
            f"trained on a base quantized as {shown(identity.quantization)}, served on one with"
            f" {base.quantization or 'no quantization'}: answers may differ a little"
        )
    if identity.rope_scaling is not None and identity.rope_scaling != (base.rope_scaling or {}):
        found.append("trained with another RoPE scaling of the base than the one that serves")
    return found


def _text(value: object, most_chars: int) -> str | None:
    """A maker's word, unless it is none; of a path on its maker's machine the last name alone."""
    if not isinstance(value, str) or not value.isprintable() or len(value) > most_chars:
        return None
    if value.startswith(("/", "~", ".")) or "\\" in value:
        value = value.rstrip("/\\").replace("\\", "/").rpartition("/")[2]
    return value or None


def _commit(revision: str | None) -> str | None:
    """A branch or a tag, as `main`, says nothing of which commit it was."""
    return revision if revision is not None and _COMMIT.fullmatch(revision) else None
