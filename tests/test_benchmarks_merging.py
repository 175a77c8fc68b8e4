"""The merge benchmark's parts: the made base, the watching, the errors, the claims, the page."""

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from benchmarks.merging.compare import Weights, compare
from benchmarks.merging.made import make_adapter, make_base
from benchmarks.merging.report import markdown
from benchmarks.merging.results import Claim, Errors, Results, Window, claims
from benchmarks.merging.shapes import TINY, shape_of, shards
from benchmarks.merging.sides import MERGEKIT, OURS, PEFT, PEFT_LOW, Run, mergekit_config
from benchmarks.merging.watched import (
    CommandFailed,
    Memory,
    Peak,
    Used,
    disk_bytes,
    parse_status,
    watch,
)

ROOT = Path(__file__).parents[1]
GB, MIB = 10**9, 2**20


def made(folder: Path) -> Run:
    chance = torch.Generator().manual_seed(1)
    run = Run(folder / "base", folder / "adapter", folder / "run")
    make_base(TINY, run.base, chance)
    make_adapter(TINY, run.adapter, run.base, chance)
    return run


def test_a_size_is_made_by_layers_and_the_largest_tensor_stays() -> None:
    shapes = [shape_of(size * GB) for size in (2, 4, 8)]
    for shape, size in zip(shapes, (2, 4, 8), strict=True):
        assert abs(shape.size_bytes() / (size * GB) - 1) < 0.03
    assert len({shape.largest_bytes() for shape in shapes}) == 1
    assert shape_of(1).layers == 1


def test_every_tensor_is_in_one_shard_in_order() -> None:
    tensors = [*shape_of(2 * GB).tensors()]
    files = shards(tensors)
    assert [tensor for file in files for tensor in file] == tensors
    assert len(files) >= 4
    assert len(shards([*shape_of(0.4 * GB).tensors()])) >= 3


