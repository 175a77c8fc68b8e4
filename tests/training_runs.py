"""Small training runs for tests: rows, a recipe, and an engine that answers as it is told."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.described import described
from training.bench import Bench, Candidate, OpenBench
from training.data.rows import Message
from training.evaluation.engines import Answer, Likelihood, Progress, Subject
from training.pipeline import RunOptions, RunResult, run
from training.recipe.loading import load_recipe

_THINGS = (
    *("apple", "bridge", "candle", "dolphin", "engine", "forest", "guitar", "hammer", "island"),
    *("jacket", "kettle", "ladder", "magnet", "needle", "orange", "pencil", "quartz", "rocket"),
    *("saddle", "tunnel", "umbrella", "violin", "window", "yellow", "zipper", "anchor", "basket"),
)
_DEEDS = (
    *("opened", "painted", "carried", "repaired", "borrowed", "polished", "counted", "measured"),
    *("followed", "buried", "cleaned", "folded", "gathered", "hidden", "imported", "juggled"),
    *("knocked", "labelled", "mended", "noticed"),
)


def make_rows(count: int = 96) -> list[dict[str, Any]]:
    """Questions about things and deeds; the answer names them the other way round."""
    rows = []
    for i in range(count):
        thing, deed = _THINGS[i % len(_THINGS)], _DEEDS[(i + i // len(_THINGS)) % len(_DEEDS)]
        rows.append({"prompt": f"Who {deed} the {thing}?", "completion": f"{thing} {deed}"})
    return rows


def write_rows(file: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """The rows as JSONL."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def write_recipe(folder: Path, base: Path, *, name: str = "run", **changes: Any) -> Path:
    """A recipe of a few quick steps, with its data beside it. changes: parts, field by field."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "rows.jsonl"
    if not data.exists():
        write_rows(data, make_rows())
    recipe: dict[str, Any] = {
        "base": str(base),
        "data": {"train": data.name, "validation": 0.1, "test": 0.4},
        "adapter": {"rank": 4, "alpha": 8},
        "schedule": {
            "epochs": 2,
            "batch_size": 4,
            "max_tokens": 128,
            "looks_per_epoch": 1,
            "checkpoint_every_s": 0,
            "dtype": "float32",
        },
        "evaluation": {"scorers": ["exact_match"], "general": False, "max_tokens": 24},
        "gates": ["improves: exact_match by 0.5"],
    }
    for part, fields in changes.items():
        both = isinstance(fields, dict) and isinstance(recipe.get(part), dict)
        recipe[part] = {**recipe[part], **fields} if both else fields
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(recipe))
    return file


class ToldEngine:
    """Answers for each subject by a rule of the test's. asked: the subjects, in order."""

    def __init__(self, rules: dict[str, Callable[[str], str]]) -> None:
        self.asked: list[Subject] = []
        self._rules = rules

    def generate(
        self,
        subject: Subject,
        prompts: Sequence[Sequence[Message]],
        *,
        max_tokens: int,
        progress: Progress,
    ) -> list[Answer]:
        """Each prompt's last message through the subject's rule."""
        self.asked.append(subject)
        texts = [self._rules[subject.name](prompt[-1]["content"]) for prompt in prompts]
        return [Answer(text, (), (), stopped=True) for text in texts]

    def score(
        self,
        subject: Subject,
        rows: Sequence[tuple[Sequence[Message], str]],
        *,
        progress: Progress,
    ) -> list[Likelihood] | None:
        """It cannot tell."""
        return None


def right(prompt: str) -> str:
    """The reference's answer."""
    _, deed, _, thing = prompt.rstrip("?").split()
    return f"{thing} {deed}"


def wrong(prompt: str) -> str:
    """An answer that is never right."""
    return "I do not know."


def told(**rules: Callable[[str], str]) -> OpenBench:
    """A bench on an engine that answers so. Unless told, the candidate is right, the base wrong."""

    @contextmanager
    def open_bench(candidate: Candidate) -> Iterator[Bench]:
        all_rules = {"base": wrong, "candidate": right, **rules}
        subjects = [Subject(name, adapter=candidate.adapter) for name in all_rules]
        described = {name: f"the {name} of a test" for name in all_rules}
        yield Bench(ToldEngine(all_rules), subjects, described)

    return open_bench


def train(
    recipe: Path,
    folder: Path,
    cache_dir: Path,
    open_bench: OpenBench | None = None,
    changes: Sequence[str] = (),
) -> RunResult:
    """The whole run, judged on an engine that is told what to answer."""
    options = RunOptions(
        name=recipe.stem, command=f"loraplex train {recipe.name}", cache_dir=cache_dir
    )
    return run(load_recipe(recipe, changes), folder, options, open_bench=open_bench or told())


@dataclass(frozen=True)
class FinishedRun:
    """A run that passed, left alone from its start to its end, and what it was made from."""

    result: RunResult
    recipe: Path
    cache_dir: Path

    def copied(self, folder: Path, *without: str) -> Path:
        """The run's folder again, as it was before some of its files were written."""
        shutil.copytree(self.result.folder, folder)
        for name in without:
            (folder / name).unlink()
        return folder

    def judged_again(self, folder: Path, **rules: Callable[[str], str]) -> RunResult:
        """A copy of the run in `folder`, with another evaluation."""
        self.copied(folder, *JUDGED)
        return train(self.recipe, folder, self.cache_dir, told(**rules))

    def but_one(self) -> Callable[[str], str]:
        """Answers that are right for all held-out rows but one."""
        with (self.result.folder / "data" / "test.jsonl").open() as rows:
            missed = json.loads(next(rows))["messages"][0]["content"]
        return lambda prompt: wrong(prompt) if prompt == missed else right(prompt)


JUDGED = ("report.json", "report.html", "evaluation.json", "answers.jsonl")
"""What a run has only once it was judged."""


def finish_run(folder: Path, base: Path) -> FinishedRun:
    """Makes one; it could not tell a loss of one row against a live version."""
    gates = ["improves: exact_match by 0.5", "no worse: exact_match by 0.01 than live"]
    recipe = write_recipe(folder, base, gates=gates)
    cache_dir = described(folder / "cache", base)
    result = train(recipe, folder / "run.run", cache_dir)
    return FinishedRun(result, recipe, cache_dir)
