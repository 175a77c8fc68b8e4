"""A fake vLLM 0.32 over real HTTP: `python -m loadtest.fake_vllm --port 8000`.

It answers at once, without a model, in vLLM's own shapes, and every answer starts with a mark
made of the name that was asked (`«acme/support@1:0123456789ab»`), so that a test sees who spoke.
`GET /_fake/state` tells what it saw, `POST /_fake/control` makes it slow, frozen or faulty
(fields: `loadtest.fake.state.Behaviour`).

With `--fast` chat and text completions are answered from pre-rendered bytes, and all running
streams are stepped together: for load, where the ordinary fake would be what is measured. Such
calls leave no record; `totals` in the state counts them, and batch limits do not hold for them.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator

import uvloop

from loadtest.fake.answers import Answer, Json, Shape, dump, error_body, model_card
from loadtest.fake.book import Book
from loadtest.fake.completions import Chat, Completion
from loadtest.fake.fast import Fast
from loadtest.fake.http import Exchange, Server, listen
from loadtest.fake.messages import Messages
from loadtest.fake.requests import (
    INPUT,
    JSON,
    Refused,
    as_anthropic,
    check,
    json_object,
    make_answer,
    parsed_or_none,
    prompt_tokens,
    require_fields,
)
from loadtest.fake.responses import Responses
from loadtest.fake.state import Batch, Behaviour, Call, Engine, Totals

EVENTS = "text/event-stream; charset=utf-8"
BROKEN = "Internal server error"

SHAPES: dict[str, Callable[[Answer], Shape]] = {
    "/v1/chat/completions": Chat,
    "/v1/completions": Completion,
    "/v1/responses": Responses,
    "/v1/messages": Messages,
}
POSTS = {*INPUT, "/v1/load_lora_adapter", "/v1/unload_lora_adapter"}
GETS = {"/health", "/version", "/metrics", "/v1/models"}


class FakeVllm:
    """The routes of a vLLM server over one Engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.server: Server | None = None
        self._loads: set[asyncio.Task[tuple[int, str | Json]]] = set()

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request and keep a record of it."""
        if exchange.path.startswith("/_fake/"):
            self._fake(exchange)
            return
        call = self.engine.open_call(
            exchange.method, exchange.path, dict(exchange.headers), parsed_or_none(exchange.body)
        )
        try:
            await self.engine.until(lambda: not self.engine.behaviour.frozen)
            await self._route(exchange, call)
            call.outcome = "dropped" if exchange.dropped else "answered"
        except asyncio.CancelledError:
            call.outcome = "client_closed"
            raise
        finally:
            call.ended_s = time.monotonic()
            call.status = exchange.status

    async def _route(self, exchange: Exchange, call: Call) -> None:
        allowed = {"POST": POSTS, "GET": GETS}.get(exchange.method, set())
        try:
            if exchange.path not in POSTS | GETS:
                raise Refused(404, {"detail": "Not Found"})
            if exchange.path not in allowed:
                raise Refused(405, {"detail": "Method Not Allowed"})
            if exchange.method == "GET":
                await self._get(exchange)
            else:
                await self._post(exchange, call)
        except Refused as refusal:
            exchange.answer(refusal.status, dump(refusal.body), JSON)

    def read(self, exchange: Exchange) -> Answer:
        """What is to be answered to a generating request as things are now; raises Refused."""
        body = json_object(exchange)
        require_fields(exchange.path, body)
        name = self._model(body)
        check(exchange.path, body, self.engine.max_model_len)
        return make_answer(exchange, body, name, self.engine.behaviour, base=self.engine.base)

    async def _get(self, exchange: Exchange) -> None:
        engine = self.engine
        if exchange.path == "/health":
            await engine.until(lambda: engine.behaviour.health != "silent")
            exchange.answer(200 if engine.behaviour.health == "ok" else 503, b"")
        elif exchange.path == "/version":
            exchange.answer(200, dump({"version": "0.32.0"}), JSON)
        elif exchange.path == "/metrics":
            kind = "text/plain; version=1.0.0; charset=utf-8"
            exchange.answer(200, _metrics(engine).encode(), kind)
        else:
            cards = [model_card(engine.base, engine.base, None, engine.max_model_len)]
            cards += [model_card(n, p, engine.base, None) for n, p in engine.adapters.items()]
            exchange.answer(200, dump({"object": "list", "data": cards}), JSON)

    async def _post(self, exchange: Exchange, call: Call) -> None:
        body = json_object(exchange)
        require_fields(exchange.path, body)
        if exchange.path == "/v1/load_lora_adapter":
            # As in vLLM, a load goes on when its client has left.
            task = asyncio.create_task(self.engine.load(body["lora_name"], body["lora_path"]))
            self._loads.add(task)
            task.add_done_callback(self._loads.discard)
            _answer_text(exchange, *await asyncio.shield(task))
        elif exchange.path == "/v1/unload_lora_adapter":
            _answer_text(exchange, *self.engine.unload(body["lora_name"]))
        else:
            await self._infer(exchange, call, body)

    async def _infer(self, exchange: Exchange, call: Call, body: Json) -> None:
        behaviour = self.engine.take_behaviour()
        await asyncio.sleep(behaviour.headers_time_s)
        if _fail_at_once(exchange, behaviour):
            return
        try:
            name = self._model(body)
            check(exchange.path, body, self.engine.max_model_len)
        except Refused as refusal:
            raise (as_anthropic(refusal) if "/messages" in exchange.path else refusal) from None
        if exchange.path not in SHAPES:
            _answer_count(exchange, prompt_tokens(body, "messages"))
            return
        answer = make_answer(exchange, body, name, behaviour, base=self.engine.base)
        adapter = name if name in self.engine.adapters else None
        async with self.engine.batch.seat(adapter):
            shape = SHAPES[exchange.path](answer)
            if body.get("stream"):
                await self._stream(exchange, call, shape, answer, behaviour)
            else:
                await self._answer(exchange, call, shape, answer, behaviour)

    def _model(self, body: Json) -> str:
        """The name that answers; base where none is named or names are not checked."""
        name = body.get("model")
        if not name or name == self.engine.base:
            return self.engine.base
        if name in self.engine.adapters:
            return str(name)
        if self.engine.behaviour.skip_name_validation:
            return self.engine.base
        text = f"The model `{name}` does not exist. Valid aliases: {self.engine.base}."
        raise Refused(404, error_body(text, "NotFoundError", 404, "model"))

    async def _stream(
        self, exchange: Exchange, call: Call, shape: Shape, answer: Answer, behaviour: Behaviour
    ) -> None:
        for index in range(len(answer.pieces)):
            await self._wait_for_token(index, behaviour)
            if index == 0:
                exchange.head(200, EVENTS, None)
                await _send(exchange, shape.head())
            if index == behaviour.die_after_tokens:
                exchange.drop()
                return
            if index == behaviour.error_after_tokens:
                await exchange.chunk(shape.broken(BROKEN))
                exchange.end()
                return
            call.tokens_sent += answer.choices
            await _send(exchange, shape.step(index))
        await _send(exchange, shape.tail())
        exchange.end()

    async def _answer(
        self, exchange: Exchange, call: Call, shape: Shape, answer: Answer, behaviour: Behaviour
    ) -> None:
        body = dump(shape.plain())
        for index in range(len(answer.pieces)):
            await self._wait_for_token(index, behaviour)
            if index == behaviour.die_after_tokens:
                exchange.head(200, JSON, len(body))
                exchange.raw(body[: len(body) // 2])
                exchange.drop()
                return
            if index == behaviour.error_after_tokens:
                exchange.answer(500, dump(error_body(BROKEN, "InternalServerError", 500)), JSON)
                return
        call.tokens_sent = len(answer.pieces) * answer.choices
        exchange.answer(200, body, JSON)

    async def _wait_for_token(self, index: int, behaviour: Behaviour) -> None:
        time_s = behaviour.token_time_s if index else behaviour.first_token_time_s
        await self.engine.step(index, time_s)

    def _fake(self, exchange: Exchange) -> None:
        if exchange.path == "/_fake/state" and exchange.method == "GET":
            exchange.answer(200, dump(self.engine.state()), JSON)
        elif exchange.path == "/_fake/control" and exchange.method == "POST":
            self._control(exchange)
        else:
            exchange.answer(404, dump({"detail": "Not Found"}), JSON)

    def _control(self, exchange: Exchange) -> None:
        change = json.loads(exchange.body)
        try:
            self.engine.control(change)
        except ValueError as error:
            exchange.answer(400, dump({"error": str(error)}), JSON)
            return
        if change.get("restart") and self.server is not None:
            self.server.drop_connections(but=exchange)
        exchange.answer(200, b"{}", JSON)


def _answer_count(exchange: Exchange, count: int) -> None:
    context = {"original_input_tokens": count}
    exchange.answer(200, dump({"input_tokens": count, "context_management": context}), JSON)


def _fail_at_once(exchange: Exchange, behaviour: Behaviour) -> bool:
    """Play the faults that need no answer; true if one struck."""
    if behaviour.status is not None:
        body = error_body(BROKEN, "InternalServerError", behaviour.status)
        exchange.answer(behaviour.status, dump(body), JSON)
    elif behaviour.garbage == "http":
        exchange.raw(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
        exchange.drop()
    elif behaviour.garbage is not None:
        exchange.answer(200, b"<html>\xff not an answer</html>", "text/html")
    else:
        return False
    return True


async def _send(exchange: Exchange, events: Iterator[bytes]) -> None:
    for event in events:
        await exchange.chunk(event)


def _answer_text(exchange: Exchange, status: int, body: str | Json) -> None:
    if isinstance(body, str):
        exchange.answer(status, body.encode())
    else:
        exchange.answer(status, dump(body), JSON)


def _metrics(engine: Engine) -> str:
    labels = f'{{engine="0",model_name="{engine.base}"}}'
    used = engine.batch.running / 1000
    return (
        "# HELP process_start_time_seconds Start time of the process since unix epoch in seconds.\n"
        "# TYPE process_start_time_seconds gauge\n"
        f"process_start_time_seconds {engine.started_at_s}\n"
        "# HELP vllm:num_requests_running Number of requests in model execution batches.\n"
        "# TYPE vllm:num_requests_running gauge\n"
        f"vllm:num_requests_running{labels} {float(engine.batch.running)}\n"
        "# HELP vllm:num_requests_waiting Number of requests waiting to be processed.\n"
        "# TYPE vllm:num_requests_waiting gauge\n"
        f"vllm:num_requests_waiting{labels} {float(engine.batch.waiting)}\n"
        "# HELP vllm:kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.\n"
        "# TYPE vllm:kv_cache_usage_perc gauge\n"
        f"vllm:kv_cache_usage_perc{labels} {used}\n"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A fake vLLM for tests and load tests.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 picks a free one")
    parser.add_argument("--served-model-name", default="base")
    parser.add_argument("--max-model-len", type=int, default=4096)
    parser.add_argument("--max-loras", type=int, default=8, help="adapters in one batch")
    parser.add_argument("--max-num-seqs", type=int, default=256, help="calls in one batch")
    defaults = Behaviour()
    parser.add_argument("--tokens", type=int, default=defaults.tokens, help="length of an answer")
    for name in ("first-token-time-s", "token-time-s", "load-time-s"):
        parser.add_argument(f"--{name}", type=float, default=0.0)
    parser.add_argument("--fast", action="store_true", help="pre-rendered answers, for load")
    parser.add_argument(
        "--reset-share", type=float, default=0.0, help="fast calls broken off by a TCP reset, 0-1"
    )
    parser.add_argument("--seed", type=int, default=0, help="decides which calls are reset")
    options = parser.parse_args()
    if options.reset_share and not options.fast:
        parser.error("--reset-share needs --fast")
    return options


async def _run(options: argparse.Namespace) -> None:
    behaviour = Behaviour(
        tokens=options.tokens,
        first_token_time_s=options.first_token_time_s,
        token_time_s=options.token_time_s,
        load_time_s=options.load_time_s,
        reset_share=options.reset_share,
    )
    batch = Batch(options.max_num_seqs, options.max_loras)
    engine = Engine(options.served_model_name, options.max_model_len, batch, behaviour)
    fake = FakeVllm(engine)
    if not options.fast:
        fake.server = await listen(fake.handle, options.host, options.port)
        await _serve(fake.server, options.host)
        return
    engine.totals = Totals()
    fast = Fast(engine, engine.totals, Book(engine, SHAPES, fake.read), options.seed)
    fake.server = await listen(fake.handle, options.host, options.port, fast.connect, backlog=4096)
    stepping = asyncio.create_task(fast.stepper.run())
    try:
        await _serve(fake.server, options.host)
    finally:
        stepping.cancel()


async def _serve(server: Server, host: str) -> None:
    sys.stdout.write(f"listening on http://{host}:{server.port}\n")
    sys.stdout.flush()
    await server.run()


def main() -> None:
    """Run until interrupted."""
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_run(_arguments()))


if __name__ == "__main__":
    main()
