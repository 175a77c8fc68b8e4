"""A merged model served by vLLM beside its base with the adapter: the same answers?

The embedded model with the demo's adapter, merged by `loraplex merge` into bfloat16, answers the
demo's probes greedily, and so does the base with the adapter as LoRA, on another engine of the same
arithmetic. Beside both stands what rounding the weights to bfloat16 does by itself. Nothing is
timed; the exit code is 0 either way.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

ROOT = Path(__file__).resolve().parents[1]
# Run as a file, not as a module: the repository is not on the path.
sys.path.insert(0, str(ROOT))

from adapters_registry.embedded import ensure_embedded  # noqa: E402
from benchmarks.sides import machine  # noqa: E402
from training.data.rows import Message  # noqa: E402
from training.evaluation.engines import Answer, Subject  # noqa: E402
from training.evaluation.offline import OfflineEngine  # noqa: E402
from training.merge.job import AdapterInput, Merged, MergeJob  # noqa: E402
from training.merge.merge import merge  # noqa: E402

DEMO = ROOT / "examples" / "demo"
CACHE = Path(platformdirs.user_cache_dir("loraplex"))
_ADAPTED, _MERGED = Subject("base+adapter", adapter=DEMO / "adapters" / "acme"), Subject("merged")


@dataclass(frozen=True)
class Served:
    """What one engine said. log_probs: of the tokens that base+adapter answered, in nats."""

    answers: list[Answer]
    log_probs: list[list[float]]


@dataclass(frozen=True)
class Compared:
    """tokens: that base+adapter answered. agreement: part of them (0-1) before an answer's first
    other token. first_apart: that token's place in each answer that has one. differences: of
    log-probabilities of the same tokens after the same tokens, in nats.
    """

    prompts: int
    tokens: int
    same_answers: int
    agreement: float
    first_apart: list[int]
    largest_difference: float
    mean_difference: float


def main() -> int:
    """The exit code: 0 measured, 130 ended by Ctrl-C."""
    options = _arguments()
    try:
        results = _measure(options)
    except KeyboardInterrupt:
        return 130
    text = json.dumps(results, indent=1)
    print(text)
    options.out.mkdir(parents=True, exist_ok=True)
    name = f"{datetime.now(UTC):%Y-%m-%d}-merge-served"
    (options.out / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    (options.out / f"{name}.md").write_text(report(results), encoding="utf-8")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="8 prompts alone")
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--max-tokens", type=int, default=48)
    parser.add_argument("--dtype", default="float32", help="both engines' arithmetic")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    if options.quick:
        options.prompts = 8
    return options


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    lines = (DEMO / "probes.jsonl").read_text(encoding="utf-8").splitlines()
    prompts = [json.loads(line)["messages"] for line in lines[: options.prompts]]
    base = ensure_embedded(CACHE)
    with tempfile.TemporaryDirectory(prefix="loraplex-served-") as name:
        merged = _merge(base, Path(name))
        with OfflineEngine(base, dtype=options.dtype) as engine:
            adapted = _serve(engine, _ADAPTED, prompts, options.max_tokens, None)
            alone = _serve(engine, Subject("base"), prompts, options.max_tokens, adapted)
        with OfflineEngine(merged.folder, dtype=options.dtype) as engine:
            baked = _serve(engine, _MERGED, prompts, options.max_tokens, adapted)
            facts = dict(engine.facts)
    verification = merged.verification
    return {
        "at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": machine.describe(),
        "versions": machine.versions(),
        "engine": facts,
        "merged": asdict(compare(adapted, baked)),
        "base alone": asdict(compare(adapted, alone)),
        "verification": None if verification is None else asdict(verification),
    }


def _merge(base: Path, folder: Path) -> Merged:
    assert _ADAPTED.adapter is not None
    job = MergeJob(
        base=base,
        base_name="HuggingFaceTB/SmolLM2-135M-Instruct",
        adapters=(AdapterInput(_ADAPTED.adapter, name="acme"),),
        out=folder / "merged",
        cache_dir=folder / "cache",
        dtype="bfloat16",
    )
    return merge(job)


def _serve(
    engine: OfflineEngine,
    subject: Subject,
    prompts: Sequence[Sequence[Message]],
    max_tokens: int,
    judged: Served | None,
) -> Served:
    """Answers, and how likely `judged`'s answers (None: its own) are to it."""
    print(f"{subject.name}: {len(prompts)} prompts", file=sys.stderr)
    answers = engine.generate(subject, prompts, max_tokens=max_tokens)
    said = answers if judged is None else judged.answers
    sequences = [(one.prompt_ids, one.token_ids) for one in said]
    return Served(answers, engine.log_probs(subject, sequences))


def compare(adapted: Served, other: Served) -> Compared:
    """The other engine beside base+adapter."""
    apart = [
        _first_apart(ours.token_ids, theirs.token_ids)
        for ours, theirs in zip(adapted.answers, other.answers, strict=True)
    ]
    lengths = [len(one.token_ids) for one in adapted.answers]
    agreed = sum(
        length if place is None else place for length, place in zip(lengths, apart, strict=True)
    )
    differences = np.abs(np.concatenate(adapted.log_probs) - np.concatenate(other.log_probs))
    return Compared(
        prompts=len(lengths),
        tokens=sum(lengths),
        same_answers=apart.count(None),
        agreement=agreed / sum(lengths),
        first_apart=[place for place in apart if place is not None],
        largest_difference=float(differences.max()),
        mean_difference=float(differences.mean()),
    )


def _first_apart(ours: Sequence[int], theirs: Sequence[int]) -> int | None:
    """The place of the first token that differs; None where the answers are the same."""
    if tuple(ours) == tuple(theirs):
        return None
    pairs = enumerate(zip(ours, theirs, strict=False))
    return next((i for i, (one, other) in pairs if one != other), min(len(ours), len(theirs)))


def report(results: dict[str, Any]) -> str:
    """The figures to read."""
    rows = []
    for name in ("merged", "base alone"):
        found = results[name]
        rows.append(
            f"| {name} | {found['same_answers']} of {found['prompts']} | {found['agreement']:.1%}"
            f" | {found['largest_difference']:.3g} | {found['mean_difference']:.3g} |"
        )
    table, checked, host = "\n".join(rows), results["verification"], results["machine"]
    return f"""# A merged model served by vLLM, beside base and adapter

{results["at"]}, {host["processor"]}, {host["cores"]} cores, vLLM in {results["engine"]["dtype"]},
{results["merged"]["tokens"]} greedy tokens.

| beside base+adapter | same answers | tokens before the first other | largest difference | mean |
|---|---|---|---|---|
{table}

Differences are of log-probabilities (nats) of the same tokens after the same tokens. The merge's
own check, by transformers and PEFT in float32: logits at most {checked["max_logit_diff"]:.3g} off;
rounding the weights by itself makes {checked["rounding"]:.3g}, the adapter up to
{checked["effect"]:.3g}; the same next token at {checked["greedy_agreement"]:.2%} of
{checked["tokens"]} places.
"""


if __name__ == "__main__":
    sys.exit(main())
