"""The card of a merged model: whole, without this machine's paths, safe whatever a maker says."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters_registry.base_model import BaseModelSpec
from adapters_registry.types import BaseIdentity, Lineage
from training.merge.card import model_card, verification_figures
from training.merge.combine import CombineMethod
from training.merge.job import AdapterInput, MergeJob
from training.merge.verify import Verification

SHA = "1" * 64
BASE = BaseModelSpec(
    name="org/model",
    architecture="LlamaForCausalLM",
    model_type="llama",
    config_sha256="2" * 64,
    modules={},
    max_model_len=None,
    chat_template=None,
    revision="a" * 40,
)
VERIFICATION = Verification(
    probes=12,
    tokens=345,
    max_logit_diff=0.0612,
    mean_logit_diff=0.00123,
    greedy_agreement=0.9971,
    effect=14.2,
    effect_mean=1.5,
    effect_agreement=0.41,
    rounding=0.06,
    rounding_mean=0.0012,
    tolerance=0.125,
    passed=True,
    how="base+adapter by PEFT",
)


@dataclass(frozen=True)
class Adapter:
    """What the card is told of an adapter's files."""

    sha256: str = SHA
    lineage: Lineage = field(default_factory=Lineage)


def job(*names: str, **changes: Any) -> MergeJob:
    adapters = tuple(AdapterInput(Path("/home/me/secret"), name=name) for name in names)
    plain = MergeJob(
        base=Path("/home/me/base"),
        base_name="org/model",
        adapters=adapters,
        out=Path("/home/me/out"),
        cache_dir=Path("/home/me/cache"),
    )
    return replace(plain, **changes)


def card_of(asked: MergeJob, *adapters: Adapter, notes: tuple[str, ...] = (), **said: Any) -> str:
    said = {"dtype": "bfloat16", "verification": None, **said}
    return model_card(asked, BASE, adapters or (Adapter(),), notes=notes, **said)


def front_matter(card: str) -> Any:
    _, front, rest = card.split("---\n", 2)
    assert rest
    return yaml.safe_load(front)


def test_a_plain_merge() -> None:
    card = card_of(job("acme/support@3"))
    assert front_matter(card) == {
        "base_model": "org/model",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["lora", "merge"],
    }
    for told in (
        "# acme/support@3 merged into org/model\n",
        f"| revision | {'a' * 40} |",
        f"| digest | {SHA} |",
        "Nothing was said.",
        "| weights rounded once, to | bfloat16 |",
        "Not verified: it was merged with `--no-verify`.",
        "loraplex serve --model FOLDER",
        "| loraplex | ",
    ):
        assert told in card
    assert "| method |" not in card
    assert "## To know" not in card


def test_several_adapters_with_all_that_is_known() -> None:
    lineage = Lineage(base=BaseIdentity(quantization="bitsandbytes nf4"), dataset="set-1")
    asked = job(
        "a",
        "b",
        method=CombineMethod("dare_ties_svd", rank=8, density=0.5, seed=7),
        dtype="float16",
    )
    first, second = asked.adapters
    asked = replace(asked, adapters=(replace(first, weight=0.25), replace(second, weight=-1.0)))
    card = card_of(
        asked,
        Adapter(),
        Adapter("3" * 64, lineage.model_copy(update={"recipe": {"lr": 0.1}})),
        notes=("the embeddings were untied",),
        dtype="float16",
        verification=VERIFICATION,
    )
    for told in (
        "# a, b merged into org/model\n",
        "| weight | 0.25 |",
        "| weight | -1 |",
        "| data set | set-1 |",
        '"lr": 0.1',
        "| method | dare\\_ties\\_svd |",
        "| rank | 8 |",
        "| density | 0.5 |",
        "| sign elected by | total |",
        "| seed | 7 |",
        "- the embeddings were untied\n",
        "0.0612 from base and adapters, of which rounding alone makes 0.06; allowed: 0.125",
        "99.71% of tokens; the base alone: 41.00%",
    ):
        assert told in card


def test_the_exact_sum_is_told_as_such() -> None:
    assert "| method | cat, the exact weighted sum" in card_of(job("a", "b"), Adapter(), Adapter())


def test_no_path_of_this_machine_is_told() -> None:
    assert "/home" not in card_of(job("a"), verification=VERIFICATION)


def test_what_the_verification_cannot_say_is_told_with_it() -> None:
    found = replace(VERIFICATION, notes=("rounding hides the adapter",))
    assert "- rounding hides the adapter\n" in card_of(job("a"), verification=found)


def test_every_figure_of_a_verification_is_a_few_digits() -> None:
    figures = " ".join(verification_figures(VERIFICATION).values())
    assert max(len(number) for number in re.findall(r"[\d.]+", figures)) <= 7


@pytest.mark.parametrize(
    "word",
    [
        "<script>alert(1)</script>",
        "[click](javascript:alert(1))",
        "a | b",
        "a\n\n# heading\n\n- item",
        "a\r\n---\r\nb: c",
        "``` \n</pre>",
        "~~~~\n<b>out</b>\n~~~~",
        '"quoted": {yaml}',
        "\\|",
    ],
)
def test_a_makers_word_never_becomes_markup(word: str) -> None:
    lineage = Lineage(
        base=BaseIdentity(name=word, revision=word), dataset=word, recipe={word: word}
    )
    asked = job(word, base_name=word)
    card = card_of(asked, Adapter(lineage=lineage), notes=(word,), verification=VERIFICATION)
    assert front_matter(card)["base_model"] == word
    harmless = Lineage(base=BaseIdentity(name="w", revision="w"), dataset="w", recipe={"w": "w"})
    plain = card_of(
        job("w", base_name="w"),
        Adapter(lineage=harmless),
        notes=("w",),
        verification=VERIFICATION,
    )
    assert skeleton(card) == skeleton(plain)


def skeleton(card: str) -> list[str]:
    """What each line is: a heading, a row with so many cells, a fence, an item, text."""
    shapes = []
    for line in card.split("---\n", 2)[2].split("\n"):
        cells = len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) if line.startswith("|") else 0
        start = re.match(r"#+ |- |~~~~|\||$", line)
        shapes.append(f"{start[0] if start else 'text'} {cells}")
    return shapes
