"""Synthetic text of a number of tokens: the same for the same seed, on every machine."""

from loadtest.workload.errors import WorkloadError
from loadtest.workload.randomness import noise
from loadtest.workload.tokenizer import Tokenizer

_LIST = """
able action add age air allow area arm art ask baby back bad begin best better black blue body
book bright build buy call car case center change child city class clear close cold common cost
court create cut dark data day deep doctor door early effect empty end event expect eye face fact
fall family fast father feel field figure film find fine first follow foot force form free friend
full game give good great green ground group grow hand hard head health heart help high hold home
hot hour house human idea image issue job keep kind land large last late law lead leader learn
leave level life light like line little live local long lot love low main make market matter
member mind minute moment money month mother move movie music name nation need new news next night
north number offer office oil old open other others own paper parent part party pass pay people
person phone piece place plan play player point policy power price public pull quiet raise rate
reach read ready real reason record report result right river road role room run school season
second sell send sense set short show side simple sit site slow small social soft son source south
space spring stand star start state stay step stop story street study table take talk team tell
test thing think third time town tree true turn type use value view voice wait walk wall warm
watch water way week white whole wide word work world write year young
"""
"""256 words, each one token of the usual vocabularies of English, with or without a space."""
_WORDS = _LIST.split()

_BYTES = 256
_ENOUGH_WORDS = 32
_TRIED_LENGTHS = (1, 2, 3, 5, 8, 13, 34, 89, 144)
_NEARBY = 16
"""Characters either side of the best cut that are tried too: counts may jump over a number."""


class Texts:
    """Writes texts of `size` tokens: exactly with a tokenizer, else about so many.

    A text's concern (any strings and numbers) says which it is: equal concerns, equal texts.
    """

    def __init__(self, seed: int, tokenizer: Tokenizer | None) -> None:
        self._seed = seed
        self._tokenizer = tokenizer
        self._words = _WORDS if tokenizer is None else _single_tokens(tokenizer)
        self.additive = tokenizer is None or self._adds_up(tokenizer)
        """Whether so many words are so many tokens, so that counting can be spared."""

    def text(self, size: int, *concern: str | int) -> str:
        """Words, separated by spaces. Raises WorkloadError where no text has so many tokens."""
        words = self._write(size, concern)
        if self.additive or self._tokenizer is None:
            return words
        return _cut(words, size, self._tokenizer)

    def count(self, text: str) -> int | None:
        """Tokens of any text; None without a tokenizer."""
        return None if self._tokenizer is None else self._tokenizer.count(text)

    def _write(self, size: int, concern: tuple[str | int, ...]) -> str:
        words, many = self._words, len(self._words)
        drawn = noise(size, self._seed, "text", *concern)
        if many == _BYTES:
            return " ".join([words[byte] for byte in drawn])
        return " ".join([words[byte * many // _BYTES] for byte in drawn])

    def _adds_up(self, tokenizer: Tokenizer) -> bool:
        return len(self._words) >= _ENOUGH_WORDS and all(
            tokenizer.count(self._write(size, ("trial", size))) == size for size in _TRIED_LENGTHS
        )


def _single_tokens(tokenizer: Tokenizer) -> list[str]:
    """The words that are one token at the begin and later; all of them where those are few."""
    found = [
        word
        for word in _WORDS
        if tokenizer.count(word) == 1 and tokenizer.count(f"{word} {word}") == 2
    ]
    return found if len(found) >= _ENOUGH_WORDS else _WORDS


def _cut(text: str, size: int, tokenizer: Tokenizer) -> str:
    """The begin of the text that has exactly `size` tokens."""
    while tokenizer.count(text) < size:
        text = f"{text} {text}"
    low, high = 1, len(text)
    while low < high:
        middle = (low + high) // 2
        if tokenizer.count(text[:middle]) < size:
            low = middle + 1
        else:
            high = middle
    for end in sorted(range(low - _NEARBY, low + _NEARBY), key=lambda end: abs(end - low)):
        cut = text[: max(end, 1)]
        # A space at the end would be stripped by chat templates.
        cut = f"{cut[:-1]}s" if cut.endswith(" ") else cut
        if tokenizer.count(cut) == size:
            return cut
    raise WorkloadError(f"tokenizer: no text of exactly {size} tokens was found; ask for more")
