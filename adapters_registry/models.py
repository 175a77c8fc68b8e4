"""From what the operator names as the model to a local folder that holds it."""

import re
from pathlib import Path

from adapters_registry.child import Report, silent
from adapters_registry.embedded import ensure_embedded
from adapters_registry.errors import ModelError

EMBEDDED = "embedded"

# Never code, never pickles.
_CONFIG_PATTERNS = ("*.json", "*.jinja", "tokenizer*", "*.tiktoken", "merges.txt", "vocab.txt")
_WEIGHT_PATTERNS = ("*.safetensors",)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def resolve_model(
    model: str, cache_dir: Path, *, report: Report = silent, weights: bool = True
) -> Path:
    """The folder of `model`: `embedded`, a folder, or a Hub id, which is downloaded.

    weights: False where only the configuration and the tokenizer are needed.
    Raises ModelError.
    """
    if model == EMBEDDED:
        return ensure_embedded(cache_dir, report)
    folder = Path(model).expanduser()
    if model and folder.is_dir():
        return _checked(folder.absolute(), model, weights)
    if folder.is_absolute() or model.startswith((".", "~")) or not _HUB_ID.fullmatch(model):
        raise ModelError(
            f"model {model!r} is not there: name a folder, a Hub id (owner/name) or `{EMBEDDED}`"
        )
    return _checked(_download(model, weights, report), model, weights)


def _checked(folder: Path, model: str, weights: bool) -> Path:
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"model {model!r} has no config.json: name a model in the Hugging Face format"
        )
    if weights and not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"model {model!r} has no safetensors weights: convert it with"
            " save_pretrained(..., safe_serialization=True)"
        )
    return folder


def _download(model: str, weights: bool, report: Report) -> Path:
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError:
        raise ModelError(
            "huggingface_hub is not installed: pip install 'loraplex[cpu]' or 'loraplex[cuda]'"
        ) from None
    patterns = [*_CONFIG_PATTERNS, *(_WEIGHT_PATTERNS if weights else ())]
    report(f"fetching {model} from the Hub", None)
    try:
        found = snapshot_download(model, allow_patterns=patterns)
    except errors.GatedRepoError as error:
        raise ModelError(
            f"model {model!r} is gated: accept its terms on the Hub and set HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"model {model!r} is neither a folder nor on the Hub (a private one needs HF_TOKEN)"
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise ModelError(
            f"model {model!r} is no folder here, it was not fetched before, and the Hub cannot be"
            " reached: check the network and HF_HUB_OFFLINE, or name a folder"
        ) from error
    except (OSError, ValueError) as error:
        first_line = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(f"model {model!r} could not be fetched: {first_line}") from error
    return Path(str(found))
