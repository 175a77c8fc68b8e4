"""A recipe's fields: what they mean, what they may be, and what they are if nobody says."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

Method = Literal["lora", "rslora", "qlora", "dora", "dpo"]
Fault = Literal["duplicates", "contradictions", "leakage", "few_rows", "unrelated_answers"]

_LEAST_ROW = 8
"""Tokens: a turn's marks and a word."""


def _number_or_text(value: Any) -> Any:
    """YAML reads `1e-1` as a text, which is no file here."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


Share = Annotated[float | Path, BeforeValidator(_number_or_text)]
"""A part of the rows, from 0 and below 1, or a file of its own."""


class _Part(BaseModel):
    """Unknown fields are errors, and so is a yes or no where something else is wanted."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch(cls, value: Any, info: Any) -> Any:
        field: FieldInfo = cls.model_fields[info.field_name]
        if isinstance(value, bool) and field.annotation is not bool:
            raise PydanticCustomError("switch", "is a switch")
        return value


class RowTemplate(_Part):
    """How a row of a CSV becomes a conversation; `{column}` stands for the column's text."""

    prompt: str = Field(description="The user's message, as `{text}`.")
    answer: str = Field(description="The assistant's answer, as `{category}`.")
    system: str | None = Field(None, description="The system message.")
    label: str | None = Field(None, description="The row's class, as `{category}`.")

    @field_validator("prompt", "answer", "label")
    @classmethod
    def _names_a_column(cls, text: str | None) -> str | None:
        if text is not None and re.search(r"\{[^{}]+\}", text) is None:
            raise ValueError(f"`{text}` names no column: write a column's name in braces")
        return text


class DataPart(_Part):
    """Which rows are learned, which steer the run, and which judge it."""

    train: Path = Field(
        description="JSONL or CSV; or a folder with train, validation and test of `data split`."
    )
    validation: Share = Field(
        0.1, description="A file, or the part of `train` that is held out to watch the loss."
    )
    test: Share = Field(
        0.2, description="A file, or the part of `train` that is held out to judge the adapter."
    )
    template: RowTemplate | None = Field(None, description="For CSV: columns to conversation.")
    limit: int | None = Field(
        None, ge=1, description="Rows to train on at most, drawn evenly from all classes."
    )
    replay: float = Field(
        0.0, ge=0, lt=1, description="Part of the rows that are generic instructions."
    )
    allow: tuple[Fault, ...] = Field((), description="Faults of the data to train in spite of.")

    @field_validator("validation", "test")
    @classmethod
    def _is_a_share(cls, share: float | Path) -> float | Path:
        if isinstance(share, float) and not 0 <= share < 1:
            raise ValueError(f"{share:g} is no part of the rows: give 0.1 for a tenth, or a file")
        return share

    @model_validator(mode="after")
    def _leaves_rows(self) -> "DataPart":
        shares = [share for share in (self.validation, self.test) if isinstance(share, float)]
        if sum(shares) >= 1:
            raise ValueError("test: with `validation` it leaves no rows to train on; lower both")
        if self.test == 0:
            raise ValueError("test: 0 leaves nothing to judge the adapter by; give 0.2, or a file")
        return self


class AdapterPart(_Part):
    """The adapter's shape."""

    rank: int = Field(16, ge=1, le=512, description="LoRA rank.")
    alpha: int = Field(32, ge=1, description="LoRA alpha; updates are scaled by alpha / rank.")
    dropout: float = Field(0.05, ge=0, lt=1, description="Dropout in front of the adapter.")
    target_modules: str | tuple[str, ...] = Field(
        "all-linear", description="`all-linear`, or a list of module names."
    )

    @field_validator("target_modules")
    @classmethod
    def _names(cls, targets: str | tuple[str, ...]) -> str | tuple[str, ...]:
        """Names with commas between them are a list too."""
        if targets == "all-linear":
            return targets
        names = targets.split(",") if isinstance(targets, str) else targets
        named = tuple(name.strip() for name in names if name.strip())
        if not named:
            raise ValueError("names no module: give `all-linear`, or a list as [q_proj, v_proj]")
        return named


