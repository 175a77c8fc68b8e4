"""Adapters that are refused, with the reason, and those that pass, with what is said of them."""

import ast
import contextlib
import functools
import importlib.util
import json
import pickle
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters_registry.adapter_config import MAX_CONFIG_BYTES
from adapters_registry.artifacts import CONFIG_FILE, FILES, WEIGHTS_FILE
from adapters_registry.base_model import BaseModelSpec
from adapters_registry.errors import InvalidAdapter
from adapters_registry.manifest import Manifest, check_adapter
from adapters_registry.safetensors_header import MAX_HEADER_BYTES
from adapters_registry.vllm_support import EMBEDDING_LORA, PLAIN_INITS
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
Q0 = "base_model.model.model.layers.0.self_attn.q_proj"
EMBED = "base_model.model.model.embed_tokens"


def check(folder: Path, *, base: BaseModelSpec = BASE, max_rank: int = 16) -> Manifest:
    return check_adapter(folder, base, max_rank)


def refusal(folder: Path, *, base: BaseModelSpec = BASE, max_rank: int = 16) -> InvalidAdapter:
    with pytest.raises(InvalidAdapter) as refused:
        check_adapter(folder, base, max_rank)
    return refused.value


def with_tensors(folder: Path, tensors: Mapping[str, Array], **config: Any) -> Path:
    return write_adapter(folder, make_config(BASE, **config), tensors)


def with_file(folder: Path, content: bytes) -> Path:
    good_adapter(folder, BASE)
    (folder / WEIGHTS_FILE).write_bytes(content)
    return folder


# Good ones


def test_a_good_adapter_passes(tmp_path: Path) -> None:
    folder = good_adapter(tmp_path, BASE, rank=8)
    found = check(folder)
    assert (found.rank, found.warnings) == (8, ())
    assert found.size_bytes == sum((folder / name).stat().st_size for name in FILES)
    assert found.summary() == {
        "alpha": 16.0,
        "dtypes": ["F32"],
        "modules": 4,
        "targets": ["q_proj", "v_proj"],
    }


def test_half_precision_passes(tmp_path: Path) -> None:
    assert check(with_tensors(tmp_path, make_tensors(BASE, dtype=np.float16))).dtypes == ("F16",)


def test_bfloat16_passes(tmp_path: Path) -> None:
    assert check(_bfloat16(tmp_path)).dtypes == ("BF16",)


def _bfloat16(folder: Path, special: int | None = None) -> Path:
    """The upper halves of float32, as numpy has no bfloat16. `special`: one element's bits."""
    header, data = {}, b""
    for name, tensor in make_tensors(BASE).items():
        words = (tensor.view(np.uint32) >> 16).astype("<u2")
        if special is not None and not data:
            words[0, 3] = special
        header[name] = {
            "dtype": "BF16",
            "shape": list(tensor.shape),
            "data_offsets": [len(data), len(data) + words.nbytes],
        }
        data += words.tobytes()
    return with_file(folder, raw_safetensors(header, data))


def test_the_highest_rank_and_the_cap_itself_pass(tmp_path: Path) -> None:
    assert check(good_adapter(tmp_path, BASE, rank=16), max_rank=16).rank == 16


def test_rslora_and_plain_inits_pass(tmp_path: Path) -> None:
    for init in [*PLAIN_INITS, "Gaussian", True, False]:
        check(good_adapter(tmp_path, BASE, use_rslora=True, init_lora_weights=init))


@pytest.mark.parametrize("key", ["q_proj", "self_attn.q_proj", "^model.layers.0.self_attn.q_proj"])
def test_ranks_and_alphas_by_module_pass(key: str, tmp_path: Path) -> None:
    tensors = make_tensors(BASE, rank=4)
    wide = make_tensors(BASE, rank=8, targets=("q_proj",))
    only_first = key.startswith("^")
    tensors.update({n: t for n, t in wide.items() if not only_first or ".layers.0." in n})
    folder = with_tensors(tmp_path, tensors, rank_pattern={key: 8}, alpha_pattern={key: 32})
    assert check(folder).rank == 8


@pytest.mark.parametrize("target", ["embed_tokens", "lm_head"])
def test_embeddings_pass_where_vllm_adapts_them(target: str, tmp_path: Path) -> None:
    tensors = make_tensors(BASE, targets=("q_proj", target))
    assert target in check(with_tensors(tmp_path, tensors)).targets


