"""The soak: its plan, its client, its books and verdicts, and a short one on the real gateway."""

import asyncio
import contextlib
import json
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from adapters_registry.registry import Registry
from adapters_registry.types import Scope, ServingProfile
from benchmarks.sides import machine
from benchmarks.sides.engine import Engine
from benchmarks.sides.processes import ChildFailed
from benchmarks.soak import exit_code
from benchmarks.soaking import gateway as gateways
from benchmarks.soaking.answer import BROKEN, Answer, Garbled, problem
from benchmarks.soaking.books import ClientBooks, LogBooks, LogFile, Matched, match
from benchmarks.soaking.client import Patience, Worker
from benchmarks.soaking.counts import count
from benchmarks.soaking.engine_side import EngineTotals
from benchmarks.soaking.gateway import Gateway, Place
from benchmarks.soaking.intake import LEAST_BYTES, Intake
from benchmarks.soaking.kernel import Ports, Process, Sockets, look, sort_sockets
from benchmarks.soaking.line import Line
from benchmarks.soaking.plan import (
    DECK,
    SLOW_READERS,
    STATUS,
    Flaw,
    Pace,
    Planned,
    Route,
    Stage,
    plan,
)
from benchmarks.soaking.report import markdown
from benchmarks.soaking.results import END, SETTLED, START, Books, Checkpoint, Mix, Results
from benchmarks.soaking.run import Options, Soak, take
from benchmarks.soaking.verdicts import verdicts
from benchmarks.soaking.wire import BODY_LIMIT_BYTES, Caller, Wire, tokens_of
from gateway.config import load_settings
from tests.adapters_for_tests import good_adapter
from tests.raw_server import raw_server, read_request
from tests.running_gateway import TinyModel

CALLERS = [Caller(f"key-{n}", "support", f"t{n}/support@") for n in range(4)]
QUICK = Patience(answer_s=60, bite_pause_s=0.0, halt_s=0.05, silence_s=0.0, piece_pause_s=0.0)
MIB = 2**20

# The plan


def test_the_plan_is_the_same_for_the_same_seed() -> None:
    assert list(plan(300, 7, 4)) == list(plan(300, 7, 4))
    assert list(plan(300, 7, 4)) != list(plan(300, 8, 4))


def test_every_thousand_holds_the_shares_that_are_promised() -> None:
    planned = list(plan(3 * DECK, 1, 4))
    requests = [one for one in planned if one.is_request]
    assert len(requests) == 3 * DECK
    left = Counter(one.leaves for one in requests)
    assert left.total() - left[None] == 3 * DECK // 10
    assert set(left) == {None, *Stage} - {Stage.IN_HEAD}
    assert Counter(one.flaw is not None for one in requests)[True] == 3 * DECK // 20
    assert {one.flaw for one in requests} == {None, *Flaw}
    assert {one.pace for one in requests} == {*Pace}
    assert {one.route for one in requests} == {*Route}
    assert 0 < len(planned) - len(requests) <= 3 * 20
    assert {one.resets for one in requests} == {one.renews for one in requests} == {True, False}


def test_a_plan_that_ends_within_a_deck_has_as_many_requests_as_asked() -> None:
    assert sum(one.is_request for one in plan(1234, 1, 4)) == 1234


def test_what_leaves_in_an_answer_reads_a_stream_and_is_no_refusal() -> None:
    for one in plan(DECK, 1, 4):
        if one.leaves in (Stage.IN_ANSWER, Stage.AT_END):
            assert one.streamed
        assert one.leaves is None or one.flaw is None
        assert one.pace not in SLOW_READERS or one.streamed
        assert one.route.streams or not one.streamed


def test_without_silent_readers_the_rest_stays_as_it_was() -> None:
    def usual(planned: Iterator[Planned]) -> list[Planned]:
        return [
            replace(one, pace=Pace.HALTING) if one.pace is Pace.SILENT else one for one in planned
        ]

    assert list(plan(DECK, 1, 4, silent=False)) == usual(plan(DECK, 1, 4))


