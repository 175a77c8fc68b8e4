"""What requests ask: synthetic text, real prompts from files, and the tokens of both."""

import json
from pathlib import Path
from random import Random

import pytest

from loadtest.workload.errors import WorkloadError
from loadtest.workload.files import RowFile
from loadtest.workload.prompts import FilePrompts, Prompt, PromptFile, as_text
from loadtest.workload.tokenizer import load_tokenizer
from loadtest.workload.words import Texts

USER = {"role": "user", "content": "Where is my parcel?"}
ANSWER = {"role": "assistant", "content": "On its way."}
THANKS = {"role": "user", "content": "Thanks!"}
SYSTEM = {"role": "system", "content": "Be short."}


class Characters:
    """A tokenizer of which every character is a token."""

    def count(self, text: str) -> int:
        return len(text)


class Pairs:
    """A tokenizer that joins two characters, so that many texts have no word that is one token."""

    def count(self, text: str) -> int:
        return (len(text) + 1) // 2


class Jumps:
    """A tokenizer without any text of an odd number of tokens."""

    def count(self, text: str) -> int:
        return 2 * len(text)


class Words:
    """A tokenizer whose tokens are words, but for one that it splits."""

    def count(self, text: str) -> int:
        return sum(1 + (word == "young") for word in text.split())


def prompts_of(path: Path, rows: list[object], **options: object) -> FilePrompts:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = PromptFile.model_validate({"path": path, **options})
    return FilePrompts(spec, Random(1), Texts(0, None))


def test_synthetic_text_is_this_on_every_machine() -> None:
    assert Texts(7, None).text(6, "prompt", 0) == TEXT


def test_synthetic_text_has_as_many_words_and_depends_on_seed_and_concern() -> None:
    texts = Texts(7, None)
    assert len(texts.text(500, "prompt", 1).split()) == 500
    different = {texts.text(9, "prompt", 1), texts.text(9, "prompt", 2), texts.text(9, "prefix", 1)}
    assert len(different | {Texts(8, None).text(9, "prompt", 1)}) == 4


def test_a_tokenizer_without_whole_words_gets_exact_lengths_too() -> None:
    for tokenizer in (Characters(), Pairs()):
        texts = Texts(7, tokenizer)
        for size in (1, 2, 7, 100, 1001):
            text = texts.text(size, "prompt", size)
            assert tokenizer.count(text) == size
            assert text == text.strip()


def test_words_that_are_several_tokens_are_not_used() -> None:
    texts = Texts(7, Words())
    assert texts.additive
    assert "young" not in texts.text(5000, "prompt", 0).split()
    assert Words().count(texts.text(5000, "prompt", 0)) == 5000


def test_a_length_that_no_text_has_is_told() -> None:
    with pytest.raises(WorkloadError, match="no text of exactly 7 tokens was found; ask for more"):
        Texts(7, Jumps()).text(7, "prompt", 0)


def test_a_real_tokenizer_counts_as_many_as_asked(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    made.train_from_iterator([Texts(1, None).text(300, "corpus")], trainer)
    made.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path)
    texts = Texts(7, tokenizer)
    for size in (1, 5, 64, 333):
        assert tokenizer.count(texts.text(size, "prompt", size)) == size


