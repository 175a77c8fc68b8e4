"""How `loraplex extract` looks: what the adapter holds of each layer, what it lacks, what next."""

import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from loraplex.merge_view import next_steps
from loraplex.output import print_fields, print_json, print_line, print_table, size, warn
from loraplex.stages import duration

if TYPE_CHECKING:  # the training module is loaded only by the command that needs it
    from training.merge.extract import Extracted, ExtractedModule, LeftOut

_LAYER = re.compile(r".*?\.\d+(?=\.)")
_LOW = 0.9
"""Energy below which a higher rank is worth a thought."""


def show(found: "Extracted", *, as_json: bool) -> None:
    """The result for a person, or as one JSON document."""
    if as_json:
        print_json(_fields(found))
        return
    print_table(
        ["LAYER", "MODULES", "ENERGY", "LEAST", "IN"],
        [_row(layer, modules) for layer, modules in by_layer(found.modules).items()],
        empty="",
        right="MODULES ENERGY LEAST",
    )
    print_line("")
    adapter = found.adapter
    print_fields(
        [
            ("energy", f"{_share(found.energy)} of the change is in the adapter"),
            ("modules", f"{len(found.modules)} changed, {found.unchanged} as in the base"),
            ("adapter", f"rank {adapter.rank}, {size(adapter.size_bytes)}"),
            ("time", duration(found.seconds)),
        ]
    )
    for one in found.left_out:
        warn(f"left out: {left_out(one)}")
    if found.energy < _LOW:
        warn(f"{_share(1 - found.energy)} of the change is lost; a higher --rank holds more")
    next_steps(adapter.folder, adapter.rank)


def by_layer(modules: "Sequence[ExtractedModule]") -> "dict[str, list[ExtractedModule]]":
    """The modules of each layer, as `model.layers.0`; one outside of layers is by itself."""
    found: dict[str, list[ExtractedModule]] = {}
    for module in modules:
        layer = _LAYER.match(module.path)
        found.setdefault(layer[0] if layer else module.path, []).append(module)
    return found


def energy_of(modules: "Sequence[ExtractedModule]") -> float:
    """The part of their changes that the adapter holds, in squares."""
    total = math.fsum(one.change**2 for one in modules)
    return math.fsum(one.energy * one.change**2 for one in modules) / total


def _row(layer: str, modules: "Sequence[ExtractedModule]") -> tuple[object, ...]:
    least = min(modules, key=lambda one: one.energy)
    inside = least.path.removeprefix(layer).removeprefix(".") or "itself"
    return layer, len(modules), _share(energy_of(modules)), _share(least.energy), inside


def left_out(one: "LeftOut") -> str:
    """A change that the adapter does not have, in words."""
    by = "" if one.largest is None else f", by up to {one.largest:.2g}"
    return f"{one.name} ({one.reason}{by})"


def _share(part: float) -> str:
    return f"{part:.1%}"


def _fields(found: "Extracted") -> dict[str, Any]:
    layers = by_layer(found.modules)
    return {
        "path": str(found.adapter.folder),
        "rank": found.adapter.rank,
        "size_bytes": found.adapter.size_bytes,
        "energy": found.energy,
        "layers": {layer: energy_of(modules) for layer, modules in layers.items()},
        "modules": [asdict(one) for one in found.modules],
        "unchanged": found.unchanged,
        "left_out": [asdict(one) for one in found.left_out],
        "chat_template": found.template,
        "seconds": round(found.seconds, 3),
    }
