"""Requests from end to end, through the real gateway process to a fake engine."""

import asyncio
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gateway.routes import Route
from tests.fake_engine import FakeEngine
from tests.running_gateway import BASE, RunningGateway, TinyModel, running_gateway

MESSAGES = [{"role": "user", "content": "a-secret-prompt"}]
CALLS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": MESSAGES},
    "/v1/completions": {"prompt": "a-secret-prompt"},
    "/v1/responses": {"input": "a-secret-prompt"},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 100_00},
}
ROUTES = {
    "/v1/chat/completions": "chat_completions",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
}


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: TinyModel
) -> Iterator[RunningGateway]:
    fake = FakeEngine.start("--served-model-name", BASE, "--max-model-len", "100000")
    folder = tmp_path_factory.mktemp("gateway")
    try:
        with running_gateway(fake, folder, tiny_model, max_in_flight=64) as found:
            found.add_tenant("globex")
            for tenant in ("acme", "globex"):
                found.push(folder / tenant, tenant)
            yield found
    finally:
        fake.stop()


@pytest.fixture(autouse=True)
def _calm(gateway: RunningGateway) -> None:
    gateway.fake.control(
        tokens=8,
        first_token_time_s=0.0,
        token_time_s=0.0,
        hold_after_tokens=None,
        die_after_tokens=None,
        error_after_tokens=None,
        status=None,
        garbage=None,
        faulty_calls=None,
        text=None,
        forget_calls=True,
    )


def body(path: str, model: str = "support", **more: Any) -> dict[str, Any]:
    return {"model": model, **CALLS[path], **more}


def events(text: str) -> list[dict[str, Any]]:
    lines = (line for line in text.splitlines() if line.startswith("data: {"))
    return [json.loads(line[6:]) for line in lines]


def engine_name(gateway: RunningGateway, tenant: str = "acme") -> str:
    name: str = gateway.post("/v1/completions", body("/v1/completions"), tenant=tenant).json()[
        "model"
    ]
    gateway.fake.control(forget_calls=True)
    return name


def one_call(gateway: RunningGateway, path: str) -> dict[str, Any]:
    """The one call that the engine saw on the route."""
    (call,) = gateway.fake.calls(path)
    return call


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize("stream", [False, True])
def test_each_tenant_is_answered_by_its_own_version(
    gateway: RunningGateway, path: str, stream: bool
) -> None:
    for tenant, other in (("acme", "globex"), ("globex", "acme")):
        answer = gateway.post(path, body(path, stream=stream), tenant=tenant)
        assert answer.status_code == 200
        assert answer.headers["x-loraplex-version"] == f"{tenant}/support@1"
        assert f"{tenant}/support@1:" in answer.text
        assert other not in answer.text
        assert answer.headers["x-request-id"] in answer.text


@pytest.mark.parametrize("path", CALLS)
def test_the_engine_gets_the_gateways_fields_and_not_the_clients(
    gateway: RunningGateway, path: str
) -> None:
    forged: dict[str, Any] = {
        "cache_salt": "mine",
        "request_id": "mine",
        "priority": -100,
        "session_id": "mine",
        "chat_template": "{{ evil }}",
    }
    headers = {
        "x-request-id": "mine",
        "x-vllm-priority": "-100",
        "x-data-parallel-rank": "3",
        "x-forwarded-for": "10.0.0.1",
        "x-session-id": "mine",
        "cookie": "mine=1",
    }
    answer = gateway.post(path, body(path, **forged), headers=headers)
    assert answer.status_code == 200
    call = one_call(gateway, path)
    assert call["body"]["model"].startswith("acme/support@1:")
    assert set(call["headers"]) == {"host", "content-type", "content-length", "x-request-id"}
    assert call["headers"]["x-request-id"] == answer.headers["x-request-id"]
    assert "mine" not in json.dumps([call["body"], call["headers"]])
    assert "evil" not in json.dumps(call["body"])
    assert len(call["body"]["cache_salt"]) == 64


