"""A run's folder: whose it is, one process at a time, files whole or not there."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from training import run_folder as files
from training.errors import TrainingError
from training.run_folder import open_run, run_digest

DIGEST = run_digest({"recipe": "a", "data": "b"})


class Noted(BaseModel):
    value: int


def test_a_folder_is_found_again_as_the_same_run(tmp_path: Path) -> None:
    with open_run(tmp_path / "r.run", DIGEST) as first:
        first.write_json("noted.json", Noted(value=1))
    with open_run(tmp_path / "r.run", DIGEST) as second:
        assert second.mark == first.mark
        assert second.read("noted.json", Noted) == Noted(value=1)
        assert second.read("other.json", Noted) is None


def test_a_digest_tells_every_part_apart() -> None:
    assert run_digest({"data": "b", "recipe": "a"}) == DIGEST
    assert run_digest({"recipe": "a", "data": "c"}) != DIGEST
    assert run_digest({"recipe": "b", "data": "a"}) != DIGEST


def test_another_run_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with open_run(tmp_path, DIGEST):
        pass
    with (
        pytest.raises(TrainingError, match=r"holds another run.*--out.*--again"),
        open_run(tmp_path, run_digest({"recipe": "other"})),
    ):
        pass


def test_again_removes_what_was_there_and_makes_another_run(tmp_path: Path) -> None:
    with open_run(tmp_path, DIGEST) as first:
        first.write(files.EVALUATION, "{}")
        with first.making(files.ADAPTER) as folder:
            (folder / "weights").write_text("x")
    (tmp_path / "notes.txt").write_text("mine")
    with open_run(tmp_path, run_digest({"recipe": "other"}), again=True) as second:
        assert second.mark.id != first.mark.id
        assert not second.has(files.EVALUATION)
        assert not second.has(files.ADAPTER)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    for again in (False, True):
        with (
            pytest.raises(TrainingError, match="no run of `loraplex train`; name a new folder"),
            open_run(tmp_path, DIGEST, again=again),
        ):
            pass
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_only_one_process_has_a_folder(tmp_path: Path) -> None:
    with (
        open_run(tmp_path, DIGEST),
        pytest.raises(TrainingError, match="in use by another process"),
        open_run(tmp_path, DIGEST),
    ):
        pass
    with open_run(tmp_path, DIGEST):
        pass


def test_what_a_killed_process_left_half_done_is_removed(tmp_path: Path) -> None:
    with open_run(tmp_path, DIGEST):
        pass
    (tmp_path / ".aside-evaluation.json").write_text("{")
    (tmp_path / ".aside-adapter").mkdir()
    with open_run(tmp_path, DIGEST) as run:
        assert not run.has(files.EVALUATION)
    assert not list(tmp_path.glob(".aside-*"))


def test_a_folder_in_the_making_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    with open_run(tmp_path, DIGEST) as run:
        with pytest.raises(FileNotFoundError), run.making(files.ADAPTER) as folder:
            (folder / "half" / "missing").touch()
        assert not run.has(files.ADAPTER)
        with run.making(files.ADAPTER) as folder:
            (folder / "whole").write_text("x")
            assert not run.has(files.ADAPTER)
        assert [file.name for file in (run / files.ADAPTER).iterdir()] == ["whole"]


def test_a_file_that_was_changed_by_hand_is_named(tmp_path: Path) -> None:
    with open_run(tmp_path, DIGEST) as run:
        run.write("noted.json", '{"value": "many"}')
        with pytest.raises(TrainingError, match=r"noted\.json was changed by hand.*--again"):
            run.read("noted.json", Noted)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(TrainingError, match="the run's folder"),
        open_run(tmp_path / "file", DIGEST),
    ):
        pass
