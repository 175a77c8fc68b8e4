"""Shards are written block by block: each byte at its place, rounded once, and kept when whole."""

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from tests.small_checkpoints import Plus, RowNumbers, outputs, write_sharded, write_single
from training.errors import MergeError
from training.merge import part_file
from training.merge.blocks import BLOCK_ELEMENTS, blocks
from training.merge.checkpoint import Checkpoint, open_checkpoint
from training.merge.job import ComputeDtype, OutputDtype
from training.merge.layout import Placed, Shard, index, lay_out
from training.merge.rounding import round_into
from training.merge.shards import write_shards
from training.merge.tensors import Output, TensorInfo, Update
from training.merge.work_folder import open_work

SIXTEEN_BITS = (torch.bfloat16, torch.float16)
ROWS = 2 * BLOCK_ELEMENTS // 1024 + 3
"""Of 1024 columns: two whole blocks and a short one."""


def _lay_out(
    found: Checkpoint,
    updates: Mapping[str, Update],
    *,
    dtype: OutputDtype = "base",
    max_shard_bytes: int = 2**40,
) -> tuple[Shard, ...]:
    return lay_out(
        outputs(found, updates),
        found.tensors,
        dtype=dtype,
        max_shard_bytes=max_shard_bytes,
        metadata=found.metadata,
    )


def _written(
    found: Checkpoint,
    shards: tuple[Shard, ...],
    out: Path,
    *,
    compute: ComputeDtype = "float32",
) -> dict[str, torch.Tensor]:
    """All tensors of the written files, as the library reads them."""
    moved: list[int] = []
    with open_work(out) as work:
        work.resume("test", lambda _done, _total: None)
        write_shards(shards, work, found, compute=compute, threads=1, moved=moved.append)
        assert sum(moved) == sum(shard.weight_bytes for shard in shards)
        for shard in shards:
            content = (work.model / shard.name).read_bytes()
            assert len(content) == shard.size_bytes == work.kept[shard.name].size_bytes
            assert hashlib.sha256(content).hexdigest() == work.kept[shard.name].sha256
        work.publish(out)
    assert sorted(file.name for file in out.iterdir()) == sorted(s.name for s in shards)
    return {k: v for shard in shards for k, v in load_file(out / shard.name).items()}