def test_the_salt_is_the_same_for_a_tenant_and_another_for_the_next(
    gateway: RunningGateway,
) -> None:
    path = "/v1/completions"
    for tenant in ("acme", "acme", "globex"):
        gateway.post(path, body(path), tenant=tenant)
    first, second, other = [call["body"]["cache_salt"] for call in gateway.fake.calls(path)]
    assert first == second != other


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_usage_is_counted_and_shown_only_to_who_asked(gateway: RunningGateway, path: str) -> None:
    def counted() -> float:
        return gateway.sample("loraplex_completion_tokens_total", route=ROUTES[path])

    before = counted()
    silent = gateway.post(path, body(path, stream=True))
    assert all("usage" not in event for event in events(silent.text))
    assert silent.text.rstrip().endswith("data: [DONE]")
    asked = gateway.post(path, body(path, stream=True, stream_options={"include_usage": True}))
    tokens = events(asked.text)[-1]["usage"]["completion_tokens"]
    assert tokens > 0
    gateway.wait_for(lambda: counted() == before + 2 * tokens)


def test_a_forgotten_adapter_is_loaded_again_before_anything_is_sent(
    gateway: RunningGateway,
) -> None:
    name = engine_name(gateway)
    gateway.fake.control(forget_adapters=True)
    answer = gateway.post("/v1/chat/completions", body("/v1/chat/completions", stream=True))
    assert answer.status_code == 200
    assert name in answer.text
    assert name in gateway.fake.state()["adapters"]


@pytest.mark.parametrize("path", CALLS)
def test_a_stream_that_breaks_ends_with_one_error_event(gateway: RunningGateway, path: str) -> None:
    def broken() -> float:
        return gateway.sample("loraplex_requests_total", route=ROUTES[path], status="502")

    before = broken()
    gateway.fake.control(die_after_tokens=3, tokens=20)
    answer = gateway.post(path, body(path, stream=True))
    assert answer.status_code == 200
    problems = [
        event for event in events(answer.text) if "error" in event or event.get("type") == "error"
    ]
    assert len(problems) == 1
    assert "incomplete" in json.dumps(problems[0])
    assert answer.text.endswith("\n\n")
    gateway.wait_for(lambda: broken() == before + 1)
    line = gateway.request_logged(answer.headers["x-request-id"])
    assert (line["outcome"], line["tokens_estimated"]) == ("broken", True)
    assert line["completion_tokens"] > 0


@pytest.mark.parametrize("path", CALLS)
def test_an_error_event_of_the_engine_stays_the_only_one(
    gateway: RunningGateway, path: str
) -> None:
    gateway.fake.control(error_after_tokens=3, tokens=20)
    answer = gateway.post(path, body(path, stream=True))
    problems = [
        event for event in events(answer.text) if "error" in event or event.get("type") == "error"
    ]
    assert len(problems) == 1
    assert "incomplete" in json.dumps(problems[0])
    assert "Internal server error" not in answer.text
    assert gateway.request_logged(answer.headers["x-request-id"])["outcome"] == "broken"


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize("fault", [{"status": 500}, {"garbage": "body"}, {"garbage": "http"}])
def test_an_engine_out_of_order_is_a_clear_5xx(
    gateway: RunningGateway, path: str, fault: dict[str, Any]
) -> None:
    gateway.fake.control(**fault)
    answer = gateway.post(path, body(path))
    assert answer.status_code in (502, 503)
    assert answer.json()["error"]["message"]


def test_an_answer_of_another_model_is_dropped(gateway: RunningGateway) -> None:
    # The fake answers as the base for a name it does not know, as a misconfigured vLLM does.
    gateway.fake.control(skip_name_validation=True, forget_adapters=True)
    try:
        for path in CALLS:
            for stream in (False, True):
                answer = gateway.post(path, body(path, stream=stream))
                assert answer.status_code == 502
                assert "another model" in answer.text
                assert f"«{BASE}»" not in answer.text
    finally:
        gateway.fake.control(skip_name_validation=False)


