"""Conversations as the model sees them: token ids, and which of them are learned.

The prompt's ids are those that a served model would be given; what the template writes behind the
prompt, up to the end of the turn, is what it would have to generate. Nothing is ever cut.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from training.data.rows import Chat, Message, Preference
from training.errors import DataError, TrainingError

if TYPE_CHECKING:  # seconds to import: only a run pays for it
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""The label of a token that is not learned."""

Learn = Literal["assistant", "last"]
"""Every assistant turn of a row, or only its last."""

_CHUNK = 1024
_One = TypeVar("_One")


@dataclass(frozen=True, slots=True)
class Example:
    """A row's token ids, and for each the label: the id itself, or `IGNORED`."""

    input_ids: list[int]
    labels: list[int]


@dataclass(frozen=True, slots=True)
class PreferenceExample:
    """A prompt's token ids, and those of two answers to it, each with its end of turn."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]


def load_tokenizer(base: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer in the folder `base`; it must know turns and their end.

    Raises TrainingError.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            base, local_files_only=True
        )
    except (OSError, ValueError) as error:
        raise TrainingError("base: the folder has no tokenizer; give a whole model") from error
    if tokenizer.chat_template is None or tokenizer.eos_token_id is None:
        raise TrainingError("base: no chat template or no end token; use an instruct model")
    if not tokenizer.is_fast:
        raise TrainingError("base: its tokenizer has no tokenizer.json; save the fast form with it")
    _check_template(tokenizer)
    return tokenizer


def _check_template(tokenizer: "PreTrainedTokenizerBase") -> None:
    """A template that can teach nobody is told once, rather than for every row."""
    prompt, answer = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}
    (made,) = encode_each([Chat(1, (prompt,), answer)], tokenizer)
    # What it does not take, rows may be without.
    if isinstance(made, DataError) and not isinstance(made, _NotTaken):
        raise TrainingError(f"{made.field}: {made.problem}")


def encode(
    row: Chat, tokenizer: "PreTrainedTokenizerBase", *, learn: Learn = "assistant"
) -> Example:
    """`row` through the model's own template; answers and their ends of turn are learned.

    Raises DataError; its field is `chat_template` where the template is at fault.
    """
    return next(encode_all([row], tokenizer, learn=learn))


def encode_all(
    rows: Iterable[Chat], tokenizer: "PreTrainedTokenizerBase", *, learn: Learn = "assistant"
) -> Iterator[Example]:
    """`encode` for many rows, in batches. Raises DataError at the first that cannot be."""
    return map(_or_raise, encode_each(rows, tokenizer, learn=learn))


def encode_each(
    rows: Iterable[Chat], tokenizer: "PreTrainedTokenizerBase", *, learn: Learn = "assistant"
) -> Iterator[Example | DataError]:
    """For each row its example, or why there is none."""
    for made in _encode(rows, tokenizer, learn):
        if isinstance(made, DataError):
            yield made
        else:
            ids = made.prompt.ids + made.answer
            yield Example(ids, made.prompt_labels + made.answer)


def encode_preference(row: Preference, tokenizer: "PreTrainedTokenizerBase") -> PreferenceExample:
    """`row` through the model's own template. Raises DataError."""
    return next(encode_preferences([row], tokenizer))


def encode_preferences(
    rows: Iterable[Preference], tokenizer: "PreTrainedTokenizerBase"
) -> Iterator[PreferenceExample]:
    """`encode_preference` for many rows. Raises DataError at the first that cannot be."""
    return map(_or_raise, encode_each_preference(rows, tokenizer))


def encode_each_preference(
    rows: Iterable[Preference], tokenizer: "PreTrainedTokenizerBase"
) -> Iterator[PreferenceExample | DataError]:
    """For each row its example, or why there is none."""
    both = (
        Chat(row.line, row.prompt, answer) for row in rows for answer in (row.chosen, row.rejected)
    )
    encoded = _encode(both, tokenizer, "last")
    for chosen, rejected in zip(encoded, encoded, strict=True):
        if isinstance(chosen, DataError):
            yield chosen
        elif isinstance(rejected, DataError):
            yield rejected
        else:
            yield PreferenceExample(chosen.prompt.ids, chosen.answer, rejected.answer)


