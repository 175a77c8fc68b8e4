"""What `loraplex merge` is called with, checked: adapters with weights, a method, sizes."""

import json
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraplex.adapter_source import adapter_source
from loraplex.errors import CommandError, UsageError
from loraplex.files import read_text
from loraplex.refs import Ref

if TYPE_CHECKING:  # the training module is loaded only by the command that needs it
    from training.merge.combine.method import CombineMethod, MethodName


class Method(StrEnum):
    """How several adapters become one."""

    CAT = "cat"
    LINEAR = "linear"
    SVD = "svd"
    TIES = "ties"
    TIES_SVD = "ties_svd"
    DARE_LINEAR = "dare_linear"
    DARE_TIES = "dare_ties"
    DARE_LINEAR_SVD = "dare_linear_svd"
    DARE_TIES_SVD = "dare_ties_svd"
    MAGNITUDE_PRUNE = "magnitude_prune"
    MAGNITUDE_PRUNE_SVD = "magnitude_prune_svd"


class Sign(StrEnum):
    """What decides between adapters of opposite signs."""

    TOTAL = "total"
    FREQUENCY = "frequency"


class Dtype(StrEnum):
    """Of the weights that are written."""

    BASE = "base"
    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


class Compute(StrEnum):
    """What the update is computed and added in."""

    FLOAT32 = "float32"
    FLOAT64 = "float64"


class BaseQuantization(StrEnum):
    """How the base was quantized when the adapter was trained."""

    AUTO = "auto"
    NONE = "none"
    NF4 = "nf4"
    FP4 = "fp4"


@dataclass(frozen=True, slots=True)
class WeightedSource:
    """An adapter as it was named: where it is, and how much of it is taken."""

    source: Path | Ref
    weight: float


@dataclass(frozen=True, slots=True)
class MethodOptions:
    """--method and what belongs to it, as it was given."""

    method: Method | None
    density: float | None
    rank: int | None
    sign: Sign | None
    seed: int | None

    def given(self) -> dict[str, Any]:
        """What was given, by option."""
        values = {
            "method": self.method and self.method.value,
            "density": self.density,
            "rank": self.rank,
            "sign": self.sign and self.sign.value,
            "seed": self.seed,
        }
        return {name: value for name, value in values.items() if value is not None}


def weighted_source(text: str) -> WeightedSource:
    """`A` or `A=WEIGHT`. A folder of that whole name is taken for itself. Raises UsageError."""
    name, equals, number = text.rpartition("=")
    if not equals or Path(text).expanduser().is_dir():
        return WeightedSource(adapter_source(text), 1.0)
    return WeightedSource(adapter_source(name), _weight(number, text))


def _weight(number: str, text: str) -> float:
    try:
        weight = float(number)
    except ValueError:
        weight = float("nan")
    if not isfinite(weight):
        raise UsageError(
            f"--adapter: no folder is named {text!r}, and {number!r} is no weight; write a number, "
            "as in --adapter acme/support@3=0.5"
        )
    if weight == 0:
        raise UsageError(f"--adapter {text}: with weight 0 nothing of it is taken; leave it out")
    return weight


def byte_size(text: str) -> int:
    """`5GB`, `500MB` or `2GiB` in bytes. Raises UsageError."""
    from pydantic import ByteSize, TypeAdapter, ValidationError

    try:
        found = int(TypeAdapter(ByteSize).validate_python(text.strip()))
    except ValidationError:
        found = 0
    if found <= 0:
        raise UsageError(f"--max-shard-size: {text!r} is no size; write it like 5GB or 500MB")
    return found


def combine_method(options: MethodOptions, *, adapters: int, as_adapter: bool) -> "CombineMethod":
    """How so many adapters become one. Raises UsageError."""
    given = options.given()
    if adapters == 1 and not as_adapter and given:
        raise UsageError(
            f"--{next(iter(given))}: one adapter is merged as it is, there is nothing to combine; "
            "name another --adapter, or make a new adapter of this one with --as-adapter"
        )
    if "seed" in given and "dare" not in given.get("method", ""):
        raise UsageError("--seed is of what the dare methods drop; the others draw nothing")
    return _made(**given)


def _made(method: "MethodName" = "cat", **options: Any) -> "CombineMethod":
    from training.errors import MergeError
    from training.merge.combine import CombineMethod

    try:
        return CombineMethod(method, **options)
    except MergeError as error:
        # It begins with the field, which is an option here.
        raise UsageError(f"--{error.message}") from error


def read_probes(file: Path) -> tuple[str, ...]:
    """Prompts: a line of JSON each, with `prompt`, or with `messages` that a user's turn is in.

    Raises CommandError.
    """
    prompts = [
        _prompt(line, f"{file}, line {number}")
        for number, line in enumerate(read_text(file).splitlines(), 1)
        if line.strip()
    ]
    if not prompts:
        raise CommandError(f"{file}: it holds no prompt")
    return tuple(prompts)


def _prompt(line: str, where: str) -> str:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        row = None
    found = (
        row.get("prompt") or _last_question(row.get("messages")) if isinstance(row, dict) else ""
    )
    if not isinstance(found, str) or not found:
        raise CommandError(
            f'{where}: write {{"prompt": "…"}}, or {{"messages": […]}} with a user\'s turn'
        )
    return found


def _last_question(messages: Any) -> Any:
    turns = messages if isinstance(messages, list) else []
    asked = [turn for turn in turns if isinstance(turn, dict) and turn.get("role") == "user"]
    return asked[-1].get("content") if asked else ""