def test_beyond_the_cap_is_503_with_retry_after(gateway: RunningGateway) -> None:
    path = "/v1/completions"

    async def flood() -> None:
        writers = [(await opened(gateway, path, stream=True))[1] for _ in range(64)]
        gateway.fake.wait_for(lambda state: state["open"] == 64)
        answer = await asyncio.to_thread(gateway.post, path, body(path))
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["error"]["code"] == "overloaded"
        for writer in writers:
            writer.transport.abort()

    gateway.fake.control(hold_after_tokens=1)
    asyncio.run(flood())
    gateway.fake.wait_for(lambda state: state["open"] == 0)


async def opened(
    gateway: RunningGateway, path: str, *, stream: bool
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A raw connection with one request sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    asked = {"model": "support", "messages": MESSAGES}
    raw = json.dumps(body(path, stream=stream) if path in CALLS else asked).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.keys['acme']}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(raw)}\r\n\r\n"
    )
    writer.write(head.encode() + raw)
    await writer.drain()
    return reader, writer


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize("moment", ["prefilling", "decoding"])
@pytest.mark.parametrize("stream", [False, True])
def test_50_clients_that_go_away_leave_nothing_behind(
    gateway: RunningGateway, path: str, moment: str, stream: bool
) -> None:
    route = ROUTES[path]

    def cancelled() -> float:
        return gateway.sample("loraplex_requests_total", route=route, status="499")

    async def come_and_go() -> None:
        writers = [(await opened(gateway, path, stream=stream))[1] for _ in range(50)]
        gateway.fake.wait_for(lambda state: state["open"] == 50, deadline_s=20)
        for writer in writers:
            writer.transport.abort()

    before = cancelled()
    gateway.fake.control(hold_after_tokens=0 if moment == "prefilling" else 3, tokens=50)
    asyncio.run(come_and_go())
    gateway.fake.wait_for(lambda state: state["open"] == 0, deadline_s=10)
    assert {call["outcome"] for call in gateway.fake.calls(path)} == {"client_closed"}
    gateway.wait_for(lambda: cancelled() == before + 50)
    assert gateway.sample("loraplex_requests_in_flight", route=route) == 0
    assert gateway.admin("GET", "/engines").json()["data"][0]["in_flight"] == 0


def test_50_token_counts_that_nobody_waits_for_leave_nothing_behind(
    gateway: RunningGateway,
) -> None:
    path = Route.COUNT_TOKENS.path

    async def come_and_go() -> None:
        writers = [(await opened(gateway, path, stream=False))[1] for _ in range(50)]
        gateway.fake.wait_for(lambda state: state["open"] == 50, deadline_s=20)
        for writer in writers:
            writer.transport.abort()

    gateway.fake.control(headers_time_s=600.0)
    try:
        asyncio.run(come_and_go())
        gateway.fake.wait_for(lambda state: state["open"] == 0, deadline_s=10)
    finally:
        gateway.fake.control(headers_time_s=0.0)
    assert {call["outcome"] for call in gateway.fake.calls(path)} == {"client_closed"}
    gateway.wait_for(
        lambda: gateway.sample("loraplex_requests_total", route="count_tokens", status="499") == 50
    )
    assert gateway.sample("loraplex_requests_in_flight", route="count_tokens") == 0


