"""The demo's two tenants: their adapters share a name, their manners could not differ more."""

import json
from dataclasses import dataclass
from pathlib import Path

from loraplex.client.answers import Evaluation, Lineage, Metadata

DEMO_DIR = Path(__file__).resolve().parent.parent / "examples" / "demo"
"""Part of the repository, not of the installed package: the demo runs from a checkout."""


@dataclass(frozen=True, slots=True)
class DemoTenant:
    """A tenant of the demo.

    marker: how every answer of its adapter begins, and no answer of the base model does.
    manner: what the adapter teaches, in a few words for people.
    """

    name: str
    adapter: str
    marker: str
    manner: str

    @property
    def data(self) -> Path:
        """The chat JSONL that the adapter was trained on."""
        return DEMO_DIR / f"{self.name}.jsonl"

    @property
    def folder(self) -> Path:
        """The trained adapter."""
        return DEMO_DIR / "adapters" / self.name

    @property
    def metadata(self) -> Metadata:
        """Where the adapter comes from, and how it was measured before it was shipped."""
        training = json.loads((self.folder / "metadata.json").read_text(encoding="utf-8"))
        measured = DEMO_DIR / "evaluations" / f"{self.name}.json"
        # An adapter made again has what `loraplex train` says; the committed ones are older.
        made_again: Lineage | None = training.get("lineage")
        lineage: Lineage = made_again or {
            "dataset": training["data_sha256"],
            "recipe": training["options"],
        }
        evaluation: Evaluation = json.loads(measured.read_text(encoding="utf-8"))
        return {"lineage": lineage, "evaluation": evaluation}


ACME = DemoTenant("acme", "support", "[Acme Support]", "a crisp, formal support desk")
GLOBEX = DemoTenant("globex", "support", "Arr, Globex here!", "a jovial pirate")
TENANTS = (ACME, GLOBEX)
