"""Training on a tiny model made on the fly: the files, the labels, the refusals, the seed."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from training.data import Chat
from training.encoding import IGNORED, encode, load_tokenizer
from training.errors import DataError, TrainingError
from training.sft import SftOptions, SftResult, build_trainer, main, pick_dtype, train_sft

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NO_END = CHATML.replace("<|im_end|>", "")


def _row(answer: str) -> str:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages}) + "\n"


ANSWERS = ("Hello.", "Goodbye, and thank you.", "Yes.", "No.")
DATA = "".join(_row(answer) for answer in ANSWERS)
QUICK = SftOptions(rank=2, epochs=1, batch_size=2, learning_rate=1e-2, dtype="float32")
"""Two steps on the four rows."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama of some thousand weights whose tokens are the 256 bytes and the marks of a turn."""
    folder = tmp_path_factory.mktemp("bases") / "tiny-llama"
    tokenizer = _tokenizer(CHATML)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four short rows."""
    path = tmp_path / "data.jsonl"
    path.write_text(DATA)
    return path


@dataclass(frozen=True)
class Trained:
    """A finished run, and what it told on the way."""

    result: SftResult
    told: list[tuple[str, float | None]]


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """One run that several tests look at."""
    data = tmp_path_factory.mktemp("data") / "data.jsonl"
    data.write_text(DATA)
    told: list[tuple[str, float | None]] = []
    out = tmp_path_factory.mktemp("trained") / "adapter"
    result = train_sft(base, data, out, QUICK, lambda *step: told.append(step))
    return Trained(result, told)


def _chat(answer: str) -> Chat:
    return Chat(1, ({"role": "user", "content": "Hi"},), {"role": "assistant", "content": answer})


def _tokenizer(template: str) -> PreTrainedTokenizerFast:
    marks = ["<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*marks, *alphabet])}
    inner = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(marks)
    # As in the embedded model, padding is the end-of-turn token: the loss must still see the end.
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=inner,
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        chat_template=template,
    )


def test_a_run_writes_exactly_three_files_and_nothing_beside_them(trained: Trained) -> None:
    root = trained.result.adapter_dir.parent
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*")) == [
        "adapter",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "adapter/metadata.json",
    ]
    sizes = [file.stat().st_size for file in trained.result.adapter_dir.iterdir()]
    assert trained.result.size_bytes == sum(sizes)
    assert (trained.result.rows, trained.result.steps) == (4, 2)


def test_the_adapter_changes_every_layer_it_targets(trained: Trained) -> None:
    tensors = load_file(trained.result.adapter_dir / "adapter_model.safetensors")
    b_tensors = {name: tensor for name, tensor in tensors.items() if "lora_B" in name}
    assert len(b_tensors) == 2 * 7  # layers x linear modules
    assert len(tensors) == 2 * len(b_tensors)
    assert all(tensor.dtype == torch.bfloat16 for tensor in tensors.values())
    assert all(tensor.abs().max() > 0 for tensor in b_tensors.values())


def test_the_config_names_the_base_and_no_folder(trained: Trained) -> None:
    text = (trained.result.adapter_dir / "adapter_config.json").read_text()
    config = json.loads(text)
    assert config["base_model_name_or_path"] == "tiny-llama"
    assert config["r"] == 2
    assert "/" not in text


def test_the_metadata_tells_the_data_and_the_options(trained: Trained) -> None:
    metadata = json.loads((trained.result.adapter_dir / "metadata.json").read_text())
    assert metadata["data_sha256"] == hashlib.sha256(DATA.encode()).hexdigest()
    assert SftOptions(**metadata["options"]) == QUICK


def test_progress_ends_at_the_whole(trained: Trained) -> None:
    stages = [stage for stage, _ in trained.told]
    assert stages[:2] == ["reading the data", "loading the base model"]
    assert [done for _, done in trained.told[2:]] == [0.5, 1.0]


def test_only_the_answer_and_its_end_of_turn_are_learned(base: Path) -> None:
    tokenizer = load_tokenizer(base)
    example = encode(_chat("Hello."), tokenizer, max_tokens=100)
    prompt = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    learned = [label for label in example.labels if label != IGNORED]
    assert tokenizer.decode(example.input_ids) == prompt + "Hello.<|im_end|>"
    assert tokenizer.decode(learned) == "Hello.<|im_end|>"
    assert learned[-1] == tokenizer.eos_token_id
    assert example.labels[-len(learned) :] == learned == example.input_ids[-len(learned) :]


def test_a_template_without_an_end_of_turn_gets_one() -> None:
    tokenizer = _tokenizer(NO_END)
    example = encode(_chat("Hello."), tokenizer, max_tokens=100)
    assert example.labels[-1] == tokenizer.eos_token_id


def test_in_a_batch_every_row_keeps_its_end_of_turn(base: Path, tmp_path: Path) -> None:
    """A collator that masks by token id would mask the end, since it is the padding as well."""
    tokenizer = load_tokenizer(base)
    rows = [encode(_chat(answer), tokenizer, max_tokens=100) for answer in ANSWERS]
    trainer = build_trainer(base, tokenizer, rows, QUICK, tmp_path, lambda *_: None)
    learned = [
        tokenizer.decode(labels[labels != IGNORED])
        for batch in trainer.get_train_dataloader()
        for labels in batch["labels"]
    ]
    assert sorted(learned) == sorted(f"{answer}<|im_end|>" for answer in ANSWERS)


def test_the_same_seed_gives_the_same_bytes(
    trained: Trained, base: Path, data: Path, tmp_path: Path
) -> None:
    again = train_sft(base, data, tmp_path / "again", QUICK).adapter_dir
    other_seed = QUICK.model_copy(update={"seed": 1})
    other = train_sft(base, data, tmp_path / "other", other_seed).adapter_dir
    weights = "adapter_model.safetensors"
    assert _bytes(again) == _bytes(trained.result.adapter_dir)
    assert _bytes(again)[weights] != _bytes(other)[weights]


def _bytes(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_bad_line_is_refused_before_anything_is_written(
    base: Path, data: Path, tmp_path: Path
) -> None:
    data.write_text(data.read_text() + '{"messages": [{"role": "user", "content": "Hi"}]}\n')
    with pytest.raises(DataError, match=r"line 5: messages\[0\]\.role: .*add the answer"):
        train_sft(base, data, tmp_path / "out", QUICK)
    assert [path.name for path in tmp_path.iterdir()] == ["data.jsonl"]


def test_a_row_over_the_limit_is_refused_rather_than_cut(
    base: Path, data: Path, tmp_path: Path
) -> None:
    data.write_text(data.read_text() + _row("long " * 40))
    with pytest.raises(
        DataError, match=r"line 5: messages: has \d+ tokens, more than max_tokens 100"
    ):
        train_sft(base, data, tmp_path / "out", QUICK.model_copy(update={"max_tokens": 100}))


def test_a_folder_that_holds_something_is_not_overwritten(
    base: Path, data: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "out" / "kept.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    with pytest.raises(TrainingError, match="out: the folder is not empty"):
        train_sft(base, data, kept.parent, QUICK)
    assert kept.read_text() == "mine"


def test_an_unknown_module_is_refused_and_leaves_nothing(
    base: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="target_modules: not in this base"):
        train_sft(base, data, tmp_path / "o", QUICK.model_copy(update={"target_modules": "qq"}))
    assert [path.name for path in tmp_path.iterdir()] == ["data.jsonl"]


def test_named_modules_alone_are_adapted(base: Path, data: Path, tmp_path: Path) -> None:
    options = QUICK.model_copy(update={"target_modules": "v_proj,q_proj"})
    train_sft(base, data, tmp_path / "out", options)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["target_modules"] == ["q_proj", "v_proj"]


def test_a_base_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    tokenizer = _tokenizer(CHATML)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(TrainingError, match="base: no chat template"):
        load_tokenizer(tmp_path)


def test_a_template_that_rewrites_an_answered_prompt_is_refused() -> None:
    tokenizer = _tokenizer("{{ messages | length }}" + CHATML)
    with pytest.raises(TrainingError, match="rewrites an answered prompt"):
        encode(_chat("Hello."), tokenizer, max_tokens=100)


def test_the_dtype_can_be_set_and_is_else_one_of_two() -> None:
    assert pick_dtype("bfloat16") == torch.bfloat16
    assert pick_dtype("float32") == torch.float32
    assert pick_dtype("auto") in {torch.bfloat16, torch.float32}


def test_the_command_trains_and_says_what_it_made(
    base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    flags = ["--rank", "1", "--epochs", "1", "--batch-size", "4", "--base-name", "org/model"]
    code = main(["--base", str(base), "--data", str(data), "--out", str(out), *flags])
    printed = capsys.readouterr()
    assert code == 0
    assert "4 rows, 1 steps" in printed.out
    assert "100% training" in printed.err
    config = json.loads((out / "adapter_config.json").read_text())
    assert (config["r"], config["base_model_name_or_path"]) == (1, "org/model")


def test_the_command_names_a_wrong_flag_and_a_bad_line(
    base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--base", str(base), "--data", str(data), "--out", str(tmp_path / "out")]
    assert main([*common, "--learning-rate", "fast"]) == 2
    assert "--learning-rate: " in capsys.readouterr().err
    data.write_text("nonsense\n")
    assert main(common) == 1
    assert "error: line 1: is not JSON" in capsys.readouterr().err
