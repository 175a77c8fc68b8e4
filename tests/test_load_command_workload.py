"""The short forms of the load test's options: which workload they make, alone and over a file."""

from pathlib import Path
from typing import Any

import pytest

from loadtest.command.arrivals import arrivals_of
from loadtest.command.building import fields_of, needs_models, workload_of
from loadtest.command.errors import Usage
from loadtest.command.load_options import AskOptions, Kind, LoadOptions, Unit, WhoOptions
from loadtest.workload.spec import Workload


def made(
    load: LoadOptions | None = None,
    who: WhoOptions | None = None,
    ask: AskOptions | None = None,
) -> Workload:
    load = load or LoadOptions()
    return workload_of(
        fields_of(load, who or WhoOptions(model=["base"]), ask or AskOptions()), load
    )


@pytest.mark.parametrize(
    ("load", "stages"),
    [
        (LoadOptions(), [{"rate": 1, "seconds": 60}]),
        (LoadOptions(requests=9), [{"rate": 1}]),
        (LoadOptions(rate="5,10", duration="30s"), [{"rate": 5, "seconds": 30},
                                                    {"rate": 10, "seconds": 30}]),
        (LoadOptions(rate="1..50@2m,50"), [{"rate": 1, "to": 50, "seconds": 120},
                                           {"rate": 50, "seconds": 60}]),
        (LoadOptions(rate="inf", requests=9), [{"rate": float("inf")}]),
    ],
)  # fmt: skip
def test_an_open_loop(load: LoadOptions, stages: list[dict[str, Any]]) -> None:
    assert arrivals_of(load, None) == {"kind": "poisson", "stages": stages}


def test_bursts_are_gamma() -> None:
    found = arrivals_of(LoadOptions(rate="2", duration="1m", burstiness=0.5), None)
    stages = [{"rate": 2, "seconds": 60}]
    assert found == {"kind": "gamma", "burstiness": 0.5, "stages": stages}


def test_users_who_think() -> None:
    found = arrivals_of(LoadOptions(users="8", think="500ms", requests=20), None)
    think = {"kind": "fixed", "value": 0.5}
    assert found == {"kind": "closed", "stages": [{"users": 8}], "think_s": think}


def test_a_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    load = LoadOptions(trace=Path("t.csv"), speed=2, trace_unit=Unit.MS, duration="5s")
    path = str(tmp_path / "t.csv")
    found = {"kind": "trace", "path": path, "speed": 2, "unit": "ms", "seconds": 5}
    assert arrivals_of(load, None) == found


FILE = {"kind": "gamma", "burstiness": 2, "stages": [{"rate": 3, "seconds": 10}]}


@pytest.mark.parametrize(
    ("load", "changed"),
    [
        (LoadOptions(), FILE),
        (LoadOptions(duration="20"), FILE | {"stages": [{"rate": 3, "seconds": 20}]}),
        (LoadOptions(rate="7"), FILE | {"stages": [{"rate": 7, "seconds": 60}]}),
        (LoadOptions(burstiness=0.5), FILE | {"burstiness": 0.5}),
        (LoadOptions(arrivals=Kind.CONSTANT), {"kind": "constant", "stages": FILE["stages"]}),
        (LoadOptions(users="2"), {"kind": "closed", "stages": [{"users": 2, "seconds": 60}]}),
    ],
)
def test_options_change_a_files_arrivals(load: LoadOptions, changed: dict[str, Any]) -> None:
    assert arrivals_of(load, FILE) == changed


def test_several_stages_of_a_file_keep_their_times() -> None:
    stages = {"kind": "constant", "stages": [{"rate": 3, "seconds": 10}, {"rate": 5}]}
    with pytest.raises(Usage, match="--duration: the workload's stages have their own times"):
        arrivals_of(LoadOptions(duration="20"), stages)


def test_what_requests_hold() -> None:
    ask = AskOptions(
        prompt_tokens="lognormal:mean=512,sd=300", max_tokens="uniform:5,9", prefix="200x8/tenant",
        turns="3", ignore_eos=True, extra='{"temperature": 0}', stream=False,
    )  # fmt: skip
    (kind,) = made(LoadOptions(think="2s"), ask=ask).model_dump(exclude_unset=True)["mix"]
    assert kind == {
        "prompts": {"kind": "synthetic", "tokens": {"kind": "lognormal", "mean": 512, "sd": 300}},
        "max_tokens": {"kind": "uniform", "low": 5, "high": 9},
        "prefix": {"tokens": 200, "groups": 8, "per": "tenant"},
        "sessions": {"turns": {"kind": "fixed", "value": 3}, "think_s": {"kind": "fixed",
                                                                         "value": 2}},
        "extra": {"temperature": 0, "ignore_eos": True},
        "stream": False,
    }  # fmt: skip


def test_a_law_of_a_file_is_found_from_where_the_command_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep").mkdir()
    file = tmp_path / "deep" / "w.yaml"
    file.write_text("models: [base]\n")
    monkeypatch.chdir(tmp_path)
    ask = AskOptions(max_tokens="file:lengths.csv,column=out")
    workload = made(LoadOptions(workload=file), WhoOptions(), ask)
    assert workload.mix[0].max_tokens.path == tmp_path / "lengths.csv"  # type: ignore[union-attr]


def test_real_prompts(tmp_path: Path) -> None:
    ask = AskOptions(prompts=f"{tmp_path}/p.jsonl,column=q,order=random", turns="recorded")
    kind = made(ask=ask).mix[0]
    assert kind.prompts.model_dump() == {
        "kind": "file",
        "path": tmp_path / "p.jsonl",
        "column": "q",
        "order": "random",
    }
    assert kind.sessions is not None
    assert kind.sessions.recorded


def test_models_of_tenants(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("acme=1\nglobex=2\n")
    who = WhoOptions(model=["acme=support-{1..2}", "globex=a", "x=y"], keys_file=keys)
    workload = made(who=who)
    assert [tenant.name for tenant in workload.tenants] == ["acme", "globex"]
    assert [(one.tenant, one.name) for one in workload.models] == [
        ("acme", "support-1"),
        ("acme", "support-2"),
        ("globex", "a"),
        (None, "x=y"),
    ]


def test_a_trace_may_name_the_models(tmp_path: Path) -> None:
    ask, who = AskOptions(), WhoOptions()
    assert needs_models(fields_of(LoadOptions(), who, ask))
    assert not needs_models(fields_of(LoadOptions(trace=tmp_path / "t.csv"), who, ask))
