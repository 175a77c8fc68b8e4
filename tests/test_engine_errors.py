"""The engine's refusals in the gateway's words."""

import json

from gateway.engine_errors import from_engine
from gateway.errors import GatewayError

NAME = "acme/support@1:0123456789ab"


def told(status: int, body: object) -> GatewayError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return from_engine(status, raw, engine_name=NAME, requested="support")


def test_a_bad_field_is_named_without_the_engines_prefix() -> None:
    error = told(400, {"error": {"message": "bad", "param": "body.messages", "code": 400}})
    assert (error.status, error.message, error.param) == (400, "bad", "messages")


def test_anthropics_shape_is_understood_too() -> None:
    error = told(400, {"type": "error", "error": {"type": "x", "message": "bad"}})
    assert error.message == "bad"


def test_engine_names_and_aliases_are_not_told() -> None:
    error = told(
        404, {"error": {"message": f"The model `{NAME}` does not exist. Valid aliases: a, b."}}
    )
    assert error.message == "The model `support` does not exist."


def test_a_prompt_over_the_context_has_openais_code() -> None:
    error = told(400, {"error": {"message": "This model's maximum context length is 16 tokens."}})
    assert error.code == "context_length_exceeded"


def test_the_engines_own_trouble_is_not_told_in_its_words() -> None:
    error = told(500, {"error": {"message": "/secret/path exploded"}})
    assert error.status == 502
    assert "secret" not in error.message
    assert told(503, b"busy").retry_after_s


def test_what_is_not_json_is_still_an_error() -> None:
    assert told(400, b"<html>").status == 400
