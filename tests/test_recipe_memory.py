"""The memory estimate, and how many rows at once follow from it."""

from dataclasses import replace
from pathlib import Path

import pytest

from adapters_registry.base_model import BaseModelSpec, ModuleSpec
from training.recipe.machine_memory import MachineMemory, memory
from training.recipe.memory import Longest, MemoryEstimate, RunShape, estimate, rows_at_once
from training.recipe.targets import adapted_modules, target_problems

GIB = 2**30
MIB = 2**20


def _smollm() -> BaseModelSpec:
    """The embedded model's shapes."""
    sizes = {"q": (576, 576), "k": (576, 192), "v": (576, 192), "o": (576, 576)}
    mlp = {"gate": (576, 1536), "up": (576, 1536), "down": (1536, 576)}
    modules = {
        "model.embed_tokens": ModuleSpec(kind="embedding", out_features=576, in_features=49152)
    }
    for i in range(30):
        for part, names in (("self_attn", sizes), ("mlp", mlp)):
            for name, (inputs, out) in names.items():
                path = f"model.layers.{i}.{part}.{name}_proj"
                modules[path] = ModuleSpec(kind="linear", out_features=out, in_features=inputs)
    modules["lm_head"] = ModuleSpec(kind="linear", out_features=49152, in_features=576)
    return BaseModelSpec(
        name="smollm",
        architecture="LlamaForCausalLM",
        model_type="llama",
        config_sha256="0" * 64,
        modules=modules,
        max_model_len=8192,
        chat_template=None,
    )


def _shape() -> RunShape:
    spec = _smollm()
    return RunShape(
        spec=spec,
        parameters=134_515_008,
        adapted=adapted_modules("all-linear", spec),
        rank=16,
        dropout=True,
        bytes_each=4,
        four_bit=False,
        kind="chat",
    )


@pytest.mark.parametrize(
    ("targets", "bytes_each", "rows", "measured_mib"),
    [("all-linear", 4, 4, 3066), (("q_proj", "v_proj"), 4, 8, 3282), ("all-linear", 2, 4, 2258)],
)
def test_the_estimate_is_near_what_runs_of_the_embedded_model_took(
    targets: str | tuple[str, ...], bytes_each: int, rows: int, measured_mib: int
) -> None:
    """Peak resident memory of the training process, measured on two cores; rows of 137 tokens."""
    adapted = adapted_modules(targets, _smollm())
    shape = replace(_shape(), adapted=adapted, bytes_each=bytes_each)  # type: ignore[arg-type]
    total_mib = estimate(shape, Longest(tokens=137, learned=76), rows).total_bytes / MIB
    assert 1.0 <= total_mib / measured_mib <= 1.2


def test_four_bits_a_weight_save_weights_and_nothing_else() -> None:
    longest = Longest(100, 50)
    whole, quantized = (
        estimate(replace(_shape(), four_bit=four_bit), longest) for four_bit in (False, True)
    )
    assert quantized.weights_bytes < whole.weights_bytes / 2
    assert (quantized.row_bytes, quantized.adapter_bytes) == (whole.row_bytes, whole.adapter_bytes)


def test_attention_alone_and_no_dropout_take_less_and_preferences_more() -> None:
    longest = Longest(100, 50)
    usual = estimate(_shape(), longest)
    attention = adapted_modules(("q_proj", "k_proj"), _smollm())
    assert estimate(replace(_shape(), adapted=attention), longest).row_bytes < usual.row_bytes
    assert estimate(replace(_shape(), dropout=False), longest).row_bytes < usual.row_bytes
    assert estimate(replace(_shape(), kind="preference"), longest).row_bytes > 2 * usual.row_bytes


def _estimate(row_bytes: int) -> MemoryEstimate:
    return MemoryEstimate(GIB, GIB, 0, row_bytes, 1)


@pytest.mark.parametrize(
    ("total", "free", "planned", "fitting"),
    [
        (100 * GIB, 100 * GIB, 16, 16),
        (12 * GIB, 12 * GIB, 4, 8),  # a half of all, 85 % of what is free
        (100 * GIB, 4 * GIB, 16, 1),
        (100 * GIB, 3 * GIB, 16, 0),
    ],
)
def test_rows_at_once_are_planned_from_all_memory_and_bound_by_what_is_free(
    total: int, free: int, planned: int, fitting: int
) -> None:
    found = rows_at_once(_estimate(GIB), 16, MachineMemory(total, free))
    assert found == (planned, fitting)


def test_a_batch_is_cut_into_equal_parts() -> None:
    assert rows_at_once(_estimate(GIB), 10, MachineMemory(20 * GIB, 20 * GIB)) == (5, 10)


def test_the_control_groups_limit_counts(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(
        "MemTotal: 8192 kB\nMemAvailable: 4096 kB\nHugePages: 0\n"
    )
    assert memory(tmp_path) == (8 * MIB, 4 * MIB)
    group = tmp_path / "sys/fs/cgroup/slice/job"
    group.mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/slice/job\n")
    (group / "memory.max").write_text("max\n")
    (group.parent / "memory.max").write_text(f"{2 * MIB}\n")
    (group.parent / "memory.current").write_text(f"{MIB}\n")
    assert memory(tmp_path) == (2 * MIB, MIB)
    (group.parent / "memory.stat").write_text(f"anon 1\ninactive_file {MIB // 2}\n")
    assert memory(tmp_path) == (2 * MIB, MIB * 3 // 2)


def test_targets_are_found_as_peft_finds_them() -> None:
    assert len(adapted_modules(("q_proj", "v_proj"), _smollm())) == 60
    assert len(adapted_modules("all-linear", _smollm())) == 30 * 7
    assert adapted_modules(("model.layers.3.mlp.up_proj",), _smollm()) == {
        "model.layers.3.mlp.up_proj"
    }


def test_a_target_that_vllm_does_not_serve_is_refused_and_attention_is_not() -> None:
    qwen2 = _smollm().model_copy(update={"architecture": "Qwen2ForCausalLM"})
    (problem,) = target_problems(("q_proj", "lm_head"), qwen2)
    assert problem == (
        "adapter.target_modules: vLLM does not serve adapters of lm_head for Qwen2ForCausalLM;"
        " leave it out, `all-linear` does"
    )
    assert target_problems(("q_proj", "k_proj", "v_proj", "o_proj"), qwen2) == []
    assert target_problems("all-linear", qwen2) == []
    assert target_problems(("lm_head",), _smollm()) == []  # vLLM serves it for llamas


def test_a_target_that_is_not_there_gets_the_nearest_one() -> None:
    (problem,) = target_problems(("q_proj", "vproj"), _smollm())
    assert "the base has no `vproj` to adapt; did you mean v_proj?" in problem
    (problem,) = target_problems(("input_layernorm",), _smollm())
    assert "the base has no `input_layernorm` to adapt" in problem
