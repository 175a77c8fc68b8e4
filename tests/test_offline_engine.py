"""vLLM's offline engine in its own process: answers, likelihoods, its end and its failures."""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from training.data.rows import Chat
from training.encoding import IGNORED, encode, load_tokenizer
from training.errors import EvaluationError
from training.evaluation.engine_session import in_words, served_rank
from training.evaluation.engines import Subject
from training.evaluation.offline import OfflineEngine

ROOT = Path(__file__).parents[1]
QUESTIONS = [[{"role": "user", "content": text}] for text in ("hello", "2 + 2?", "who are you?")]
ENDS_WITHIN_S = 30
# A parent that starts the engine's process as OfflineEngine does, and stays.
PARENT = """
import subprocess, sys, time
child = subprocess.Popen(
    [sys.executable, "-m", "training.evaluation.engine_child"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0,
)
print(child.pid, flush=True)
time.sleep(600)
"""


def test_base_and_adapter_answer_from_one_engine(
    offline_engine: OfflineEngine, tiny_adapter: Path, tiny_base: Path
) -> None:
    base, tuned = Subject("base"), Subject("candidate", adapter=tiny_adapter)
    seen: list[tuple[str, float | None]] = []
    plain = offline_engine.generate(
        base, QUESTIONS, max_tokens=8, progress=lambda *said: seen.append(said)
    )
    other = offline_engine.generate(tuned, QUESTIONS, max_tokens=8)
    assert plain == offline_engine.generate(base, QUESTIONS, max_tokens=8)
    assert [one.token_ids for one in plain] != [one.token_ids for one in other]
    assert seen[-1] == ("answers of base", 1.0)
    tokenizer = load_tokenizer(tiny_base)
    for question, answer in zip(QUESTIONS, plain, strict=True):
        text = tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
        assert list(answer.prompt_ids) == tokenizer.encode(str(text), add_special_tokens=False)
        assert 0 < len(answer.token_ids) <= 8
        assert answer.stopped == (len(answer.token_ids) < 8)


def test_a_likelihood_is_of_the_tokens_that_training_learns(
    offline_engine: OfflineEngine, tiny_base: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    row = Chat(1, tuple(QUESTIONS[0]), {"role": "assistant", "content": "good day"})
    (found,) = offline_engine.score(Subject("base"), [(row.prompt, "good day")])
    example = encode(row, load_tokenizer(tiny_base))
    learned = [i for i, label in enumerate(example.labels) if label != IGNORED]
    assert found.tokens == len(learned) == len("good day") + 1
    model = AutoModelForCausalLM.from_pretrained(tiny_base)
    with torch.inference_mode():
        said = model(torch.tensor([example.input_ids])).logits[0].log_softmax(-1)
    exact = sum(float(said[i - 1, example.input_ids[i]]) for i in learned)
    assert found.log_prob == pytest.approx(exact, rel=0.01)


def test_other_weights_at_the_same_path_are_another_adapter(
    offline_engine: OfflineEngine, tiny_adapter: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    for file in tiny_adapter.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    subject = Subject("candidate", adapter=folder)
    pairs = [(QUESTIONS[0], "good day")]
    (first,) = offline_engine.score(subject, pairs)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["lora_alpha"] = 1
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (second,) = offline_engine.score(subject, pairs)
    assert abs(first.log_prob - second.log_prob) > 0.01


def test_nothing_is_asked_about_nothing(offline_engine: OfflineEngine) -> None:
    assert offline_engine.generate(Subject("base"), [], max_tokens=1) == []
    assert offline_engine.score(Subject("base"), []) == []


def test_an_adapter_without_files_is_refused_and_the_engine_lives(
    offline_engine: OfflineEngine, tmp_path: Path
) -> None:
    subject = Subject("candidate", adapter=tmp_path)
    with pytest.raises(EvaluationError, match=r"adapter_config\.json: No such file"):
        offline_engine.generate(subject, QUESTIONS, max_tokens=1)
    assert len(offline_engine.generate(Subject("base"), QUESTIONS, max_tokens=1)) == 3


def test_the_engine_is_one_process_in_a_group_of_its_own(offline_engine: OfflineEngine) -> None:
    pid = offline_engine.pid
    assert pid is not None
    assert os.getpgid(pid) == pid != os.getpgrp()
    listing = subprocess.run(["ps", "-e", "-o", "ppid="], capture_output=True, text=True)
    assert str(pid) not in listing.stdout.split()


def test_an_engine_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    engine = OfflineEngine(tmp_path)
    with pytest.raises(EvaluationError, match=r"vLLM: .* has no config\.json"):
        engine.__enter__()
    assert engine.pid is None
    with pytest.raises(EvaluationError, match="not running"):
        engine.generate(Subject("base"), QUESTIONS, max_tokens=1)


def test_the_engine_ends_when_its_parent_is_killed() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
    ended, _, _ = select.select([child], [], [], ENDS_WITHIN_S)
    os.close(child)
    assert ended


@pytest.mark.parametrize(
    ("rank", "served"), [(1, 1), (2, 8), (8, 8), (9, 16), (100, 128), (512, 512)]
)
def test_an_engine_is_started_with_a_rank_it_knows(rank: int, served: int) -> None:
    assert served_rank(rank) == served


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("libnuma.so.1: cannot open shared object file", "apt-get install libnuma1"),
        ("No available memory for the cache blocks.", "not enough GPU memory"),
        ("No module named 'vllm'", "vLLM is not installed"),
        ("something new\nover two lines", "something new over two lines"),
    ],
)
def test_what_vllm_says_is_put_in_words(said: str, meaning: str) -> None:
    assert meaning in in_words(RuntimeError(said))
