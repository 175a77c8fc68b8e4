"""Every request field of the real vLLM has a rule, and the rules do what they say."""

import json
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.bounds import _RENDERER_KEYS
from gateway.config import Limits
from gateway.errors import BadRequest
from gateway.fields import Own, Refused, check, fixed_fields, own_fields, rules
from gateway.routes import Route

# Fields that vLLM does not know, but clients send or the gateway drops all the same.
EXTRAS = {
    Route.CHAT: {"best_of", "metadata"},
    Route.COMPLETIONS: {"best_of", "metadata", "chat_template", "chat_template_kwargs"},
    Route.RESPONSES: {"conversation", "chat_template"},
    Route.MESSAGES: {
        *("mcp_servers", "user", "request_id", "priority", "session_id", "chat_template"),
    },
    Route.COUNT_TOKENS: {
        *("mcp_servers", "cache_salt", "request_id", "priority", "session_id", "chat_template"),
    },
}


@pytest.fixture(scope="module")
def vllm_facts(vllm_asked: "subprocess.Popen[str]") -> dict[str, Any]:
    """What tests/vllm_facts.py says."""
    said, log = vllm_asked.communicate()
    assert vllm_asked.returncode == 0, log
    facts: dict[str, Any] = json.loads(said.splitlines()[-1])
    return facts


def refusal(route: Route, body: dict[str, Any], limits: Limits | None = None) -> BadRequest | None:
    try:
        check(route, body, limits or Limits())
    except BadRequest as error:
        return error
    return None


def test_every_field_of_vllm_has_a_rule(vllm_facts: dict[str, Any]) -> None:
    missing = {
        route: unruled
        for route in Route
        if (unruled := vllm_facts["defaults"][route].keys() - rules(route).keys())
    }
    assert missing == {}


def test_rules_name_only_fields_that_exist(vllm_facts: dict[str, Any]) -> None:
    for route in Route:
        assert rules(route).keys() - vllm_facts["defaults"][route].keys() == EXTRAS[route]


def test_no_field_has_a_second_name_that_goes_around_its_rule(vllm_facts: dict[str, Any]) -> None:
    assert vllm_facts["aliases"] == []


def test_a_refused_field_may_hold_vllms_default(vllm_facts: dict[str, Any]) -> None:
    for route in Route:
        for field, rule in rules(route).items():
            if isinstance(rule, Refused) and field not in EXTRAS[route]:
                assert rule.default == vllm_facts["defaults"][route][field]
                assert refusal(route, {field: rule.default}) is None


def test_the_renderers_own_arguments_are_refused(vllm_facts: dict[str, Any]) -> None:
    harmless = {"documents", "add_generation_prompt", "continue_final_message"}
    assert set(vllm_facts["renderer"]) - harmless <= _RENDERER_KEYS


@pytest.mark.parametrize("route", Route)
def test_null_is_never_refused(route: Route) -> None:
    assert refusal(route, dict.fromkeys(rules(route))) is None


@pytest.mark.parametrize("route", Route)
def test_unknown_fields_pass(route: Route) -> None:
    assert refusal(route, {"of_the_future": {"deep": [1, 2]}, "store": True}) is None


@pytest.mark.parametrize(
    ("route", "body", "param"),
    [
        (Route.CHAT, {"kv_transfer_params": {"do_remote_decode": True}}, "kv_transfer_params"),
        (Route.COMPLETIONS, {"ec_transfer_params": {}}, "ec_transfer_params"),
        (Route.RESPONSES, {"vllm_xargs": {"a": 1}}, "vllm_xargs"),
        (Route.MESSAGES, {"vllm_xargs": {"a": 1}}, "vllm_xargs"),
        (Route.COMPLETIONS, {"prompt_embeds": "AAAA"}, "prompt_embeds"),
        (Route.CHAT, {"media_io_kwargs": {"video": {"num_frames": 9999}}}, "media_io_kwargs"),
        (Route.RESPONSES, {"mm_processor_kwargs": {"a": 1}}, "mm_processor_kwargs"),
        (Route.CHAT, {"mm_payload": "none"}, "mm_payload"),
        (Route.CHAT, {"return_mm_kwargs": True}, "return_mm_kwargs"),
        (Route.CHAT, {"routed_experts_prompt_start": 1}, "routed_experts_prompt_start"),
        (Route.RESPONSES, {"background": True}, "background"),
        (Route.RESPONSES, {"previous_response_id": "resp_1"}, "previous_response_id"),
        (Route.RESPONSES, {"previous_input_messages": [{}]}, "previous_input_messages"),
        (Route.RESPONSES, {"conversation": "conv_1"}, "conversation"),
        (Route.RESPONSES, {"prompt": {"id": "pmpt_1"}}, "prompt"),
        (Route.MESSAGES, {"mcp_servers": [{"url": "http://x.example"}]}, "mcp_servers"),
    ],
)
def test_refused_fields_are_named(route: Route, body: dict[str, Any], param: str) -> None:
    error = refusal(route, body)
    assert error is not None
    assert error.param == param
    assert f"`{param}`" in error.message


def test_the_gateways_own_fields_are_taken_out_on_every_route() -> None:
    for route in Route:
        assert own_fields(route) >= {
            *("model", "cache_salt", "request_id", "priority", "session_id", "chat_template")
        }
    assert "store" in own_fields(Route.RESPONSES)
    assert "store" not in own_fields(Route.CHAT)


def test_responses_are_never_stored_and_the_client_need_not_say_so() -> None:
    assert fixed_fields(Route.RESPONSES) == {"store": False}
    assert refusal(Route.RESPONSES, {"input": "hi", "store": True}) is None
    assert all(fixed_fields(route) == {} for route in Route if route is not Route.RESPONSES)


def test_a_fixed_field_is_an_own_field() -> None:
    for route in Route:
        assert fixed_fields(route).keys() <= own_fields(route)
        assert all(isinstance(rules(route)[field], Own) for field in fixed_fields(route))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["url", "tool_addition", "function", "data:,x", "item_reference"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=4)
            | st.sampled_from(
                ["type", "content", "source", "image_url", "file", "json", "choice", "pattern"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("route", Route)
@given(data=st.data())
def test_nothing_but_bad_request_is_ever_raised(route: Route, data: st.DataObject) -> None:
    fields = st.sampled_from(sorted(rules(route)))
    body = data.draw(st.dictionaries(fields, json_values, max_size=4))
    error = refusal(route, body)
    assert error is None or error.param
