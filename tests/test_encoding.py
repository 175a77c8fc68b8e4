"""Rows as the model sees them: what is learned of them, and rows that no template can say."""

from pathlib import Path

import pytest

from tests.tiny_base import CHATML, NO_END, tiny_tokenizer
from training.data.rows import Chat, Message, Preference
from training.encoding import (
    IGNORED,
    Example,
    encode,
    encode_all,
    encode_each,
    encode_each_preference,
    encode_preference,
    load_tokenizer,
)
from training.errors import DataError, TrainingError

NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
    + CHATML
)
WITHOUT_ANSWERS = CHATML.replace("m in messages %}", "m in messages if m.role != 'assistant' %}")
EMPTY_ANSWERS = CHATML.replace("m['content']", "(m['content'] if m['role'] != 'assistant' else '')")
COUNTED = "{{ messages | length }}" + CHATML
# As Qwen3's: reasoning is written into the last answer, and taken out of earlier ones.
THINKING = CHATML.replace(
    "'\n' + m['content']",
    "'\n' + ('<think></think>' if loop.last and m['role'] == 'assistant' else '') + m['content']",
)
PROMPT = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


def _chat(answer: str = "Hello.", *, line: int = 1, earlier: tuple[Message, ...] = ()) -> Chat:
    return Chat(line, (*earlier, _user("Hi")), _assistant(answer))


TURNS = (_user("One"), _assistant("Two"))


def _learned(example: Example, template: str = CHATML) -> str:
    text = tiny_tokenizer(template).decode([one for one in example.labels if one != IGNORED])
    assert isinstance(text, str)
    return text


def test_the_answer_and_its_end_of_turn_are_learned_and_nothing_else() -> None:
    tokenizer = tiny_tokenizer()
    example = encode(_chat("Hé!"), tokenizer)
    assert tokenizer.decode(example.input_ids) == PROMPT + "Hé!<|im_end|>"
    assert _learned(example) == "Hé!<|im_end|>"
    assert example.labels[-1] == tokenizer.eos_token_id
    assert all(a in (IGNORED, b) for a, b in zip(example.labels, example.input_ids, strict=True))


def test_every_assistant_turn_is_learned_or_only_the_last() -> None:
    row = _chat(earlier=TURNS)
    every = encode(row, tiny_tokenizer(), learn="assistant")
    last = encode(row, tiny_tokenizer(), learn="last")
    assert every.input_ids == last.input_ids
    assert _learned(every) == "Two<|im_end|>Hello.<|im_end|>"
    assert _learned(last) == "Hello.<|im_end|>"


def test_an_answer_is_never_cut_however_long() -> None:
    example = encode(_chat("long " * 2000), tiny_tokenizer())
    assert _learned(example) == "long " * 2000 + "<|im_end|>"


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        (NO_END, "writes no end token behind an answer"),
        (COUNTED, "rewrites an answered prompt"),
        (WITHOUT_ANSWERS, "leaves the answer out, so every label would be masked"),
        (EMPTY_ANSWERS, "leaves the answer out, so every label would be masked"),
    ],
)
def test_a_template_that_cannot_teach_is_named(template: str, problem: str) -> None:
    with pytest.raises(DataError, match=f"line 7: chat_template: {problem}"):
        encode(_chat(line=7), tiny_tokenizer(template))


def test_a_template_that_takes_no_system_message_is_named_with_the_row() -> None:
    rows = [_chat(line=1), _chat(line=2, earlier=({"role": "system", "content": "Be"},))]
    first, second = encode_each(rows, tiny_tokenizer(NO_SYSTEM))
    assert isinstance(first, Example)
    assert isinstance(second, DataError)
    assert second.line == 2
    assert second.field == "chat_template"
    assert "conversation of system, user (no system here)" in second.problem


def test_a_template_that_cannot_end_after_a_prompt_alone_names_the_row() -> None:
    """It takes the whole, and not the part before an earlier answer."""
    refusing = (
        "{% if messages | length == 1 %}{{ raise_exception('too short') }}{% endif %}" + CHATML
    )
    (made,) = encode_each([_chat(line=5, earlier=TURNS)], tiny_tokenizer(refusing))
    assert isinstance(made, DataError)
    assert (made.line, made.field) == (5, "chat_template")