def test_zeros_in_some_modules_pass(tmp_path: Path) -> None:
    tensors = make_tensors(BASE)
    tensors[f"{Q0}.lora_B.weight"][:] = 0
    check(with_tensors(tmp_path, tensors))


# Warnings


def test_another_base_of_the_same_shape_is_a_warning(tmp_path: Path) -> None:
    folder = good_adapter(tmp_path, BASE, base_model_name_or_path="/home/me/models/Other-135M")
    assert check(folder).warnings == (
        "base_model_name_or_path: trained on 'Other-135M', served on 'SmolLM2-135M-Instruct';"
        " the shapes agree",
    )


@pytest.mark.parametrize(
    "name", ["HuggingFaceTB/SmolLM2-135M-Instruct", "/models/smollm2-135m-instruct/", None]
)
def test_the_same_base_by_another_way_is_none(name: str | None, tmp_path: Path) -> None:
    assert check(good_adapter(tmp_path, BASE, base_model_name_or_path=name)).warnings == ()


def test_a_quantized_base_is_a_warning(tmp_path: Path) -> None:
    named = "unsloth/SmolLM2-135M-Instruct-bnb-4bit"
    warnings = check(good_adapter(tmp_path, BASE, base_model_name_or_path=named)).warnings
    assert "trained on a quantized base" in warnings[1]


def test_some_layers_only_is_a_warning(tmp_path: Path) -> None:
    tensors = {n: t for n, t in make_tensors(BASE).items() if ".layers.0." in n}
    assert check(with_tensors(tmp_path, tensors)).warnings == (
        "adapts only some layers: self_attn.q_proj in 1 of 2, self_attn.v_proj in 1 of 2",
    )


# The configuration


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"auto_map": {"AutoModel": "evil.Model"}}, "auto_map"),
        ({"peft_type": "PROMPT_TUNING"}, "peft_type"),
        ({"peft_type": None}, "peft_type"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"bias": "lora_only"}, "bias"),
        ({"lora_bias": True}, "lora_bias"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"init_lora_weights": "pissa_niter_16"}, "init_lora_weights"),
        ({"init_lora_weights": "OLoRA"}, "init_lora_weights"),
        ({"init_lora_weights": "corda"}, "init_lora_weights"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights"),
        ({"init_lora_weights": ["gaussian"]}, "init_lora_weights"),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"modules_to_save": ["classifier"]}, "modules_to_save"),
        ({"trainable_token_indices": [5]}, "trainable_token_indices"),
        ({"trainable_token_indices": {"embed_tokens": [5]}}, "trainable_token_indices"),
        ({"use_bdlora": {"nblocks": 2}}, "use_bdlora"),
        ({"use_qalora": True}, "use_qalora"),
        ({"target_parameters": ["experts.gate_up_proj"]}, "target_parameters"),
        ({"arrow_config": {"top_k": 3}}, "arrow_config"),
        ({"kasa_config": {"beta": 1e-4}}, "kasa_config"),
        ({"monteclora_config": {"n": 1}}, "monteclora_config"),
        ({"target_modules": None}, "target_modules"),
        ({"use_rslora": "yes"}, "use_rslora"),
        ({"r": 17}, "r"),
        ({"r": 0}, "r"),
        ({"r": -1}, "r"),
        ({"r": 4.0}, "r"),
        ({"r": True}, "r"),
        ({"r": "4"}, "r"),
        ({"r": None}, "r"),
        ({"rank_pattern": {"q_proj": 17}}, "rank_pattern.q_proj"),
        ({"rank_pattern": {"q_proj": 0}}, "rank_pattern.q_proj"),
        ({"rank_pattern": {"q_proj": 1.5}}, "rank_pattern.q_proj"),
        ({"rank_pattern": ["q_proj"]}, "rank_pattern"),
        ({"rank_pattern": {"(a+)+": 4}}, "rank_pattern.(a+)+"),
        ({"alpha_pattern": {"(a|a)*b": 4}}, "alpha_pattern.(a|a)*b"),
        ({"alpha_pattern": {"q_proj": "8"}}, "alpha_pattern.q_proj"),
        ({"lora_alpha": float("nan")}, "lora_alpha"),
        ({"lora_alpha": float("inf")}, "lora_alpha"),
        ({"lora_alpha": 10**400}, "lora_alpha"),
        ({"lora_alpha": "16"}, "lora_alpha"),
        ({"lora_alpha": True}, "lora_alpha"),
        ({"lora_alpha": None}, "lora_alpha"),
    ],
)
def test_a_field_that_vllm_refuses_or_forgets_is_refused(
    changes: dict[str, Any], field: str, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path, make_config(BASE) | changes, make_tensors(BASE))
    config = {k: v for k, v in (make_config(BASE) | changes).items() if v is not None}
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    refused = refusal(folder)
    assert refused.field == field
    assert refused.message.startswith(f"{CONFIG_FILE}: {field}: ")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff{}", "not valid JSON"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"r": ' + b"1" * 5000 + b"}", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'{"r": 4, "r": 400}', "names 'r' twice"),
        (b'{"x": "' + b" " * MAX_CONFIG_BYTES + b'"}', "larger than"),
    ],
)
def test_a_config_that_is_no_small_json_object_is_refused(
    content: bytes, reason: str, tmp_path: Path
) -> None:
    good_adapter(tmp_path, BASE)
    (tmp_path / CONFIG_FILE).write_bytes(content)
    assert reason in refusal(tmp_path).message


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["missing", "link", "folder"])
def test_a_file_that_is_not_there_or_not_plain_is_refused(
    name: str, kind: str, tmp_path: Path
) -> None:
    file = good_adapter(tmp_path / "in", BASE) / name
    if kind == "link":
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    else:
        file.unlink()
        if kind == "folder":
            file.mkdir()
    refused = refusal(tmp_path / "in")
    assert refused.message.startswith(f"{name}: cannot be read")
    assert str(tmp_path) not in refused.message


