"""vLLM's command line and environment, for machines and models made up for the purpose."""

import importlib.util
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.config import Settings, load_settings
from gateway.engine_flags import refuse_flags
from gateway.launch import (
    EngineLaunch,
    choose_launch,
    engine_environment,
    gateway_environment,
    served_name,
)
from gateway.machine import Gpu, Machine
from gateway.model_facts import ModelFacts, read_model_facts
from gateway.tool_parsers import parser_names, tool_parser

GIB = 2**30
FOLDER = Path("/models/tiny")
CPU = Machine(
    arch="x86_64",
    cores=2,
    memory_bytes=16 * GIB,
    available_bytes=12 * GIB,
    bf16_flag=None,
    gpus=(),
    vllm="cpu",
    vllm_version="0.32.0",
)
CUDA = replace(CPU, vllm="cuda", gpus=(Gpu("NVIDIA L4", 24 * GIB),))
SMOL = ModelFacts(
    model_type="llama",
    architecture="LlamaForCausalLM",
    dtype="bfloat16",
    quantized=False,
    chat_template="<|im_start|>",
    layers=30,
    hidden_size=576,
    intermediate_size=1536,
    heads=9,
    kv_heads=3,
    head_dim=64,
    max_position=8192,
    weights_bytes=270_000_000,
)
BIG = replace(
    SMOL,
    layers=32,
    hidden_size=4096,
    intermediate_size=14336,
    heads=32,
    kv_heads=8,
    head_dim=128,
    max_position=131_072,
    weights_bytes=2 * GIB,
)


def settings(**flags: object) -> Settings:
    return load_settings(flags)


def launch(
    machine: Machine = CPU,
    model: ModelFacts = SMOL,
    environ: dict[str, str] | None = None,
    **flags: object,
) -> EngineLaunch:
    return choose_launch(
        machine,
        model,
        FOLDER,
        settings(**flags),
        port=21_000,
        served_name="base",
        environ=environ or {},
    )


def flag(command: EngineLaunch, name: str) -> str | None:
    """The value of a flag that stands exactly once; None when it is missing."""
    places = [at for at, word in enumerate(command.argv) if word.split("=")[0] == f"--{name}"]
    assert len(places) <= 1, command.argv
    return command.argv[places[0] + 1] if places else None


def why(command: EngineLaunch, name: str) -> str:
    return next(choice.why for choice in command.choices if choice.name == name)


def test_what_every_engine_gets() -> None:
    command = launch()
    assert command.argv[-1] != "--"
    assert "vllm.entrypoints.openai.api_server" in command.argv
    assert flag(command, "model") == str(FOLDER)
    assert flag(command, "served-model-name") == "base"
    assert (flag(command, "host"), flag(command, "port")) == ("127.0.0.1", "21000")
    assert {"--enable-lora", "--trust-request-chat-template", "--no-enable-log-requests"} <= set(
        command.argv
    )
    assert (flag(command, "max-loras"), flag(command, "max-cpu-loras")) == ("8", "64")
    assert flag(command, "max-lora-rank") == "16"
    assert flag(command, "max-logprobs") == "20"


@pytest.mark.parametrize(
    ("machine", "model", "dtype"),
    [
        (CPU, SMOL, "float32"),
        (replace(CPU, bf16_flag="avx512_bf16"), SMOL, "bfloat16"),
        (replace(CPU, arch="aarch64", bf16_flag="bf16"), SMOL, "bfloat16"),
        (CPU, replace(SMOL, quantized=True), "auto"),
        (CUDA, SMOL, "auto"),
    ],
)
def test_the_dtype_comes_from_the_machine(machine: Machine, model: ModelFacts, dtype: str) -> None:
    assert flag(launch(machine, model), "dtype") == dtype


def test_a_dtype_that_was_set_is_used() -> None:
    command = launch(dtype="float16")
    assert flag(command, "dtype") == "float16"
    assert why(command, "dtype") == "set by you"


def kv_bytes(command: EngineLaunch) -> int:
    return int(flag(command, "kv-cache-memory-bytes") or 0)


def test_the_cache_is_what_usual_sequences_need_however_much_is_free() -> None:
    command = launch(replace(CPU, available_bytes=1000 * GIB))
    assert flag(command, "max-model-len") == "8192"
    assert kv_bytes(command) == 32 * 2048 * 2 * 30 * 3 * 64 * 4
    assert why(command, "kv-cache-memory-bytes") == (
        "2.8 GiB: 32 sequences of 2048 tokens; 1000.0 GiB are free"
    )


def test_shorter_sequences_need_less_cache() -> None:
    command = launch(replace(CPU, available_bytes=1000 * GIB), max_model_len=1024)
    assert kv_bytes(command) == 32 * 1024 * 2 * 30 * 3 * 64 * 4


