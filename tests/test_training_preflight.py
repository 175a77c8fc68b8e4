"""What is checked before the first step of a run: planted faults, each with its harmless twin."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from adapters_registry.base_model import BaseModelSpec, describe
from tests.tiny_base import CHATML, NO_END, tiny_tokenizer
from training.data.prepare import Prepared
from training.data.report import DataReport
from training.data.rows import Chat, Kind, Preference, Row
from training.encoding import IGNORED, Example
from training.errors import TrainingError
from training.recipe.encoded_rows import fault_in
from training.recipe.machine_memory import MachineMemory
from training.recipe.preflight import Preflight, check
from training.recipe.recipe import Recipe

GIB = 2**30
ROOMY = MachineMemory(64 * GIB, 64 * GIB)
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
    + CHATML
)
WITHOUT_ANSWERS = CHATML.replace("m in messages %}", "m in messages if m.role != 'assistant' %}")
PROMPT_TOKENS = len("user\nHi\nassistant\n") + 3
"""Of the tiny base: a token a byte, and three marks of turns."""


@pytest.fixture(scope="module")
def spec(tiny_base: Path) -> BaseModelSpec:
    """The tiny base as adapters see it."""
    return describe(tiny_base)


def _chat(line: int, answer: str, system: str | None = None) -> Chat:
    before = () if system is None else ({"role": "system", "content": system},)
    prompt = (*before, {"role": "user", "content": "Hi"})
    return Chat(line, prompt, {"role": "assistant", "content": answer})


def _chats(*answers: str, system: str | None = None) -> list[Row]:
    return [_chat(line, answer, system) for line, answer in enumerate(answers, start=1)]


def _prepared(
    train: Sequence[Row], *, test: Sequence[Row] = (), kind: Kind = "chat", replayed: int = 0
) -> Prepared:
    return Prepared(
        train=train,
        validation=_chats("Yes.") if kind == "chat" else (),
        test=test,
        kind=kind,
        version="0" * 64,
        report=DataReport.model_construct(),  # type: ignore[call-arg]  # nobody looks at it
        system_prompt=None,
        replayed=replayed,
    )


GOOD = _prepared(_chats(*(f"Answer {i}." for i in range(200))))


def _recipe(**parts: Any) -> Recipe:
    return Recipe.model_validate(
        {"data": {"train": "rows.jsonl"}, "gates": ["exact_match >= 0.5"], **parts}
    )


def _base(folder: Path, template: str) -> Path:
    """The tokenizer alone: all that is looked at beside the description."""
    tiny_tokenizer(template).save_pretrained(folder)
    return folder


def _check(
    base: Path,
    spec: BaseModelSpec,
    prepared: Prepared = GOOD,
    *,
    machine: MachineMemory = ROOMY,
    num_processes: int = 1,
    **parts: Any,
) -> Preflight:
    return check(
        _recipe(**parts), prepared, base, spec, machine=machine, num_processes=num_processes
    )


def test_a_good_run_passes_without_a_word(tiny_base: Path, spec: BaseModelSpec) -> None:
    found = _check(tiny_base, spec)
    assert found.warnings == ()
    assert found.longest_tokens == PROMPT_TOKENS + len("Answer 199.") + 1
    assert len(found.examples) == 3
    assert found.memory.micro_batch_size >= 1


def test_answers_without_an_end_token_are_caught_and_long_whole_ones_are_not(
    tmp_path: Path, spec: BaseModelSpec
) -> None:
    rows = _prepared(_chats(*["word " * 180] * 200))
    with pytest.raises(TrainingError) as caught:
        _check(_base(tmp_path / "bad", NO_END), spec, rows)
    assert caught.value.message == (
        "chat_template: writes no end token behind an answer, so the model would never learn to"
        " stop; add the end token to the base's template, or use another base"
    )
    assert _check(_base(tmp_path / "good", CHATML), spec, rows).warnings == ()


def test_an_end_that_does_not_stop_the_model_is_caught_and_one_it_names_is_not(
    tmp_path: Path, spec: BaseModelSpec
) -> None:
    base = _base(tmp_path, CHATML.replace("<|im_end|>", "<|im_start|>"))
    with pytest.raises(TrainingError) as caught:
        _check(base, spec)
    first = caught.value.message.splitlines()[0]
    assert "an answer ends with '<|im_start|>', and the model stops only at '<|im_end|>'" in first
    assert first.endswith("(all 200 rows of train)")
    stops = {"eos_token_id": [1, tiny_tokenizer().convert_tokens_to_ids("<|im_start|>")]}
    (base / "generation_config.json").write_text(json.dumps(stops))
    assert _check(base, spec).warnings == ()


def test_masked_labels_are_caught_and_a_long_prompt_is_not(
    tmp_path: Path, spec: BaseModelSpec
) -> None:
    with pytest.raises(TrainingError, match="leaves the answer out, so every label would be mask"):
        _check(_base(tmp_path / "bad", WITHOUT_ANSWERS), spec)
    rows = _prepared(_chats(*["A."] * 200, system="Much to heed. " * 60))
    assert _check(_base(tmp_path / "good", CHATML), spec, rows).warnings == ()


@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        ([IGNORED] * 3, "labels: all are masked"),
        ([IGNORED, 5, IGNORED], "labels: the end of the answer is masked"),
        ([IGNORED, 5, 6], "chat_template: an answer ends with"),
        ([IGNORED, IGNORED, 1], None),
    ],
)
def test_labels_must_reach_the_end_of_the_answer(labels: list[int], fault: str | None) -> None:
    found = fault_in(Example([4, 5, 1], labels), tiny_tokenizer(), frozenset([1]))
    assert (found is None) if fault is None else (found or "").startswith(fault)


def test_a_template_that_does_not_fit_is_caught_and_rows_that_suit_it_are_not(
    tmp_path: Path, spec: BaseModelSpec
) -> None:
    base = _base(tmp_path, NO_SYSTEM)
    rows = [*_chats(*["Yes."] * 98), _chat(99, "No.", system="Be brief.")]
    with pytest.raises(TrainingError) as caught:
        _check(base, spec, _prepared(rows))
    assert caught.value.message == (
        "chat_template: does not take a conversation of system, user (no system here); write the"
        " rows as it wants them, or use another base (train, line 99)"
    )
    _check(base, spec, _prepared(rows[:98]))


def test_answers_over_the_limit_are_caught_and_those_at_it_are_not(
    tiny_base: Path, spec: BaseModelSpec
) -> None:
    rows = _prepared([*GOOD.train, _chat(300, "x" * 100), _chat(301, "x" * 80)])
    longest = PROMPT_TOKENS + 100 + 1
    with pytest.raises(TrainingError) as caught:
        _check(tiny_base, spec, rows, schedule={"max_tokens": 100})
    assert caught.value.message == (
        "schedule.max_tokens: 2 rows are longer than 100 tokens (train, lines 300, 301; the longest"
        f" has {longest}), and no row is ever cut; set it to {longest}, or shorten or remove the"
        " rows"
    )
    assert _check(tiny_base, spec, rows, schedule={"max_tokens": longest}).longest_tokens == longest


def test_rows_over_the_models_own_limit_are_caught_whatever_the_recipe_says(
    tiny_base: Path, spec: BaseModelSpec
) -> None:
    rows = _prepared(_chats("x" * 3000), test=_chats("x" * 4000))
    for limit in (5000, "model"):
        with pytest.raises(TrainingError) as caught:
            _check(tiny_base, spec, rows, schedule={"max_tokens": limit})
        assert "longer than 2048 tokens (train, line 1; test, line 1" in caught.value.message
        assert "the base takes no more" in caught.value.message


def test_a_module_that_vllm_does_not_serve_is_caught_and_attention_alone_is_not(
    tiny_base: Path, spec: BaseModelSpec
) -> None:
    unserved = spec.model_copy(update={"architecture": "Qwen2ForCausalLM"})
    with pytest.raises(TrainingError, match="vLLM does not serve adapters of lm_head for Qwen2"):
        _check(tiny_base, unserved, adapter={"target_modules": ["q_proj", "lm_head"]})
    attention = ["q_proj", "k_proj", "v_proj", "o_proj"]
    assert _check(tiny_base, unserved, adapter={"target_modules": attention}).warnings == ()


def test_all_reasons_are_given_at_once(tmp_path: Path, spec: BaseModelSpec) -> None:
    rows = _prepared(_chats("Yes.", "x" * 400), test=[_chat(1, "Yes.<|im_end|>")])
    with pytest.raises(TrainingError) as caught:
        _check(
            _base(tmp_path, CHATML),
            spec,
            rows,
            num_processes=2,
            method="dpo",
            adapter={"target_modules": ["qproj"]},
            schedule={"max_tokens": 100, "batch_size": 1},
        )
    assert [line.partition(":")[0] for line in caught.value.message.splitlines()] == [
        "method",
        "schedule.batch_size",
        "adapter.target_modules",
        "answer",
        "schedule.max_tokens",
    ]


def test_preferences_and_chats_want_their_own_methods(tiny_base: Path, spec: BaseModelSpec) -> None:
    good, bad = ({"role": "assistant", "content": text} for text in ("Good.", "Bad."))
    pair = Preference(1, ({"role": "user", "content": "Hi"},), good, bad)
    rows = _prepared([pair] * 200, kind="preference")
    with pytest.raises(TrainingError, match=r"data.train holds preferences; set method to dpo"):
        _check(tiny_base, spec, rows)
    found = _check(tiny_base, spec, rows, method="dpo", schedule={"learning_rate": 1e-5})
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("parts", "warning"),
    [
        ({"method": "dora"}, "method: vLLM does not serve DoRA"),
        ({"schedule": {"batch_size": 300}}, "schedule.batch_size: 300 is more than the 200 rows"),
        ({"schedule": {"epochs": 1, "batch_size": 100}}, "the whole run has 2 steps"),
        ({"schedule": {"learning_rate": 0.05}}, "schedule.learning_rate: 0.05 is far outside"),
        ({"schedule": {"learning_rate": 1e-6}}, "often learns next to nothing"),
        ({"adapter": {"alpha": 2000}}, "adapter.alpha: 2000 at rank 16"),
        ({"adapter": {"rank": 40, "alpha": 80}}, "--max-lora-rank 64 or more"),
    ],
)
def test_what_is_unlikely_to_be_meant_is_a_warning(
    tiny_base: Path, spec: BaseModelSpec, parts: dict[str, Any], warning: str
) -> None:
    assert warning in "\n".join(_check(tiny_base, spec, **parts).warnings)


@pytest.mark.parametrize("method", ["lora", "rslora", "qlora"])
@pytest.mark.parametrize("rate", [1e-4, 5e-4, 1e-3])
def test_usual_settings_give_no_warning(
    tiny_base: Path, spec: BaseModelSpec, method: str, rate: float
) -> None:
    adapter, schedule = {"rank": 8, "alpha": 16}, {"learning_rate": rate}
    found = _check(tiny_base, spec, method=method, adapter=adapter, schedule=schedule)
    assert found.warnings == ()


def test_held_out_answers_that_cannot_be_given_whole_are_a_warning(
    tiny_base: Path, spec: BaseModelSpec
) -> None:
    rows = _prepared(GOOD.train, test=_chats("x" * 300, "Yes."))
    (warning,) = _check(tiny_base, spec, rows).warnings
    assert warning.startswith("evaluation.max_tokens: answers of held-out rows (test, line 1)")
    assert warning.endswith("set it to 301")
    assert _check(tiny_base, spec, rows, evaluation={"max_tokens": 301}).warnings == ()


def test_replayed_rows_are_named_as_such(tiny_base: Path, spec: BaseModelSpec) -> None:
    rows = _prepared([*GOOD.train, _chat(7, "x" * 400)], replayed=1)
    with pytest.raises(TrainingError, match=r"1 row is longer than 100 tokens \(replay, line 7"):
        _check(tiny_base, spec, rows, schedule={"max_tokens": 100})


def test_a_run_that_does_not_fit_into_memory_is_refused(
    tiny_base: Path, spec: BaseModelSpec
) -> None:
    small = MachineMemory(64 * GIB, GIB // 2)
    with pytest.raises(TrainingError, match=r"memory: one row at once takes about .* free some"):
        _check(tiny_base, spec, machine=small)


def test_what_is_trained_already_needs_no_memory_to_be_judged(
    tiny_base: Path, spec: BaseModelSpec
) -> None:
    full = MachineMemory(64 * GIB, 0)
    found = check(_recipe(), GOOD, tiny_base, spec, machine=full, trained=True)
    assert found.warnings == ()
    assert found.memory == _check(tiny_base, spec).memory


def test_fewer_rows_at_once_are_taken_where_little_is_free(
    tiny_base: Path, spec: BaseModelSpec
) -> None:
    rows = _prepared(_chats(*["x" * 1900] * 200))
    schedule = {"max_tokens": "model"}
    usual = _check(tiny_base, spec, rows, machine=ROOMY, schedule=schedule)
    assert usual.memory.micro_batch_size == 4
    tight = MachineMemory(64 * GIB, round((usual.memory.total_bytes - 1) / 0.85))
    found = _check(tiny_base, spec, rows, machine=tight, schedule=schedule)
    assert found.memory.micro_batch_size < 4
    assert "rows at once instead of 4" in found.warnings[-1]
    with pytest.raises(TrainingError, match=r"schedule.micro_batch_size: 8 rows at once take"):
        _check(tiny_base, spec, rows, machine=tight, schedule=schedule | {"micro_batch_size": 8})