def test_rows_are_updated_in_blocks_and_the_rest_is_copied(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = {
        "matrix": torch.randn(ROWS, 1024).bfloat16(),
        "experts": torch.randn(3, 5, 7).half(),
        "bias": torch.randn(9),
        "scalar": torch.tensor(1.5),
        "copied": torch.randn(ROWS, 1024).bfloat16(),
        "ids": torch.arange(5),
        "mask": torch.tensor([True, False, True]),
        "empty": torch.empty(0, 4),
    }
    found = open_checkpoint(write_single(tmp_path / "base", base))
    changed = dict.fromkeys(("matrix", "experts", "bias"), RowNumbers()) | {"scalar": Plus(0.25)}
    merged = _written(found, _lay_out(found, changed), tmp_path / "out")
    assert merged.keys() == base.keys()
    for name in ("copied", "ids", "mask", "empty"):
        assert torch.equal(merged[name], base[name])
    for name in ("matrix", "experts", "bias"):
        rows = torch.arange(float(len(base[name]))).view(-1, *[1] * (base[name].dim() - 1))
        assert torch.equal(merged[name], (base[name].float() + rows).to(base[name].dtype))
    assert merged["scalar"].item() == 1.75


def test_an_update_of_the_whole_tensor_gets_it_whole(tmp_path: Path) -> None:
    class Turned:
        by_rows = False

        def apply(self, rows: torch.Tensor, start: int) -> torch.Tensor:
            assert start == 0
            return rows.T

    matrix = torch.randn(1024, ROWS)
    found = open_checkpoint(write_single(tmp_path / "base", {"x": matrix.bfloat16()}))
    info = found.tensors["x"]
    shards = lay_out(
        [Output("x", info, (ROWS, 1024), Turned())],
        found.tensors,
        dtype="float32",
        max_shard_bytes=2**40,
        metadata={},
    )
    merged = _written(found, shards, tmp_path / "out")
    assert torch.equal(merged["x"], matrix.bfloat16().float().T)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_only_weights_take_the_other_type(tmp_path: Path, dtype: OutputDtype) -> None:
    wanted = getattr(torch, dtype)
    base = {
        "f32": torch.randn(300, 7),
        "bf16": torch.randn(4).bfloat16(),
        "f16": torch.randn(4).half(),
        "f64": torch.randn(4, dtype=torch.float64),
        "i64": torch.arange(4),
    }
    found = open_checkpoint(write_single(tmp_path / "base", base))
    merged = _written(found, _lay_out(found, {}, dtype=dtype), tmp_path / "out")
    for name, tensor in base.items():
        kept = name in ("f64", "i64")
        assert torch.equal(merged[name], tensor if kept else tensor.to(wanted))


def test_what_an_adapter_carries_takes_the_type_it_replaces(tmp_path: Path) -> None:
    base = {"head": torch.ones(2, 2).bfloat16(), "norm": torch.ones(2), "body": torch.ones(9, 9)}
    found = open_checkpoint(write_single(tmp_path / "base", base))
    saved = {"head": torch.zeros(2, 2), "new": torch.zeros(3).half()}
    carried = open_checkpoint(write_single(tmp_path / "adapter", saved)).tensors
    given = [*outputs(found, {})[:-1], *(Output(n, i, i.shape) for n, i in carried.items())]
    given = [out for out in given if out.name != "head" or out.source.file.parent.name != "base"]
    shards = lay_out(given, found.tensors, dtype="base", max_shard_bytes=2**40, metadata={})
    merged = _written(found, shards, tmp_path / "out")
    assert merged["head"].dtype == torch.bfloat16
    assert not merged["head"].any()
    assert merged["new"].dtype == torch.float32


def test_files_hold_no_more_than_asked_and_the_index_counts_bytes(tmp_path: Path) -> None:
    first = {"a": torch.ones(10, 4), "b": torch.ones(30, 4).half(), "c": torch.ones(2, 4)}
    second = {"d": torch.ones(50, 4), "e": torch.ones(1, dtype=torch.uint8)}
    found = open_checkpoint(write_sharded(tmp_path / "base", [first, second]))
    shards = _lay_out(found, {}, max_shard_bytes=450)
    names = [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
    assert [shard.name for shard in shards] == names
    assert [{t.output.name for t in shard.tensors} for shard in shards] == [
        {"a", "b", "c"},
        {"d"},
        {"e"},
    ]
    said = index(shards)
    total = sum(t.numel() * t.element_size() for t in (first | second).values())
    assert said["metadata"] == {"total_size": total}
    merged = _written(found, shards, tmp_path / "out")
    for name, tensor in (first | second).items():
        assert torch.equal(merged[name], tensor)
        assert name in load_file(tmp_path / "out" / said["weight_map"][name])


def _info(name: str, dtype: str, *shape: int) -> TensorInfo:
    return TensorInfo(name, dtype, shape, Path("base"), 0, 0)


def test_wider_types_come_first_so_that_every_tensor_is_aligned() -> None:
    infos = [_info("a", "U8", 3), _info("b", "BF16", 3), _info("c", "F32", 3), _info("d", "I64", 1)]
    (shard,) = lay_out(
        [Output(info.name, info, info.shape) for info in infos],
        {info.name: info for info in infos},
        dtype="base",
        max_shard_bytes=100,
        metadata={"format": "pt", "of": "base"},
    )
    assert [tensor.output.name for tensor in shard.tensors] == ["d", "c", "b", "a"]
    assert len(shard.header) % 8 == 0
    header = json.loads(shard.header[8:])
    assert header["__metadata__"] == {"format": "pt", "of": "base"}
    assert header["b"] == {"dtype": "BF16", "shape": [3], "data_offsets": [20, 26]}


@given(
    rows=st.integers(0, 40),
    columns=st.integers(0, 9),
    elements=st.integers(1, 50),
    by_rows=st.booleans(),
)
def test_blocks_cover_every_row_once(rows: int, columns: int, elements: int, by_rows: bool) -> None:
    info = _info("x", "BF16", rows, columns)
    shard = Shard("f", b"", (Placed(Output("x", info, info.shape, RowNumbers(by_rows)), "BF16"),))
    made = list(blocks(shard, elements))
    if not by_rows:
        assert [block.rows for block in made] == [None]
        return
    covered = [
        row for block in made if block.rows for row in range(block.rows.start, block.rows.stop)
    ]
    assert covered == list(range(rows))
    for block in made:
        assert block.rows is not None
        height = block.rows.stop - block.rows.start
        assert height == 1 or height * columns <= elements


def _nearest(value: float, dtype: torch.dtype) -> float:
    """By search among the neighbours, in float64, ties to the even one."""
    near = torch.tensor(value, dtype=torch.float64).to(dtype)
    bits = near.view(torch.int16)
    options = torch.stack([bits - 1, bits, bits + 1]).view(dtype).double()
    gaps = (options - value).abs()
    gaps[~options.isfinite()] = torch.inf
    best = int(gaps.argmin())
    ties = (gaps == gaps[best]).nonzero().flatten().tolist()
    even = [i for i in ties if (int(bits) - 1 + i) % 2 == 0]
    return float(options[even[0] if len(ties) > 1 else best])


@pytest.mark.parametrize("dtype", SIXTEEN_BITS, ids=str)
def test_float64_is_rounded_once(dtype: torch.dtype) -> None:
    info = torch.finfo(dtype)
    torch.manual_seed(0)
    numbers = torch.randn(200, dtype=torch.float64).to(dtype)
    numbers = torch.cat([numbers, torch.tensor([info.tiny, info.tiny / 4, 1.0]).to(dtype)])
    above = (numbers.view(torch.int16) + 1).view(dtype).double()
    middle = (numbers.double() + above) / 2
    tiny = middle.abs() * 2.0**-40
    values = torch.cat([middle, middle + tiny, middle - tiny])
    values = torch.cat([values, -values])
    target = torch.empty(len(values), dtype=dtype)
    round_into(target, values.clone(), "x")
    assert target.double().tolist() == [_nearest(value, dtype) for value in values.tolist()]
    # What torch does by itself is rounded twice; should that change, our own way can go.
    assert not torch.equal(values.to(dtype), target)


@pytest.mark.parametrize("compute", ["float32", "float64"])
def test_a_value_that_does_not_fit_is_an_error_that_names_the_tensor(
    tmp_path: Path, compute: ComputeDtype
) -> None:
    base = {"good": torch.ones(4).bfloat16(), "large": torch.full((3, 4), 60000.0).bfloat16()}
    found = open_checkpoint(write_single(tmp_path / "base", base))
    shards = _lay_out(found, {"large": Plus(9000.0)}, dtype="float16")
    with pytest.raises(MergeError, match=r"^large: .* do not fit float16, .*65504") as error:
        _written(found, shards, tmp_path / "out", compute=compute)
    assert "--dtype bfloat16" in error.value.message
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_number_is_an_error_that_names_the_tensor(tmp_path: Path, number: float) -> None:
    base = {"x": torch.ones(4).bfloat16()}
    found = open_checkpoint(write_single(tmp_path / "base", base))
    with pytest.raises(MergeError, match=r"^x: the merged weights hold NaN or Inf"):
        _written(found, _lay_out(found, {"x": Plus(number)}), tmp_path / "out")


def test_an_update_of_another_shape_is_refused(tmp_path: Path) -> None:
    class Shorter:
        by_rows = True

        def apply(self, rows: torch.Tensor, start: int) -> torch.Tensor:
            return rows[:1]

    found = open_checkpoint(write_single(tmp_path / "base", {"x": torch.ones(4, 2)}))
    with pytest.raises(MergeError, match=r"^x: .*shape \(1, 2\), and \(4, 2\) was expected"):
        _written(found, _lay_out(found, {"x": Shorter()}), tmp_path / "out")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float8_e4m3fn], ids=str)
