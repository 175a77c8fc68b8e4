"""A base's weights are found whole before anything is written, or refused by name."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.small_checkpoints import write_sharded, write_single
from training.errors import MergeError
from training.merge.checkpoint import INDEX_FILE, SINGLE_FILE, open_checkpoint
from training.merge.reading import read_tensor

SECOND = "model-00002-of-00002.safetensors"
TYPES = (
    torch.float64,
    torch.float32,
    torch.bfloat16,
    torch.float16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    first = {"a": torch.arange(6.0).view(3, 2), "b": torch.ones(4, dtype=torch.bfloat16)}
    return write_sharded(tmp_path / "base", [first, {"c": torch.arange(8).view(2, 2, 2)}])


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_every_type_is_read_as_it_was_saved(tmp_path: Path, dtype: torch.dtype) -> None:
    saved = torch.arange(12).view(6, 2).to(dtype)
    found = open_checkpoint(write_single(tmp_path, {"x": saved})).tensors["x"]
    read = read_tensor(found)
    assert (read.dtype, read.shape) == (dtype, saved.shape)
    assert torch.equal(read.view(torch.uint8), saved.view(torch.uint8))
    rows = read_tensor(found, slice(2, 5))
    assert torch.equal(rows.view(torch.uint8), saved[2:5].contiguous().view(torch.uint8))


def test_scalars_and_empty_tensors_are_read(tmp_path: Path) -> None:
    tensors = {"scalar": torch.tensor(2.5), "empty": torch.empty(0, 3)}
    found = open_checkpoint(write_single(tmp_path, tensors))
    assert read_tensor(found.tensors["scalar"]).item() == 2.5
    assert read_tensor(found.tensors["empty"]).shape == (0, 3)


def test_shards_are_one_checkpoint_in_the_order_of_their_bytes(sharded: Path) -> None:
    found = open_checkpoint(sharded)
    places = [(info.file.name, info.start) for info in found.tensors.values()]
    assert places == sorted(places)
    assert set(found.tensors) == {"a", "b", "c"}
    assert found.metadata == {"format": "pt"}
    assert torch.equal(read_tensor(found.tensors["c"]), torch.arange(8).view(2, 2, 2))


def test_a_single_file_counts_before_an_index(sharded: Path) -> None:
    write_single(sharded, {"only": torch.ones(1)})
    assert set(open_checkpoint(sharded).tensors) == {"only"}


def test_files_may_be_links_as_in_the_hub_cache(sharded: Path, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    for file in sharded.iterdir():
        (links / file.name).symlink_to(file)
    assert set(open_checkpoint(links).tensors) == {"a", "b", "c"}


def test_a_change_of_a_file_is_noticed(sharded: Path) -> None:
    found = open_checkpoint(sharded)
    found.check_unchanged()
    content = (sharded / SECOND).read_bytes()
    (sharded / SECOND).write_bytes(content + b" ")
    with pytest.raises(MergeError, match=f"{SECOND} was changed while it was read"):
        found.check_unchanged()
    (sharded / SECOND).unlink()
    with pytest.raises(MergeError, match=SECOND):
        found.check_unchanged()


def test_a_tensor_that_was_cut_off_since_is_named(sharded: Path) -> None:
    info = open_checkpoint(sharded).tensors["c"]
    (sharded / SECOND).write_bytes((sharded / SECOND).read_bytes()[:-1])
    with pytest.raises(MergeError, match=f"{SECOND}: c cannot be read: it ends too early"):
        read_tensor(info)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(MergeError, match=r"neither model.safetensors nor"):
        open_checkpoint(tmp_path)


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-3])


def _cut_in_header(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:20])


def _more(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"!")


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[9] ^= 0x40
    file.write_bytes(content)


def _no_file(file: Path) -> None:
    file.unlink()


def _nothing(file: Path) -> None:
    file.write_bytes(b"")


def _pickle(file: Path) -> None:
    file.write_bytes(b"PK\x03\x04" + bytes(100))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_cut, "is truncated"),
        (_cut_in_header, "ends inside its header"),
        (_more, "has bytes after its last tensor"),
        (_flip, "header is not valid JSON"),
        (_no_file, "cannot be read"),
        (_nothing, "it has no header"),
        (_pickle, "or not safetensors"),
    ],
)
def test_a_damaged_shard_is_refused_by_name(
    sharded: Path, damage: Callable[[Path], None], said: str
) -> None:
    damage(sharded / SECOND)
    with pytest.raises(MergeError, match=SECOND) as error:
        open_checkpoint(sharded)
    assert said in error.value.message
    assert "again" in error.value.message


def _spec(dtype: str, shape: list[int], start: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("header", "size_bytes", "said"),
    [
        ({"x": _spec("F32", [1], 0, 4), "y": _spec("F32", [1], 2, 6)}, 6, "'y' overlaps"),
        ({"x": _spec("F32", [1], 0, 4), "y": _spec("F32", [1], 8, 12)}, 12, "leaves a hole"),
        ({"x": _spec("F32", [2], 0, 4)}, 4, "do not match its shape"),
        ({"x": _spec("F4", [2], 0, 1)}, 1, "has the type 'F4'"),
        ({"x": _spec("F32", [-1], 0, 4)}, 4, "malformed shape"),
        ({"x": {"dtype": "F32"}}, 0, "needs dtype, shape"),
        ({"__metadata__": {"format": 1}}, 0, "must map texts to texts"),
        ([], 0, "not a JSON object"),
    ],
)
def test_a_header_that_cannot_be_right_is_refused(
    tmp_path: Path, header: object, size_bytes: int, said: str
) -> None:
    _write(tmp_path / SINGLE_FILE, json.dumps(header).encode(), size_bytes)
    with pytest.raises(MergeError, match=SINGLE_FILE) as error:
        open_checkpoint(tmp_path)
    assert said in error.value.message


def test_a_tensor_named_twice_in_a_header_is_refused(tmp_path: Path) -> None:
    spec = json.dumps(_spec("F32", [1], 0, 4))
    _write(tmp_path / SINGLE_FILE, f'{{"x": {spec}, "x": {spec}}}'.encode(), 4)
    with pytest.raises(MergeError, match="names 'x' twice"):
        open_checkpoint(tmp_path)


def _write(file: Path, header: bytes, size_bytes: int) -> None:
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(size_bytes))


@pytest.mark.parametrize(
    ("weight_map", "said"),
    [
        ({"a": 1}, "must be in a file of the same folder"),
        ({"a": "../elsewhere.safetensors"}, "must be in a file of the same folder"),
        ({}, "must map tensors to files"),
        ({"a": SECOND, "b": SECOND, "c": SECOND}, "'a', which is not in"),
        ({"c": SECOND, "d": SECOND}, "'d', which is not in"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(
    sharded: Path, weight_map: dict[str, object], said: str
) -> None:
    (sharded / INDEX_FILE).write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(MergeError, match=INDEX_FILE) as error:
        open_checkpoint(sharded)
    assert said in error.value.message


def test_a_tensor_that_the_index_leaves_out_is_refused(sharded: Path) -> None:
    index = json.loads((sharded / INDEX_FILE).read_bytes())
    del index["weight_map"]["b"]
    (sharded / INDEX_FILE).write_text(json.dumps(index))
    with pytest.raises(MergeError, match=r"model-00001-of-00002.safetensors holds 'b'"):
        open_checkpoint(sharded)


def test_an_index_that_is_no_json_is_refused(sharded: Path) -> None:
    (sharded / INDEX_FILE).write_text("{")
    with pytest.raises(MergeError, match="no JSON object with `weight_map`"):
        open_checkpoint(sharded)


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    both = [{"a": torch.ones(2), name: torch.ones(1)} for name in "bc"]
    with pytest.raises(MergeError, match=r"'a' is also in model-00001-of-00002.safetensors"):
        open_checkpoint(write_sharded(tmp_path, both))