def test_a_stretch_takes_so_many_requests_and_the_next_goes_on() -> None:
    planned = plan(100, 1, 4)
    first, rest = list(take(planned, 60)), list(take(planned, 40))
    assert [sum(one.is_request for one in each) for each in (first, rest)] == [60, 40]
    assert first + rest == list(islice(plan(200, 1, 4), len(first) + len(rest)))


# The requests


@pytest.mark.parametrize("route", Route)
@pytest.mark.parametrize("flaw", [None, *Flaw])
def test_requests_are_whole_http(route: Route, flaw: Flaw | None) -> None:
    request = Wire("host:1", CALLERS).request(Planned(route, flaw=flaw, number=1))
    head = request.head.decode()
    assert head.endswith("\r\n\r\n")
    has_body = head.startswith("POST ")
    assert has_body == (route is not Route.MODELS and flaw is not Flaw.WRONG_METHOD)
    assert (f"content-length: {len(request.body)}\r\n" in head) == has_body
    assert ("Bearer key-0\r\n" in head) == (flaw is not Flaw.WRONG_KEY)
    if has_body and flaw is not Flaw.BAD_JSON:
        asked = json.loads(request.body)
        assert (asked["model"] == "support") == (flaw is not Flaw.UNKNOWN_MODEL)
    assert (len(request.body) > BODY_LIMIT_BYTES) == (has_body and flaw is Flaw.TOO_LARGE)


def test_slow_readers_ask_for_the_longest_streams() -> None:
    tokens = [tokens_of(Planned(streamed=True, pace=pace)) for pace in (Pace.USUAL, Pace.SLOW)]
    assert tokens[0] < tokens[1] / 10


# The answers


def http(body: bytes, *, status: int = 200, request_id: str = "r1") -> bytes:
    head = f"HTTP/1.1 {status} X\r\nx-request-id: {request_id}\r\ncontent-length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def fed(*pieces: bytes) -> Answer:
    answer = Answer()
    for piece in pieces:
        answer.feed(piece)
    return answer


GOOD = b'{"id":"chatcmpl-r1","model":"t0/support@1:0123"}'
STREAM = b'data: {"id":"chatcmpl-r1","model":"t0/support@1:0123"}\n\ndata: [DONE]\n\n'
OPENAI_ERROR = b'data: {"error": {"message": "m", "code": "engine_failed"}}\n\n'
ANTHROPIC_ERROR = b'event: error\ndata: {"type": "error", "error": {"type": "api_error"}}\n\n'
MARK = b'"model":"t0/support@'
ASKED, STREAMED = Planned(), Planned(streamed=True)


def test_an_answer_is_read_byte_by_byte() -> None:
    whole = http(GOOD)
    answer = fed(*(whole[k : k + 1] for k in range(len(whole) - 1)))
    assert answer.begun
    assert not answer.complete
    answer.feed(whole[-1:])
    assert answer.complete
    assert answer.keeps_alive
    assert (answer.status, answer.request_id, bytes(answer.body)) == (200, b"r1", GOOD)
    assert problem(ASKED, answer, MARK) is None


@pytest.mark.parametrize("garbled", [http(GOOD) + http(GOOD), b"\x16\x03 no HTTP\r\n\r\n"])
def test_what_is_no_single_answer_is_garbled(garbled: bytes) -> None:
    with pytest.raises(Garbled):
        fed(garbled)


@pytest.mark.parametrize("event", [OPENAI_ERROR, ANTHROPIC_ERROR])
def test_a_stream_that_broke_is_counted_as_broken(event: bytes) -> None:
    answer = fed(http(b'data: {"id":"chatcmpl-r1"}\n\n' + event))
    assert answer.final_status == BROKEN
    assert problem(STREAMED, answer, MARK) is None


def test_an_errors_name_in_the_text_of_an_answer_breaks_nothing() -> None:
    body = STREAM.replace(b"[DONE]", rb'{"text":"\"engine_failed\""}' + b"\n\ndata: [DONE]")
    assert fed(http(body)).final_status == 200