class SchedulePart(_Part):
    """How long, how fast and in what pieces it learns."""

    epochs: int = Field(3, ge=1, description="Passes over the data.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate.")
    scheduler: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="How the learning rate falls after the warm-up."
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="Part of the steps that warm up.")
    batch_size: int = Field(8, ge=1, description="Rows a step, over all processes.")
    micro_batch_size: int | None = Field(
        None, ge=1, description="Rows at once in memory; else as the memory estimate allows."
    )
    batching: Literal["grouped", "plain", "packed"] = Field(
        "grouped",
        description="Rows of like length together; in order of chance; or several in one sequence.",
    )
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decay of the adapter's weights.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients longer than this are cut to it.")
    max_tokens: int | Literal["model"] = Field(
        1024, description="Longest row, in tokens; longer rows are refused, never cut."
    )
    learn: Literal["assistant", "last"] = Field(
        "assistant", description="Every assistant turn, or only the last."
    )
    beta: float = Field(0.1, gt=0, description="DPO: how near to the base it stays.")
    patience: int | None = Field(
        3, ge=1, description="Looks at the validation loss without a gain before it stops early."
    )
    looks_per_epoch: int = Field(2, ge=1, description="Looks at the validation loss an epoch.")
    checkpoint_every_s: float = Field(
        120, ge=0, description="Seconds between checkpoints; 0: after every step."
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Arithmetic of the run; `auto` asks the machine."
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of weights, order and dropout.")

    @field_validator("max_tokens")
    @classmethod
    def _holds_a_row(cls, limit: int | str) -> int | str:
        if isinstance(limit, int) and limit < _LEAST_ROW:
            raise ValueError(f"{limit} holds no row: give {_LEAST_ROW} or more, or `model`")
        return limit

    @model_validator(mode="after")
    def _micro_is_smaller(self) -> "SchedulePart":
        if self.micro_batch_size is not None and self.micro_batch_size > self.batch_size:
            raise ValueError(
                f"micro_batch_size: {self.micro_batch_size} is more than batch_size"
                f" {self.batch_size}; lower it"
            )
        return self


class JudgePart(_Part):
    """A model as judge, at any OpenAI endpoint; the scorer `judge` asks it."""

    url: str = Field(description="The endpoint, up to and with /v1.")
    model: str = Field(description="The model's name there.")
    key_file: Path | None = Field(None, description="A file that holds the key and nothing else.")
    items: int = Field(50, ge=1, description="How many items it judges, each in both orders.")

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"`{url}` is no URL: begin with http:// or https://")
        return url


class EvaluationPart(_Part):
    """What is measured on the held-out rows, of base, candidate and live version."""

    model_config = ConfigDict(populate_by_name=True)

    scorers: tuple[str, ...] = Field(
        ("exact_match", "token_f1"), min_length=1, description="What gives the metrics."
    )
    max_items: int | None = Field(400, ge=1, description="Held-out rows to judge at most.")
    max_tokens: int = Field(256, ge=1, description="Tokens of an answer at most.")
    schema_file: Path | None = Field(
        None, alias="schema", description="JSON Schema of `schema_compliance`."
    )
    pattern: str | None = Field(None, description="Regular expression of the scorer `regex`.")
    regression: Path | None = Field(
        None, description="Rows that must stay as good as they were; their metrics: regression.*"
    )
    general: bool = Field(True, description="Measure forgetting on texts of general ability.")
    judge: JudgePart | None = Field(None, description="A model as judge.")


class Recipe(_Part):
    """One run. Paths are relative to the recipe's folder."""

    base: str = Field("embedded", description="`embedded`, a folder or a Hub id.")
    method: Method = Field(
        "lora",
        description="LoRA; rsLoRA, scaled by alpha / sqrt(rank); QLoRA, on a base in 4 bits; DoRA,"
        " which can only be merged into the base; DPO, a LoRA learned from preferences.",
    )
    data: DataPart = Field(description="The rows.")
    adapter: AdapterPart = Field(AdapterPart(), description="The adapter's shape.")
    schedule: SchedulePart = Field(SchedulePart(), description="How it learns.")
    evaluation: EvaluationPart = Field(
        EvaluationPart(),
        description="What is measured.",
    )
    gates: tuple[str, ...] = Field(
        min_length=1,
        description="What the adapter must show to pass, decided before the run:"
        " `improves: METRIC by D [over base|live]`, `no worse: METRIC [by D] [than base|live]`,"
        " `METRIC >= X` or `METRIC <= X`.",
    )

    @field_validator("gates", mode="before")
    @classmethod
    def _as_texts(cls, gates: Any) -> Any:
        """YAML reads `improves: exact_match by 0.05` as a mapping of one key."""
        return [_gate_text(gate) for gate in gates] if isinstance(gates, list | tuple) else gates


def _gate_text(gate: Any) -> Any:
    if isinstance(gate, dict) and len(gate) == 1:
        return ": ".join(str(part) for part in next(iter(gate.items())))
    return gate