def test_a_template_that_writes_more_into_the_last_answer_fits() -> None:
    every = encode(_chat(earlier=TURNS), tiny_tokenizer(THINKING))
    assert _learned(every) == "Two<|im_end|><think></think>Hello.<|im_end|>"


def test_a_template_that_rewrites_earlier_turns_teaches_the_last_alone() -> None:
    template = (
        "{{ messages | map(attribute='role') | select('eq', 'user') | list | length }}" + CHATML
    )
    row = _chat(earlier=TURNS)
    with pytest.raises(DataError, match=r"rewrites earlier turns.*set schedule.learn to `last`"):
        encode(row, tiny_tokenizer(template))
    assert _learned(encode(row, tiny_tokenizer(template), learn="last")) == "Hello.<|im_end|>"


def test_an_end_token_within_an_answer_is_refused_and_one_within_a_prompt_is_not() -> None:
    with pytest.raises(DataError, match="line 1: answer: holds the model's end token as text"):
        encode(_chat("Yes<|im_end|>No"), tiny_tokenizer())
    odd = Chat(1, (_user("What is <|im_end|>?"),), _assistant("A mark."))
    assert _learned(encode(odd, tiny_tokenizer())) == "A mark.<|im_end|>"


def test_rows_in_batches_are_what_they_are_one_by_one() -> None:
    tokenizer = tiny_tokenizer()
    rows = [_chat(f"Answer {i}", line=i) for i in range(1, 1100)]
    together = list(encode_all(rows, tokenizer))
    assert len(together) == len(rows)
    assert together[1020:1030] == [encode(row, tokenizer) for row in rows[1020:1030]]


def test_a_prompt_has_the_ids_that_the_served_model_is_given(embedded_model: Path) -> None:
    """An answer's leading line break would merge with the prompt's last one."""
    tokenizer = load_tokenizer(embedded_model)
    row = _chat("\n\nHello.")
    served = tokenizer.apply_chat_template(
        [*row.prompt], add_generation_prompt=True, tokenize=False
    )
    example = encode(row, tokenizer)
    prompt_ids = tokenizer.encode(str(served), add_special_tokens=False)
    assert example.input_ids[: len(prompt_ids)] == prompt_ids
    learned = [one for one in example.labels if one != IGNORED]
    assert tokenizer.decode(learned) == "\n\nHello.<|im_end|>"


def test_a_preference_shares_its_prompt_and_both_answers_end() -> None:
    tokenizer = tiny_tokenizer()
    row = Preference(1, (_user("Hi"),), _assistant("Good day."), _assistant("What?"))
    example = encode_preference(row, tokenizer)
    assert tokenizer.decode(example.prompt_ids) == PROMPT
    assert tokenizer.decode(example.chosen_ids) == "Good day.<|im_end|>"
    assert tokenizer.decode(example.rejected_ids) == "What?<|im_end|>"


def test_of_a_preference_either_answer_can_be_at_fault() -> None:
    good, bad = _assistant("Good."), _assistant("Bad<|im_end|>.")
    rows = [
        Preference(1, (_user("Hi"),), good, bad),
        Preference(2, (_user("Hi"),), bad, good),
        Preference(3, (_user("Hi"),), good, _assistant("Fine.")),
    ]
    made = list(encode_each_preference(rows, tiny_tokenizer()))
    assert [isinstance(one, DataError) for one in made] == [True, True, False]


def test_a_base_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(TrainingError, match="base: no chat template"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("template", "problem"),
    [(NO_END, "writes no end token"), (COUNTED, "rewrites an"), (EMPTY_ANSWERS, "leaves the")],
)
def test_a_base_whose_template_can_teach_nobody_is_refused_at_once(
    tmp_path: Path, template: str, problem: str
) -> None:
    tiny_tokenizer(template).save_pretrained(tmp_path)
    with pytest.raises(TrainingError, match=f"^chat_template: {problem}"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("template", [CHATML, NO_SYSTEM, THINKING])
def test_a_base_whose_template_takes_plain_turns_is_taken(tmp_path: Path, template: str) -> None:
    tiny_tokenizer(template).save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).chat_template == template


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="base: the folder has no tokenizer"):
        load_tokenizer(tmp_path)