@pytest.mark.parametrize(
    ("asked", "answer", "told"),
    [
        (ASKED, http(GOOD, request_id="r2"), "another request's answer"),
        (ASKED, http(GOOD.replace(b"t0", b"t1")), "another model's answer"),
        (STREAMED, http(STREAM.partition(b"data: [DONE]")[0]), "a stream without its end"),
        (ASKED, http(b"{}", status=404), "404 for a good request"),
        (Planned(flaw=Flaw.WRONG_KEY), http(GOOD), "200 for wrong key, not 401"),
    ],
)
def test_a_wrong_answer_is_told(asked: Planned, answer: bytes, told: str) -> None:
    assert problem(asked, fed(answer), MARK) == told


@pytest.mark.parametrize("flaw", Flaw)
def test_a_refusal_that_was_deserved_is_no_problem(flaw: Flaw) -> None:
    assert problem(Planned(flaw=flaw), fed(http(b"{}", status=STATUS[flaw])), MARK) is None


@pytest.mark.parametrize("status", [502, 503])
def test_a_call_that_the_engine_broke_off_is_no_problem(status: int) -> None:
    assert problem(ASKED, fed(http(b"{}", status=status)), MARK) is None


# The client


@contextlib.contextmanager
def worker(url: str, patience: Patience = QUICK) -> Iterator[tuple[Worker, ClientBooks]]:
    port = int(url.rpartition(":")[2])
    books = ClientBooks()
    found = Worker(Wire("host", CALLERS), ("127.0.0.1", port), books, patience)
    yield found, books
    found.leave()


async def test_a_beginning_is_no_request() -> None:
    seen = asyncio.Queue[bytes]()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await seen.put(await reader.read())

    async with raw_server(handler) as server:
        with worker(server.url) as (client, books):
            await client.do(Planned(number=1, leaves=Stage.IN_HEAD, where=0.999))
            sent = await seen.get()
    assert sent
    assert b"\r\n\r\n" not in sent
    assert (books.beginnings, books.requests, books.cancelled) == (1, 0, 0)


@pytest.mark.parametrize("resets", [True, False])
@pytest.mark.parametrize("stage", [Stage.IN_BODY, Stage.SENT])
async def test_a_request_that_is_left_before_its_answer(stage: Stage, resets: bool) -> None:
    ended = asyncio.Queue[bytes | Exception]()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            await ended.put(await reader.read())
        except ConnectionResetError as error:
            await ended.put(error)

    async with raw_server(handler) as server:
        with worker(server.url) as (client, books):
            await client.do(Planned(number=1, leaves=stage, where=0.5, resets=resets))
            end = await ended.get()
    assert isinstance(end, ConnectionResetError) == resets
    if isinstance(end, bytes):
        whole = Wire("host", CALLERS).request(Planned(number=1)).body
        assert whole.startswith(end)
        assert (end == whole) == (stage is Stage.SENT)
    assert books.left == {stage.value: 1}
    assert (books.requests, books.unanswered, books.resets) == (1, 1, int(resets))
    assert not books.problems


async def test_a_connection_is_kept_renewed_and_counted() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await read_request(reader):
            writer.write(http(GOOD))

    async with raw_server(handler) as server:
        with worker(server.url) as (client, books):
            for renews in (False, False, True):
                await client.do(Planned(number=1, renews=renews))
    assert server.connections == books.connections == 2
    assert books.requests == 3
    assert books.answered == {"r1": 200}


async def test_a_silent_reader_is_cut_off_and_another_is_not() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(http(STREAM)[:-20])
        await writer.drain()
        writer.transport.abort()

    async with raw_server(handler) as server:
        with worker(server.url, replace(QUICK, client_s=0.0)) as (client, books):
            await client.do(Planned(number=1, streamed=True, pace=Pace.SILENT))
            assert books.cut_off == {Pace.SILENT.value: 1}
            assert (books.begun, dict(books.problems)) == ({"r1"}, {})
            await client.do(Planned(number=1, streamed=True))
    assert books.cut_off.total() == 1
    assert books.problems == {"the gateway closed the connection": 1}


