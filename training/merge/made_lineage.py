"""metadata.json of an adapter that was made of others, or of a fine-tune: where it comes from."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adapters_registry.base_model import BaseModelSpec
from adapters_registry.types import BaseIdentity, Lineage
from training.lineage import environment


def made_metadata(
    base: BaseModelSpec,
    base_name: str,
    recipe: Mapping[str, Any],
    *,
    made_of: Sequence[Lineage] = (),
    profile: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Lineage, and serving profile if there is one, as the registry takes them.

    recipe: how it was made, in words of JSON; must hold no path of this machine. made_of: of the
    adapters it was made of; what they agree on goes before what the base says.
    """
    lineage = Lineage(
        base=BaseIdentity(
            name=base_name,
            revision=base.revision,
            config_sha256=base.config_sha256,
            quantization=_agreed((one.base.quantization for one in made_of), base.quantization),
            rope_scaling=base.rope_scaling,
        ),
        tokenizer_sha256=_agreed((one.tokenizer_sha256 for one in made_of), base.tokenizer_sha256),
        chat_template_sha256=_agreed(
            (one.chat_template_sha256 for one in made_of), base.chat_template_sha256
        ),
        recipe={**recipe, "environment": environment()},
    )
    said: dict[str, Any] = {"lineage": lineage.model_dump(mode="json", exclude_none=True)}
    if profile:
        said["serving_profile"] = dict(profile)
    return said


def _agreed(said: Iterable[str | None], default: str | None) -> str | None:
    """What all say that say something; None where they differ."""
    found: set[str | None] = {value for value in said if value is not None} or {default}
    return found.pop() if len(found) == 1 else None
