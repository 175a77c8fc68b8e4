"""A merge that is killed anywhere leaves nothing that looks whole, and goes on where it was."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.described import described
from tests.merge_forks import job
from tests.small_disk import small_disk_at
from training.errors import MergeError
from training.merge.job import MergeJob, Moved
from training.merge.merge import MERGING, merge
from training.merge.work_folder import open_work

ROOT = Path(__file__).parents[1]


@dataclass
class Merger:
    """Asks for merges of the tiny base in processes of their own."""

    process: subprocess.Popen[str]
    told: dict[str, Any]

    def run(
        self, out: Path, *, end: int | None = None, by: signal.Signals = signal.SIGKILL
    ) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        told = self.told | {"out": str(out), "end": end, "with": int(by)}
        self.process.stdin.write(json.dumps(told) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "the helper ended"
        found: dict[str, Any] = json.loads(answer)
        return found


@pytest.fixture(scope="module")
def told(tiny_base: Path, tiny_adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    cache = described(tmp_path_factory.mktemp("merge-cache"), tiny_base)
    return {"base": str(tiny_base), "adapter": str(tiny_adapter), "cache": str(cache)}


@pytest.fixture(scope="module")
def merger(told: dict[str, Any]) -> Iterator[Merger]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.merge_forks"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Merger(process, told)
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="module")
def undisturbed(merger: Merger, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A merge that nothing ended, and its steps."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    found = merger.run(out)
    assert (found["said"], found["resumed"]) == (None, 0)
    return out, found["steps"]


def _contents(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }


def _work(out: Path) -> Path:
    return out.with_name(f".{out.name}.merging")


def _places(steps: list[str]) -> list[int]:
    """Every fsync and rename, and some writes in the middle of files."""
    writes = [i for i, name in enumerate(steps) if name in ("write", "copy_file_range")]
    return sorted({i for i, name in enumerate(steps) if i not in writes} | set(writes[::9]))


def test_killed_at_any_step_it_goes_on_to_the_same_bytes(
    merger: Merger, undisturbed: tuple[Path, list[str]], tmp_path: Path
) -> None:
    whole, steps = undisturbed
    expected = _contents(whole)
    resumed = set()
    for place in _places(steps):
        out = tmp_path / f"killed-at-{place}"
        assert merger.run(out, end=place)["killed"]
        if out.exists():  # killed between its last two steps
            assert "is there already" in merger.run(out)["said"]
        else:
            kept = _whole_files(_work(out))
            again = merger.run(out)
            assert (again["said"], again["resumed"]) == (None, kept), steps[place]
            resumed.add(kept)
        assert _contents(out) == expected
        assert not _work(out).exists()
    shards = [name for name in expected if name.endswith(".safetensors")]
    assert resumed == set(range(len(shards) + 1))
    assert len(shards) > 2


def _whole_files(work: Path) -> int:
    try:
        return len(json.loads((work / "journal.json").read_bytes())["files"])
    except FileNotFoundError:
        return 0


def test_ctrl_c_says_how_to_go_on(
    merger: Merger, undisturbed: tuple[Path, list[str]], tmp_path: Path
) -> None:
    whole, steps = undisturbed
    first_kept = steps.index("replace", steps.index("replace") + 1)
    found = merger.run(tmp_path / "out", end=first_kept + 1, by=signal.SIGINT)
    assert found["said"].startswith("Interrupted: the merge was stopped: run the same command")
    assert not (tmp_path / "out").exists()
    assert merger.run(tmp_path / "out")["said"] is None
    assert _contents(tmp_path / "out") == _contents(whole)


@pytest.fixture
def stopped(
    merger: Merger, undisturbed: tuple[Path, list[str]], tmp_path: Path
) -> tuple[MergeJob, dict[str, str]]:
    """The job of a merge that was killed with all weights whole, and what it should have made."""
    whole, steps = undisturbed
    out = tmp_path / "out"
    last_kept = len(steps) - 1 - steps[::-1].index("replace")
    assert merger.run(out, end=last_kept + 2)["killed"]
    return job(merger.told | {"out": str(out)}), _contents(whole)


def test_a_file_that_was_damaged_since_is_written_again(
    stopped: tuple[MergeJob, dict[str, str]],
) -> None:
    asked, expected = stopped
    shards = sorted((_work(asked.out) / "model").glob("*.safetensors"))
    content = bytearray(shards[0].read_bytes())
    content[-1] ^= 1
    shards[0].write_bytes(content)
    shards[1].write_bytes(shards[1].read_bytes()[:-1])
    shards[2].unlink()
    merged = merge(asked)
    assert merged.resumed == len(shards) - 3
    assert _contents(asked.out) == expected


def test_a_journal_that_cannot_be_read_keeps_nothing(
    stopped: tuple[MergeJob, dict[str, str]],
) -> None:
    asked, expected = stopped
    (_work(asked.out) / "journal.json").write_text("{")
    assert merge(asked).resumed == 0
    assert _contents(asked.out) == expected


def test_another_option_begins_anew_and_says_so(stopped: tuple[MergeJob, dict[str, str]]) -> None:
    asked, expected = stopped
    stages: list[Moved] = []
    merged = merge(replace(asked, dtype="float16"), stages.append)
    assert merged.resumed == 0
    assert any("An earlier merge into this folder was stopped" in note for note in merged.notes)
    assert _contents(asked.out).keys() != expected.keys() or _contents(asked.out) != expected


@pytest.mark.parametrize("changed", ["base", "adapter"])
def test_a_changed_input_begins_anew(
    stopped: tuple[MergeJob, dict[str, str]], changed: str, tmp_path: Path
) -> None:
    asked, _ = stopped
    if changed == "base":
        asked = replace(asked, base=shutil.copytree(asked.base, tmp_path / "base"))
        described(asked.cache_dir, asked.base)
    else:
        copy = tmp_path / "adapter"
        copy.mkdir()
        for file in asked.adapters[0].folder.iterdir():
            (copy / file.name).write_bytes(file.read_bytes())
        config = json.loads((copy / "adapter_config.json").read_bytes())
        config["lora_alpha"] += 1
        (copy / "adapter_config.json").write_text(json.dumps(config))
        asked = replace(asked, adapters=(replace(asked.adapters[0], folder=copy),))
    merged = merge(asked)
    assert merged.resumed == 0
    assert any("was stopped, of another base, adapter or option" in note for note in merged.notes)


def test_a_refused_base_leaves_what_an_earlier_run_had_made(
    stopped: tuple[MergeJob, dict[str, str]], tmp_path: Path
) -> None:
    asked, expected = stopped
    with pytest.raises(MergeError):
        merge(replace(asked, base=tmp_path))
    assert merge(asked).resumed > 0
    assert _contents(asked.out) == expected


def test_two_merges_into_one_folder_refuse(told: dict[str, Any], tmp_path: Path) -> None:
    asked = job(told | {"out": str(tmp_path / "out")})
    with open_work(asked.out), pytest.raises(MergeError, match=r"another merge into .* under way"):
        merge(asked)
    assert not list(tmp_path.iterdir())
    merge(asked)
    with pytest.raises(MergeError, match="is there already: name a new folder with --out"):
        merge(asked)
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Of 4 MiB."""
    with small_disk_at(tmp_path / "disk", 4) as folder:
        yield folder


