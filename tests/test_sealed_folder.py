"""Folders with a list of their digests: what counts as whole."""

import os
from pathlib import Path

import pytest

from adapters_registry import sealed_folder
from adapters_registry.sealed_folder import SEAL

LARGE_BYTES = 2**24 + 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sealed folder with a small and a large file."""
    sealed = tmp_path / "sealed"
    sealed.mkdir()
    (sealed / "small").write_bytes(b"small")
    (sealed / "large").write_bytes(bytes(LARGE_BYTES))
    sealed_folder.seal(sealed)
    return sealed


def _flip(file: Path, *, keep_time: bool) -> None:
    before = file.stat()
    with file.open("r+b") as content:
        content.write(b"X")
    if keep_time:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_sealed_folder_is_whole_also_after_a_rename(folder: Path) -> None:
    moved = folder.with_name("moved")
    sealed_folder.replace(folder, moved)
    assert sealed_folder.is_intact(moved)
    assert sealed_folder.is_intact(moved, every_byte=True)
    assert not folder.exists()


@pytest.mark.parametrize("name", ["small", "large", SEAL])
def test_a_missing_file_is_damage(name: str, folder: Path) -> None:
    (folder / name).unlink()
    assert not sealed_folder.is_intact(folder)


@pytest.mark.parametrize("name", ["small", "large"])
def test_another_size_is_damage(name: str, folder: Path) -> None:
    with (folder / name).open("ab") as file:
        file.write(b"more")
    assert not sealed_folder.is_intact(folder)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"small": 1}', b"\xff"])
def test_a_list_that_lists_nothing_is_damage(content: bytes, folder: Path) -> None:
    (folder / SEAL).write_bytes(content)
    assert not sealed_folder.is_intact(folder)


def test_a_flipped_byte_in_a_small_file_is_always_seen(folder: Path) -> None:
    _flip(folder / "small", keep_time=True)
    assert not sealed_folder.is_intact(folder)


def test_a_flipped_byte_in_a_large_file_is_seen_by_its_time_or_on_demand(folder: Path) -> None:
    _flip(folder / "large", keep_time=True)
    assert sealed_folder.is_intact(folder)
    assert not sealed_folder.is_intact(folder, every_byte=True)
    (folder / "large").touch()
    assert not sealed_folder.is_intact(folder)


def test_a_large_file_that_was_only_touched_is_whole(folder: Path) -> None:
    (folder / "large").touch()
    assert sealed_folder.is_intact(folder)


def test_a_damaged_folder_makes_room(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "old").write_text("old")
    sealed_folder.replace(folder, target)
    assert sorted(file.name for file in target.iterdir()) == ["large", SEAL, "small"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged", "target"]
