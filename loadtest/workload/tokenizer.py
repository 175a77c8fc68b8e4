"""The model's tokenizer, for prompts of exactly so many tokens."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from loadtest.workload.errors import WorkloadError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as HuggingFaceTokenizer


class Tokenizer(Protocol):
    """Counts tokens."""

    def count(self, text: str) -> int:
        """Tokens of the text itself, without special tokens."""
        ...


class FileTokenizer:
    """A `tokenizer.json`."""

    def __init__(self, tokenizer: "HuggingFaceTokenizer") -> None:
        self._tokenizer = tokenizer

    def count(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False))


def load_tokenizer(path: Path) -> FileTokenizer:
    """path: a `tokenizer.json`, or a model's folder that holds one. Raises WorkloadError."""
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise WorkloadError(
            f"tokenizer: {file} is not there; give the model's folder or its tokenizer.json"
        )
    try:
        from tokenizers import Tokenizer as HuggingFaceTokenizer
    except ImportError as error:
        raise WorkloadError(
            "tokenizer: needs the package `tokenizers`; `pip install tokenizers`, or leave the"
            " tokenizer out and prompts have about as many tokens as they are to have"
        ) from error
    try:
        return FileTokenizer(HuggingFaceTokenizer.from_file(str(file)))
    # The library raises bare Exceptions.
    except Exception as error:
        raise WorkloadError(f"tokenizer: {file} cannot be read ({error})") from error