# The tensors


def renamed(old: str, new: str) -> dict[str, Array]:
    return {name.replace(old, new): tensor for name, tensor in make_tensors(BASE).items()}


def replaced(name: str, tensor: Array) -> dict[str, Array]:
    return make_tensors(BASE) | {name: tensor}


ZEROS = {name: tensor * 0 for name, tensor in make_tensors(BASE).items()}


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({}, "holds no tensors"),
        (renamed("layers.0", "layers.7"), "the nearest is model.layers."),
        (renamed("model.layers", "layers"), "adapts no module of the base model; the nearest is"),
        (renamed("q_proj", "query"), "adapts no module of the base model"),
        (renamed("base_model.model.", ""), "does not start with 'base_model.model.'"),
        (renamed("lora_A.weight", "lora_A.default.weight"), "save with save_pretrained"),
        (replaced(f"{Q0}.lora_magnitude_vector", np.ones(16, "f4")), "DoRA"),
        (replaced(f"{EMBED}.weight", np.ones((64, 16), "f4")), "is no LoRA matrix"),
        (replaced(f"{EMBED}.base_layer.weight", np.ones((64, 16), "f4")), "is no LoRA matrix"),
        (replaced(f"{Q0}.lora_B.bias", np.ones(16, "f4")), "is no LoRA matrix"),
        (
            replaced(f"{Q0}.lora_embedding_A", np.ones((4, 16), "f4")),
            "PEFT calls this module's tensors lora_A/B.weight",
        ),
        (replaced(f"{EMBED}.lora_A.weight", np.ones((4, 64), "f4")), "tensors lora_embedding_A/B"),
        (replaced(f"{Q0}.lora_A.weight", np.ones((4, 15), "f4")), "wanted is [4, 16]"),
        (replaced(f"{Q0}.lora_A.weight", np.ones((8, 16), "f4")), "wanted is [4, 16]"),
        (replaced(f"{Q0}.lora_A.weight", np.ones((16, 4), "f4")), "wanted is [4, 16]"),
        (replaced(f"{Q0}.lora_B.weight", np.ones((4, 16), "f4")), "wanted is [16, 4]"),
        (replaced(f"{Q0}.lora_B.weight", np.ones((16, 4, 1), "f4")), "wanted is [16, 4]"),
        (replaced(f"{Q0}.lora_A.weight", np.ones((0, 16), "f4")), "wanted is [4, 16]"),
        (replaced(f"{Q0}.lora_A.weight", np.ones((4, 16), "f8")), "dtype 'F64'"),
        (replaced(f"{Q0}.lora_A.weight", np.ones((4, 16), "i4")), "dtype 'I32'"),
        (ZEROS, "changes nothing"),
        ({n: t * ("lora_B" not in n) for n, t in make_tensors(BASE).items()}, "changes nothing"),
        ({n: t * -0.0 for n, t in make_tensors(BASE).items()}, "changes nothing"),
    ],
)
def test_tensors_that_do_not_fit_the_base_are_refused(
    tensors: dict[str, Array], reason: str, tmp_path: Path
) -> None:
    assert reason in refusal(with_tensors(tmp_path, tensors)).message