def test_a_disk_that_fills_up_keeps_what_is_whole(
    small_disk: Path, told: dict[str, Any], undisturbed: tuple[Path, list[str]]
) -> None:
    asked = job(told | {"out": str(small_disk / "out")})
    filler = small_disk / "filler"

    def fill_when_one_is_kept(moved: Moved) -> None:
        if moved.stage == MERGING and _whole_files(_work(asked.out)) and not filler.exists():
            _fill(filler)

    with pytest.raises(MergeError, match=r"the disk of .* is full: free some of it") as error:
        merge(asked, fill_when_one_is_kept)
    assert "which keeps what is whole (" in error.value.message
    assert not asked.out.exists()
    assert not list(_work(asked.out).glob("*.part"))
    filler.unlink()
    assert merge(asked).resumed > 0
    assert _contents(asked.out) == _contents(undisturbed[0])


def _fill(file: Path) -> None:
    with file.open("wb", buffering=0) as filler:
        for size in (2**16, 2**12, 1):
            try:
                while True:
                    filler.write(bytes(size))
            except OSError:
                continue


def test_a_disk_that_is_too_small_is_refused_first(small_disk: Path, told: dict[str, Any]) -> None:
    (small_disk / "filler").write_bytes(bytes(4 * 2**20 - 2**16))
    with pytest.raises(MergeError, match=r"has 0.1 MB free, and 0.\d MB will be written"):
        merge(job(told | {"out": str(small_disk / "out")}))
    assert [file.name for file in small_disk.iterdir()] == ["filler"]
