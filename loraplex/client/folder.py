"""A PEFT adapter's folder on disk: what of it is pushed, and what is said beside it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from loraplex.client.answers import Metadata
from loraplex.client.call import UploadPart
from loraplex.client.errors import InvalidMetadata, UnusableFolder

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
METADATA = "metadata.json"
TEMPLATE = "chat_template.jinja"

_FROM_FOLDER = ("serving_profile", "lineage")
_CONVERT = (
    'convert it, in the folder: python -c "import torch, safetensors.torch as s; '
    "s.save_file({k: v.contiguous() for k, v in torch.load('adapter_model.bin', "
    "map_location='cpu', weights_only=True).items()}, 'adapter_model.safetensors')\""
)


@dataclass(frozen=True)
class Upload:
    """The parts to send, and the size of those read from disk."""

    parts: tuple[UploadPart, ...]
    file_bytes: int


def read_folder(folder: Path, metadata: Metadata | None = None) -> Upload:
    """What a push of this folder sends. metadata: wins over what the folder says of itself.

    Raises UnusableFolder, InvalidMetadata.
    """
    check_files(folder)
    own = metadata_of(folder)
    said = cast(Metadata, {**own, **(metadata or {})})
    files = [folder / CONFIG, folder / WEIGHTS]
    config, weights = (UploadPart(file.name, file) for file in files)
    parts = (config, *metadata_part(said), weights)
    return Upload(parts, sum(file.stat().st_size for file in files))


def metadata_of(folder: Path) -> Metadata:
    """The serving profile and the lineage in the folder's metadata.json, which others write too.

    A verdict is not taken from there: who pushes must say it. Raises InvalidMetadata.
    """
    file = folder / METADATA
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_bytes())
    except ValueError as error:
        raise InvalidMetadata(f"{file}: not JSON: {error}") from None
    except OSError as error:
        raise UnusableFolder(f"{file}: {error.strerror}") from None
    if not isinstance(found, dict):
        return {}
    metadata = cast(Metadata, {name: found[name] for name in _FROM_FOLDER if name in found})
    check_metadata(metadata, str(file))
    return metadata


def metadata_part(metadata: Metadata | None) -> tuple[UploadPart, ...]:
    """The part that carries what is said beside the files; none where nothing is."""
    said = {name: value for name, value in (metadata or {}).items() if value not in (None, {})}
    if not said:
        return ()
    check_metadata(cast(Metadata, said), "metadata")
    return (UploadPart(METADATA, json.dumps(said).encode()),)


def check_files(folder: Path) -> None:
    """Raises UnusableFolder unless the folder holds an adapter's two files."""
    if not folder.is_dir():
        kind = "is a file" if folder.exists() else "does not exist"
        raise UnusableFolder(f"{folder} {kind}; give the folder that holds {CONFIG}")
    if not (folder / CONFIG).is_file():
        raise UnusableFolder(f"{folder} holds no {CONFIG}; is it the folder PEFT saved?")
    if (folder / WEIGHTS).is_file():
        return
    if (folder / "adapter_model.bin").is_file():
        raise UnusableFolder(
            f"{folder} holds adapter_model.bin, a pickle, and those are not served; {_CONVERT}"
        )
    raise UnusableFolder(f"{folder} holds no {WEIGHTS}; save it with save_pretrained of PEFT")


def check_metadata(metadata: Metadata, source: str) -> None:
    """Before the upload, so that a slip is not learned after gigabytes. Raises InvalidMetadata.

    source: where it was written, for the message.
    """
    from pydantic import BaseModel, ValidationError

    from adapters_registry.types import Evaluation, Lineage, ServingProfile

    said = cast(Mapping[str, Any], metadata)
    models: dict[str, type[BaseModel]] = {
        "serving_profile": ServingProfile,
        "lineage": Lineage,
        "evaluation": Evaluation,
    }
    for name, model in models.items():
        if said.get(name) is None:
            continue
        if not isinstance(said[name], Mapping):
            what = name.replace("_", " ")
            raise InvalidMetadata(f"{source}: the {what} must be `field: value` pairs", param=name)
        try:
            model.model_validate(said[name])
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(map(str, (name, *problem["loc"])))
            raise InvalidMetadata(f"{source}: {field}: {problem['msg']}", param=field) from None
