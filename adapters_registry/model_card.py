"""A version's model card: what it is, where it comes from and how it was judged, in Markdown; pure.

What its maker said stands in tables and code blocks alone, so that no word of it becomes markup.
"""

import json

from adapters_registry.markdown import cell, items, json_block, section, shown, table
from adapters_registry.types import Evaluation, Lineage, Proof, ProofState, VersionRecord


def model_card(record: VersionRecord) -> str:
    """The card as Markdown, with the front matter that model hubs read."""
    version = record.version
    parts = [
        _front_matter(record.lineage),
        f"# {version.label}\n",
        table(
            {
                "state": version.state,
                "digest": version.digest,
                "rank": version.rank,
                "size": f"{version.size_bytes:,} bytes",
                "made": f"{version.created_at:%Y-%m-%d %H:%M} UTC by {record.created_by}",
                **{name: shown(value) for name, value in record.summary.items()},
            }
        ),
        section("Warnings", items(version.warnings)),
        section("Where it comes from", told_lineage(record.lineage)),
        section("Evaluation", _evaluation(record.evaluation)),
        section("Proof", _proof(record.proof)),
        section("How it wants to be asked", json_block(_profile(record))),
        section("Files", table(record.files)),
    ]
    return "\n".join(part for part in parts if part)


def _front_matter(lineage: Lineage) -> str:
    lines = ["library_name: peft", "tags: [lora]"]
    if lineage.base.name is not None:
        lines.insert(0, f"base_model: {json.dumps(lineage.base.name)}")
    return "\n".join(["---", *lines, "---", ""])


def told_lineage(lineage: Lineage) -> str:
    """What an adapter's maker says of where it comes from: a table, and the recipe behind it."""
    base = lineage.base
    known = {
        "base model": base.name,
        "revision": base.revision,
        "config": base.config_sha256,
        "quantization": base.quantization,
        "RoPE scaling": base.rope_scaling and shown(base.rope_scaling),
        "tokenizer": lineage.tokenizer_sha256,
        "chat template": lineage.chat_template_sha256,
        "data set": lineage.dataset,
        "trained from version": lineage.parent,
    }
    said = {name: value for name, value in known.items() if value is not None}
    recipe = "" if lineage.recipe is None else f"\nRecipe:\n\n{json_block(lineage.recipe)}"
    return (table(said) if said else "Nothing was said.\n") + recipe


def _evaluation(evaluation: Evaluation | None) -> str:
    if evaluation is None:
        return "None yet.\n"
    report = f"\n{json_block(evaluation.report)}" if evaluation.report else ""
    return f"Verdict: **{evaluation.verdict}**\n{report}"


def _proof(proof: Proof | None) -> str:
    if proof is None:
        return "No engine has loaded it for a comparison yet.\n"
    said = "differs from the base" if proof.state is ProofState.PROVED else "answers as the base"
    reason = "" if proof.reason is None else f"Likely reason: {cell(proof.reason)}\n\n"
    figures = {
        "mean difference of log-probabilities": f"{proof.difference:.3g} nats",
        "the base's own noise": f"{proof.noise:.3g} nats",
        "tokens compared": proof.tokens,
        "base on the engine": proof.base,
    }
    return f"**{proof.state}**: it {said}.\n\n{reason}{table(figures)}"


def _profile(record: VersionRecord) -> dict[str, object]:
    return record.version.profile.model_dump(mode="json", exclude_defaults=True)
