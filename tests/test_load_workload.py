"""A workload's fields, who asks what, and the words for what is wrong."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from loadtest.workload.errors import WorkloadError
from loadtest.workload.loading import load_workload, make_workload
from loadtest.workload.options import parse_seconds, parse_stages
from loadtest.workload.part import Part
from loadtest.workload.population import Population
from loadtest.workload.schedule import schedule
from loadtest.workload.spec import Workload, expand
from loadtest.workload.trace import Arrival

STEADY: dict[str, Any] = {"kind": "poisson", "stages": [{"rate": 5, "seconds": 10}]}
HERE = Path("/here")


def made(**fields: Any) -> Workload:
    return make_workload({"arrivals": STEADY, "models": ["m"]} | fields, HERE)


# Who asks what


OWNED = [
    {"name": "support", "tenant": "acme", "weight": 6},
    {"name": "sql", "tenant": "acme", "weight": 3},
    {"name": "support", "tenant": "globex", "weight": 1},
]


def pairs(workload: Workload, count: int = 4000) -> Counter[tuple[str, str]]:
    population = Population(workload)
    return Counter(population.pick(Arrival(0)) for _ in range(count))


def test_a_model_is_asked_by_its_tenant() -> None:
    counts = pairs(made(models=OWNED, tenants=["acme", "globex"]))
    assert sorted(counts) == [("acme", "sql"), ("acme", "support"), ("globex", "support")]
    assert counts["acme", "support"] == pytest.approx(2400, abs=100)


def test_a_tenant_is_chosen_first_where_that_is_asked() -> None:
    counts = pairs(made(models=OWNED, tenants=["acme", "globex"], tenant_choice="uniform"))
    assert counts["globex", "support"] == pytest.approx(2000, abs=100)
    assert counts["acme", "support"] == pytest.approx(1333, abs=100)


def test_the_guides_workload_is_one_whose_tenants_are_chosen_by_their_weights(
    tmp_path: Path,
) -> None:
    guide = (Path(__file__).parents[1] / "docs" / "loadtest.md").read_text()
    file = tmp_path / "two-kinds.yaml"
    file.write_text(guide.partition("```yaml\n")[2].partition("```")[0])
    asked = Counter(tenant for tenant, _ in pairs(load_workload(file)).elements())
    assert 2.7 < asked["acme"] / asked["globex"] < 3.3


def test_a_shared_model_is_asked_by_every_tenant_and_without_tenants_by_nobody() -> None:
    counts = pairs(made(models=["base"], tenants=["a", "b"]))
    assert counts["a", "base"] == pytest.approx(2000, abs=100)
    assert set(pairs(made(models=["base"]), 9)) == {("", "base")}


def test_adapters_of_one_name_are_told_apart_by_their_tenants() -> None:
    planned = [*schedule(made(models=OWNED, tenants=["acme", "globex"], requests=200))]
    assert {(one.tenant, one.model, one.body["model"]) for one in planned} == {
        ("acme", "acme/support", "support"),
        ("acme", "sql", "sql"),
        ("globex", "globex/support", "support"),
    }


def test_what_a_trace_says_stands() -> None:
    population = Population(made(models=OWNED, tenants=["acme", "globex"]))
    assert population.pick(Arrival(0, 2, "globex", "support")) == ("globex", "support")
    assert population.pick(Arrival(0, 2, None, "sql")) == ("acme", "sql")
    assert population.pick(Arrival(0, 2, "globex", None)) == ("globex", "support")


@pytest.mark.parametrize(
    ("arrival", "message"),
    [
        (Arrival(0, 7, "initech"), "trace, line 7: tenant `initech` is not among the tenants; add"),
        (Arrival(0, 8, None, "gpt"), "trace, line 8: model `gpt` is not among the models; add it"),
    ],
)
def test_a_name_in_a_trace_that_nobody_has_is_told(arrival: Arrival, message: str) -> None:
    population = Population(made(models=OWNED, tenants=["acme", "globex"]))
    with pytest.raises(WorkloadError, match=message):
        population.pick(arrival)


def test_names_come_from_patterns() -> None:
    assert expand("adapter-{08..11}") == ["adapter-08", "adapter-09", "adapter-10", "adapter-11"]
    assert expand("{1..2}/{3..4}") == ["1/3", "1/4", "2/3", "2/4"]
    models = made(models=["base", {"name": "a-{1..2}", "weight": 2}]).models
    assert [(model.name, model.weight) for model in models] == [("base", 1), ("a-1", 2), ("a-2", 2)]


# Loading


@pytest.mark.parametrize("name", ["a-{3..2}", "a-{1..200000}"])
def test_a_pattern_of_no_name_or_too_many_is_told(name: str) -> None:
    with pytest.raises(ValueError, match="the range must go up, over at most 100000 names"):
        expand(name)


def test_a_workload_from_a_file_with_its_paths(tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    file.write_text(
        "arrivals: {kind: closed, stages: [{users: 4, seconds: 30}], think_s: exponential:2}\n"
        "models: ['adapter-{1..3}']\n"
        "tokenizer: model\n"
        "tenants: [{name: acme, key_file: keys/acme}, {name: globex, key_env: GLOBEX}]\n"
        "mix:\n"
        "- {share: 3, prompts: {kind: file, path: p.jsonl}, max_tokens: 'file:l.csv,column=n'}\n"
        "- {route: completions, stream: false}\n"
    )
    workload = load_workload(file, {"seed": 3})
    assert workload.seed == 3
    assert [model.name for model in workload.models] == ["adapter-1", "adapter-2", "adapter-3"]
    assert workload.tokenizer == tmp_path / "model"
    assert workload.tenants[0].key_file == tmp_path / "keys/acme"
    dumped = workload.model_dump(mode="json")
    assert dumped["mix"][0]["prompts"]["path"] == str(tmp_path / "p.jsonl")
    assert dumped["mix"][0]["max_tokens"]["path"] == str(tmp_path / "l.csv")


def test_a_workload_can_be_written_and_read_again() -> None:
    burst = {"kind": "gamma", "burstiness": "inf", "stages": [{"rate": "inf"}]}
    workload = made(arrivals=burst, requests=5, mix=[{"sessions": {"turns": 3}, "extra": {"n": 1}}])
    assert Workload.model_validate_json(workload.model_dump_json()) == workload
    assert Workload.model_validate(workload.model_dump(mode="json")) == workload


def test_no_field_is_called_as_a_kind() -> None:
    """Or the names in messages would miss a part."""
    parts = list(_all_parts(Part))
    tags = {part.model_fields["kind"].default for part in parts if "kind" in part.model_fields}
    assert "poisson" in tags
    assert not tags & {field for part in parts for field in part.model_fields}


def _all_parts(part: type[Part]) -> list[type[Part]]:
    return [one for sub in part.__subclasses__() for one in [sub, *_all_parts(sub)]]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"requestz": 3}, "requestz: no such field; did you mean requests?"),
        ({"models": []}, "models: is missing; name at least one"),
        ({"models": ["a", "a"]}, "models[1].name: stands there twice; take one out"),
        ({"models": ["a-{5..1}"]}, "models: `a-{5..1}`: the range must go up, over at most 100000"),
        (
            {"models": [{"name": "a", "tenant": "x"}]},
            "models[0].tenant: `x` is not among the tenants",
        ),
        (
            {"models": [{"name": "a", "weight": 2}], "model_choice": "zipf"},
            "model_choice: must be `weights`, because models have a weight",
        ),
        (
            {"tenants": [{"name": "t", "weight": 2}], "tenant_choice": "uniform"},
            "tenant_choice: must be `weights`, because tenants have a weight",
        ),
        ({"models": [{"name": "a", "weight": 0}]}, "models: all have weight 0; give one a weight"),
        (
            {"models": [{"name": "a", "tenant": "t"}], "tenants": ["t", "u"]},
            "tenants: `u` may ask no model; give it one, or take it out",
        ),
        ({"tenants": ["t", "t"]}, "tenants[1].name: stands there twice"),
        (
            {"tenants": [{"name": "t", "key_env": "A", "key_file": "b"}]},
            "tenants[0].key_env: stands beside key_file; keep one of them",
        ),
        ({"seed": "x"}, "seed: `x` does not fit; give a whole number"),
        (
            {"arrivals": None},
            "arrivals: `null` does not fit; give fields, `kind` among them: poisson, gamma,",
        ),
        ({"mix": [{"prefix": 5}]}, "mix[0].prefix: `5` does not fit; give fields"),
        ({"tenants": 5}, "tenants: what stands there does not fit; give a list"),
        ({"requests": 0}, "requests: `0` does not fit; it must be greater than or equal to 1"),
        ({"mix": []}, "mix: is empty; give at least one"),
        ({"mix": [{"route": "chta"}]}, "mix[0].route: `chta` does not fit; it must be 'chat' or"),
        ({"mix": [{"max_tokens": 0}]}, "mix[0].max_tokens.value: 0 does not fit; give a whole"),
        ({"mix": [{"extra": {"stream": True}}]}, "mix[0].extra.stream: the tester sets it itself"),
        (
            {"mix": [{"sessions": {"recorded": True}}]},
            "mix[0].sessions.recorded: needs prompts of kind `file`",
        ),
        (
            {"mix": [{"sessions": {"recorded": True, "turns": 3}}]},
            "mix[0].sessions.turns: the recorded conversations say how many; take it out",
        ),
        (
            {"mix": [{"prompts": {"kind": "synthetic", "tokns": 3}}]},
            "mix[0].prompts.tokns: no such field; did you mean tokens?",
        ),
        (
            {"mix": [{"max_tokens": {"value": 3}}]},
            "mix[0].max_tokens.kind: is missing; give one of",
        ),
        (
            {"arrivals": {"kind": "poison"}},
            "arrivals.kind: `poison` does not fit; give one of poisson, gamma, constant, trace,"
            " closed; did you mean poisson?",
        ),
        (
            {"arrivals": {"kind": "poisson", "stages": [{"rate": -5, "seconds": 3}]}},
            "arrivals.stages[0].rate: `-5` does not fit; it must be greater than or equal to 0",
        ),
        (
            {"arrivals": {"kind": "poisson", "stages": [{"rate": 5}]}},
            "requests: is missing, and the last stage has no `seconds`",
        ),
        (
            {"arrivals": {"kind": "poisson", "stages": [{"rate": 5}, {"rate": 5}]}},
            "arrivals.stages: stage 1 has no `seconds`; only the last may do without",
        ),
        (
            {"arrivals": {"kind": "poisson", "stages": [{"rate": 0}]}},
            "arrivals.stages[0].seconds: is missing; a rate of 0 without an end sends nothing",
        ),
        (
            {"arrivals": {"kind": "poisson", "stages": [{"rate": "inf", "seconds": 5}]}},
            "arrivals.stages[0].rate: inf takes neither `to` nor `seconds`",
        ),
        (
            {"arrivals": {"kind": "closed", "stages": [{"users": 1, "to": 5}]}},
            "arrivals.stages[0].seconds: is missing; a ramp needs it",
        ),
        (
            {"arrivals": {"kind": "trace", "path": "t.csv"}, "mix": [{"sessions": {}}]},
            "mix[0].sessions: a trace's rows are single requests; take it out",
        ),
    ],
)
def test_a_wrong_field_is_named_with_the_fix(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(WorkloadError) as caught:
        made(**fields)
    assert str(caught.value).startswith(message)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(WorkloadError) as caught:
        made(seed=-1, mix=[{"share": 0}], arrivals={"kind": "gamma", "stages": [{"rate": 1}]})
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [
        "seed",
        "arrivals.burstiness",
        "mix[0].share",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"arrivals: [", "w.yaml, line 1, column 12: is not YAML; check the indentation"),
        (b"- 1\n", "w.yaml: holds no fields; write at least `arrivals` and `models`"),
        (b"\xff", "w.yaml: is not UTF-8"),
    ],
)
def test_a_file_that_is_no_workload_is_told(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "w.yaml").write_bytes(content)
    with pytest.raises(WorkloadError) as caught:
        load_workload(tmp_path / "w.yaml")
    assert message in str(caught.value)
    with pytest.raises(WorkloadError, match="cannot be read"):
        load_workload(tmp_path / "none.yaml")


# Short forms


def test_stages_from_options() -> None:
    assert parse_stages("10", "rate", 60, "--rate") == [{"rate": 10, "seconds": 60}]
    assert parse_stages("1..50@2m, 50", "rate", None, "--rate") == [
        {"rate": 1, "to": 50, "seconds": 120},
        {"rate": 50},
    ]
    assert parse_stages("inf", "rate", 60, "--rate") == [{"rate": math.inf}]
    assert parse_stages("1,2", "users", 5, "--users") == [
        {"users": 1, "seconds": 5},
        {"users": 2, "seconds": 5},
    ]


def test_seconds_from_options() -> None:
    texts = ("90", "90s", "500ms", "1.5m", "2h")
    assert [parse_seconds(text, "--duration") for text in texts] == [90, 90, 0.5, 90, 7200]


@pytest.mark.parametrize("text", ["", "0", "-3", "5x", "nan", "inf", "5sm", "m"])
def test_a_bad_time_names_its_option(text: str) -> None:
    with pytest.raises(WorkloadError, match=r"--duration: .* is no time; give it as 90s"):
        parse_seconds(text, "--duration")


@pytest.mark.parametrize(
    ("text", "what", "message"),
    [
        ("fast", "rate", "--load: `fast` does not fit; give a number, steps as 5,10,20"),
        ("5,", "rate", "--load: `` does not fit"),
        ("-1", "rate", "--load: `-1` does not fit"),
        ("1..", "rate", r"--load: `1..` does not fit"),
        ("1.5", "users", "--load: `1.5`: users are whole numbers"),
        ("5@soon", "rate", "--load: `soon` is no time"),
    ],
)
def test_a_bad_load_names_its_option(text: str, what: str, message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        parse_stages(text, what, 60, "--load")
