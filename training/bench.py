"""Where a candidate is judged: an engine, and by which names it knows base, candidate and live."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.evaluation.engines import Engine, Progress, Subject

_DIGEST_CHARS = 12


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trained adapter that is about to be judged.

    metadata: what a registry is told of it, still without a verdict. run: the run's id.
    """

    base: Path
    base_name: str
    adapter: Path
    rank: int
    run: str
    metadata: Mapping[str, Any]
    progress: Progress


@dataclass(frozen=True, slots=True)
class Bench:
    """A running engine and the models that it answers for, the base first.

    described: what each is, in words, by its name.
    """

    engine: Engine
    subjects: Sequence[Subject]
    described: Mapping[str, str]


OpenBench = Callable[[Candidate], AbstractContextManager[Bench]]


@contextmanager
def offline_bench(candidate: Candidate, live: tuple[Path, str] | None = None) -> Iterator[Bench]:
    """A vLLM of our own for as long as the block runs. live: the live version's folder and label.

    Raises EvaluationError.
    """
    from training.evaluation.offline import OfflineEngine

    subjects = [Subject("base"), Subject("candidate", adapter=candidate.adapter)]
    described = {"base": candidate.base_name, "candidate": _described(candidate.adapter)}
    ranks = [candidate.rank]
    if live is not None:
        folder, label = live
        subjects.append(Subject("live", adapter=folder))
        described["live"] = label
        ranks.append(_rank(folder))
    engine = OfflineEngine(candidate.base, max_rank=max(ranks), progress=candidate.progress)
    with engine:
        yield Bench(engine, subjects, described)


def _described(adapter: Path) -> str:
    with (adapter / "adapter_model.safetensors").open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return f"this run's adapter, weights {digest[:_DIGEST_CHARS]}"


def _rank(adapter: Path) -> int:
    """The highest of a version that a registry has checked."""
    config = json.loads((adapter / "adapter_config.json").read_bytes())
    return max(map(int, [config["r"], *(config.get("rank_pattern") or {}).values()]))