def test_the_cache_is_a_quarter_of_what_is_free_at_most() -> None:
    command = launch(replace(CPU, available_bytes=8 * GIB))
    assert kv_bytes(command) == 2 * GIB
    assert why(command, "kv-cache-memory-bytes") == (
        "2.0 GiB: a quarter of what is free; 8.0 GiB are free"
    )


def test_the_cache_leaves_room_beside_the_weights() -> None:
    command = launch(replace(CPU, available_bytes=8 * GIB), replace(SMOL, weights_bytes=2 * GIB))
    assert 0 < kv_bytes(command) < (8 - 4 - 2) * GIB / 2
    assert "weights and adapters" in why(command, "kv-cache-memory-bytes")


def test_a_cache_of_unknown_need_is_a_quarter_at_most() -> None:
    assert kv_bytes(launch(model=replace(SMOL, layers=0))) == 12 * GIB // 4


def test_a_long_context_is_cut_so_that_four_full_sequences_fit() -> None:
    command = launch(model=BIG)
    length = int(flag(command, "max-model-len") or 0)
    per_token = 2 * 32 * 8 * 128 * 4
    assert 2048 <= length < 131_072
    assert 4 * length * per_token <= kv_bytes(command) <= 12 * GIB // 4


def test_a_cache_always_holds_one_sequence_of_the_length_asked_for() -> None:
    command = launch(model=BIG, max_model_len=20_000)
    per_token = 2 * 32 * 8 * 128 * 4
    assert flag(command, "max-model-len") == "20000"
    # More than a quarter: vLLM does not start with less. Two blocks of 256 tokens are the margin.
    assert kv_bytes(command) == (20_000 + 512) * per_token
    assert "one sequence of 20000 tokens" in why(command, "kv-cache-memory-bytes")


def test_a_model_of_unknown_length_decides_itself() -> None:
    assert flag(launch(model=replace(SMOL, max_position=0)), "max-model-len") is None


def test_the_user_s_own_cache_variable_wins() -> None:
    command = launch(environ={"VLLM_CPU_KVCACHE_SPACE": "3"})
    assert flag(command, "kv-cache-memory-bytes") is None
    assert flag(command, "max-model-len") == "auto"
    assert command.env["VLLM_CPU_KVCACHE_SPACE"] == "3"


@pytest.mark.parametrize(("cores", "seqs"), [(1, "16"), (2, "32"), (64, "256")])
def test_sequences_grow_with_the_cores(cores: int, seqs: str) -> None:
    assert flag(launch(replace(CPU, cores=cores)), "max-num-seqs") == seqs


def test_cuda_decides_its_own_cache_and_batch() -> None:
    command = launch(CUDA)
    assert flag(command, "max-num-seqs") is None
    assert flag(command, "kv-cache-memory-bytes") is None
    assert flag(command, "max-model-len") == "auto"


@pytest.mark.parametrize(
    ("passed", "name", "value"),
    [
        (["--dtype", "float16"], "dtype", "float16"),
        (["--max_num_seqs", "4"], "max_num_seqs", "4"),
        (["--max-model-len", "512"], "max-model-len", "512"),
        (["--tool-call-parser", "pythonic"], "tool-call-parser", "pythonic"),
    ],
)
def test_a_flag_passed_on_replaces_ours(passed: list[str], name: str, value: str) -> None:
    command = launch(engine_args=passed)
    assert flag(command, name) == value
    assert flag(command, name.replace("_", "-")) in (value, None)
    assert "--enable-auto-tool-choice" in command.argv


def test_a_switch_turned_off_is_not_turned_on_again() -> None:
    command = launch(engine_args=["--no-enable-auto-tool-choice"])
    assert "--enable-auto-tool-choice" not in command.argv


def test_a_cache_passed_on_decides_the_context() -> None:
    command = launch(engine_args=["--kv-cache-memory-bytes=1G"])
    assert "--kv-cache-memory-bytes=1G" in command.argv
    assert flag(command, "max-model-len") == "auto"


@pytest.mark.parametrize(
    "passed",
    [
        ["--host", "0.0.0.0"],
        ["--host=0.0.0.0"],
        ["--hos", "0.0.0.0"],
        ["--served_model_name", "x"],
        ["--no-enable-lora"],
        ["--enable-log-requests"],
        ["--no-trust-request-chat-template"],
        ["--trust-remote-code"],
        ["--api-key", "k"],
        ["--config", "f"],
        ["--dtyp", "float16"],
        ["--seed", "1", "--log_level=DEBUG"],
        ["-asc", "2"],
        ["tiny"],
    ],
)
def test_flags_that_would_break_the_gateway_are_refused_by_name(passed: list[str]) -> None:
    reason = refuse_flags(passed)
    assert reason is not None
    assert any(reason.startswith(f"{word.split('=')[0]}: ") for word in passed)


@pytest.mark.parametrize(
    "passed",
    [
        [],
        ["--enforce-eager"],
        ["--gpu-memory-utilization", "0.5", "-tp", "2"],
        ["--compilation-config.mode", "0"],
        ["--tokenizer", "t"],
        ["--chat-template", "{{ '--host' }}"],
    ],
)
def test_other_flags_pass(passed: list[str]) -> None:
    assert refuse_flags(passed) is None


