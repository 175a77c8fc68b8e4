"""A merged model's folder holds all that the base's did, with the configuration that fits it."""

import json
from pathlib import Path

import pytest

from training.errors import MergeError
from training.merge.checkpoint import INDEX_FILE
from training.merge.finish import finish, merged_config, travelling_bytes, travels
from training.merge.json_file import read_object
from training.merge.layout import Placed, Shard
from training.merge.tensors import Output, TensorInfo

CARRIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
    "merges.txt",
    "tokenizer.model",
    "modeling_own.py",
    "LICENSE",
)
LEFT = (
    "model-00001-of-00002.safetensors",
    "model.safetensors.index.json",
    "consolidated.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "model.gguf",
    "README.md",
    "sha256.json",
    ".gitattributes",
)


@pytest.mark.parametrize("name", CARRIED)
def test_what_belongs_to_the_model_goes_along(name: str) -> None:
    assert travels(name)


@pytest.mark.parametrize("name", LEFT)
def test_weights_and_what_speaks_of_the_base_stay(name: str) -> None:
    assert not travels(name)


def _shard(number: int, name: str, elements: int) -> Shard:
    info = TensorInfo(name, "BF16", (elements,), Path("base"), 0, 2 * elements)
    file = f"model-0000{number}-of-00002.safetensors"
    return Shard(file, b"", (Placed(Output(name, info, info.shape), "BF16"),))


def test_the_folder_gets_exactly_these_files(tmp_path: Path) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    base.mkdir()
    out.mkdir()
    for name in (*CARRIED, *LEFT, "config.json"):
        (base / name).write_text(name)
    for name in ("additional_chat_templates", "onnx"):
        (base / name).mkdir()
        (base / name / "inner").write_text(name)
    kept = tmp_path / "elsewhere"
    kept.write_text("of the hub's cache")
    (base / "vocab.json").symlink_to(kept)
    shards = [_shard(1, "b", 3), _shard(2, "a", 5)]
    finish(base, out, shards, {"model_type": "llama"})
    files = {str(file.relative_to(out)) for file in out.rglob("*") if file.is_file()}
    carried = {*CARRIED, "vocab.json", "additional_chat_templates/inner"}
    assert files == {*carried, INDEX_FILE, "config.json"}
    assert sum((out / name).stat().st_size for name in carried) == travelling_bytes(base)
    assert (out / "vocab.json").read_text() == "of the hub's cache"
    assert not (out / "vocab.json").is_symlink()
    assert json.loads((out / "config.json").read_bytes()) == {"model_type": "llama"}
    assert json.loads((out / INDEX_FILE).read_bytes()) == {
        "metadata": {"total_size": 16},
        "weight_map": {"a": shards[1].name, "b": shards[0].name},
    }


def test_one_file_needs_no_index(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    finish(tmp_path, tmp_path / "out", [_shard(1, "a", 1)], {})
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["config.json"]


def test_the_type_that_was_asked_for_is_said_wherever_the_base_says_one() -> None:
    base = {"torch_dtype": "bfloat16", "text_config": {"dtype": "bfloat16", "width": 1}, "x": None}
    assert merged_config(base, {}, "float16", "float16") == {
        "torch_dtype": "float16",
        "text_config": {"dtype": "float16", "width": 1},
        "x": None,
    }
    assert merged_config({}, {}, "float16", "float16") == {"dtype": "float16"}


def test_else_what_the_base_says_stands() -> None:
    # Weights kept in float32 that are to be run in bfloat16.
    assert merged_config({"dtype": "bfloat16"}, {}, "float32", "base") == {"dtype": "bfloat16"}
    assert merged_config({}, {}, "float32", "base") == {"dtype": "float32"}


def test_the_plan_changes_fields_and_takes_them_away() -> None:
    base = {"tie_word_embeddings": True, "quantization_config": {"bits": 4}, "dtype": "float32"}
    changes = {"tie_word_embeddings": False, "quantization_config": None}
    found = merged_config(base, changes, "float32", "base")
    assert found == {"tie_word_embeddings": False, "dtype": "float32"}


@pytest.mark.parametrize(
    ("content", "said"), [(None, "cannot be read"), ("{", "is not JSON"), ("[]", "not a JSON obj")]
)
def test_a_configuration_that_is_none_is_refused(
    tmp_path: Path, content: str | None, said: str
) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(MergeError, match=r"config\.json") as error:
        read_object(tmp_path / "config.json")
    assert said in error.value.message
