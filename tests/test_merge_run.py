"""A merge from end to end: a model like PEFT's own merge, in the files of the base, verified."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.described import described
from tests.tiny_base import make_tiny_adapter
from training.errors import MergeError
from training.merge import merge as merging
from training.merge.combine import CombineMethod
from training.merge.job import AdapterInput, MergeJob, Moved
from training.merge.merge import MERGING, READING, VERIFYING, merge
from training.merge.verify import Verification

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def cache(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return described(tmp_path_factory.mktemp("merge-cache"), tiny_base)


@pytest.fixture
def job(tiny_base: Path, tiny_adapter: Path, cache: Path, tmp_path: Path) -> MergeJob:
    return MergeJob(
        base=tiny_base,
        base_name="tiny/base",
        adapters=(AdapterInput(tiny_adapter, name="acme/support@1"),),
        out=tmp_path / "out",
        cache_dir=cache,
        verify=False,
    )


def _peft_merge(base: Path, weighted: Mapping[Path, float]) -> dict[str, torch.Tensor]:
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float64)
    for folder, weight in weighted.items():
        adapted = PeftModel.from_pretrained(model, str(folder))
        for module in adapted.modules():
            if isinstance(module, LoraLayer):
                module.scaling["default"] *= weight
        model = adapted.merge_and_unload()
    merged: dict[str, torch.Tensor] = model.state_dict()
    return merged


def _assert_near(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in found.items():
        torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-6, atol=1e-7)


def test_a_merged_model_is_pefts_in_the_files_of_the_base(job: MergeJob) -> None:
    moved: list[Moved] = []
    found = merge(job, moved.append)
    tensors = load_file(job.out / WEIGHTS)
    base = load_file(job.base / WEIGHTS)
    assert tensors.keys() == base.keys()
    _assert_near(tensors, _peft_merge(job.base, {job.adapters[0].folder: 1.0}))
    there = {file.name for file in job.base.iterdir()}
    assert {file.name for file in job.out.iterdir()} == there | {"README.md"}
    assert json.loads((job.out / "config.json").read_bytes()) == json.loads(
        (job.base / "config.json").read_bytes()
    )
    assert "acme/support@1" in (job.out / "README.md").read_text()
    size_bytes = sum(tensor.numel() * tensor.element_size() for tensor in base.values())
    assert (found.folder, found.size_bytes, found.dtype) == (job.out, size_bytes, "float32")
    assert (found.modules, found.changed, found.copied) == (14, 14, len(base) - 14)
    assert (found.tied, found.resumed, found.verification) == (True, 0, None)
    assert (moved[0], moved[-1]) == (Moved(READING), Moved(MERGING, size_bytes, size_bytes))
    assert [file.name for file in job.out.parent.iterdir()] == ["out"]


def test_several_adapters_with_weights_in_another_type_and_many_files(
    job: MergeJob, tmp_path: Path
) -> None:
    second = make_tiny_adapter(job.base, tmp_path / "second", rank=2)
    first = job.adapters[0].folder
    asked = replace(
        job,
        adapters=(AdapterInput(first, 0.5, "one"), AdapterInput(second, -0.25, "two")),
        method=CombineMethod("cat"),
        dtype="bfloat16",
        compute="float64",
        max_shard_bytes=40_000,
    )
    found = merge(asked)
    index = json.loads((asked.out / "model.safetensors.index.json").read_bytes())
    assert index["metadata"]["total_size"] == found.size_bytes
    shards = sorted(set(index["weight_map"].values()))
    assert len(shards) > 2
    tensors = {k: v for name in shards for k, v in load_file(asked.out / name).items()}
    expected = _peft_merge(job.base, {first: 0.5, second: -0.25})
    for name, tensor in tensors.items():
        assert tensor.dtype == torch.bfloat16
        torch.testing.assert_close(tensor.double(), expected[name], rtol=2**-8, atol=1e-6)
    assert json.loads((asked.out / "config.json").read_bytes())["dtype"] == "bfloat16"
    assert found.dtype == "bfloat16"


def test_the_merged_model_is_verified_before_it_appears(
    job: MergeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, ...]] = []

    def verify(base: Path, adapter: Path, merged: Path, **given: object) -> Verification:
        assert (merged / WEIGHTS).exists()
        assert (merged / "tokenizer.json").exists()
        assert given["weight"] == 1.0
        asked.append((base, adapter))
        return _verification(passed=len(asked) > 1)

    monkeypatch.setattr("training.merge.verify.verify", verify)
    asking = replace(job, verify=True)
    with pytest.raises(MergeError, match="does not answer as base and adapters do: too far") as no:
        merge(asking)
    assert "--no-verify takes as it is" in no.value.message
    assert not job.out.exists()
    moved: list[Moved] = []
    found = merge(asking, moved.append)
    assert (found.resumed, found.verification) == (1, _verification(passed=True))
    assert moved[-1] == Moved(VERIFYING)
    assert asked == [(job.base, job.adapters[0].folder)] * 2


def _verification(*, passed: bool) -> Verification:
    return Verification(
        probes=1,
        tokens=1,
        max_logit_diff=0.5,
        mean_logit_diff=0.25,
        greedy_agreement=1.0,
        effect=2.0,
        effect_mean=1.0,
        effect_agreement=0.5,
        rounding=0.5,
        rounding_mean=0.25,
        tolerance=1.0,
        passed=passed,
        how="not at all",
        problem="" if passed else "too far",
    )


def test_a_real_verification_of_two_adapters_passes(job: MergeJob, tmp_path: Path) -> None:
    second = make_tiny_adapter(job.base, tmp_path / "second", rank=2)
    adapters = (replace(job.adapters[0], weight=0.5), AdapterInput(second, 0.5, "two"))
    found = merge(replace(job, adapters=adapters, verify=True))
    assert found.verification is not None
    assert found.verification.passed
    assert found.verification.max_logit_diff < found.verification.effect / 100


def _refused(job: MergeJob, match: str) -> None:
    """With nothing left behind."""
    there = sorted(job.out.parent.iterdir())
    with pytest.raises(MergeError, match=match):
        merge(job)
    assert sorted(job.out.parent.iterdir()) == there


def test_damage_is_refused_before_the_first_write(
    job: MergeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "write_shards", None)  # it would fail otherwise
    base = shutil.copytree(job.base, tmp_path / "base")
    (base / WEIGHTS).write_bytes((base / WEIGHTS).read_bytes()[:-1])
    _refused(replace(job, base=base), r"model\.safetensors is truncated")


def test_an_adapter_of_another_base_is_refused(job: MergeJob, tmp_path: Path) -> None:
    other = shutil.copytree(job.adapters[0].folder, tmp_path / "other")
    file = other / "adapter_model.safetensors"
    wide = {
        name: torch.cat([t, t], dim=1) for name, t in load_file(file).items() if "lora_A" in name
    }
    save_file(load_file(file) | wide, file)
    _refused(replace(job, adapters=(AdapterInput(other),)), "base")


def test_an_adapter_that_is_not_there_is_refused(job: MergeJob, tmp_path: Path) -> None:
    _refused(replace(job, adapters=(AdapterInput(tmp_path / "none"),)), "none")


def test_the_merging_process_imports_neither_transformers_nor_peft(
    job: MergeJob, tmp_path: Path
) -> None:
    merge(job)
    code = (
        "import sys; from pathlib import Path; from training.merge.merge import merge;"
        "from training.merge.job import *;"
        f"merge(MergeJob(Path({str(job.base)!r}), 'b', (AdapterInput(Path("
        f"{str(job.adapters[0].folder)!r}), 1.0, 'a'),), Path({str(tmp_path / 'second')!r}), "
        f"Path({str(job.cache_dir)!r}), verify=False));"
        "sys.exit(any(name in sys.modules for name in ('transformers', 'peft')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert (tmp_path / "second" / WEIGHTS).read_bytes() == (job.out / WEIGHTS).read_bytes()
