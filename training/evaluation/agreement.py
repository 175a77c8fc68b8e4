"""Whether served and trained agree: the trainer's model beside the serving engine's."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adapters_registry.child import run_child
from adapters_registry.errors import ModelError
from training.data.rows import Message
from training.errors import EvaluationError
from training.evaluation.engines import Answer, Progress, Subject
from training.evaluation.offline import OfflineEngine, unseen
from training.evaluation.results import Agreement


@dataclass(frozen=True, slots=True)
class Reference:
    """What the trainer's model says of one of the engine's answers.

    prompt_ids: the prompt as the trainer's tokenizer and template give it. greedy: the likeliest
    token at each place of the engine's answer. log_probs: of the engine's tokens.
    """

    prompt_ids: list[int]
    greedy: list[int]
    log_probs: list[float]


def compare(
    base: Path,
    adapter: Path,
    engine: OfflineEngine,
    prompts: Sequence[Sequence[Message]],
    *,
    max_tokens: int = 32,
    progress: Progress = unseen,
) -> Agreement:
    """Hugging Face (base and adapter by PEFT, float32) beside the engine, on the engine's answers.

    The Hugging Face model runs in a process of its own, so its memory comes back.
    Raises EvaluationError.
    """
    if not prompts:
        raise EvaluationError("no prompts to compare trainer and engine on")
    subject = Subject("candidate", adapter=adapter)
    answers = engine.generate(subject, prompts, max_tokens=max_tokens, progress=progress)
    sequences = [(one.prompt_ids, one.token_ids) for one in answers]
    served = engine.log_probs(subject, sequences, progress=progress)
    trained = _ask_trainer(base, adapter, prompts, answers, progress)
    dtype = engine.facts.get("dtype", "its own arithmetic")
    return judge(answers, served, trained, note=f"engine in {dtype}, trainer's model in float32")


def judge(
    answers: Sequence[Answer],
    served: Sequence[Sequence[float]],
    trained: Sequence[Reference],
    *,
    note: str,
) -> Agreement:
    """The figures, from what both said; pure. served: the engine's log-probabilities."""
    same_prompts = [
        list(answer.prompt_ids) == other.prompt_ids
        for answer, other in zip(answers, trained, strict=True)
    ]
    agreed = [
        _agreeing(answer.token_ids, other.greedy)
        for answer, other in zip(answers, trained, strict=True)
    ]
    tokens = sum(len(answer.token_ids) for answer in answers)
    differences = np.abs(
        [
            ours - theirs
            for engine, other in zip(served, trained, strict=True)
            for ours, theirs in zip(engine, other.log_probs, strict=True)
        ]
    )
    notes = [note]
    if wrong := same_prompts.count(False):
        notes.append(f"{wrong} of {len(answers)} prompts have other tokens in the engine")
    return Agreement(
        prompts=len(answers),
        same_tokens=all(same_prompts),
        greedy_agreement=sum(agreed) / tokens if tokens else 1.0,
        largest_difference=float(differences.max()) if tokens else 0.0,
        mean_difference=float(differences.mean()) if tokens else 0.0,
        notes=tuple(notes),
    )


def _agreeing(tokens: Sequence[int], greedy: Sequence[int]) -> int:
    """How many are the same, up to the first that differs."""
    pairs = enumerate(zip(tokens, greedy, strict=True))
    return next((i for i, (ours, theirs) in pairs if ours != theirs), len(tokens))


def _ask_trainer(
    base: Path,
    adapter: Path,
    prompts: Sequence[Sequence[Message]],
    answers: Sequence[Answer],
    progress: Progress,
) -> list[Reference]:
    """The trainer's model over the engine's own tokens, in a child process."""
    rows = [
        {"prompt": list(prompt), "tokens": answer.token_ids}
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    with tempfile.TemporaryDirectory(prefix="loraplex-agreement-") as name:
        folder = Path(name)
        (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
        words = [str(base.resolve()), str(adapter.resolve()), name]
        try:
            run_child("training.evaluation.trainers_model", words, progress)
        except ModelError as error:
            raise EvaluationError(f"the trainer's model: {error.message}") from error
        found = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    return [Reference(**one) for one in found]
