"""What docs/benchmarks.md shows of each benchmark: words that hold whatever was measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shown:
    """A result. headings: of its tables, a regular expression. claims: likewise, of their text."""

    name: str
    headings: str = ""
    claims: str = ""


@dataclass(frozen=True)
class Section:
    """One benchmark."""

    title: str
    command: str
    what: str
    results: tuple[Shown, ...]


_PYTHON = ".venv/bin/python benchmarks/"
_NOTHING = r"(?!)"
SECTIONS = (
    Section(
        "The relay beside its peers",
        f"{_PYTHON}relay.py",
        "Plain answers and streams through the gateway, vllm-router, LiteLLM and nginx, on a fake"
        " engine that is faster than they are.",
        (
            Shown("relay", r"^(plain|stream|one):"),
            Shown("relay-paced", "Many streams at a steady pace", "500 streams"),
            Shown("relay-paced-peers", "Many streams at a steady pace", _NOTHING),
            Shown("relay-many", "two workers", "two workers"),
        ),
    ),
    Section(
        "One to a thousand adapters",
        f"{_PYTHON}adapters.py",
        "A tenant, a key and an adapter each, behind one gateway on a real vLLM; beside it plain"
        " vLLM with all of them listed at its start.",
        (Shown("adapters"),),
    ),
    Section(
        "Cold starts",
        f"{_PYTHON}cold_start.py",
        "From a request for an adapter that is not loaded to its first token, on a real vLLM.",
        (Shown("cold-start"),),
    ),
    Section(
        "A noisy tenant",
        f"{_PYTHON}fairness.py",
        "One tenant sends twice what the engine carries; what do the others feel?",
        (Shown("fairness", "Side by side"),),
    ),
    Section(
        "Metrics of thousands of adapters",
        f"{_PYTHON}scrape.py",
        "How long a scrape takes, and what the relay feels of it.",
        (Shown("scrape"),),
    ),
    Section(
        "A soak",
        f"{_PYTHON}soak.py",
        "Requests with cancellations, resets and slow readers: what is left behind?",
        (Shown("soak", _NOTHING),),
    ),
    Section(
        "Load testers side by side",
        f"{_PYTHON}testers.py",
        "Our load tester beside others against the same engine: the same figures, and how many"
        " streamed tokens a second before the tester is what is measured.",
        (
            Shown("testers"),
            Shown("testers-20ms", "before the tester is bound", "before the tester is bound"),
        ),
    ),
    Section(
        "The load tester against known truth",
        f"{_PYTHON}truth.py",
        "Engines that freeze, and engines of known capacity: is what is reported what was?",
        (Shown("truth"),),
    ),
    Section(
        "Training",
        f"{_PYTHON}training.py",
        "Tokens a second beside TRL's `SFTTrainer`.",
        (Shown("training"),),
    ),
    Section(
        "Faults planted in training runs",
        f"{_PYTHON}planted.py",
        "Faults that are to be caught, harmless twins and good runs that are not to be; each run"
        " is in the whole report.",
        (Shown("planted", _NOTHING),),
    ),
    Section(
        "Copies and leaks in training data",
        f"{_PYTHON}dedupe.py",
        "Time, memory and what is found of what was planted.",
        (Shown("dedupe"),),
    ),
    Section(
        "Merging",
        f"{_PYTHON}merge.py",
        "`loraplex merge` beside PEFT and mergekit.",
        (Shown("merge"),),
    ),
    Section(
        "A merged model, served",
        f"{_PYTHON}merge_served.py",
        "Its answers beside those of its base with the adapter; nothing is timed.",
        (Shown("merge-served"),),
    ),
)