def test_the_engine_s_environment_holds_no_key_and_no_open_door() -> None:
    environ = {
        "PATH": "/bin",
        "LORAPLEX_ADMIN_KEY": "secret",
        "LORAPLEX_KEY": "secret",
        "VLLM_SKIP_MODEL_NAME_VALIDATION": "1",
        "VLLM_ENABLE_RESPONSES_API_STORE": "1",
        "VLLM_API_KEY": "secret",
        "VLLM_LOGGING_LEVEL": "DEBUG",
        "VLLM_ATTENTION_BACKEND": "X",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "0",
    }
    env = engine_environment(environ)
    assert "secret" not in env.values()
    assert not {"VLLM_SKIP_MODEL_NAME_VALIDATION", "VLLM_ENABLE_RESPONSES_API_STORE"} & set(env)
    assert env["VLLM_LOGGING_LEVEL"] == "INFO"
    assert env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    assert (env["VLLM_NO_USAGE_STATS"], env["DO_NOT_TRACK"]) == ("1", "1")
    assert env["HF_HUB_OFFLINE"] == "1"
    assert (env["PATH"], env["VLLM_ATTENTION_BACKEND"]) == ("/bin", "X")


def test_a_quieter_engine_is_allowed() -> None:
    assert engine_environment({"VLLM_LOGGING_LEVEL": "warning"})["VLLM_LOGGING_LEVEL"] == "WARNING"


def test_the_gateway_s_environment_holds_no_setting() -> None:
    env = gateway_environment({"LORAPLEX_ADMIN_KEY": "secret", "HOME": "/root"})
    assert env == {"HOME": "/root", "PYTHONUNBUFFERED": "1"}


@pytest.mark.parametrize(
    ("model_type", "template", "parser"),
    [
        ("llama", "<|im_start|>", "hermes"),
        ("llama", "<|start_header_id|>", "llama3_json"),
        ("llama", "### Instruction", None),
        ("llama4", "", "llama4_pythonic"),
        ("qwen2", "<|im_start|>", "hermes"),
        ("qwen3_moe", "<|im_start|> <function=", "qwen3_coder"),
        ("mistral", "[INST] [TOOL_CALLS]", "mistral"),
        ("mistral", "<|im_start|>", "hermes"),
        ("granite", "<|tool_call|>", "granite"),
        ("phi3", "<|user|>", None),
        ("unheard-of", "<|im_start|>", None),
    ],
)
def test_the_tool_parser_of_a_family(model_type: str, template: str, parser: str | None) -> None:
    model = replace(SMOL, model_type=model_type, chat_template=template)
    assert tool_parser(model) == parser
    command = launch(model=model)
    assert flag(command, "tool-call-parser") == parser
    assert ("--enable-auto-tool-choice" in command.argv) == (parser is not None)


def test_a_tool_parser_can_be_set_and_left_out() -> None:
    assert flag(launch(tool_parser="pythonic"), "tool-call-parser") == "pythonic"
    assert flag(launch(tool_parser="none"), "tool-call-parser") is None


@pytest.mark.vllm
def test_vllm_has_every_parser_we_name() -> None:
    spec = importlib.util.find_spec("vllm")
    assert spec is not None
    assert spec.origin is not None
    source = (Path(spec.origin).parent / "tool_parsers/__init__.py").read_text()
    assert parser_names() <= set(re.findall(r'^    "([\w-]+)": \(', source, re.MULTILINE))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"served_name": "mine"}, "mine"),
        ({}, "the-embedded"),
        ({"model": "owner/name"}, "owner/name"),
    ],
)
def test_the_served_name(flags: dict[str, str], expected: str) -> None:
    assert served_name(settings(**flags), FOLDER, "the-embedded") == expected


def test_a_folder_s_served_name_is_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    assert served_name(settings(model=str(folder)), folder, "the-embedded") == "my-model"


def test_a_model_s_facts_are_read_from_its_folder(tmp_path: Path) -> None:
    config = {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "torch_dtype": "float16",
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "max_position_embeddings": 512,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "[INST]"}))
    (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x" * 100)
    facts = read_model_facts(tmp_path)
    assert (facts.kv_heads, facts.head_dim) == (4, 16)
    assert facts.chat_template == "[INST]"
    assert facts.weights_bytes == 100
    assert facts.weights_in_memory_bytes("float32") == 200
    assert facts.kv_bytes_per_token("float32") == 2 * 2 * 4 * 16 * 4


def test_a_nested_language_model_s_sizes_are_found(tmp_path: Path) -> None:
    inner = {"num_hidden_layers": 7, "hidden_size": 64, "num_attention_heads": 4}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "x", "text_config": inner}))
    assert read_model_facts(tmp_path).layers == 7


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_a_model_without_a_config_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json"):
        read_model_facts(tmp_path)
