"""The admin key's making and keeping."""

import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.admin_key import load_or_make
from gateway.config import Settings, SettingsError, load_settings


def settings(folder: Path, **flags: object) -> Settings:
    return load_settings({"data_dir": folder / "data", **flags})


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_made_key_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    found = settings(tmp_path)
    key = load_or_make(found)
    assert re.fullmatch(r"lpx_admin_[A-Za-z0-9_-]{43}", key)
    assert load_or_make(found) == key
    assert mode(found.admin_key_file) == 0o600
    assert mode(found.data_dir) == 0o700
    assert [file.name for file in found.data_dir.iterdir()] == ["admin.key"]


def test_a_key_that_was_set_is_used_and_not_written(tmp_path: Path) -> None:
    found = settings(tmp_path, admin_key="mine")
    assert load_or_make(found) == "mine"
    assert not found.data_dir.exists()


def test_an_empty_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="admin_key: is empty"):
        load_or_make(settings(tmp_path, admin_key=""))


def test_two_starts_at_once_get_one_key(tmp_path: Path) -> None:
    found = settings(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(load_or_make, [found] * 32))
    assert keys == {load_or_make(found)}


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    found = settings(tmp_path)
    load_or_make(found)
    found.admin_key_file.write_text("")
    with pytest.raises(SettingsError, match=r"admin\.key"):
        load_or_make(found)


def test_a_data_dir_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(SettingsError, match="data_dir"):
        load_or_make(settings(tmp_path))
