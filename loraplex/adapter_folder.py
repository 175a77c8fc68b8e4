"""A PEFT adapter's folder on disk, and what of it is pushed."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from loraplex.admin_client import UploadPart
from loraplex.errors import CommandError, UsageError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
METADATA = "metadata.json"
TEMPLATE = "chat_template.jinja"
NO_TEMPLATE = "none"

_CONVERT = (
    'convert it, in the folder: python -c "import torch, safetensors.torch as s; '
    "s.save_file({k: v.contiguous() for k, v in torch.load('adapter_model.bin', "
    "map_location='cpu', weights_only=True).items()}, 'adapter_model.safetensors')\""
)


@dataclass(frozen=True)
class Upload:
    """The parts to send, the size of those read from disk, and remarks for the person."""

    parts: tuple[UploadPart, ...]
    file_bytes: int
    notes: tuple[str, ...]


def read_folder(folder: Path, *, profile_file: Path | None, chat_template: str | None) -> Upload:
    """What a push of this folder sends.

    chat_template: a file's path, `none`, or None where the person said nothing.
    """
    _check_files(folder)
    profile = _read_profile(profile_file or folder / METADATA, wanted=profile_file is not None)
    if chat_template is not None:
        profile = {**profile, "chat_template": _read_template(chat_template)}
    notes = _template_notes(folder, profile, asked=chat_template is not None)
    files = [folder / CONFIG, folder / WEIGHTS]
    parts = [UploadPart(file.name, file) for file in files]
    if profile := {name: value for name, value in profile.items() if value is not None}:
        _check_profile(profile, profile_file or folder / METADATA)
        metadata = json.dumps({"serving_profile": profile}).encode()
        parts.insert(1, UploadPart(METADATA, metadata))
    return Upload(tuple(parts), sum(file.stat().st_size for file in files), notes)


def _check_files(folder: Path) -> None:
    if not folder.is_dir():
        kind = "is a file" if folder.exists() else "does not exist"
        raise UsageError(f"PATH: {folder} {kind}; give the folder that holds {CONFIG}")
    if not (folder / CONFIG).is_file():
        raise CommandError(f"{folder} holds no {CONFIG}; is it the folder PEFT saved?")
    if (folder / WEIGHTS).is_file():
        return
    if (folder / "adapter_model.bin").is_file():
        raise CommandError(
            f"{folder} holds adapter_model.bin, a pickle, and those are not served; {_CONVERT}"
        )
    raise CommandError(f"{folder} holds no {WEIGHTS}; save it with save_pretrained of PEFT")


def _read_profile(file: Path, *, wanted: bool) -> dict[str, Any]:
    """A serving profile from a file that holds it bare or under `serving_profile`.

    A file that nobody named may be missing, or be another tool's metadata.
    """
    if not wanted and not file.is_file():
        return {}
    data = _parse(file)
    if isinstance(data, dict) and "serving_profile" in data:
        data = data["serving_profile"]
    elif not wanted:
        return {}
    if not isinstance(data, dict):
        raise CommandError(f"{file}: the serving profile must be `field: value` pairs")
    return data


def _parse(file: Path) -> Any:
    """JSON or YAML, by its name: YAML would read some of JSON otherwise."""
    text = _read_text(file)
    try:
        return json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise CommandError(f"{file}: neither JSON nor YAML: {error}") from None


def _read_template(choice: str) -> str | None:
    return None if choice == NO_TEMPLATE else _read_text(Path(choice))


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandError(f"{file}: not UTF-8 text") from None


def _check_profile(profile: dict[str, Any], file: Path) -> None:
    """Before the upload, so that a slip is not learned after gigabytes."""
    from pydantic import ValidationError

    from adapters_registry.types import ServingProfile

    try:
        ServingProfile.model_validate(profile)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, problem["loc"]))
        raise CommandError(f"{file}: serving_profile.{field}: {problem['msg']}") from None


def _template_notes(folder: Path, profile: dict[str, Any], *, asked: bool) -> tuple[str, ...]:
    if asked or profile.get("chat_template") or not (folder / TEMPLATE).is_file():
        return ()
    text = (
        f"{TEMPLATE} was not sent: the base model's template is used. If the adapter was trained "
        f"with another, push again with --chat-template {folder / TEMPLATE} "
        f"(--chat-template {NO_TEMPLATE} ends this note)."
    )
    return (text,)