async def test_a_slow_reader_that_reads_on_must_not_be_cut_off() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        head, _, _ = http(b"").rpartition(b"0")
        writer.write(head + b"9999999\r\n\r\n" + bytes(2 * LEAST_BYTES))
        await writer.drain()

    async with raw_server(handler) as server:
        with worker(server.url) as (client, books):
            await client.do(Planned(number=1, streamed=True, pace=Pace.SLOW))
    assert not books.cut_off
    assert books.problems == {"the gateway closed the connection": 1}


def test_one_slow_span_is_enough_and_is_not_forgotten() -> None:
    intake = Intake(0.0, window_s=5)
    intake.add(1.0, LEAST_BYTES)
    assert not intake.was_slow(6.0)
    intake.add(6.1, LEAST_BYTES)
    assert intake.was_slow(6.1)
    intake.add(7.0, LEAST_BYTES)
    assert intake.was_slow(7.0)


def test_a_reader_is_given_the_whole_span_first() -> None:
    intake = Intake(0.0, window_s=5)
    assert not intake.was_slow(4.9)
    assert intake.was_slow(5.0)


async def test_a_gateway_that_hangs_is_told() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw_server(handler) as server:
        with worker(server.url, replace(QUICK, answer_s=0.01)) as (client, books):
            await client.do(Planned(number=1))
    assert dict(books.problems) == {"TimeoutError": 1}


async def test_little_of_what_is_not_read_is_kept_on_a_small_line() -> None:
    sent = 0
    full = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.transport.set_write_buffer_limits(0)
        with contextlib.suppress(TimeoutError):
            while sent < 2 * MIB:
                writer.write(bytes(4096))
                await asyncio.wait_for(writer.drain(), 0.5)
                sent += 4096
        full.set()

    async with raw_server(handler) as server:
        line = await Line.open(("127.0.0.1", int(server.url.rpartition(":")[2])), small=True)
        await full.wait()
        line.close()
    assert sent < 256 * 1024


# The books


def line(request_id: str, status: int | None, outcome: str = "served") -> bytes:
    entry = {"event": "request", "level": "info", "request_id": request_id}
    return json.dumps(entry | {"status": status, "outcome": outcome}).encode()


def log_of(*lines: bytes) -> LogBooks:
    log = LogBooks()
    log.take(lines)
    return log


EXPLAINED = frozenset({200, 499, 502, 503})


def test_the_log_gives_the_status_that_a_request_is_counted_under() -> None:
    log = log_of(
        line("a", 200), line("b", 200, "cancelled"), line("c", None, "cancelled"),
        line("d", 200, "broken"), line("e", 401, "refused"), line("e", 401, "refused"),
    )  # fmt: skip
    assert log.statuses == {"a": 200, "b": 499, "c": 499, "d": 502, "e": 401}
    assert (log.lines, log.doubled) == (6, 1)


def test_what_should_not_be_in_the_log_is_kept() -> None:
    bad = json.dumps({"event": "boom", "level": "error"}).encode()
    fine = json.dumps({"event": "up", "level": "info"}).encode()
    assert log_of(b"Traceback (most recent", bad, fine).complaints == [
        "Traceback (most recent",
        bad.decode(),
    ]


def test_a_log_is_read_on_by_whole_lines(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"one\ntwo\nthr")
    log = LogFile(file)
    assert log.new_lines() == [b"one", b"two"]
    assert log.new_lines() == []
    with file.open("ab") as more:
        more.write(b"ee\n")
    assert log.new_lines() == [b"three"]


def test_books_that_agree() -> None:
    client = ClientBooks(answered={"a": 200, "b": 502}, begun={"c"}, unanswered=1)
    log = log_of(
        line("a", 200), line("b", 200, "broken"), line("c", 200), line("d", None, "cancelled")
    )
    assert match(client, log, EXPLAINED) == Matched(0, 0, 1, {})


def test_books_that_do_not_agree() -> None:
    client = ClientBooks(answered={"a": 200, "b": 200}, begun={"c"})
    log = log_of(line("a", 401), line("x", 500))
    found = match(client, log, EXPLAINED)
    assert (found.missing, found.other_status, found.unread, found.odd) == (2, 1, 1, {500: 1})
    assert found.example == "a: 200, logged 401"