def test_a_tokenizer_that_is_not_there_or_broken_is_told(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=r"tokenizer: .*tokenizer.json is not there; give"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(WorkloadError, match=r"tokenizer: .*tokenizer.json cannot be read"):
        load_tokenizer(tmp_path)


def test_rows_are_found_again_by_their_places(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes('\ufeffid,prompt\r\n1,"Grüße,\nwie ""geht"" es?"\r\n\r\n2,kurz\r\n'.encode())
    file = RowFile(path)
    rows = list(file.rows())
    assert [row.line for row in rows] == [2, 5]
    assert rows[0].fields == {"id": "1", "prompt": 'Grüße,\nwie "geht" es?'}
    assert [file.at(row.line, row.offset) for row in reversed(rows)] == [
        row.fields for row in reversed(rows)
    ]


def test_a_text_file_has_a_prompt_a_line(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("\ufeffone\n\ntwo\r\n")
    prompts = FilePrompts(PromptFile(path=path), Random(1), Texts(0, None))
    assert [prompts.write(prompts.draw(), 0).messages for _ in range(3)] == [
        ({"role": "user", "content": text},) for text in ("one", "two", "one")
    ]


def test_prompts_in_order_begin_anew_and_random_ones_follow_the_stream(tmp_path: Path) -> None:
    rows: list[object] = [{"prompt": "a"}, {"prompt": "b"}, {"prompt": "c"}]
    prompts = prompts_of(tmp_path / "p.jsonl", rows)
    assert [prompts.draw() for _ in range(5)] == [0, 1, 2, 0, 1]
    chosen = prompts_of(tmp_path / "p.jsonl", rows, order="random")
    rng = Random(1)
    assert [chosen.draw() for _ in range(9)] == [int(rng.random() * 3) for _ in range(9)]


def test_an_answer_that_was_recorded_is_not_sent(tmp_path: Path) -> None:
    rows: list[object] = [
        {"messages": [SYSTEM, USER, ANSWER]},
        {"messages": [USER, ANSWER, THANKS]},
    ]
    prompts = prompts_of(tmp_path / "p.jsonl", rows)
    assert prompts.write(0, 0) == Prompt((SYSTEM, USER), None)
    assert prompts.write(1, 0) == Prompt((USER, ANSWER, THANKS), None)


def test_a_conversation_has_a_turn_between_answers(tmp_path: Path) -> None:
    rows: list[object] = [{"messages": [SYSTEM, USER, ANSWER, THANKS, ANSWER]}]
    prompts = prompts_of(tmp_path / "p.jsonl", rows)
    assert prompts.turns(0) == [Prompt((SYSTEM, USER), None), Prompt((THANKS,), None)]


def test_sharegpt_rows_are_conversations(tmp_path: Path) -> None:
    said = [("human", "a"), ("gpt", "A"), ("human", "b"), ("gpt", "B")]
    row = {"id": "x", "conversations": [{"from": who, "value": text} for who, text in said]}
    prompts = prompts_of(tmp_path / "p.jsonl", [row])
    assert [turn.messages for turn in prompts.turns(0)] == [
        ({"role": "user", "content": "a"},),
        ({"role": "user", "content": "b"},),
    ]
    assert len(prompts.write(0, 0).messages) == 3


def test_the_tokens_of_real_prompts_are_counted_where_there_is_a_tokenizer(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"messages": [SYSTEM, USER]}))
    prompts = FilePrompts(PromptFile(path=path), Random(1), Texts(0, Words()))
    assert prompts.write(0, 0).tokens == 6


def test_messages_become_one_text_without_their_images() -> None:
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {}}]
    assert as_text((SYSTEM, {"role": "user", "content": parts}), "\n") == "Be short.\nWhat is this?"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", r"p.jsonl, line 2: is not JSON \("),
        ("[1]", "line 2: is not a JSON object, as"),
        ('{"prompt": ""}', "line 2: `prompt` must be a text or a list of messages"),
        ('{"conversations": [{"from": [], "value": "x"}]}', r"`conversations\[0\]` must be an obj"),
        (
            '{"messages": [{"role": "user"}]}',
            r"line 2: `messages\[0\]` must be an object with `role`",
        ),
        (
            '{"messages": [{"role": "system", "content": "x"}]}',
            "line 2: no message is of role `user`",
        ),
        ('{"a": 1, "b": 2}', "p.jsonl: name its column; it has `a`, `b`"),
        ('{"prompt": "\\ud800"}', "line 2: holds half of a surrogate pair"),
        (b'{"prompt": "\xff"}', r"line 2: is not UTF-8 \(byte 12\)"),
    ],
)
def test_a_bad_row_is_told_by_its_line(tmp_path: Path, row: str | bytes, message: str) -> None:
    path = tmp_path / "p.jsonl"
    raw = row if isinstance(row, bytes) else row.encode()
    path.write_bytes(b'{"prompt": "good"}\n' + raw + b"\n")
    with pytest.raises(WorkloadError, match=message):
        FilePrompts(PromptFile(path=path), Random(1), Texts(0, None))


def test_a_file_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    for name, message in (
        ("p.parquet", r"the name must end in .jsonl, .csv or .txt"),
        ("no.jsonl", r"no.jsonl: cannot be read \(No such file"),
    ):
        with pytest.raises(WorkloadError, match=message):
            FilePrompts(PromptFile(path=tmp_path / name), Random(1), Texts(0, None))
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(WorkloadError, match=r"empty.jsonl: holds no prompt"):
        FilePrompts(PromptFile(path=tmp_path / "empty.jsonl"), Random(1), Texts(0, None))


def test_a_column_is_named(tmp_path: Path) -> None:
    rows: list[object] = [{"question": "a", "id": "1"}]
    prompts = prompts_of(tmp_path / "p.jsonl", rows, column="question")
    assert prompts.write(0, 0).messages[0]["content"] == "a"
    with pytest.raises(WorkloadError, match="has no column `text`, but `question`, `id`"):
        prompts_of(tmp_path / "p.jsonl", rows, column="text")


TEXT = "door love case create year age"
