"""General ability: what a model should still know and do after it was tuned to something else."""

import json
import re
from collections.abc import Sequence
from importlib.resources import files

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator

from training.evaluation.metrics import Metric, mean_metric

_FROZEN = ConfigDict(frozen=True, extra="forbid")
_NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?")
_FENCE = re.compile(r"^```\w*\n(.*?)\n?```$", re.DOTALL)


class Text(BaseModel):
    """A question or task and a good answer to it, whose likelihood is measured."""

    model_config = _FROZEN

    topic: str
    prompt: str
    answer: str


class Rule(BaseModel):
    """What an answer must meet; each field that is given."""

    model_config = _FROZEN

    all_of: tuple[str, ...] = ()
    """Words that must be there, whatever their case."""
    any_of: tuple[str, ...] = ()
    none_of: tuple[str, ...] = ()
    regex: str | None = None
    """Found somewhere in the answer."""
    number: float | None = None
    """The last number in the answer."""
    json_keys: tuple[str, ...] = ()
    """The answer is a JSON object with exactly these keys."""
    json_array: int | None = None
    """The answer is a JSON array of this length."""
    max_words: int | None = None

    @model_validator(mode="after")
    def _asks_something(self) -> "Rule":
        if not self.model_fields_set:
            raise ValueError("a rule needs a field")
        return self

    def met_by(self, answer: str) -> bool:
        """Whether the answer keeps to the rule."""
        text = answer.strip()
        return (
            all(_has(text, word) for word in self.all_of)
            and (not self.any_of or any(_has(text, word) for word in self.any_of))
            and not any(_has(text, word) for word in self.none_of)
            and (self.regex is None or re.search(self.regex, text, re.MULTILINE) is not None)
            and (self.number is None or _last_number(text) == self.number)
            and self._json_fits(text)
            and (self.max_words is None or 0 < len(text.split()) <= self.max_words)
        )

    def _json_fits(self, text: str) -> bool:
        if not self.json_keys and self.json_array is None:
            return True
        fenced = _FENCE.match(text)
        try:
            found = json.loads(fenced[1] if fenced else text)
        except ValueError:
            return False
        if self.json_keys:
            return isinstance(found, dict) and set(found) == set(self.json_keys)
        return isinstance(found, list) and len(found) == self.json_array


class Instruction(BaseModel):
    """A small task whose answer a rule can check. expected: the rule in words, for people."""

    model_config = _FROZEN

    id: str
    prompt: str
    expected: str
    rule: Rule


def texts() -> list[Text]:
    """The texts of `general.loss`."""
    return [Text.model_validate_json(line) for line in _lines("texts.jsonl")]


def instructions() -> list[Instruction]:
    """The tasks of `general.instructions`."""
    return [Instruction.model_validate_json(line) for line in _lines("instructions.jsonl")]


def passed(suite: Sequence[Instruction], answers: Sequence[str]) -> Metric:
    """The part of the instructions that is followed."""
    right = [one.rule.met_by(answer) for one, answer in zip(suite, answers, strict=True)]
    values = np.array(right, dtype=np.float64)
    return mean_metric("general.instructions", "higher", values, binary=True)


def _lines(name: str) -> list[str]:
    return (files("training.evaluation.suites") / name).read_text(encoding="utf-8").splitlines()


def _has(text: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None


def _last_number(text: str) -> float | None:
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None
