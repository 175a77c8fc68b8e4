"""`loraplex eval` as people and programs see it: at a real gateway, offline, and called wrongly."""

import csv
import io
import json
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from loraplex.cli import app
from tests.live_system import LiveSystem
from training.evaluation.offline import OfflineEngine


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [*os.environ]:
        if name in ("LORAPLEX_URL", "LORAPLEX_KEY", "LORAPLEX_ADMIN_KEY", "FORCE_COLOR"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LORAPLEX_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Three held-out rows."""
    file = tmp_path / "held-out.jsonl"
    with file.open("w") as out:
        for question in ("Where is my parcel?", "Can I return it?", "Who are you?"):
            turns = [
                {"role": "user", "content": question},
                {"role": "assistant", "content": "[Acme Support] Let me look."},
            ]
            out.write(json.dumps({"messages": turns}) + "\n")
    return file


def _run(*words: object) -> Result:
    return CliRunner().invoke(app, ["eval", *map(str, words)])


def _fill(sheet: Path) -> None:
    """As a person who likes every first answer does."""
    text = sheet.read_text(encoding="utf-8-sig")
    records = list(csv.DictReader(io.StringIO(text, newline="")))
    with sheet.open("w", encoding="utf-8-sig", newline="") as out:
        writer = csv.DictWriter(out, records[0].keys())
        writer.writeheader()
        writer.writerows({**record, "better": "A"} for record in records)


@pytest.mark.vllm
def test_a_version_is_judged_at_the_gateway_and_by_people(
    live: LiveSystem, rows: Path, tmp_path: Path
) -> None:
    out, sheet, key = tmp_path / "out", tmp_path / "sheet.csv", tmp_path / "key.json"
    result = _run(
        *("--engine", "gateway", "--url", live.gateway_url, "--key", live.admin_key),
        *("--adapter", "acme/support@1", "--data", rows, "--max-tokens", 12, "--json"),
        *("--scorer", "regex", "--pattern", r"^\[Acme Support\]", "--scorer", "perplexity"),
        *("--out", out, "--blind-sheet", sheet, "--blind-key", key),
    )
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["scores"] == {"regex": 1.0}
    assert said["base"]["scores"] == {"regex": 0.0}
    assert (said["n"], said["subject"]) == (3, "candidate")
    assert said["subjects"] == {"base": live.base, "candidate": "acme/support@1"}
    assert said["metrics"][0]["against"]["base"]["difference"] == 1.0
    assert any("perplexity was not measured" in note for note in said["notes"])
    answers = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    assert [one["id"] for one in answers] == ["1", "2", "3"]
    assert answers[0]["answers"]["candidate"].startswith("[Acme Support]")
    keys = live.admin("GET", "/tenants/acme/keys")["data"]
    assert not any(one["name"] == "loraplex eval" for one in keys)

    _fill(sheet)
    blind = _run("--blind-results", sheet, "--blind-key", key, "--json")
    assert blind.exit_code == 0, blind.output
    found = json.loads(blind.stdout)
    wins = list(json.loads(key.read_text())["candidate_is"].values()).count("A")
    assert found["criteria"]["better"]["wins"] == wins
    assert found["candidate"] == "acme/support@1"
    assert "WIN RATE" in _run("--blind-results", sheet, "--blind-key", key).stdout


@pytest.mark.vllm
def test_a_key_that_may_only_ask_is_asked_with(live: LiveSystem, rows: Path) -> None:
    result = _run(
        *("--engine", "gateway", "--url", live.gateway_url, "--key", live.keys["globex"]),
        *("--adapter", "globex/support", "--no-base", "--data", rows, "--max-items", 1),
        *("--max-tokens", 4, "--json"),
    )
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert (said["n"], list(said["subjects"])) == (1, ["candidate"])


@pytest.mark.vllm
def test_a_version_that_does_not_fit_the_base_is_refused_before_the_engine(
    live: LiveSystem, rows: Path, tiny_base: Path
) -> None:
    result = _run(
        *("--base", tiny_base, "--adapter", "acme/support@1", "--data", rows),
        *("--url", live.gateway_url, "--key", live.admin_key),
    )
    assert result.exit_code == 1
    assert "adapter_model.safetensors" in result.stderr
    assert "starting vLLM" not in result.stderr


def test_the_base_is_judged_offline(
    offline_engine: OfflineEngine, rows: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []

    def shared(base: Path, **options: Any) -> nullcontext[OfflineEngine]:
        started.append((base, options["max_rank"]))
        return nullcontext(offline_engine)

    # The suite starts one engine, and this is not about its start.
    monkeypatch.setattr("training.evaluation.offline.OfflineEngine", shared)
    result = _run(
        *("--base", tiny_base, "--data", rows, "--max-tokens", 8, "--general"),
        *("--scorer", "exact_match", "--scorer", "perplexity", "--regression", rows),
    )
    assert result.exit_code == 0, result.output
    assert started == [(tiny_base, 1)]
    lines = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line.strip()}
    assert lines["exact_match"][1] == "0.000"
    assert float(lines["perplexity"][1]) > 100  # of 258 tokens, by a model that learned nothing
    assert float(lines["general.loss"][1]) > 4
    assert {"regression.exact_match", "general.instructions"} <= lines.keys()
    assert "forgetting" not in lines
    assert "base did not end 3 of 3 answers" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--data: which rows?"),
        (("--data", "ROWS", "--scorer", "exact_mach"), "did you mean exact_match?"),
        (("--data", "ROWS", "--scorer", "regex"), "--pattern: the scorer regex needs it"),
        (("--data", "ROWS", "--judge-url", "http://x/v1"), "--judge-url and --judge-model"),
        (("--data", "ROWS", "--scorer", "judge"), "--judge-url and --judge-model"),
        (("--data", "ROWS", "--adapter", "./none"), "'./none' is no folder here"),
        (("--data", "ROWS", "--live", "acme/support@1"), "--live is what --adapter"),
        (("--data", "ROWS", "--blind-sheet", "s.csv"), "--blind-key: name the file"),
        (("--data", "ROWS", "--out", "FOLDER"), "--out: "),
        (("--data", "ROWS", "--blind-sheet", "s", "--blind-key", "k"), "needs two models"),
        (("--data", "ROWS", "--engine", "gateway"), "needs a key"),
    ],
)
def test_what_was_called_wrongly_is_told_at_once(
    words: tuple[str, ...], message: str, rows: Path, tmp_path: Path
) -> None:
    places = {"ROWS": str(rows), "FOLDER": str(tmp_path)}
    result = _run(*(places.get(word, word) for word in words))
    assert result.exit_code == 2, result.output
    assert message in result.stderr


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    result = _run("--data", tmp_path / "none.jsonl")
    assert result.exit_code == 1
    assert "none.jsonl" in result.stderr