def test_an_update_of_what_is_no_weight_type_is_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    found = open_checkpoint(write_single(tmp_path / "base", {"x": torch.ones(2).to(dtype)}))
    with pytest.raises(MergeError, match=r"^x is kept as F.*: save the base model in float32"):
        _lay_out(found, {"x": Plus(1)})


def _refuse(*_: int) -> int:
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


@pytest.mark.parametrize("refused", [("copy_file_range",), ("copy_file_range", "sendfile")])
def test_tensors_are_copied_where_the_kernel_does_not_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: tuple[str, ...]
) -> None:
    for name in refused:
        monkeypatch.setattr(os, name, _refuse)
    monkeypatch.setattr(part_file, "_COPIED_BYTES", 1000)
    base = {"x": torch.randn(100, 33)}
    found = open_checkpoint(write_single(tmp_path / "base", base))
    merged = _written(found, _lay_out(found, {}), tmp_path / "out")
    assert torch.equal(merged["x"], base["x"])


def test_what_was_written_is_sent_to_the_disk_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    monkeypatch.setattr(os, "fdatasync", sent.append)
    monkeypatch.setattr(part_file, "_SENT_BYTES", 2**20)
    base = {"x": torch.randn(2048, 1024)}
    found = open_checkpoint(write_single(tmp_path / "base", base))
    merged = _written(found, _lay_out(found, {"x": Plus(0)}, dtype="bfloat16"), tmp_path / "out")
    assert torch.equal(merged["x"], base["x"].bfloat16())
    assert len(sent) == 2


def test_a_base_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    found = open_checkpoint(write_single(tmp_path / "base", {"x": torch.ones(4)}))
    shards = _lay_out(found, {"x": Plus(1)})
    os.utime(tmp_path / "base" / "model.safetensors", ns=(1, 1))
    with pytest.raises(MergeError, match=r"model.safetensors was changed while it was read"):
        _written(found, shards, tmp_path / "out")
    assert not list(tmp_path.glob("*out*"))
