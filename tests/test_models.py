"""From a model's name to its folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from adapters_registry.errors import ModelError
from adapters_registry.models import EMBEDDED, resolve_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder, with weights."""
    found = tmp_path / "model"
    found.mkdir()
    (found / "config.json").write_text("{}")
    (found / "model.safetensors").write_bytes(b"")
    return found


def test_a_folder_is_itself(folder: Path, tmp_path: Path) -> None:
    assert resolve_model(str(folder), tmp_path) == folder


def test_a_relative_folder_becomes_absolute(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_model("model", tmp_path) == folder


def test_a_folder_without_a_config_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"has no config\.json"):
        resolve_model(str(folder), tmp_path)


def test_a_folder_without_safetensors_is_refused_only_where_weights_are_wanted(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="has no safetensors weights"):
        resolve_model(str(folder), tmp_path)
    assert resolve_model(str(folder), tmp_path, weights=False) == folder


@pytest.mark.parametrize(
    "model", ["/no/such/folder", "./none", "../none", "a/b/c", "", "a b", "~/x"]
)
def test_what_is_neither_a_folder_nor_a_hub_id_is_refused(model: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="name a folder, a Hub id"):
        resolve_model(model, tmp_path)


_OFFLINE = """
import sys
from pathlib import Path
from adapters_registry.errors import ModelError
from adapters_registry.models import resolve_model
try:
    resolve_model("owner/never-fetched", Path(sys.argv[1]))
except ModelError as error:
    print(error.message)
"""


def test_a_hub_that_cannot_be_reached_is_named_with_the_fix(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", _OFFLINE, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
    ).stdout
    assert "'owner/never-fetched'" in said
    assert "HF_HUB_OFFLINE" in said


def test_embedded_is_the_converted_model(embedded_model: Path) -> None:
    assert resolve_model(EMBEDDED, embedded_model.parents[1]) == embedded_model
