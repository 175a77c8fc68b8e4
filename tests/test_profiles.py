"""A serving profile fills what a request lacks, on each route by that route's names."""

import copy
from typing import Any

import pytest

from adapters_registry.types import SamplingDefaults, ServingProfile
from gateway.errors import BadRequest
from gateway.profiles import apply_profile
from gateway.routes import Route

PROMPT = "You are a pirate."
SYSTEM = ServingProfile(system_prompt=PROMPT)
USER = {"role": "user", "content": "hi"}
SAMPLING = ServingProfile(
    sampling=SamplingDefaults(
        temperature=0.3,
        top_p=0.9,
        top_k=40,
        min_p=0.1,
        repetition_penalty=1.1,
        presence_penalty=0.2,
        frequency_penalty=0.3,
        max_tokens=50,
    )
)
PENALTIES = {"repetition_penalty": 1.1, "presence_penalty": 0.2, "frequency_penalty": 0.3}
COMMON = {"temperature": 0.3, "top_p": 0.9, "top_k": 40}


@pytest.mark.parametrize("route", Route)
def test_an_empty_profile_changes_nothing(route: Route) -> None:
    body = {"messages": [USER], "temperature": None}
    assert apply_profile(route, body, ServingProfile()) == body


@pytest.mark.parametrize("route", [route for route in Route if route is not Route.COUNT_TOKENS])
def test_the_clients_body_is_left_as_it_was(route: Route) -> None:
    body: dict[str, Any] = {"messages": [USER], "input": [USER]}
    before = copy.deepcopy(body)
    profile = ServingProfile(system_prompt=PROMPT, sampling=SAMPLING.sampling, stop=("a",))
    assert apply_profile(route, body, profile) != before
    assert body == before


@pytest.mark.parametrize(
    ("route", "body", "added"),
    [
        (
            Route.CHAT,
            {"messages": [USER]},
            {"messages": [{"role": "system", "content": PROMPT}, USER]},
        ),
        (Route.CHAT, {"messages": [{"role": "system", "content": "x"}, USER]}, {}),
        (Route.CHAT, {"messages": [USER, {"role": "developer", "content": "x"}]}, {}),
        (Route.CHAT, {"messages": "not a list"}, {}),
        (Route.COMPLETIONS, {"prompt": "hi"}, {}),
        (Route.RESPONSES, {"input": "hi"}, {"instructions": PROMPT}),
        (Route.RESPONSES, {"input": "hi", "instructions": None}, {"instructions": PROMPT}),
        (Route.RESPONSES, {"input": [USER]}, {"instructions": PROMPT}),
        (Route.RESPONSES, {"input": "hi", "instructions": "x"}, {}),
        (Route.RESPONSES, {"input": [{"role": "developer", "content": "x"}, USER]}, {}),
        (Route.MESSAGES, {"messages": [USER]}, {"system": PROMPT}),
        (Route.MESSAGES, {"messages": [USER], "system": None}, {"system": PROMPT}),
        (Route.MESSAGES, {"messages": [USER], "system": ""}, {}),
        (Route.MESSAGES, {"messages": [{"role": "system", "content": "x"}, USER]}, {}),
        (Route.COUNT_TOKENS, {"messages": [USER]}, {"system": PROMPT}),
    ],
)
def test_the_system_prompt_is_added_where_there_is_none(
    route: Route, body: dict[str, Any], added: dict[str, Any]
) -> None:
    assert apply_profile(route, body, SYSTEM) == body | added


@pytest.mark.parametrize(
    ("route", "added"),
    [
        (Route.CHAT, COMMON | PENALTIES | {"min_p": 0.1, "max_completion_tokens": 50}),
        (Route.COMPLETIONS, COMMON | PENALTIES | {"min_p": 0.1, "max_tokens": 50}),
        (Route.RESPONSES, COMMON | PENALTIES | {"min_p": 0.1, "max_output_tokens": 50}),
        (Route.MESSAGES, COMMON),
        (Route.COUNT_TOKENS, {}),
    ],
)
def test_sampling_defaults_fill_the_routes_own_fields(route: Route, added: dict[str, Any]) -> None:
    assert apply_profile(route, {}, SAMPLING) == added
    nulls = dict.fromkeys(added)
    assert apply_profile(route, nulls, SAMPLING) == added


@pytest.mark.parametrize("route", Route)
def test_the_requests_sampling_wins(route: Route) -> None:
    body = {"temperature": 0, "top_p": 1.0, "top_k": -1}
    filled = apply_profile(route, body, SAMPLING)
    assert {name: filled[name] for name in body} == body


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_either_of_chats_token_limits_counts_as_sent(field: str) -> None:
    filled = apply_profile(Route.CHAT, {field: 7}, SAMPLING)
    limits = {name: filled.get(name) for name in ("max_tokens", "max_completion_tokens")}
    assert limits == {"max_tokens": None, "max_completion_tokens": None} | {field: 7}


@pytest.mark.parametrize(
    ("route", "field"),
    [
        (Route.CHAT, "stop"),
        (Route.COMPLETIONS, "stop"),
        (Route.RESPONSES, "stop"),
        (Route.MESSAGES, "stop_sequences"),
    ],
)
def test_stop_strings_are_added_where_there_are_none(route: Route, field: str) -> None:
    profile = ServingProfile(stop=("END", "###"))
    assert apply_profile(route, {}, profile) == {field: ["END", "###"]}
    assert apply_profile(route, {field: None}, profile) == {field: ["END", "###"]}
    assert apply_profile(route, {field: ["x"]}, profile) == {field: ["x"]}
    assert apply_profile(route, {field: []}, profile) == {field: []}


def test_a_versions_template_goes_with_chat_alone() -> None:
    profile = ServingProfile(chat_template="{{ messages }}")
    assert apply_profile(Route.CHAT, {}, profile) == {"chat_template": "{{ messages }}"}
    assert apply_profile(Route.COMPLETIONS, {}, profile) == {}


@pytest.mark.parametrize("route", [Route.RESPONSES, Route.MESSAGES, Route.COUNT_TOKENS])
def test_a_versions_template_is_an_error_where_it_cannot_be_kept(route: Route) -> None:
    with pytest.raises(BadRequest) as refused:
        apply_profile(route, {}, ServingProfile(chat_template="{{ messages }}"))
    assert "/v1/chat/completions" in refused.value.message
    assert refused.value.code == "chat_template_not_supported"