def test_alpha_zero_changes_nothing(tmp_path: Path) -> None:
    assert "changes nothing" in refusal(good_adapter(tmp_path, BASE, lora_alpha=0)).message


@pytest.mark.parametrize("side", ["A", "B"])
def test_half_a_pair_is_refused(side: str, tmp_path: Path) -> None:
    tensors = make_tensors(BASE)
    del tensors[f"{Q0}.lora_{side}.weight"]
    refused = refusal(with_tensors(tmp_path, tensors))
    assert f"has no lora_{side} beside it" in refused.message
    assert refused.field is not None
    assert refused.field.startswith(Q0)


@pytest.mark.parametrize("rank_pattern", [{"q_proj": 8}, {"v_proj": 8}])
def test_a_rank_that_disagrees_with_the_pattern_is_refused(
    rank_pattern: dict[str, int], tmp_path: Path
) -> None:
    folder = with_tensors(tmp_path, make_tensors(BASE, rank=4), rank_pattern=rank_pattern)
    assert f"(rank 8 by {CONFIG_FILE}" in refusal(folder).message


def test_a_rank_above_the_cap_says_how_to_raise_it(tmp_path: Path) -> None:
    refused = refusal(good_adapter(tmp_path, BASE, rank=8), max_rank=4)
    assert "rank 8 is above the highest served, 4" in refused.message
    assert "--max-lora-rank" in refused.message


@pytest.mark.parametrize("target", ["embed_tokens", "lm_head"])
def test_embeddings_are_refused_where_vllm_does_not_adapt_them(target: str, tmp_path: Path) -> None:
    mistral = tiny_base(architecture="MistralForCausalLM")
    tensors = make_tensors(mistral, targets=("q_proj", target))
    folder = write_adapter(tmp_path, make_config(mistral), tensors)
    wanted = f"adapts {target}, which vLLM does not support for MistralForCausalLM"
    assert wanted in refusal(folder, base=mistral).message


def test_an_adapter_tied_between_head_and_embedding_is_refused(tmp_path: Path) -> None:
    tensors = make_tensors(BASE, targets=("q_proj", "embed_tokens"))
    refused = refusal(with_tensors(tmp_path, tensors, ensure_weight_tying=True))
    assert refused.field == "ensure_weight_tying"
    both = make_tensors(BASE, targets=("embed_tokens", "lm_head"))
    check(with_tensors(tmp_path, both, ensure_weight_tying=True))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["A", "B"])
def test_nan_and_infinity_are_refused(
    dtype: type[np.floating[Any]], special: float, side: str, tmp_path: Path
) -> None:
    tensors = make_tensors(BASE, dtype=dtype)
    tensors[f"{Q0}.lora_{side}.weight"][-1, -1] = special
    refused = refusal(with_tensors(tmp_path, tensors))
    assert "holds NaN or infinity" in refused.message
    assert refused.field == f"{Q0}.lora_{side}.weight"


@pytest.mark.parametrize("bits", [0x7F80, 0xFF80, 0x7FC0, 0x7F81])
def test_nan_and_infinity_in_bfloat16_are_refused(bits: int, tmp_path: Path) -> None:
    assert "holds NaN or infinity" in refusal(_bfloat16(tmp_path, special=bits)).message


def test_nan_beyond_the_first_chunk_is_seen(tmp_path: Path) -> None:
    rows = 3 * 2**20
    wide = BASE.model_copy(
        update={
            "modules": {
                "lm_head": BASE.modules["lm_head"].model_copy(update={"out_features": rows})
            }
        }
    )
    tensors = make_tensors(wide, rank=1, targets=("lm_head",))
    tensors["base_model.model.lm_head.lora_B.weight"][rows - 1, 0] = np.nan
    folder = write_adapter(tmp_path, make_config(wide, rank=1), tensors)
    assert "holds NaN" in refusal(folder, base=wide).message


# Hostile safetensors

Spec = dict[str, Any]