def test_counts_are_summed_over_all_series_and_leave_out_probes() -> None:
    text = """
# TYPE loraplex_requests counter
loraplex_requests_total{tenant="a",route="chat",status="200"} 5
loraplex_requests_total{tenant="b",route="chat",status="200"} 2
loraplex_requests_total{tenant="b",route="chat",status="499"} 1
# TYPE loraplex_other_requests counter
loraplex_other_requests_total{method="GET",path="/readyz",status="200"} 9
loraplex_other_requests_total{method="GET",path="",status="404"} 3
# TYPE loraplex_requests_in_flight gauge
loraplex_requests_in_flight{tenant="a"} 1
loraplex_requests_in_flight{tenant="b"} 2
"""
    found = count(text_string_to_metric_families(text))
    assert (found.by_status, found.total, found.in_flight) == ({200: 7, 499: 1, 404: 3}, 11, 3)


# The kernel


def test_sockets_are_told_apart_by_their_ports() -> None:
    table = {
        "1": (80, 0, "0A"),
        "2": (80, 5000, "01"),
        "3": (80, 5001, "08"),
        "4": (90, 5002, "01"),
        "5": (6000, 70, "01"),
        "6": (6001, 443, "01"),
        "7": (80, 5003, "01"),  # of another process
    }
    ports = Ports(gateway=80, metrics=90, engine=70)
    found = sort_sockets({"1", "2", "3", "4", "5", "6", "unix"}, table, ports)
    assert found == Sockets(listening=1, clients=2, metrics=1, engine=1, other=1)
    assert found.total == 6


def test_a_look_at_this_process_sees_its_sockets_come_and_go() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        ports = Ports(gateway=port, metrics=0, engine=port)
        before = look(os.getpid(), ports)
        with socket.create_connection(("127.0.0.1", port)), listener.accept()[0]:
            during = look(os.getpid(), ports)
        after = look(os.getpid(), ports)
    assert before.sockets.listening >= 1
    assert (during.sockets.clients, during.sockets.engine) == (1, 1)
    assert (before.sockets.clients, after.sockets.clients) == (0, 0)
    assert during.descriptors == before.descriptors + 2 == after.descriptors + 2
    assert before.rss_bytes > MIB
    assert before.threads >= 1


# The verdicts


def checkpoint(name: str, requests: int, **changes: Any) -> Checkpoint:
    engine = 1 if name in (START, END) else 150
    clients = 100 if name.endswith("%") else 0
    process = Process(
        rss_bytes=150 * MIB + requests * 100,
        threads=7,
        descriptors=19 + engine + clients,
        sockets=Sockets(listening=2, clients=clients, engine=engine),
    )
    fields: dict[str, Any] = {
        "name": name,
        "seconds": requests / 100,
        "requests": requests,
        "counted": requests,
        "logged": requests,
        "in_flight": 0,
        "engine_open": 0,
        "connections": clients,
        "process": process,
        "tasks": 7 + clients,
        "blocks": 500_000,
        "heap_bytes": 25 * MIB,
        "remembered_bytes": 0 if name in (START, END) else requests * 100,
    }
    return Checkpoint(**(fields | changes))


def good_results() -> Results:
    mix = Mix(
        requests=1000,
        beginnings=20,
        cancelled={"before the answer": 60, "inside the answer": 40},
        refused={"wrong key": 50},
        paces={"in small bites": 20},
        cut_off={"no more after a while": 2},
        unanswered=60,
        connections=150,
        resets=40,
        answered_by_status={200: 850, 401: 50},
    )
    books = Books(
        mix=mix,
        problems={},
        examples=[],
        counted_by_status={200: 850, 401: 50, 499: 100},
        logged_by_status={200: 850, 401: 50, 499: 100},
        doubled=0,
        matched=Matched(0, 0, 60, {}),
        complaints=0,
        complaint_examples=[],
    )
    names = [START, "20 %", "40 %", "60 %", "80 %", "100 %", SETTLED, END]
    counts = [0, 20_000, 40_000, 60_000, 80_000, 100_000, 100_000, 100_000]
    return Results(
        command="soak",
        started_at="2026-01-02T03:04:05+00:00",
        options={"concurrency": "200"},
        machine={"cores": "2"},
        versions={"Python": "3.11"},
        checkpoints=[checkpoint(n, c) for n, c in zip(names, counts, strict=True)],
        books=books,
        engine=EngineTotals(calls=900, answered=800, client_closed=90, reset=10),
        partial=False,
    )


