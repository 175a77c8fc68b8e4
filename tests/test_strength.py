"""How much an adapter adds at most, from its files."""

from pathlib import Path

import numpy as np
import pytest

from adapters_registry.errors import StorageError
from adapters_registry.strength import largest_update
from tests.adapters_for_tests import (
    Array,
    good_adapter,
    make_config,
    make_tensors,
    raw_safetensors,
    tiny_base,
    write_adapter,
)

BASE = tiny_base()


def true_largest(tensors: dict[str, Array], scale: float) -> float:
    """The greatest element of any B @ A times the scale, in full."""
    sides = [name for name in tensors if name.endswith("lora_A.weight")]
    return max(
        float(np.abs(tensors[name.replace("_A.", "_B.")] @ tensors[name]).max()) * scale
        for name in sides
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_bound_of_the_right_size(tmp_path: Path, dtype: type) -> None:
    tensors = make_tensors(BASE, rank=4, dtype=dtype, scale=0.02)
    folder = write_adapter(tmp_path / "a", make_config(BASE, rank=4, lora_alpha=8), tensors)
    true = true_largest({name: t.astype(np.float64) for name, t in tensors.items()}, 8 / 4)
    assert true <= largest_update(folder) <= 50 * true


def test_bfloat16_is_read_as_it_is(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", make_config(BASE, rank=1, lora_alpha=1), {})
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    # -3.0 is the greatest of A, 0.5 that of B; the upper halves of the float32s, little-endian.
    a, b = b"\x40\xc0\x00\x3f", b"\x00\xbf\x80\x3e"
    spec = {"dtype": "BF16", "shape": [1, 2]}
    header = {
        f"{module}.lora_A.weight": spec | {"data_offsets": [0, 4]},
        f"{module}.lora_B.weight": spec | {"data_offsets": [4, 8]},
    }
    (folder / "adapter_model.safetensors").write_bytes(raw_safetensors(header, a + b))
    assert largest_update(folder) == pytest.approx(1.5)


def test_what_is_scaled_away_is_seen(tmp_path: Path) -> None:
    tensors = {
        name: tensor * np.float32(1e-30 if "lora_B" in name else 1.0)
        for name, tensor in make_tensors(BASE).items()
    }
    folder = write_adapter(tmp_path / "a", make_config(BASE), tensors)
    assert 0 < largest_update(folder) < 1e-28


def test_alpha_and_its_pattern_count(tmp_path: Path) -> None:
    folder = good_adapter(tmp_path / "a", BASE, alpha_pattern={"q_proj": 0, "v_proj": 0})
    assert largest_update(folder) == 0


def test_missing_files_are_a_storage_error_without_a_path(tmp_path: Path) -> None:
    folder = good_adapter(tmp_path / "a", BASE)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(StorageError) as caught:
        largest_update(folder)
    assert str(tmp_path) not in str(caught.value)
