"""Who merges, and by which command."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import yaml

from benchmarks.sides import peers

OURS, OURS_DOUBLE = "loraplex", "loraplex float64"
PEFT, PEFT_LOW = "peft", "peft low memory"
MERGEKIT = "mergekit"
PEFT_SIDES = (PEFT, PEFT_LOW)

# It gets this environment's torch, transformers and PEFT, so that what differs is its own doing.
_MERGEKIT = peers.Package(
    "mergekit",
    "mergekit==0.1.5",
    "mergekit-yaml",
    ("mergekit", "immutables"),
    ("immutables==0.21",),
)


@dataclass(frozen=True)
class Run:
    """The folders of one run. folder: where all that is written must lie. out: the result."""

    base: Path
    adapter: Path
    folder: Path

    @property
    def out(self) -> Path:
        return self.folder / "merged"

    @property
    def temporary(self) -> Path:
        return self.folder / "temporary"

    def environ(self) -> dict[str, str]:
        """Set for every side: nothing is looked up on a hub, nothing is kept from another run."""
        return {
            "TMPDIR": str(self.temporary),
            "LORAPLEX_CACHE_DIR": str(self.temporary / "cache"),
            "HF_HUB_OFFLINE": "1",
        }


@dataclass(frozen=True)
class Side:
    """command: for the repository's root; may write what it needs into the run's folder."""

    name: str
    meaning: str
    command: Callable[[Run], list[str]]


def _loraplex(*more: str) -> Callable[[Run], list[str]]:
    def command(run: Run) -> list[str]:
        words = [sys.executable, "-m", "loraplex", "merge", "--base", str(run.base)]
        words += ["--adapter", str(run.adapter), "--out", str(run.out), "--no-verify", *more]
        return words

    return command


def _peft(*more: str) -> Callable[[Run], list[str]]:
    def command(run: Run) -> list[str]:
        folders = [str(run.base), str(run.adapter), str(run.out)]
        return [sys.executable, "-m", "benchmarks.merging.peft_side", *folders, *more]

    return command


def _mergekit(run: Run) -> list[str]:
    config = run.temporary / "merge.yml"
    config.write_text(mergekit_config(run))
    program = str(peers.install(_MERGEKIT))
    cache = ["--lora-merge-cache", str(run.temporary / "merged-adapters")]
    return [program, str(config), str(run.out), "--lazy-unpickle", "--no-copy-tokenizer", *cache]


def mergekit_config(run: Run) -> str:
    """mergekit's YAML: nothing but the base with its adapter."""
    model = f"{run.base}+{run.adapter}"
    merge = {"merge_method": "passthrough", "models": [{"model": model}], "dtype": "bfloat16"}
    return yaml.safe_dump(merge)


SIDES = {
    side.name: side
    for side in (
        Side(OURS, "`loraplex merge --no-verify`, as it comes", _loraplex()),
        Side(OURS_DOUBLE, "the same, computed in float64", _loraplex("--compute", "float64")),
        Side(PEFT, "`merge_and_unload` and `save_pretrained`", _peft()),
        Side(PEFT_LOW, "the same, the adapter loaded with `low_cpu_mem_usage`", _peft("low")),
        Side(MERGEKIT, "`mergekit-yaml`, passthrough of `base+adapter`", _mergekit),
    )
}


def prepare(name: str) -> None:
    """Installs what the side needs. Raises PeerMissing."""
    if name == MERGEKIT:
        peers.install(_MERGEKIT)


def versions(names: list[str]) -> dict[str, str]:
    """Of what does the work."""
    packages = ("torch", "transformers", "peft", "safetensors")
    found = {package: version(package) for package in packages}
    return found | (peers.versions(_MERGEKIT) if MERGEKIT in names else {})