def test_the_base_is_whole_and_a_result_is_measured_against_the_exact_sum(tmp_path: Path) -> None:
    run = made(tmp_path)
    index = json.loads((run.base / "model.safetensors.index.json").read_text())
    old = {
        name: tensor
        for file in sorted(run.base.glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }
    assert {*index["weight_map"]} == {*old}
    assert index["metadata"]["total_size"] == sum(one.nbytes for one in old.values())
    factors = load_file(run.adapter / "adapter_model.safetensors")
    exact = {}
    for name, tensor in old.items():
        path = f"base_model.model.{name.removesuffix('.weight')}"
        a, b = factors.get(f"{path}.lora_A.weight"), factors.get(f"{path}.lora_B.weight")
        exact[name] = tensor.double()
        if a is not None and b is not None:
            exact[name] += 2 * b.double() @ a.double()
    near = {name: tensor.bfloat16() for name, tensor in exact.items()}
    wrong = "model.layers.1.mlp.down_proj.weight"
    far = near[wrong].clone()
    far[3, 4] += 1
    run.out.mkdir(parents=True)
    save_file(near | {wrong: far}, run.out / "model.safetensors")

    found = compare(run.base, run.adapter, run.out)
    assert {name for name, error in found.items() if error.off} == {wrong}
    assert found[wrong].off == 1
    assert found[wrong].largest == pytest.approx(1, abs=0.01)
    assert found["model.norm.weight"].largest == 0
    untouched = found["model.layers.0.mlp.down_proj.weight"]
    assert 0 < untouched.largest < 0.001
    assert untouched.values == 64 * 128

    save_file({wrong: far}, run.out / "model.safetensors")
    with pytest.raises(ValueError, match="on one side only"):
        compare(run.base, run.adapter, run.out)


def test_weights_are_found_over_shards(tmp_path: Path) -> None:
    run = made(tmp_path)
    with ExitStack() as opened:
        weights = Weights(run.base, opened)
        assert {*weights.names()} == {name for name, _ in TINY.tensors()}
        assert weights.slice("model.norm.weight").get_shape() == [64]


def test_mergekit_is_given_the_base_with_its_adapter() -> None:
    config = yaml.safe_load(mergekit_config(Run(Path("/b"), Path("/a"), Path("/r"))))
    assert config["models"] == [{"model": "/b+/a"}]


@dataclass
class Until(Peak):
    """Lets the watched command go on once its memory was seen."""

    go: Path = Path()

    def note(self, processes: Sequence[Memory], disk_bytes: int) -> None:
        super().note(processes, disk_bytes)
        if self.rss_bytes >= 100 * MIB:
            self.go.touch()


def test_what_a_command_and_its_child_use_is_seen(tmp_path: Path) -> None:
    folder, go = tmp_path / "run", tmp_path / "go"
    folder.mkdir()
    inner = (
        "import os, time\n"
        "held = bytearray(b'x') * (60 << 20)\n"
        f"while not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
    )
    outer = (
        "import pathlib, subprocess, sys\n"
        "held = bytearray(b'x') * (40 << 20)\n"
        f"folder = pathlib.Path({str(folder)!r})\n"
        "(folder / 'beside').write_bytes(bytes(5 << 20))\n"
        f"subprocess.run([sys.executable, '-c', {inner!r}], check=True)\n"
        "(folder / 'beside').unlink()\n"
        "(folder / 'out').write_bytes(bytes(1 << 20))\n"
    )
    command = [sys.executable, "-c", outer]
    used = watch(command, folder, tmp_path / "log", {}, ROOT, Until(go=go))
    assert used.peak_rss_bytes >= 100 * MIB
    assert 50 * MIB <= used.peak_process_bytes < 100 * MIB
    assert used.peak_disk_bytes >= 5 * MIB
    assert disk_bytes(folder) < 2 * MIB
    assert 0 < used.cpu_s < used.seconds * 4


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no base here')"]
    with pytest.raises(CommandFailed, match=r"status 1:\nno base here"):
        watch(command, tmp_path, tmp_path / "log", {}, ROOT)


def test_a_process_that_ended_has_no_memory() -> None:
    memory = parse_status(
        "Name:\tx\nVmHWM:\t 20 kB\nVmRSS:\t 12 kB\nRssFile:\t 5 kB\nRssShmem:\t 1 kB\n"
    )
    assert memory == Memory(12 * 1024, 20 * 1024, 6 * 1024)
    with pytest.raises(KeyError):
        parse_status("Name:\tx\nState:\tZ (zombie)\n")
    peak = Peak()
    peak.note([memory, memory], 7)
    peak.note([memory], 9)
    assert peak == Peak(24 * 1024, 12 * 1024, 20 * 1024, 9)


def window(
    side: str,
    size: float,
    *,
    number: int = 0,
    seconds: float = 10.0,
    mib: int = 500,
    beside: int = 0,
    again: int = 0,
) -> Window:
    out = int(size * GB)
    used = Used(seconds, seconds, mib * MIB, 100 * MIB, mib * MIB, out + again, out + beside)
    return Window(number, side, size, used, 1.0, out)


def results(*windows: Window, errors: tuple[Errors, ...] = ()) -> Results:
    return Results(
        command="python benchmarks/merge.py",
        at="2026-01-02 03:04 UTC",
        machine={"cores": "2"},
        versions={"peft": "1"},
        sizes=[2.0, 4.0, 8.0],
        compared=4.0,
        windows=[*windows],
        errors=[*errors],
        partial=False,
    )


def whole(**changed: float) -> Results:
    """All claims hold but those that `changed` breaks."""
    told = {"seconds": 10.0, "mib": 500.0, "mib8": 520.0, "beside": 0.0, "again": 0.0} | changed
    mine = [
        window(
            OURS,
            size,
            number=number,
            seconds=told["seconds"],
            mib=int(told["mib8"] if size == 8 else told["mib"]),
            beside=int(told["beside"]),
            again=int(told["again"]),
        )
        for size in (2.0, 4.0, 8.0)
        for number in range(2)
    ]
    theirs = [
        window(side, 4.0, number=number, seconds=at, mib=4000, beside=4 * GB)
        for side, at in ((PEFT, 30.0), (PEFT_LOW, 20.0), (MERGEKIT, 60.0))
        for number in range(2)
    ]
    errors = (
        Errors(OURS, 4.0, {"a": 0.5, "b": 0.0}, 0.1, 0.0),
        Errors(PEFT, 4.0, {"a": 2.0, "b": 0.0}, 0.3, 0.5),
        Errors(PEFT_LOW, 4.0, {"a": 1.0, "b": 0.0}, 0.2, 0.5),
    )
    return results(*mine, *theirs, errors=errors)


def test_the_best_of_pefts_ways_counts_within_a_round() -> None:
    found = whole(seconds=11.0)
    assert found.ratios((PEFT, PEFT_LOW), lambda w: w.used.seconds) == [0.55, 0.55]
    assert [claim.held for claim in claims(found)] == [True] * 6
    assert "0.550 (0.550 to 0.550, 2 rounds)" in claims(found)[1].measured


@pytest.mark.parametrize(
    ("changed", "broken"),
    [
        ({"mib": 1001.0, "mib8": 1001.0}, {0}),
        ({"seconds": 12.1}, {1, 2}),
        ({"beside": 2e8}, {3}),
        ({"again": 2e8}, {3}),
        ({"mib8": 560.0}, {4}),
    ],
)
def test_a_claim_that_does_not_hold_is_said_not_to(
    changed: dict[str, float], broken: set[int]
) -> None:
    found = claims(whole(**changed))
    assert {at for at, claim in enumerate(found) if not claim.held} == broken
    assert markdown(whole(**changed)).count("**not held**") == len(broken)


def test_an_error_is_held_against_the_better_of_pefts_ways() -> None:
    found = whole()
    found.errors[0] = replace(found.errors[0], largest={"a": 1.5, "b": 0.0})
    (claim,) = [one for one in claims(found) if one.claim.startswith("error")]
    assert claim.held is False


def test_an_error_larger_in_a_single_tensor_breaks_the_claim() -> None:
    found = whole()
    found.errors[0] = replace(found.errors[0], largest={"a": 0.5, "b": 1e-9})
    (claim,) = [one for one in claims(found) if one.claim.startswith("error")]
    assert (claim.held, claim.measured.partition(";")[0]) == (
        False,
        "larger in 1 of 2, smaller in 1",
    )


def test_nothing_measured_is_no_claim_and_a_partial_run_says_so() -> None:
    found = replace(results(), partial=True)
    assert [claim.held for claim in claims(found)] == [None] * 6
    assert "**Partial" in markdown(found)


def test_another_size_than_the_claims_is_named() -> None:
    found = replace(whole(), sizes=[0.4, 0.8], compared=0.4)
    said: list[Claim] = claims(found)
    assert "(the claim is for 4 GB)" in said[0].claim
    assert "(the claim is for 2 and 8 GB)" in said[4].claim


def test_the_page_shows_each_side_and_the_figures_are_json() -> None:
    found = whole()
    found.starts.append(window(OURS, 0.0, seconds=2.0, mib=300))
    found.notes.append("mergekit: cannot be installed")
    page = markdown(found)
    assert (
        "| loraplex | 10.0 | 10.0 to 10.0 | 11.0 | 10.0 | 500 | 100 | 500 | 4.00 | 0.00 |" in page
    )
    assert "| mergekit | 60.0 |" in page
    assert "- mergekit: cannot be installed" in page
    assert json.loads(json.dumps(found.as_json()))["claims"][0]["held"] is True
