"""The model card: whole, and safe whatever a version's maker says."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
import yaml

from adapters_registry.model_card import model_card
from adapters_registry.types import (
    BaseIdentity,
    Evaluation,
    Lineage,
    Proof,
    ProofState,
    ServingProfile,
    Verdict,
    VersionRecord,
)
from tests.snapshots_for_tests import version

SHA = "1" * 64


def _record(**changes: Any) -> VersionRecord:
    plain = VersionRecord(
        version=version(),
        created_by="key:abc",
        summary={"alpha": 8.0, "targets": ["q_proj", "v_proj"]},
        files={"adapter_config.json": SHA},
        lineage=Lineage(),
        evaluation=None,
        proof=None,
    )
    return replace(plain, **changes)


def _front_matter(card: str) -> Any:
    _, front, rest = card.split("---\n", 2)
    assert rest
    return yaml.safe_load(front)


def test_a_version_of_which_nothing_is_said() -> None:
    card = model_card(_record())
    assert _front_matter(card) == {"library_name": "peft", "tags": ["lora"]}
    assert "# acme/support@1\n" in card
    assert "Nothing was said." in card
    assert "None yet." in card
    assert "No engine has loaded it" in card
    assert "Warnings" not in card
    assert "How it wants to be asked" not in card
    assert SHA in card


def test_all_that_is_known_is_told() -> None:
    lineage = Lineage(
        base=BaseIdentity(name="org/model", revision="main", rope_scaling={"factor": 2.0}),
        dataset="sha256:abc",
        recipe={"lr": 1e-4},
        parent=3,
    )
    record = _record(
        version=replace(version(profile=ServingProfile(stop=("END",))), warnings=("partial",)),
        lineage=lineage,
        evaluation=Evaluation(verdict=Verdict.PASSED, report={"accuracy": 0.9}),
        proof=Proof(
            state=ProofState.INERT, difference=0, noise=0.01, tokens=9, base="b", reason="B is zero"
        ),
    )
    card = model_card(record)
    assert _front_matter(card)["base_model"] == "org/model"
    for told in (
        "| base model | org/model |",
        "| data set | sha256:abc |",
        "| trained from version | 3 |",
        '"lr": 0.0001',
        "Verdict: **passed**",
        '"accuracy": 0.9',
        "**inert**: it answers as the base.",
        "B is zero",
        "- partial\n",
        '"END"',
    ):
        assert told in card


HOSTILE = [
    "<script>alert(1)</script>",
    "[click](javascript:alert(1))",
    "![x](https://example.com/spy.png)",
    "a | b",
    "a\n\n# heading\n\n- item",
    "a\r\n---\r\nb",
    "`code`",
    "``` \n</pre>",
    "~~~~\n<b>out</b>\n~~~~",
    "**bold** _and_ ~~struck~~",
    "&lt;b&gt;",
    "\\",
    "\\|",
    "--- # x: y",
    '"quoted": {yaml}',
]


@pytest.mark.parametrize("word", HOSTILE)
def test_a_makers_word_never_becomes_markup(word: str) -> None:
    record = _record(
        version=replace(version(profile=ServingProfile(system_prompt=word)), warnings=(word,)),
        lineage=Lineage(
            base=BaseIdentity(
                name=word, revision=word, quantization=word, rope_scaling={word: word}
            ),
            dataset=word,
            recipe={word: [word]},
        ),
        evaluation=Evaluation(verdict=Verdict.PASSED, report={word: word}),
        proof=Proof(
            state=ProofState.INERT, difference=0, noise=0, tokens=1, base=word, reason=word
        ),
    )
    card = model_card(record)
    assert _front_matter(card)["base_model"] == word
    plain = model_card(replace(record, **_harmless(record)))
    assert _skeleton(card) == _skeleton(plain)
    for line in _outside_of_fences(card):
        # What is left once every escaped character is gone is ours alone.
        bare = re.sub(r"\\[\\`|*_~\[\]<>&]", "", line)
        assert not re.search(r"[`\[\]<>~&]", bare.replace("tags: [lora]", "")), line


def _harmless(record: VersionRecord) -> dict[str, Any]:
    """The same record with a plain word in every place."""
    lineage = Lineage(
        base=BaseIdentity(name="w", revision="w", quantization="w", rope_scaling={"w": "w"}),
        dataset="w",
        recipe={"w": ["w"]},
    )
    assert record.proof is not None
    return {
        "version": replace(
            record.version, warnings=("w",), profile=ServingProfile(system_prompt="w")
        ),
        "lineage": lineage,
        "evaluation": Evaluation(verdict=Verdict.PASSED, report={"w": "w"}),
        "proof": record.proof.model_copy(update={"base": "w", "reason": "w"}),
    }


def _outside_of_fences(card: str) -> list[str]:
    lines, inside = [], False
    for line in card.split("---\n", 2)[2].split("\n"):
        if line.startswith("~~~~"):
            inside = not inside
        elif not inside:
            lines.append(line)
    assert not inside
    return lines


def _skeleton(card: str) -> list[str]:
    """What each line is: heading, row with so many cells, fence, item, text, line of JSON."""
    shapes = []
    for line in card.split("---\n", 2)[2].split("\n"):
        cells = len(re.findall(r"(?<!\\)(?:\\\\)*\|", line))
        start = re.match(r"#+ |- |~~~~|\||$", line)
        shapes.append(f"{start[0] if start else 'text'} {cells if line.startswith('|') else 0}")
    return shapes


@pytest.mark.parametrize("word", ["# heading", "- item", "1. item", "> quote", "***", "    code"])
def test_a_proofs_reason_stays_one_paragraph(word: str) -> None:
    proof = Proof(state=ProofState.INERT, difference=0, noise=0, tokens=1, base="b", reason=word)
    (line,) = [line for line in model_card(_record(proof=proof)).split("\n") if "Likely" in line]
    assert line.startswith("Likely reason: ")


def test_what_json_holds_is_told_as_json() -> None:
    report = {"größe": "é\u2028", "list": [1, None, True]}
    card = model_card(_record(evaluation=Evaluation(verdict=Verdict.PASSED, report=report)))
    (block,) = re.findall(r"~~~~json\n(.*?)\n~~~~\n", card, flags=re.DOTALL)
    assert json.loads(block) == report
