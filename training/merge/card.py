"""The model card of a merged model: what it was made of, how, and how that was verified."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Protocol

from adapters_registry.markdown import FENCE, cell, items, section, table
from adapters_registry.model_card import told_lineage

if TYPE_CHECKING:
    from adapters_registry.base_model import BaseModelSpec
    from adapters_registry.types import Lineage
    from training.merge.combine import CombineMethod
    from training.merge.job import AdapterInput, MergeJob
    from training.merge.verify import Verification

_TOOLS = ("loraplex", "torch", "transformers")


class Known(Protocol):
    """What the card tells of an adapter's files."""

    @property
    def sha256(self) -> str:
        """Of its files, as the registry counts it."""

    @property
    def lineage(self) -> "Lineage":
        """Its maker's word."""


def model_card(
    job: "MergeJob",
    base: "BaseModelSpec",
    adapters: Sequence[Known],
    *,
    dtype: str,
    notes: Sequence[str],
    verification: "Verification | None",
) -> str:
    """The README.md of the folder that `job` makes, with the front matter that model hubs read.

    adapters: in the order of the job's. dtype: of the weights. Holds no path of this machine.
    """
    names = ", ".join(one.name for one in job.adapters)
    parts = [
        _front_matter(job.base_name),
        f"# {cell(names)} merged into {cell(job.base_name)}\n",
        "LoRA adapters were added to the weights of the base model: it answers as the base does"
        " with them applied, and needs no adapter to be served.\n",
        section("Base model", _base(job.base_name, base)),
        section("Adapters", "\n".join(map(_adapter, job.adapters, adapters))),
        section("How it was merged", _how(job, dtype)),
        section("To know", items(notes)),
        section("Verification", _verification(verification)),
        section("Use", _use()),
        section("Made with", table(_versions())),
    ]
    return "\n".join(part for part in parts if part)


def verification_figures(found: "Verification") -> dict[str, str]:
    """What the verification measured, each figure by what it means."""
    return {
        "compared": f"{found.probes} prompts, {found.tokens} tokens; {found.how}",
        "largest logit difference": (
            f"{_short(found.max_logit_diff)} from base and adapters, of which rounding alone makes"
            f" {_short(found.rounding)}; allowed: {_short(found.tolerance)}"
        ),
        "mean logit difference": f"{_short(found.mean_logit_diff)}",
        "what the adapters change": (
            f"logits by up to {_short(found.effect)}, {_short(found.effect_mean)} on average"
        ),
        "same next token": (
            f"{found.greedy_agreement:.2%} of tokens; the base alone: {found.effect_agreement:.2%}"
        ),
    }


def _short(value: float) -> str:
    return f"{value:.3g}"


def _front_matter(base_name: str) -> str:
    lines = [
        f"base_model: {json.dumps(base_name)}",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "tags: [lora, merge]",
    ]
    return "\n".join(["---", *lines, "---", ""])


def _base(name: str, base: "BaseModelSpec") -> str:
    known = {
        "name": name,
        "revision": base.revision,
        "architecture": base.architecture,
        "SHA-256 of config.json": base.config_sha256,
        "SHA-256 of tokenizer.json": base.tokenizer_sha256,
    }
    return table({name: value for name, value in known.items() if value is not None})


def _adapter(asked: "AdapterInput", known: Known) -> str:
    files = table({"weight": f"{asked.weight:g}", "digest": known.sha256})
    said = f"Where it comes from, as its maker says:\n\n{told_lineage(known.lineage)}"
    return f"### {cell(asked.name)}\n\n{files}\n{said}"


def _how(job: "MergeJob", dtype: str) -> str:
    told: dict[str, object] = {}
    if len(job.adapters) > 1:
        told |= _method(job.method)
    told["update computed and added in"] = job.compute
    told["weights rounded once, to"] = dtype
    if job.base_quantization != "auto":
        told["quantization of the base in training"] = job.base_quantization
    return table(told)


def _method(method: "CombineMethod") -> dict[str, object]:
    told: dict[str, object] = {"method": method.name}
    if method.name == "cat":
        told["method"] = "cat, the exact weighted sum of their updates"
    if method.cuts_rank:
        told["rank"] = method.rank
    if method.prunes:
        told["density"] = method.density
    if "ties" in method.name:
        told["sign elected by"] = method.sign
    if method.draws:
        told["seed"] = method.seed
    return told


def _verification(found: "Verification | None") -> str:
    if found is None:
        return "Not verified: it was merged with `--no-verify`.\n"
    said = "The merged model was compared with the base that has the adapters on top of it."
    notes = items(found.notes)
    return f"{said}\n\n{table(verification_figures(found))}" + (f"\n{notes}" if notes else "")


def _use() -> str:
    return f"{FENCE}console\nloraplex serve --model FOLDER\n{FENCE}\n"


def _versions() -> Mapping[str, str]:
    found = {}
    for package in _TOOLS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