class _NotTaken(DataError):
    """A conversation that the template refuses."""


def _or_raise(made: _One | DataError) -> _One:
    if isinstance(made, DataError):
        raise made
    return made


@dataclass(frozen=True, slots=True)
class _Tokens:
    """A text's token ids, and for each where it starts in the text, in characters, if asked for."""

    ids: list[int]
    starts: list[int]

    def behind(self, count: int, characters: int) -> "_Tokens":
        """Those behind the first `count`, which end at this character."""
        return _Tokens(self.ids[count:], [start - characters for start in self.starts[count:]])


@dataclass(frozen=True, slots=True)
class _Text:
    """A row as text: the prompt, the whole of it, and where earlier answers start."""

    row: Chat
    prompt: str
    whole: str
    earlier: tuple[tuple[int, str], ...]
    """(character of the prompt, the answer) of each earlier answer that is learned."""


@dataclass(frozen=True, slots=True)
class _Encoded:
    prompt: _Tokens
    prompt_labels: list[int]
    answer: list[int]


def _encode(
    rows: Iterable[Chat], tokenizer: "PreTrainedTokenizerBase", learn: Learn
) -> Iterator[_Encoded | DataError]:
    added = tokenizer.added_tokens_decoder.items()
    marks = {mark for mark, token in added if token.special} | set(tokenizer.all_special_ids)
    remaining = iter(rows)
    while chunk := list(islice(remaining, _CHUNK)):
        texts = list(_texts(chunk, tokenizer, learn))
        good = [text for text in texts if isinstance(text, _Text)]
        placed = any(text.earlier for text in good)
        prompts = iter(_tokens(tokenizer, [text.prompt for text in good], placed=placed))
        wholes = iter(_tokens(tokenizer, [text.whole for text in good]))
        for text in texts:
            if isinstance(text, DataError):
                yield text
                continue
            try:
                yield _labelled(text, next(prompts), next(wholes), tokenizer, marks)
            except DataError as error:
                yield error


def _texts(
    rows: Sequence[Chat], tokenizer: "PreTrainedTokenizerBase", learn: Learn
) -> Iterator[_Text | DataError]:
    try:
        prompts = _render(tokenizer, [row.prompt for row in rows], answered=False)
        wholes = _render(tokenizer, [(*row.prompt, row.answer) for row in rows], answered=True)
    except _NotTaken as error:
        if len(rows) == 1:
            yield _NotTaken(rows[0].line, error.field, error.problem)
            return
        for row in rows:  # one after the other, to know which
            yield from _texts([row], tokenizer, learn)
        return
    for row, prompt, whole in zip(rows, prompts, wholes, strict=True):
        try:
            _check_whole(row, prompt, whole)
            earlier = _earlier(row, prompt, tokenizer) if learn == "assistant" else ()
        except DataError as error:
            yield DataError(row.line, error.field, error.problem)
        else:
            yield _Text(row, prompt, whole, earlier)