def test_a_good_soak_holds() -> None:
    found = verdicts(good_results())
    assert [each.claim for each in found if not each.held] == []
    assert exit_code(found, partial=False) == 0


def last(**changes: Any) -> Callable[[Results], None]:
    def doctor(results: Results) -> None:
        results.checkpoints[-1] = replace(results.checkpoints[-1], **changes)

    return doctor


def process(name: str, **changes: Any) -> Callable[[Results], None]:
    def doctor(results: Results) -> None:
        at = [each.name for each in results.checkpoints].index(name)
        one = results.checkpoints[at]
        results.checkpoints[at] = replace(one, process=replace(one.process, **changes))

    return doctor


def in_books(**changes: Any) -> Callable[[Results], None]:
    def doctor(results: Results) -> None:
        assert results.books is not None
        results.books = replace(results.books, **changes)

    return doctor


def growing(results: Results) -> None:
    for name in ("80 %", "100 %"):
        process(name, rss_bytes=180 * MIB)(results)


def fewer_left(results: Results) -> None:
    assert results.books is not None
    mix = replace(results.books.mix, cancelled={"before the answer": 60})
    results.books = replace(results.books, mix=mix)


def fewer_resets(results: Results) -> None:
    assert results.engine is not None
    results.engine = replace(results.engine, reset=5)


@pytest.mark.parametrize(
    ("doctor", "claim"),
    [
        (last(counted=99_999), "each request is counted once"),
        (last(counted=100_001), "each request is counted once"),
        (last(logged=100_001), "each request has one line"),
        (last(in_flight=-1), "nothing is in flight"),
        (last(engine_open=1), "the engine answers no call"),
        (last(tasks=8), "tasks are back"),
        (last(blocks=506_000), "memory in use is back"),
        (last(heap_bytes=27 * MIB), "memory in use is back"),
        (process(END, descriptors=21), "open descriptors are back"),
        (process(END, threads=16), "threads: at most"),
        (process("60 %", sockets=Sockets(2, 101, 0, 150)), "the gateway holds no connection"),
        (process(END, sockets=Sockets(2, 0, 0, 2)), "sockets are back"),
        (process(SETTLED, sockets=Sockets(2, 0, 0, 202)), "no more connections to the engine"),
        (growing, "memory in the run's last quarter"),
        (in_books(logged_by_status={200: 1000}), "metrics and log agree"),
        (in_books(doubled=1), "no request has two lines"),
        (in_books(matched=Matched(1, 0, 60, {})), "each answer that came whole"),
        (in_books(matched=Matched(0, 1, 60, {})), "each answer that came whole"),
        (in_books(matched=Matched(0, 0, 59, {})), "what else the log holds"),
        (in_books(matched=Matched(0, 0, 60, {500: 1})), "requests that were left are counted"),
        (in_books(problems={"OSError": 1}), "each request that was not left"),
        (in_books(complaints=1, complaint_examples=["x"]), "the gateway's log holds no"),
        (fewer_left, "a tenth of the requests was left"),
        (fewer_resets, "the engine reset a hundredth"),
    ],
)
def test_each_fault_breaks_its_own_claim_alone(
    doctor: Callable[[Results], None], claim: str
) -> None:
    results = good_results()
    doctor(results)
    found = verdicts(results)
    (broken,) = [each.claim for each in found if not each.held]
    assert broken.startswith(claim)
    assert exit_code(found, partial=False) == 1
    assert markdown(results).count("**not held**") == 1


