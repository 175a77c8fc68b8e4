"""What a row says, for comparing: its words, and its answer in a canonical form."""

import json
import re
import unicodedata
from collections.abc import Sequence

from training.data.rows import Chat, Message, Row

# Numbers stay whole; letters of scripts without spaces stand alone; quotes and the marks of a
# sentence say nothing, other symbols do, and so do signs and brackets where they reckon.
_WORD = re.compile(
    r"\d+(?:[.,:/-]\d+)+"
    r"|[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
    r"|(?:(?![\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff])\w)+"
    r"|(?<=[\s\d)])[-*](?=[\s\d(])|[()](?=\d)|(?<=\d)[()]"
    r"|[^\w\s\u3001\u3002.,!?;:\"\u201c\u201d\u201e\u2018()\[\]…¿¡*_`-]"
)

FILLERS = frozenset(
    [
        *("a", "an", "the", "please", "kindly", "just", "thanks", "thank", "you", "hi", "hello"),
        *("hey", "ok", "okay", "so", "well", "really", "actually", "do", "does", "did", "can"),
        *("could", "would", "will", "shall", "should", "may", "might", "is", "are", "was", "were"),
        *("be", "been", "am", "im", "ive", "id", "i", "me", "my", "mine", "we", "our", "of"),
        *("to", "that", "there", "then", "it", "its", "now"),
    ]
)
"""Words that may differ while the question stays the same."""


def words_of(text: str) -> list[str]:
    """The words of `text`, folded: case, spacing and the marks of a sentence do not count.

    A text of such marks alone is its own word.
    """
    if text.isascii():
        folded = text.lower()
    else:
        folded = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "")
    return _WORD.findall(folded.replace("'", "")) or text.split()


def input_text(row: Row, shared_system: str | None) -> str:
    """All that the answer answers. The system prompt that every row has says nothing of a row."""
    return "\n".join(
        one["content"]
        for one in row.prompt
        if not (one["role"] == "system" and one["content"] == shared_system)
    )


def answer_of(row: Row) -> Message:
    """The answer that is learned: of a preference, the chosen one."""
    return row.answer if isinstance(row, Chat) else row.chosen


def canonical_answer(text: str) -> str:
    """Equal for answers that say the same: JSON in one order, other texts as their words."""
    value = json_of(text)
    if isinstance(value, dict | list):
        return json.dumps(value, sort_keys=True, ensure_ascii=False).casefold()
    return " ".join(words_of(text)) or text.strip()


def json_of(text: str) -> object | None:
    """The JSON object or list that `text` is, else None."""
    start = text.lstrip()[:1]
    if start not in ("{", "["):
        return None
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value


def content_words(words: Sequence[str]) -> list[str]:
    """The words that make the question, stemmed; all of them where there are only fillers."""
    kept = [stem(word) for word in words if word not in FILLERS]
    return kept or list(words)


def stem(word: str) -> str:
    """Without a plural's s."""
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss") and word.isalpha():
        return word[:-1]
    return word
