"""`loraplex merge` and `extract` as people and programs see them."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from adapters_registry.base_model import load_spec
from adapters_registry.manifest import check_adapter
from loraplex.cache import cache_dir
from loraplex.cli import app
from loraplex.errors import UsageError
from loraplex.extract_view import by_layer, energy_of
from loraplex.merge_options import Method, byte_size, read_probes, weighted_source
from loraplex.merge_view import show_merged
from loraplex.refs import Ref
from tests.fake_engine import FakeEngine
from tests.running_gateway import ADMIN_KEY, BASE, TinyModel, running_gateway
from tests.test_merge_card import VERIFICATION
from training.merge.combine.method import METHODS
from training.merge.extract import ExtractedModule
from training.merge.job import AdapterInput, Merged


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [*os.environ]:
        if name in ("LORAPLEX_URL", "LORAPLEX_KEY", "LORAPLEX_ADMIN_KEY", "FORCE_COLOR"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LORAPLEX_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "80")


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [*map(str, words)])


# what was asked for


def test_a_weight_is_what_stands_behind_the_last_equals_sign(tmp_path: Path) -> None:
    assert weighted_source("acme/support@3=0.5").source == Ref("acme", "support", 3)
    assert weighted_source("acme/support@3=0.5").weight == 0.5
    assert weighted_source("acme/support").weight == 1.0
    (tmp_path / "lr=3").mkdir()
    whole = weighted_source(f"{tmp_path}/lr=3")
    assert (whole.source, whole.weight) == (tmp_path / "lr=3", 1.0)
    assert weighted_source(f"{tmp_path}/lr=3=-2e-1").weight == -0.2


@pytest.mark.parametrize(
    "text", ["acme/support=", "acme/support=nan", "acme/support=inf", "a/b=1x"]
)
def test_what_is_no_weight_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no weight; write a number"):
        weighted_source(text)


def test_sizes_are_read_as_people_write_them() -> None:
    texts = ["5GB", "500 MB", "2GiB", "1048576", "0.5gb"]
    assert [byte_size(text) for text in texts] == [5 * 10**9, 5 * 10**8, 2**31, 2**20, 5 * 10**8]


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "5 furlongs", "nan"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--max-shard-size"):
        byte_size(text)


def test_the_methods_offered_are_those_that_there_are() -> None:
    assert {str(one) for one in Method} == set(METHODS)


def test_probes_are_prompts_or_conversations(tmp_path: Path) -> None:
    file = tmp_path / "probes.jsonl"
    turns = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "answer"},
        {"role": "user", "content": "second"},
    ]
    file.write_text(json.dumps({"prompt": "plain"}) + "\n\n" + json.dumps({"messages": turns}))
    assert read_probes(file) == ("plain", "second")


WRONG = [
    ("--adapter ./none", "'./none' is no folder here"),
    ("--adapter FOLDER=nan", "'nan' is no weight"),
    ("--adapter FOLDER=0", "with weight 0 nothing of it is taken"),
    ("--adapter FOLDER --rank 8", "--rank: one adapter is merged as it is"),
    ("--adapter FOLDER --method ties", "--method: one adapter is merged as it is"),
    ("--adapter FOLDER --adapter FOLDER --method ties", "--density: ties needs one"),
    ("--adapter FOLDER --adapter FOLDER --method tiies", "'ties'"),
    ("--adapter FOLDER --adapter FOLDER --method svd --rank 8 --density 0.5", "--density: svd"),
    ("--adapter FOLDER --adapter FOLDER --method ties --density 1.5", "at most 1, not 1.5"),
    ("--adapter FOLDER --adapter FOLDER --seed 3", "--seed is of what the dare methods drop"),
    ("--adapter FOLDER --as-adapter --method svd", "--rank: svd needs one"),
    ("--adapter FOLDER --as-adapter --no-verify", "--no-verify is of a merged model"),
    ("--adapter FOLDER --as-adapter --max-shard-size 1GB", "--max-shard-size is of a merged"),
    ("--adapter FOLDER --no-verify --tolerance 1", "--tolerance and --probes are of the check"),
    ("--adapter FOLDER --tolerance inf", "--tolerance: write a number"),
    ("--adapter FOLDER --max-shard-size big", "'big' is no size"),
    ("--adapter FOLDER --url http://127.0.0.1:1", "--url and --key go with --adapter TENANT/"),
    ("--adapter FOLDER --dtype float8", "'float8' is not one of"),
    ("--base embedded", "Missing option '--adapter'"),
]


@pytest.mark.parametrize(("words", "told"), WRONG)
def test_wrong_usage_ends_with_2_and_says_why(words: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    given = words.replace("FOLDER", str(tmp_path / "adapter")).split()
    result = run("merge", "--base", tmp_path, "--out", tmp_path / "out", *given)
    assert result.exit_code == 2, result.output
    assert told in " ".join(result.stderr.replace("│", " ").split())
    assert result.stdout == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["merge --adapter FOLDER", "extract --tuned FOLDER --rank 4"])
def test_nothing_is_written_over(command: str, tmp_path: Path) -> None:
    words = command.replace("FOLDER", str(tmp_path)).split()
    result = run(*words, "--base", tmp_path, "--out", tmp_path)
    assert result.exit_code == 2
    assert "is there already; name a new folder" in result.stderr


def test_a_probe_that_is_none_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "probes.jsonl"
    file.write_text('{"prompt": "one"}\n{"messages": []}\n')
    words = ("--base", tmp_path, "--adapter", tmp_path, "--out", tmp_path / "out")
    result = run("merge", *words, "--probes", file)
    assert result.exit_code == 1
    assert "probes.jsonl, line 2: write" in result.stderr


# what is shown


def test_energy_is_told_layer_by_layer() -> None:
    found = by_layer(
        [
            ExtractedModule("model.embed_tokens", 4, 0.5, 1.0, 0.1),
            ExtractedModule("model.layers.0.self_attn.q_proj", 4, 1.0, 3.0, 0.1),
            ExtractedModule("model.layers.0.mlp.up_proj", 4, 0.0, 1.0, 0.1),
            ExtractedModule("model.layers.10.mlp.up_proj", 4, 0.7, 1.0, 0.1),
        ]
    )
    assert {layer: len(modules) for layer, modules in found.items()} == {
        "model.embed_tokens": 1,
        "model.layers.0": 2,
        "model.layers.10": 1,
    }
    assert energy_of(found["model.layers.0"]) == pytest.approx(0.9)


def test_what_the_verification_found_is_told_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    merged = Merged(
        folder=tmp_path,
        changed=210,
        copied=63,
        modules=210,
        size_bytes=269_060_552,
        seconds=75.0,
        dtype="bfloat16",
        tied=False,
        notes=("the embeddings were untied",),
        verification=replace(VERIFICATION, notes=("rounding hides the adapter",)),
        resumed=2,
    )
    adapters = (AdapterInput(tmp_path, 1.0, "acme/support@3"), AdapterInput(tmp_path, 0.5, "tone"))
    show_merged(merged, "org/model", adapters, as_json=False)
    shown = capsys.readouterr()
    told = " ".join(shown.out.split())
    for text in (
        "Merged acme/support@3, tone (weight 0.5) into org/model.",
        "256.6 MiB in bfloat16",
        "input and output apart",
        "1 min 15 s, 2 files were whole from the run before",
        "it answers as base and adapters do",
        "of which rounding alone makes 0.06; allowed: 0.125",
        "99.71% of tokens; the base alone: 41.00%",
    ):
        assert text in told
    assert shown.err.splitlines() == [
        "Note: the embeddings were untied",
        "Note: rounding hides the adapter",
    ]
    show_merged(merged, "org/model", adapters, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["verification"]["greedy_agreement"] == VERIFICATION.greedy_agreement
    assert found["adapters"][1] == {"name": "tone", "weight": 0.5}


# with real models


def test_a_merge_that_is_not_as_good_as_asked_leaves_nothing_and_the_next_goes_on(
    tiny_base: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    out = tmp_path / "merged"
    words = ("merge", "--base", tiny_base, "--adapter", tiny_adapter, "--out", out)
    probes = tmp_path / "probes.jsonl"
    probes.write_text('{"prompt": "Where is my parcel?"}\n')
    failed = run(*words, "--tolerance", 0, "--probes", probes)
    assert failed.exit_code == 1
    assert "does not answer as base and adapters do" in failed.stderr
    assert not out.exists()

    done = run(*words, "--no-verify", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["path"] == str(out)
    assert (found["resumed_shards"], found["verification"]) == (1, None)
    assert found["modules"] == found["tensors"]["changed"] == 14
    assert (found["dtype"], found["tied"]) == ("float32", True)
    names = {file.name for file in out.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"} <= names
    card = (out / "README.md").read_text()
    assert f"# {tiny_adapter.name} merged into {tiny_base.name}" in card
    assert str(tmp_path) not in card


def test_a_merge_is_told_in_lines_that_fit(
    tiny_base: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    out = tmp_path / "merged"
    words = ("--base", tiny_base, "--adapter", f"{tiny_adapter}=2", "--out", out, "--no-verify")
    shown = run("merge", *words, "--dtype", "bfloat16")
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert lines[0] == f"Merged {tiny_adapter.name} (weight 2) into {tiny_base.name}."
    assert lines[-2:] == [f"Folder: {out}", f"Next:   loraplex serve --model {out}"]
    told = dict(line.split(maxsplit=1) for line in lines[1:-2])
    assert told["weights"].strip().endswith("in bfloat16")
    assert told["verified"].strip() == "no (--no-verify)"
    assert max(map(len, lines[:-2])) <= 80
    assert shown.stderr.splitlines()[-1] == "merging"


def test_a_new_adapter_and_one_out_of_a_fine_tune_can_be_pushed(
    tiny_base: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    both, merged, back = (tmp_path / name for name in ("both", "merged", "back"))
    base = ("--base", tiny_base)
    adapters = ("--adapter", tiny_adapter, "--adapter", f"{tiny_adapter}=-0.5")
    shown = run("merge", *base, *adapters, "--as-adapter", "--out", both)
    assert shown.exit_code == 0, shown.output
    assert f"Next:   loraplex adapters push TENANT/ADAPTER {both}" in shown.stdout
    assert "rank 8" in shown.stdout

    assert run("merge", *base, "--adapter", both, "--out", merged, "--no-verify").exit_code == 0
    words = ("extract", *base, "--tuned", merged, "--rank", 4, "--out", back)
    found = json.loads(run(*words, "--json").stdout)
    assert found["energy"] > 0.999  # twice one adapter, so of its rank
    assert set(found["layers"]) == {"model.layers.0", "model.layers.1"}
    spec = load_spec(tiny_base, cache_dir())
    for folder in (both, back):
        check_adapter(folder, spec, 16)

    low = run("extract", *base, "--tuned", merged, "--rank", 1, "--out", tmp_path / "low")
    assert low.exit_code == 0, low.output
    assert "of the change is lost; a higher --rank holds more" in " ".join(low.stderr.split())
    assert "model.layers.1        7" in low.stdout


@pytest.fixture
def named_engine() -> Iterator[FakeEngine]:
    """A fake vLLM that serves the base under the name that gateways in tests give it."""
    engine = FakeEngine.start("--served-model-name", BASE)
    yield engine
    engine.stop()


def test_versions_out_of_the_registry_become_a_model_and_a_new_version(
    tiny_base: Path, tiny_adapter: Path, named_engine: FakeEngine, tmp_path: Path
) -> None:
    merged, both = tmp_path / "merged", tmp_path / "both"
    model = TinyModel(tiny_base, cache_dir(), load_spec(tiny_base, cache_dir()))
    with running_gateway(named_engine, tmp_path, model) as gateway:
        place = ("--url", gateway.url, "--key", ADMIN_KEY)
        pushed = json.loads(
            run("adapters", "push", "acme/support", tiny_adapter, *place, "--json").stdout
        )
        words = ("merge", "--base", tiny_base, *place, "--adapter")
        found = json.loads(
            run(*words, "acme/support@1", "--out", merged, "--no-verify", "--json").stdout
        )
        assert found["adapters"] == [{"name": "acme/support@1", "weight": 1.0}]
        assert f"| digest | {pushed['digest']} |" in (merged / "README.md").read_text()

        none_live = run(*words, "acme/support", "--out", tmp_path / "none")
        assert none_live.exit_code == 1
        assert "acme/support has no live version" in none_live.stderr

        mixed = run(*words, "acme/support@1=2", "--as-adapter", "--out", both)
        assert mixed.exit_code == 0, mixed.output
        again = run("adapters", "push", "acme/mixed", both, *place, "--json")
        assert again.exit_code == 0, again.output
        record = gateway.admin("GET", "/tenants/acme/adapters/mixed/versions/1").json()
        (made_of,) = record["lineage"]["recipe"]["combine"]["adapters"]
        assert (made_of["name"], made_of["weight"]) == ("acme/support@1", 2.0)
        assert made_of["sha256"] == pushed["digest"]