def _render(
    tokenizer: "PreTrainedTokenizerBase", chats: Sequence[Sequence[Message]], *, answered: bool
) -> list[str]:
    from jinja2 import TemplateError

    try:
        texts = tokenizer.apply_chat_template(
            [list(chat) for chat in chats], tokenize=False, add_generation_prompt=not answered
        )
    except (TemplateError, TypeError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise _NotTaken(
            0,
            "chat_template",
            f"does not take a conversation of {_roles(chats[0])} ({reason}); write the rows as it"
            " wants them, or use another base",
        ) from error
    return [str(text) for text in texts]


def _roles(chat: Sequence[Message]) -> str:
    return ", ".join(dict.fromkeys(message["role"] for message in chat))


def _check_whole(row: Chat, prompt: str, whole: str) -> None:
    if not whole[len(prompt) :].strip():
        raise _left_out(row.line)
    if not whole.startswith(prompt):
        raise DataError(
            row.line,
            "chat_template",
            "rewrites an answered prompt, so what is learned is not what is served; use another"
            " base",
        )


def _left_out(line: int) -> DataError:
    return DataError(
        line,
        "chat_template",
        "leaves the answer out, so every label would be masked and nothing learned; use another"
        " base",
    )


def _earlier(
    row: Chat, prompt: str, tokenizer: "PreTrainedTokenizerBase"
) -> tuple[tuple[int, str], ...]:
    """Where the earlier answers start in the prompt's text."""
    found = []
    for i, message in enumerate(row.prompt):
        if message["role"] != "assistant":
            continue
        before = _render(tokenizer, [row.prompt[:i]], answered=False)[0]
        if not prompt.startswith(before):
            raise DataError(
                row.line,
                "chat_template",
                "rewrites earlier turns, so they cannot be learned; set schedule.learn to `last`",
            )
        found.append((len(before), message["content"]))
    return tuple(found)


def _tokens(
    tokenizer: "PreTrainedTokenizerBase", texts: list[str], *, placed: bool = True
) -> list[_Tokens]:
    """The template has written the special tokens already. placed: with where each starts."""
    if not texts:
        return []
    made = tokenizer(
        texts,
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        return_offsets_mapping=placed,
    )
    if not placed:
        return [_Tokens(ids, []) for ids in made["input_ids"]]
    return [
        _Tokens(ids, [start for start, _ in offsets])
        for ids, offsets in zip(made["input_ids"], made["offset_mapping"], strict=True)
    ]


def _labelled(
    text: _Text,
    prompt: _Tokens,
    whole: _Tokens,
    tokenizer: "PreTrainedTokenizerBase",
    marks: set[int],
) -> _Encoded:
    line, answer = text.row.line, text.row.answer["content"]
    behind = _behind_prompt(text, prompt, whole, tokenizer)
    end = _turn_end(line, text.whole[len(text.prompt) :], 0, answer, behind, marks)
    if end == 1:
        raise _left_out(line)
    if behind.ids[end - 1] in behind.ids[: end - 1]:
        raise DataError(
            line, "answer", "holds the model's end token as text, and would end there; remove it"
        )
    labels = [IGNORED] * len(prompt.ids)
    for start, content in text.earlier:
        first = bisect_left(prompt.starts, start)
        last = _turn_end(line, text.prompt, start, content, prompt, marks)
        labels[first:last] = prompt.ids[first:last]
    return _Encoded(prompt, labels, behind.ids[:end])


def _behind_prompt(
    text: _Text, prompt: _Tokens, whole: _Tokens, tokenizer: "PreTrainedTokenizerBase"
) -> _Tokens:
    """The tokens behind the prompt's.

    Where an answer's first characters would merge with the prompt's last, the text behind the
    prompt is tokenized alone: a served model generates from the prompt's own tokens.
    """
    if whole.ids[: len(prompt.ids)] == prompt.ids:
        return whole.behind(len(prompt.ids), len(text.prompt))
    alone = _tokens(tokenizer, [text.whole[len(text.prompt) :]])[0]
    if tokenizer.decode(prompt.ids + alone.ids) != tokenizer.decode(whole.ids):
        raise DataError(
            text.row.line,
            "chat_template",
            "lets the answer's first token merge with the prompt's last; strip the white space in"
            " front of the answer",
        )
    return alone


def _turn_end(
    line: int, text: str, start: int, content: str, tokens: _Tokens, marks: set[int]
) -> int:
    """The number of tokens up to and with the end of the turn that starts at character `start`.

    The end is the special token behind the answer, which only white space may separate from it.
    """
    content = content.strip()
    found = text.find(content, start)
    # A template may rewrite what an answer says, as the marks of reasoning.
    after = start if found < 0 else found + len(content)
    for i in range(bisect_left(tokens.starts, after), len(tokens.ids)):
        if tokens.ids[i] in marks:
            if found >= 0 and text[after : tokens.starts[i]].strip():
                break
            return i + 1
    raise DataError(
        line,
        "chat_template",
        "writes no end token behind an answer, so the model would never learn to stop; add the end"
        " token to the base's template, or use another base",
    )
