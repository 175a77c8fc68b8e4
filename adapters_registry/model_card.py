"""A version's model card: what it is, where it comes from and how it was judged, in Markdown; pure.

What its maker said stands in tables and code blocks alone, so that no word of it becomes markup.
"""

import json
from collections.abc import Iterable, Mapping

from adapters_registry.types import Evaluation, Lineage, Proof, ProofState, VersionRecord

_FENCE = "~~~~"


def model_card(record: VersionRecord) -> str:
    """The card as Markdown, with the front matter that model hubs read."""
    version = record.version
    parts = [
        _front_matter(record.lineage),
        f"# {version.label}\n",
        _table(
            {
                "state": version.state,
                "digest": version.digest,
                "rank": version.rank,
                "size": f"{version.size_bytes:,} bytes",
                "made": f"{version.created_at:%Y-%m-%d %H:%M} UTC by {record.created_by}",
                **{name: _shown(value) for name, value in record.summary.items()},
            }
        ),
        _section("Warnings", "".join(f"- {_cell(each)}\n" for each in version.warnings)),
        _section("Where it comes from", _lineage(record.lineage)),
        _section("Evaluation", _evaluation(record.evaluation)),
        _section("Proof", _proof(record.proof)),
        _section("How it wants to be asked", _json(_profile(record))),
        _section("Files", _table(record.files)),
    ]
    return "\n".join(part for part in parts if part)


def _front_matter(lineage: Lineage) -> str:
    lines = ["library_name: peft", "tags: [lora]"]
    if lineage.base.name is not None:
        lines.insert(0, f"base_model: {json.dumps(lineage.base.name)}")
    return "\n".join(["---", *lines, "---", ""])


def _lineage(lineage: Lineage) -> str:
    base = lineage.base
    known = {
        "base model": base.name,
        "revision": base.revision,
        "config": base.config_sha256,
        "quantization": base.quantization,
        "RoPE scaling": base.rope_scaling and _shown(base.rope_scaling),
        "tokenizer": lineage.tokenizer_sha256,
        "chat template": lineage.chat_template_sha256,
        "data set": lineage.dataset,
        "trained from version": lineage.parent,
    }
    said = {name: value for name, value in known.items() if value is not None}
    recipe = "" if lineage.recipe is None else f"\nRecipe:\n\n{_json(lineage.recipe)}"
    return (_table(said) if said else "Nothing was said.\n") + recipe


def _evaluation(evaluation: Evaluation | None) -> str:
    if evaluation is None:
        return "None yet.\n"
    report = f"\n{_json(evaluation.report)}" if evaluation.report else ""
    return f"Verdict: **{evaluation.verdict}**\n{report}"


def _proof(proof: Proof | None) -> str:
    if proof is None:
        return "No engine has loaded it for a comparison yet.\n"
    said = "differs from the base" if proof.state is ProofState.PROVED else "answers as the base"
    reason = "" if proof.reason is None else f"Likely reason: {_cell(proof.reason)}\n\n"
    figures = {
        "mean difference of log-probabilities": f"{proof.difference:.3g} nats",
        "the base's own noise": f"{proof.noise:.3g} nats",
        "tokens compared": proof.tokens,
        "base on the engine": proof.base,
    }
    return f"**{proof.state}**: it {said}.\n\n{reason}{_table(figures)}"


def _profile(record: VersionRecord) -> dict[str, object]:
    return record.version.profile.model_dump(mode="json", exclude_defaults=True)


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}" if body else ""


def _table(fields: Mapping[str, object]) -> str:
    lines: Iterable[str] = (f"| {_cell(name)} | {_cell(value)} |" for name, value in fields.items())
    return "\n".join(["| | |", "|---|---|", *lines, ""])


def _json(value: Mapping[str, object]) -> str:
    if not value:
        return ""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return f"{_FENCE}json\n{text}\n{_FENCE}\n"


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cell(value: object) -> str:
    """One line, in which nothing ends the cell or begins markup."""
    text = " ".join(str(value).split())
    for mark in "\\`|*_~[]<>&":
        text = text.replace(mark, f"\\{mark}")
    return text
