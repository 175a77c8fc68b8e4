"""A merge decided before anything is written: every tensor's source and update, or a refusal."""

from collections.abc import Iterator, Mapping
from typing import Any

from adapters_registry.base_model import BaseModelSpec
from adapters_registry.safetensors_header import shown
from training.errors import MergeError
from training.merge.base_tensors import BaseTensors
from training.merge.changes import Change, changes, update_of
from training.merge.loaded import Loaded
from training.merge.lora import LoraSource
from training.merge.quantized import Quantized, check_full_precision, rounded_to_4_bits
from training.merge.tensors import Output, Plan, TensorInfo, Update
from training.merge.tied import Placed, place

_SHOWN = 5


def make_plan(
    tensors: Mapping[str, TensorInfo],
    spec: BaseModelSpec,
    source: LoraSource,
    *,
    config: Mapping[str, Any],
    quantized: Quantized | None = None,
    names: Mapping[str, str] | None = None,
) -> Plan:
    """How the adapter is merged into the base.

    tensors: of the base, by their names in its files. config: its `config.json`. quantized: what
    the adapter was trained on, if it was in fewer bits. names: see `names.load_names`. Reads none
    of the base's weights. Raises MergeError for what does not belong together.
    """
    check_full_precision(config)
    base = BaseTensors(spec, tensors, names or {})
    found = changes(source)
    _check_matched(found, base)
    placed = place(found, source, base)
    rows = _check_shapes(placed, base)
    starts = dict(placed.starts)
    updates = _updates(placed, base, Loaded(source))
    if quantized is not None:
        updates |= rounded_to_4_bits(quantized, base, starts, updates)
    return Plan(
        outputs=tuple(_outputs(base, starts, updates)),
        config=_settings(config, placed, rows),
        matched=tuple(dict.fromkeys(name.rpartition(".")[0] for name in placed.changes)),
        notes=tuple(_notes(placed, base, quantized)),
    )


def _check_matched(found: Mapping[str, Change], base: BaseTensors) -> None:
    missing = [name for name in found if base.at(name) is None and name not in base.tied]
    if not missing:
        return
    listed = ", ".join(map(shown, missing[:_SHOWN])) + (", ..." if missing[_SHOWN:] else "")
    there = len(found) - len(missing)
    count = (
        f"{there:,} of them are" if there > 1 else "1 of them is" if there else "none of them is"
    )
    raise MergeError(
        f"the adapter changes {len(found):,} tensors, and {count} in the base"
        f" {base.spec.name}. Missing: {listed}: it was made for another base, or another task"
    )


def _check_shapes(placed: Placed, base: BaseTensors) -> int | None:
    """Of what is carried whole. Gives back how many tokens the embeddings have, where that is
    another number than the base's. Raises MergeError."""
    for name, start in placed.starts.items():
        found = base.at(name)
        if found is None or found.shape == start.shape:
            continue
        if name not in base.embeddings or found.shape[1:] != start.shape[1:]:
            raise MergeError(
                f"{name} is {list(found.shape)} in the base and {list(start.shape)} in the adapter,"
                f" which was made for another base than {base.spec.name}"
            )
    begins = [placed.starts.get(name) or base.at(name) for name in base.embeddings]
    rows = {tensor.shape[0] for tensor in begins if tensor is not None}
    before = {found.shape[0] for name in base.embeddings if (found := base.at(name)) is not None}
    if len(rows) > 1 and len(before) == 1:
        raise MergeError(
            f"the adapter brings more or fewer tokens to {' or '.join(base.embeddings)} but not to"
            " both: save both whole (modules_to_save) after adding tokens"
        )
    return None if rows == before else rows.pop()


def _updates(placed: Placed, base: BaseTensors, loaded: Loaded) -> dict[str, Update]:
    found: dict[str, Update] = {}
    for name, change in placed.changes.items():
        update = update_of(name, change, placed.starts[name], base, loaded)
        if update is not None:
            found[name] = update
    return found


def _outputs(
    base: BaseTensors, starts: Mapping[str, TensorInfo], updates: Mapping[str, Update]
) -> Iterator[Output]:
    """All tensors in the base's order, under its names, then what it has not."""
    changed = {*starts, *updates}
    inner = {tensor.name: name for name in changed if (tensor := base.at(name)) is not None}
    for name, tensor in base.tensors.items():
        start = starts.get(inner.get(name, ""), tensor)
        yield Output(name, start, start.shape, updates.get(inner.get(name, "")))
    for name, start in starts.items():
        if base.at(name) is None:
            yield Output(name, start, start.shape, updates.get(name))


def _settings(config: Mapping[str, Any], placed: Placed, rows: int | None) -> dict[str, Any]:
    """What changes in `config.json`; models with several parts keep it in `text_config`."""
    wanted: dict[str, Any] = {}
    if placed.untied:
        wanted["tie_word_embeddings"] = False
    if rows is not None:
        wanted["vocab_size"] = rows
    text = config.get("text_config")
    if not wanted or not isinstance(text, dict):
        return wanted
    return {"text_config": {**text, **wanted}} | {
        name: value for name, value in wanted.items() if name in config or name != "vocab_size"
    }


def _notes(placed: Placed, base: BaseTensors, quantized: Quantized | None) -> Iterator[str]:
    if placed.untied:
        yield (
            f"{base.spec.embedding} and {base.spec.head} shared one weight, and the adapter changes"
            " them differently: the merged model holds both (tie_word_embeddings: false)"
        )
    if quantized is not None:
        yield (
            f"the adapter was trained on a base in 4 bits ({quantized.kind}; {quantized.why}): the"
            " base's linear weights are rounded as bitsandbytes rounds them, then merged"
        )