def _laid_out(change: Callable[[dict[str, Spec], bytes], bytes | None]) -> bytes:
    """A good file's header and data, changed."""
    header: dict[str, Spec] = {}
    data = b""
    for name, tensor in make_tensors(BASE).items():
        end = len(data) + tensor.nbytes
        header[name] = {
            "dtype": "F32",
            "shape": list(tensor.shape),
            "data_offsets": [len(data), end],
        }
        data += tensor.tobytes()
    changed = change(header, data)
    return raw_safetensors(header, data if changed is None else changed)


def _set(field: str, value: object) -> Callable[[dict[str, Spec], bytes], None]:
    return lambda header, _data: header[f"{Q0}.lora_A.weight"].__setitem__(field, value)


def _hole(header: dict[str, Spec], data: bytes) -> bytes:
    last = list(header.values())[-1]
    last["data_offsets"] = [offset + 8 for offset in last["data_offsets"]]
    return data + bytes(8)


def _overlap(header: dict[str, Spec], _data: bytes) -> None:
    first, second = f"{Q0}.lora_A.weight", f"{Q0}.lora_B.weight"
    header[second]["data_offsets"] = header[first]["data_offsets"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda h, d: d + b"\0", "has bytes after its last tensor"),
        (lambda h, d: d[:-1], "is truncated"),
        (_hole, "there is a hole"),
        (_overlap, "overlaps"),
        (_set("dtype", "F64"), "has dtype 'F64'"),
        (_set("dtype", ["F32"]), "has dtype"),
        (_set("dtype", "F16"), "do not match its dtype and shape"),
        (_set("shape", [4, 17]), "do not match its dtype and shape"),
        (_set("shape", [4, 16.0]), "malformed shape"),
        (_set("shape", [True, 64]), "malformed shape"),
        (_set("shape", [-4, -16]), "malformed shape"),
        (_set("shape", [1] * 9), "malformed shape"),
        (_set("shape", "4"), "malformed shape"),
        (_set("shape", [2**62, 2**62]), "malformed shape"),
        (_set("data_offsets", [0, 256, 512]), "malformed shape or data_offsets"),
        (_set("data_offsets", [0, 2**64]), "malformed shape or data_offsets"),
        (_set("data_offsets", [256, 0]), "do not match its dtype and shape"),
        (_set("strides", [1, 1]), "must have dtype, shape and data_offsets"),
        (lambda h, d: h.update(x=5), "must have dtype, shape and data_offsets"),
        (lambda h, d: h.update(__metadata__={"format": 1}), "`__metadata__` must map"),
        (lambda h, d: h.update(__metadata__=[]), "`__metadata__` must map"),
    ],
)
def test_a_layout_that_could_be_read_in_two_ways_is_refused(
    change: Callable[[dict[str, Spec], bytes], bytes | None], reason: str, tmp_path: Path
) -> None:
    assert reason in refusal(with_file(tmp_path, _laid_out(change))).message


def test_the_layout_itself_is_good(tmp_path: Path) -> None:
    check(with_file(tmp_path, _laid_out(lambda _header, _data: None)))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "too short"),
        (b"\0" * 7, "too short"),
        (b"\0" * 8, "ends inside its header"),
        (struct.pack("<Q", 100) + b"{}", "ends inside its header"),
        (struct.pack("<Q", 2**63) + b"{}", "header has more than"),
        (struct.pack("<Q", MAX_HEADER_BYTES + 1) + b"{}", "header has more than"),
        (pickle.dumps({"a": 1}), "is a pickle or a zip"),
        (pickle.dumps({"a": 1}, protocol=0), "is a pickle or a zip"),
        (b"PK\x03\x04" + b"\0" * 100, "is a pickle or a zip"),
        (raw_safetensors(b" {}"), "must start with '{'"),
        (raw_safetensors(b"[]"), "must start with '{'"),
        (raw_safetensors(b"{}"), "holds no tensors"),
        (raw_safetensors(b'{"a": nope}'), "not valid JSON"),
        (raw_safetensors(b'{"a": "\xff"}'), "not valid JSON"),
        (raw_safetensors(b'{"a":' * 100_000), "not valid JSON"),
        (raw_safetensors(b'{"a": {}, "a": {}}'), "names 'a' twice"),
        (raw_safetensors(b'{"a": {"dtype": "F32", "dtype": "F16"}}'), "names 'dtype' twice"),
        (raw_safetensors(b'{"__metadata__": {"k": "v", "k": "w"}}'), "names 'k' twice"),
    ],
)
def test_a_file_that_is_no_safetensors_is_refused(
    content: bytes, reason: str, tmp_path: Path
) -> None:
    refused = refusal(with_file(tmp_path, content))
    assert reason in refused.message
    assert refused.message.startswith(WEIGHTS_FILE)