def test_a_client_that_goes_away_in_the_queue_of_a_load_cancels_nobody_else(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    path = "/v1/completions"

    async def come_and_go() -> None:
        _, writer = await opened(gateway, path, stream=True)
        writer.transport.abort()

    version = gateway.push(tmp_path / "slow", adapter="slow")
    gateway.fake.control(hold_loads=True, forget_adapters=True)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(gateway.post, path, body(path, model=f"slow@{version}"))
        try:
            gateway.fake.wait_for(
                lambda state: any(load["ended_s"] is None for load in state["loads"])
            )
            asyncio.run(come_and_go())
        finally:
            gateway.fake.control(hold_loads=False)
        assert waiting.result().status_code == 200


def test_every_end_is_counted_once_and_logged_once(gateway: RunningGateway) -> None:
    path = "/v1/chat/completions"

    def counted() -> float:
        return gateway.sample("loraplex_requests_total", route=ROUTES[path])

    def logged() -> int:
        return sum(line["route"] == ROUTES[path] for line in gateway.requests_logged())

    gateway.wait_for(lambda: counted() == logged())
    before = counted()
    ends = [
        (gateway.post(path, body(path)), 200),
        (gateway.post(path, body(path, stream=True)), 200),
        (gateway.post(path, body(path, model="nope")), 404),
        (gateway.post(path, body(path, n=10_000)), 400),
        (gateway.post(path, {"model": "", "messages": MESSAGES}), 400),
        (gateway.call("POST", path, key="lpx_wrong", json=body(path)), 401),
        (gateway.call("POST", path, key=gateway.keys["acme"], content=b"{"), 400),
    ]
    assert [answer.status_code for answer, _ in ends] == [status for _, status in ends]
    gateway.wait_for(lambda: counted() == before + len(ends))
    gateway.wait_for(lambda: logged() == counted())
    ids = [line["request_id"] for line in gateway.requests_logged()]
    assert len(ids) == len(set(ids))
    assert {answer.headers["x-request-id"] for answer, _ in ends} <= set(ids)


def test_no_log_and_no_metric_holds_a_key_or_a_prompt(gateway: RunningGateway) -> None:
    gateway.post("/v1/chat/completions", body("/v1/chat/completions"))
    gateway.post("/v1/chat/completions", {"model": "support", "messages": "a-secret-prompt"})
    gateway.call("GET", "/v1/models/a-secret-prompt", key=gateway.keys["acme"])
    text = gateway.log_file.read_text() + gateway.metrics_text()
    assert "a-secret-prompt" not in text
    for key in gateway.keys.values():
        assert key not in text
        # Its secret may hold `_` itself.
        assert key.split("_", 2)[2] not in text


def test_a_profile_fills_what_the_request_lacks(gateway: RunningGateway, tmp_path: Path) -> None:
    profile = {"system_prompt": "Be brief.", "sampling": {"temperature": 0.25}, "stop": ["END"]}
    gateway.push(tmp_path / "brief", adapter="brief", serving_profile=profile)
    path = "/v1/chat/completions"
    gateway.post(path, body(path, model="brief"))
    gateway.post(path, body(path, model="brief", temperature=1, stop="NOW"))
    filled, kept = [call["body"] for call in gateway.fake.calls(path)]
    assert filled["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (filled["temperature"], filled["stop"]) == (0.25, ["END"])
    assert (kept["temperature"], kept["stop"]) == (1, "NOW")


def test_feedback_is_for_the_callers_own_completions(gateway: RunningGateway) -> None:
    for path in CALLS:
        completion_id = gateway.post(path, body(path)).json()["id"]
        said = {"completion_id": completion_id, "score": 1}
        assert gateway.post("/v1/feedback", said).status_code == 202
        stranger = gateway.post("/v1/feedback", said, tenant="globex")
        missing = gateway.post("/v1/feedback", {**said, "completion_id": "nope"}, tenant="globex")
        assert (stranger.status_code, stranger.json()) == (404, missing.json())
    assert gateway.sample("loraplex_feedback_total", sentiment="positive", adapter="support") == 4
    assert gateway.post("/v1/feedback", {**said, "score": 2}).status_code == 400


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_says_whether_its_adapter_had_to_be_loaded_and_how_long_it_waited(
    gateway: RunningGateway, tmp_path: Path, stream: bool
) -> None:
    """A load of the tenant's own version alone: another tenant's tells nothing."""
    adapter = f"cold-{stream}".lower()
    for tenant in ("acme", "globex"):
        gateway.push(tmp_path / tenant, tenant, adapter)
    path = "/v1/chat/completions"
    gateway.fake.control(forget_adapters=True)
    cold, warm = (gateway.post(path, body(path, adapter, stream=stream)) for _ in range(2))
    base = gateway.post(path, body(path, BASE, stream=stream))
    others = gateway.post(path, body(path, adapter, stream=stream), tenant="globex")
    told = [one.headers.get("x-loraplex-cold-start") for one in (cold, warm, base, others)]
    assert told == ["true", None, None, "true"]
    for answer in (cold, warm, base):
        waited_ms = re.fullmatch(r"queue;dur=(\d+\.\d{3})", answer.headers["server-timing"])
        line = gateway.request_logged(answer.headers["x-request-id"])
        assert waited_ms
        assert float(waited_ms[1]) / 1e3 == pytest.approx(line["queue_s"], abs=2e-6)


def test_a_load_is_within_the_wait_that_is_told(gateway: RunningGateway, tmp_path: Path) -> None:
    gateway.push(tmp_path, adapter="slow")
    gateway.fake.control(forget_adapters=True, load_time_s=0.2)
    path = "/v1/completions"
    try:
        answer = gateway.post(path, body(path, "slow"))
    finally:
        gateway.fake.control(load_time_s=0.0)
    assert float(answer.headers["server-timing"].partition("dur=")[2]) >= 200


def test_answers_are_judged(gateway: RunningGateway) -> None:
    path = "/v1/chat/completions"
    gateway.fake.control(text='{"broken": ')
    gateway.post(path, body(path, response_format={"type": "json_object"}))
    gateway.wait_for(lambda: gateway.sample("loraplex_json_answers_total", valid="false") == 1)


def test_series_of_a_deleted_version_go(gateway: RunningGateway, tmp_path: Path) -> None:
    for number in (1, 2):
        gateway.push(tmp_path / str(number), adapter="gone")
    path = "/v1/completions"
    gateway.post(path, body(path, model="gone@1"))
    assert gateway.sample("loraplex_requests_total", adapter="gone", version="1") == 1
    gateway.admin("DELETE", "/tenants/acme/adapters/gone/versions/1")
    gateway.wait_for(lambda: not gateway.sample("loraplex_requests_total", adapter="gone"))
    assert gateway.post(path, body(path, model="gone@1")).status_code == 404
    gateway.wait_for(
        lambda: "acme/gone@1" not in gateway.admin("GET", "/engines").json()["data"][0]["resident"]
    )


def test_sigterm_finishes_what_is_in_flight(tmp_path: Path, tiny_model: TinyModel) -> None:
    fake = FakeEngine.start("--served-model-name", BASE)
    try:
        with running_gateway(fake, tmp_path, tiny_model) as gateway:
            gateway.push(tmp_path / "acme")
            fake.control(hold_after_tokens=2)

            async def stop_in_mid_stream() -> bytes:
                reader, writer = await opened(gateway, "/v1/completions", stream=True)
                await reader.readuntil(b"data: {")
                gateway.process.terminate()
                gateway.wait_for(lambda: not _listens(gateway))
                fake.control(hold_after_tokens=None)
                rest = await reader.read()
                writer.close()
                return rest

            assert b"data: [DONE]" in asyncio.run(stop_in_mid_stream())
            assert gateway.stop() == 0
    finally:
        fake.stop()


def _listens(gateway: RunningGateway) -> bool:
    try:
        return gateway.ready()
    except AssertionError:
        return False


def test_a_client_that_does_not_read_is_let_go(tmp_path: Path, tiny_model: TinyModel) -> None:
    fake = FakeEngine.start("--served-model-name", BASE)
    try:
        with running_gateway(
            fake, tmp_path, tiny_model, timeouts={"client_s": 0.5}, max_in_flight=1
        ) as gateway:
            gateway.push(tmp_path / "acme")
            fake.control(text="word " * 200_000)

            async def never_read() -> None:
                _, writer = await opened(gateway, "/v1/completions", stream=True)
                fake.wait_for(lambda state: state["open"] == 1)
                gateway.wait_for(
                    lambda: gateway.sample("loraplex_requests_total", status="499") == 1
                )
                writer.transport.abort()

            asyncio.run(never_read())
            fake.control(text=None)
            assert gateway.post("/v1/completions", body("/v1/completions")).status_code == 200
    finally:
        fake.stop()
