"""docs/benchmarks.md: what it takes from the newest results, and that it is theirs."""

from pathlib import Path

import pytest

from benchmarks.paging.losses import losses, number
from benchmarks.paging.page import page
from benchmarks.paging.reading import newest, read
from benchmarks.paging.sections import SECTIONS

ROOT = Path(__file__).resolve().parent.parent
RELAY = """# The relay

## What was to be shown

| claim | measured |  |
|---|---:|---:|
| plain against vllm-router | 0.53x | **not held** |
| streams | 1.21x | held |
| many | not measured | not measured |

## plain: plain answers

| loraplex over | per second | per CPU second of the proxy | p50 |
|---|---:|---:|---:|
| vllm-router | 0.53 (0.25-1.12) | 0.53 (0.26-0.74) | 1.92 (0.97-3.85) |
| litellm | 1,207.76 (1-2) | 209.21 (1-2) | 0.00 (0.00-0.01) |
| nginx | 0.97 (0.9-1.0) |  | 1.04 (1-2) |
"""
PACED = """## Many streams at a steady pace

| side | chunks/s | proxy CPU |
|---|---:|---:|
| direct | 100 |  |
| loraplex | 100 | 65% |
| vllm-router | 100 | 50% |
| litellm | 100 | 99% |
"""
ADAPTERS = """- held: no request fails
- **not held**: 16 adapters that all fit: 0.86

| adapters | choice | gateway's requests/s over plain vLLM's |
|---|---:|---:|
| 16 | uniform | 0.86x |
| 64 | uniform | 0.93x |
| 1,000 | uniform | 1.40x |
"""


def test_the_page_is_made_from_the_newest_results() -> None:
    fix = "run: .venv/bin/python scripts/benchmarks_page.py > docs/benchmarks.md"
    assert page(ROOT / "benchmarks" / "results") == (ROOT / "docs" / "benchmarks.md").read_text(), (
        fix
    )


def test_every_result_is_on_the_page() -> None:
    shown = {one.name for section in SECTIONS for one in section.results}
    files = (ROOT / "benchmarks" / "results").glob("*.md")
    assert {file.stem[len("2026-01-01-") :] for file in files} <= shown


def test_every_benchmark_is_on_the_page() -> None:
    """Those whose parts other work brings stand there before they do."""
    named = {section.command.rpartition("/")[2] for section in SECTIONS}
    assert {file.name for file in (ROOT / "benchmarks").glob("*.py")} <= named


def test_every_benchmark_can_be_run_quickly() -> None:
    """`make bench ARGS="--quick"` hands it to each."""
    files = (ROOT / "benchmarks").glob("*.py")
    assert [file.name for file in files if '"--quick"' not in file.read_text()] == []


def test_of_several_results_the_newest_is_taken(tmp_path: Path) -> None:
    for name in ("2026-01-09-soak", "2026-02-01-soak", "2026-03-01-soak-more", "soak"):
        (tmp_path / f"{name}.md").write_text(f"- held: {name}\n")
    found = newest(tmp_path, "soak")
    assert found is not None
    assert [claim.text for claim in found.claims] == ["2026-02-01-soak"]
    assert newest(tmp_path, "relay") is None


def test_claims_are_read_from_lists_and_from_tables() -> None:
    claims = [*read("relay", "", "", RELAY).claims, *read("adapters", "", "", ADAPTERS).claims]
    assert [(claim.text, claim.held) for claim in claims] == [
        ("plain against vllm-router: 0.53x", False),
        ("streams: 1.21x", True),
        ("no request fails", True),
        ("16 adapters that all fit: 0.86", False),
    ]


def test_every_loss_is_told_and_nothing_else() -> None:
    texts = {"relay": RELAY, "relay-paced-peers": PACED, "adapters": ADAPTERS}
    found = losses({name: read(name, "", "", text) for name, text in texts.items()})
    assert found == [
        "Not held (relay): plain against vllm-router: 0.53x.",
        "Not held (adapters): 16 adapters that all fit: 0.86.",
        "plain (relay), beside vllm-router: 0.53 of it per second, 0.53 of it per CPU second of"
        " the proxy, 1.92 times its p50.",
        "Steady streams (relay-paced-peers): 65 % of a core, vllm-router 50 %.",
        "64 adapters (adapters), uniform: 0.93 of plain vLLM's requests a second.",
    ]


def test_without_results_the_page_says_so(tmp_path: Path) -> None:
    text = page(tmp_path)
    assert text.count("There is no result yet.") == len(SECTIONS)
    assert "Nowhere, by the newest results." in text


def test_the_page_says_what_was_run_but_not_where(tmp_path: Path) -> None:
    text = "Command: `python benchmarks/soak.py --out /home/me/x --seed 2`, 2026.\n"
    (tmp_path / "2026-01-01-soak.md").write_text(text)
    assert "2026-01-01, `python benchmarks/soak.py --seed 2`:" in page(tmp_path)


def test_a_partial_result_is_named_one(tmp_path: Path) -> None:
    text = "**Partial: the run was ended before all was measured.**\n\n- held: all\n"
    (tmp_path / "2026-01-01-soak.md").write_text(text)
    assert "2026-01-01, ended early:" in page(tmp_path)


@pytest.mark.parametrize(
    ("cell", "value"), [("0.53x", 0.53), ("1,207.76 (1-2)", 1207.76), ("65%", 65.0), ("-0.2", -0.2)]
)
def test_numbers_of_cells(cell: str, value: float) -> None:
    assert number(cell) == value
    with pytest.raises(ValueError, match="no number"):
        number("none")
