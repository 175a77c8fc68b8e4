"""Whether a text ends in a loop: the same words or characters over and over, to its last line.

The thresholds leave alone what people write (a chorus, a row of dashes, a table's rule) and catch a
model that has run away, which goes on to the token limit.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Threshold:
    """When a repetition is a loop."""

    longest_period: int
    copies: int
    """Least number of copies of the repeated block, the first one included."""
    length: int
    """Least length of all the copies together."""

    @property
    def tail(self) -> int:
        """How much of a text's end must be looked at."""
        return max(self.longest_period * self.copies, self.length)


WORDS = Threshold(longest_period=64, copies=4, length=24)
CHARS = Threshold(longest_period=256, copies=5, length=120)


def ends_in_loop(text: str) -> bool:
    """Whether the text's end repeats itself. Time grows with the tail looked at, not the text."""
    # Blanks at the end hide a loop before them, and may be one themselves.
    if any(_repeats(tail[-CHARS.tail :], CHARS) for tail in (text, text.rstrip())):
        return True
    # Words repeat also where the blanks between them vary.
    words = text[-WORDS.tail * 32 :].split()[-WORDS.tail :]
    return _repeats(_without_cut_word(words), WORDS)


def _without_cut_word(words: list[str]) -> list[str]:
    """Without a last word that is the beginning of another: the token limit cuts anywhere."""
    if any(word != words[-1] and word.startswith(words[-1]) for word in words):
        return words[:-1]
    return words


def _repeats(tail: Sequence[str], threshold: Threshold) -> bool:
    return any(
        _repeated_length(tail, period) >= max(threshold.length, threshold.copies * period)
        for period in range(1, min(threshold.longest_period, len(tail) // 2) + 1)
    )


def _repeated_length(tail: Sequence[str], period: int) -> int:
    """The length of the longest end of `tail` that has this period."""
    position = len(tail) - 1
    while position >= period and tail[position] == tail[position - period]:
        position -= 1
    return len(tail) - 1 - position + period