def test_what_was_not_looked_at_has_not_held() -> None:
    results = good_results()
    results.checkpoints = results.checkpoints[:2]
    results.partial = True
    found = verdicts(results)
    assert {each.held for each in found} == {True, None}
    assert exit_code(found, partial=True) == 1
    assert "**Partial" in markdown(results)


def test_a_short_run_says_nothing_of_growth() -> None:
    results = good_results()
    results.checkpoints = [
        replace(each, requests=each.requests // 10, counted=each.counted // 10,
                logged=each.logged // 10)
        for each in results.checkpoints
    ]  # fmt: skip
    found = verdicts(results)
    assert [each.held for each in found if not each.held] == [None]
    assert "too short to tell" in found[-1].measured
    assert exit_code(found, partial=False) == 0


def test_the_page_tells_what_was_asked_and_found() -> None:
    page = markdown(good_results())
    assert "# A soak of 1,000 requests, 2026-01-02" in page
    assert "| left before the answer | 60 |" in page
    assert "| 499 | 100 | 0 |" in page
    assert "| 60 % | 600 | 60,000 | 155.7 MiB | 25.0 MiB | 500,000 | 5.7 MiB | 7 |" in page


# A short soak of the real gateway


def make_place(folder: Path, model: TinyModel) -> Place:
    settings = load_settings({"data_dir": folder / "data"})
    settings.data_dir.mkdir(parents=True)
    registry = Registry.open(settings.sqlalchemy_url, settings.artifacts_dir)
    callers = []
    with contextlib.closing(registry):
        for name in ("acme", "globex"):
            files = good_adapter(folder / name, model.spec)
            registry.create_tenant(name, actor="admin")
            scopes = frozenset({Scope.INFERENCE})
            _, key = registry.create_key(name, name="soak", scopes=scopes, actor="admin")
            version = registry.push(
                name, "support", files, base=model.spec, max_rank=16, profile=ServingProfile(),
                actor="admin",
            )  # fmt: skip
            registry.promote(name, "support", version.number, actor="admin", force=True)
            callers.append(Caller(key, "support", f"{name}/support@"))
    return Place(settings.data_dir, model.cache_dir, model.folder, callers)


@pytest.fixture
def place(tmp_path: Path, tiny_model: TinyModel) -> Place:
    return make_place(tmp_path, tiny_model)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    running = Engine(tmp_path, machine.cores()[0])
    yield running
    running.stop()


@pytest.fixture
def gateway(tmp_path: Path, place: Place, engine: Engine) -> Iterator[Gateway]:
    running = gateways.start(place, engine, tmp_path, [machine.cores()[1]])
    yield running
    running.child.stop()


async def test_a_short_soak_of_the_real_gateway(
    place: Place, engine: Engine, gateway: Gateway
) -> None:
    results = replace(good_results(), checkpoints=[], books=None, engine=None, partial=True)
    options = Options(1500, 50, 3, stretches=5, silent_readers=False, patience=QUICK)
    done = []
    soak = Soak(options, gateway, place, engine, results, lambda count, _: done.append(count))
    await soak.run()
    found = verdicts(results)
    assert [(v.claim, v.measured) for v in found if v.held is False] == []
    assert [v.claim[:12] for v in found if v.held is None] == ["memory in th"]
    assert exit_code(found, partial=results.partial) == 0
    assert results.books is not None
    mix = results.books.mix
    warm_up = results.checkpoints[0].requests
    assert mix.requests == 1500 + warm_up
    assert max(done) == 1500
    assert sum(mix.answered_by_status.values()) + sum(mix.cancelled.values()) >= mix.requests
    assert len(results.checkpoints) == 1 + options.stretches + 2
    assert {499, 401, 502} <= results.books.counted_by_status.keys()


async def test_a_soak_ends_with_its_gateway(place: Place, engine: Engine, gateway: Gateway) -> None:
    results = replace(good_results(), checkpoints=[], books=None, engine=None, partial=True)
    soak = Soak(Options(10, 2, 1), gateway, place, engine, results, lambda count, what: None)
    gateway.child.stop()
    with pytest.raises(ChildFailed):
        await soak.run()
    assert results.partial
    assert exit_code(verdicts(results), partial=True) == 1
