"""The check of a merged model: it answers as base and adapter do, or the merge is wrong."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from adapters_registry.child import Report, run_child, silent
from adapters_registry.errors import ModelError
from training.errors import MergeError
from training.merge.verification.child import MEASURED, REQUEST
from training.merge.verification.judgement import Measured, Verification, judge
from training.merge.verification.measure import Request

__all__ = ["Verification", "verify"]


def verify(
    base: Path,
    adapter: Path,
    merged: Path,
    *,
    quantization: str | None = None,
    weight: float = 1.0,
    tolerance: float | None = None,
    probes: Sequence[str] | None = None,
    progress: Report = silent,
) -> Verification:
    """Runs base, base+adapter (transformers and PEFT) and the merged model, and compares logits.

    quantization: `nf4` or `fp4` where the adapter lies on the base in 4 bits. weight: the adapter's
    effect is multiplied by it. tolerance: of the largest logit difference; None derives it from
    what rounding the weights does. probes: prompts; None takes a dozen of this repository's.

    A merge that does not hold is told in the answer. Raises MergeError where a model cannot be run.
    """
    request = asdict(Request(base, adapter, merged, quantization, weight, probes))
    with tempfile.TemporaryDirectory(prefix="loraplex-verify-") as name:
        folder = Path(name)
        (folder / REQUEST).write_text(json.dumps(request, default=_as_json), encoding="utf-8")
        try:
            run_child("training.merge.verification.child", [name], progress)
        except ModelError as error:
            raise MergeError(f"the merged model cannot be verified: {error.message}") from error
        found = json.loads((folder / MEASURED).read_text(encoding="utf-8"))
    return judge(Measured.from_json(found), tolerance)


def _as_json(value: object) -> str:
    """Folders from wherever the child starts."""
    assert isinstance(value, Path)
    return str(value.resolve())
