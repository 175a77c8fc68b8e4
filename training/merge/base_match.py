"""Whether an adapter belongs to the base that it is merged into, as far as either says."""

import re

from adapters_registry.base_model import BaseModelSpec
from training.errors import MergeError
from training.merge.adapter_folder import AdapterFolder

_COMMIT = re.compile(r"[0-9a-f]{40}")


def check_base(adapter: AdapterFolder, spec: BaseModelSpec) -> tuple[str, ...]:
    """What the user must be told. Raises MergeError for another revision, or another config.json.

    What either side does not know says nothing. A branch or a tag names no revision.
    """
    said = adapter.lineage.base
    named = said.name or adapter.config.base_name or "a base it does not name"
    for what, trained, found in (
        ("revision", _commit(said.revision), spec.revision),
        ("revision", _commit(adapter.config.revision), spec.revision),
        ("config.json", said.config_sha256, spec.config_sha256),
    ):
        if trained is not None and found is not None and trained != found:
            raise MergeError(
                f"{adapter.folder} was trained on another {what} of its base than this one:"
                f" {trained} of {named}, and this is {found} of {spec.name}; merge it into the base"
                " it was trained on"
            )
    return tuple(_differences(adapter, spec))


def _differences(adapter: AdapterFolder, spec: BaseModelSpec) -> list[str]:
    lineage = adapter.lineage
    found = []
    for what, trained, base in (
        ("tokenizer.json", lineage.tokenizer_sha256, spec.tokenizer_sha256),
        ("chat template", lineage.chat_template_sha256, spec.chat_template_sha256),
    ):
        if trained is not None and base is not None and trained != base:
            found.append(
                f"{adapter.folder.name} was trained with another {what} than the base's, which goes"
                " with the merged model"
            )
    if adapter.config.init == "lora_ga":
        found.append(
            f"{adapter.folder.name} began as LoRA-GA, which changes the base: the merge is right"
            " only on the base that was saved with it"
        )
    return found


def _commit(revision: str | None) -> str | None:
    return revision if revision is not None and _COMMIT.fullmatch(revision) else None
