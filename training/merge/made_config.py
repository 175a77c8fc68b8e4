"""adapter_config.json of an adapter that was made here: its modules in PEFT's own terms."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any


def made_config(
    ranks: Mapping[str, int],
    base_name: str,
    base_modules: Collection[str],
    *,
    fan_in_fan_out: bool,
) -> dict[str, Any]:
    """What PEFT, vLLM and the registry need to read it. Every module's scaling is 1.

    ranks: of the adapted modules, by path. base_modules: the paths of all that LoRA can adapt.
    """
    rank = Counter(ranks.values()).most_common(1)[0][0]
    pattern = rank_pattern(ranks, rank)
    return {
        "base_model_name_or_path": base_name,
        "bias": "none",
        "fan_in_fan_out": fan_in_fan_out,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": pattern,
        "alpha_pattern": pattern,
        "target_modules": target_modules(ranks, base_modules),
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }


def rank_pattern(ranks: Mapping[str, int], default: int) -> dict[str, int]:
    """Regular expressions that give every module its rank where it is not the default.

    By last name where all modules of that name share a rank, otherwise by the whole path.
    """
    pattern: dict[str, int] = {}
    for last, paths in _by_last_name(ranks).items():
        shared = {ranks[path] for path in paths}
        if len(shared) == 1:
            pattern[last] = shared.pop()
        else:
            pattern |= {"^" + path.replace(".", r"\."): ranks[path] for path in paths}
    return {key: rank for key, rank in pattern.items() if rank != default}


def target_modules(adapted: Collection[str], base_modules: Collection[str]) -> list[str]:
    """By last name where the adapter has all modules of that name, otherwise by the whole path."""
    found: list[str] = []
    everywhere = _by_last_name(base_modules)
    for last, paths in _by_last_name(adapted).items():
        found += [last] if set(everywhere.get(last, ())) <= set(paths) else paths
    return sorted(found)


def _by_last_name(paths: Collection[str]) -> Mapping[str, Sequence[str]]:
    found: dict[str, list[str]] = {}
    for path in paths:
        found.setdefault(path.rpartition(".")[2], []).append(path)
    return found
