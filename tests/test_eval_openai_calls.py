"""Many answers of an OpenAI endpoint: in order, bounded, tried again, refused with the reason."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response

from tests.chat_server import chat_server, completion, refusal
from training.errors import EvaluationError
from training.evaluation.endpoint import EndpointEngine
from training.evaluation.engines import Subject
from training.evaluation.openai_calls import Completion, Endpoint, complete, complete_each

Body = dict[str, Any]


def _prompts(number: int) -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": str(i)}] for i in range(number)]


def _echo(body: Body) -> str:
    return f"{body['model']}: {body['messages'][-1]['content']}"


def _ask(endpoint: Endpoint, number: int = 1) -> list[Completion]:
    return complete(endpoint, "m", _prompts(number), max_tokens=7, on_done=lambda _: None)


def test_answers_come_in_the_order_of_the_prompts_and_are_counted() -> None:
    counted: list[int] = []
    with chat_server(_echo) as server:
        endpoint = Endpoint(server.url + "/", "key-1")
        found = complete(endpoint, "m", _prompts(9), max_tokens=7, on_done=counted.append)
    assert [one.text for one in found] == [f"m: {i}" for i in range(9)]
    assert counted == list(range(1, 10))
    assert set(server.keys) == {"Bearer key-1"}
    assert all(body["temperature"] == 0 and body["max_tokens"] == 7 for body in server.bodies)


def test_no_more_are_asked_at_once_than_allowed() -> None:
    meeting = threading.Barrier(2, timeout=10)

    def reply(body: Body) -> str:
        meeting.wait()  # passes only two by two
        return _echo(body)

    with chat_server(reply) as server:
        _ask(Endpoint(server.url, concurrency=2), 6)
    assert server.most_at_once == 2


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_endpoint_is_asked_again_when_it_says_so(status: int) -> None:
    answers = iter([refusal(status, "busy", retry_after="0"), completion("now")])
    with chat_server(lambda _: next(answers)) as server:
        assert _ask(Endpoint(server.url))[0].text == "now"
    assert len(server.bodies) == 2


def test_retry_after_may_be_a_date() -> None:
    then = format_datetime(datetime.now(UTC) - timedelta(seconds=5), usegmt=True)
    answers = iter([refusal(503, "busy", retry_after=then), completion("now")])
    with chat_server(lambda _: next(answers)) as server:
        assert _ask(Endpoint(server.url))[0].text == "now"


def test_what_stays_busy_is_an_error_that_says_so() -> None:
    busy = lambda _: refusal(503, "no engine is ready", retry_after="0")  # noqa: E731
    with (
        chat_server(busy) as server,
        pytest.raises(EvaluationError, match=r"503: no engine is ready \(6 tries\)"),
    ):
        _ask(Endpoint(server.url))
    assert len(server.bodies) == 6


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (refusal(401, "no such key"), "401: no such key; give a key that may ask there"),
        (refusal(404, "no model m"), "404: no model m; does it serve 'm'"),
        (refusal(400, "max_tokens is too large"), "400: max_tokens is too large"),
        (Response("<html>gone</html>", 410), "410: <html>gone</html>"),
        (JSONResponse({"hello": 1}), "answers no chat completion; is the URL right"),
        (JSONResponse([1]), "answers no chat completion"),
    ],
)
def test_what_is_refused_is_refused_at_once_and_in_words(answer: Response, message: str) -> None:
    with chat_server(lambda _: answer) as server:
        with pytest.raises(EvaluationError) as refused:
            _ask(Endpoint(server.url, "key-1"))
        assert message in refused.value.message
        assert "key-1" not in refused.value.message
    assert len(server.bodies) == 1


def test_each_failure_can_be_had_in_its_place() -> None:
    def reply(body: Body) -> str | Response:
        return refusal(400, "no") if body["messages"][0]["content"] == "1" else "yes"

    with chat_server(reply) as server:
        found = complete_each(
            Endpoint(server.url), "m", _prompts(3), max_tokens=1, on_done=lambda _: None
        )
    assert [isinstance(one, EvaluationError) for one in found] == [False, True, False]


@pytest.fixture
def cut_off() -> Iterator[str]:
    with chat_server(lambda _: completion("half an ans", "length")) as server:
        yield server.url


def test_an_endpoint_is_an_engine_that_tells_no_tokens_and_no_likelihoods(cut_off: str) -> None:
    seen: list[tuple[str, float | None]] = []
    subject = Subject("candidate", model="support@3")
    with EndpointEngine(cut_off) as engine:
        (answer,) = engine.generate(
            subject, _prompts(1), max_tokens=3, progress=lambda *said: seen.append(said)
        )
        assert engine.score(subject, [(_prompts(1)[0], "x")]) is None
    assert (answer.text, answer.stopped, answer.token_ids) == ("half an ans", False, ())
    assert seen == [("answers of candidate", 1.0)]


def test_a_subject_without_a_model_name_is_refused(cut_off: str) -> None:
    with pytest.raises(EvaluationError, match="candidate: no model name"):
        EndpointEngine(cut_off).generate(Subject("candidate"), _prompts(1), max_tokens=3)