def test_a_long_name_with_anything_in_it_is_shown_short_and_escaped(tmp_path: Path) -> None:
    name = "\x1b[31m\n" + "x" * 100_000
    refused = refusal(
        with_file(tmp_path, _laid_out(lambda h, _d: h.update({name: h[next(iter(h))]})))
    )
    assert len(refused.message) < 1000
    assert refused.message.isprintable()


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_damage_to_a_file_is_a_refusal_or_harmless(data: st.DataObject, tmp_path: Path) -> None:
    """Whatever is cut, flipped or put in: InvalidAdapter or a pass, never another error."""
    content = bytearray(_laid_out(lambda _header, _data: None))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["flip", "cut", "insert"]))
        if kind == "flip":
            content[position] = data.draw(st.integers(0, 255))
        elif kind == "cut" and position:
            del content[position:]
        else:
            content[position:position] = data.draw(st.binary(max_size=16))
    with contextlib.suppress(InvalidAdapter):
        check(with_file(tmp_path, bytes(content)))


# What vLLM itself says, in its source


@functools.cache
def _vllm(path: str) -> ast.Module:
    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.origin is None:
        pytest.skip("vLLM is not installed; `make setup` installs it")
    return ast.parse((Path(spec.origin).parent / path).read_text())


def _class(module: ast.Module, name: str) -> ast.ClassDef:
    found = (n for n in module.body if isinstance(n, ast.ClassDef) and n.name == name)
    return next(found)


def test_every_field_that_vllm_reads_of_the_config_is_known_here() -> None:
    helper = _class(_vllm("lora/peft_helper.py"), "PEFTHelper")
    fields = {
        node.target.id
        for node in helper.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    ours = {"vllm_lora_scaling_factor", "vllm_max_position_embeddings"}
    assert fields - ours == {
        "r",
        "lora_alpha",
        "target_modules",
        "bias",
        "modules_to_save",
        "use_rslora",
        "use_dora",
        "lora_bias",
        "init_lora_weights",
        "alora_invocation_tokens",
        "layer_replication",
        "use_bdlora",
        "use_qalora",
        "rank_pattern",
        "alpha_pattern",
    }


def test_vllms_list_of_plain_inits_is_ours() -> None:
    helper = _class(_vllm("lora/peft_helper.py"), "PEFTHelper")
    method = next(
        n for n in helper.body if isinstance(n, ast.FunctionDef) and n.name == "_init_is_supported"
    )
    texts = {n.value for n in ast.walk(method) if isinstance(n, ast.Constant)}
    assert texts == PLAIN_INITS


def test_vllm_adapts_the_embeddings_of_the_architectures_in_our_table() -> None:
    registry = _vllm("model_executor/models/registry.py")
    table = next(
        ast.literal_eval(node.value)
        for node in registry.body
        if isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) == "_TEXT_GENERATION_MODELS"
    )
    found = {
        architecture: frozenset(modules)
        for architecture, (module, name) in table.items()
        if not module.startswith("vllm.") and (modules := _embedding_modules(module, name))
    }
    assert found == dict(EMBEDDING_LORA)


def _embedding_modules(module: str, name: str) -> dict[str, str] | None:
    """The class's `embedding_modules`, its own or its nearest parent's."""
    source = _vllm(f"model_executor/models/{module.replace('.', '/')}.py")
    classes = {node.name: node for node in source.body if isinstance(node, ast.ClassDef)}
    if name not in classes:
        return None
    for node in classes[name].body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "embedding_modules":
            found: dict[str, str] = ast.literal_eval(node.value)
            return found
    siblings = {
        alias.asname or alias.name: (_sibling(node), alias.name)
        for node in source.body
        if isinstance(node, ast.ImportFrom) and _sibling(node)
        for alias in node.names
    }
    for base in map(ast.unparse, classes[name].bases):
        parent = (module, base) if base in classes else siblings.get(base)
        if (
            parent
            and parent[0]
            and (inherited := _embedding_modules(parent[0], parent[1])) is not None
        ):
            return inherited
    return None


def _sibling(node: ast.ImportFrom) -> str | None:
    """The file beside a model's that an import takes from."""
    if node.module is None:
        return None
    package = "vllm.model_executor.models."
    if node.module.startswith(package):
        return node.module.removeprefix(package)
    return node.module if node.level == 1 else None
