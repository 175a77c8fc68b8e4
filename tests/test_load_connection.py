"""The load tester's connection: the same answer however the server's bytes are cut into reads."""

import asyncio
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.client.connection import Connection
from loadtest.client.exchange import Exchange
from loadtest.client.reply import Reply
from tests.load_clock import FakeClock

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"
BEGIN_S = FakeClock().now()


class _Wire(asyncio.Transport):
    """Takes what is sent to nowhere."""

    def write(self, data: Any) -> None:
        return

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        return


def token(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}}
    return f"data: {json.dumps({'choices': [choice]}, ensure_ascii=False)}\n\n".encode()


def as_chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


async def answered(reads: list[bytes], *, words: bool = False) -> Reply:
    """What comes of an answer in these reads, the first at second 1, the next at second 2, ..."""
    clock = FakeClock()
    connection = Connection(clock, lambda _: None)
    connection.connection_made(_Wire())
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    exchange = Exchange(done, 0.0, stream=True, words=words)
    connection.send(b"", exchange)
    for data in reads:
        clock.advance(1.0)
        connection.data_received(data)
    assert connection.reusable()
    assert exchange.reply is not None
    return exchange.reply


async def test_each_token_has_its_reads_time_whether_parsed_or_not() -> None:
    words = [as_chunk(token(word)) for word in ("a", "b", "c", "d", "e")]
    half = len(words[3]) // 2
    reads = [
        HEAD + words[0], words[1], words[2], words[3][:half], words[3][half:], words[4],
        as_chunk(USAGE) + as_chunk(DONE) + b"0\r\n\r\n",
    ]  # fmt: skip
    reply = await answered(reads)
    assert reply.outcome == "ok"
    assert [one - BEGIN_S for one in reply.times] == [1.0, 2.0, 3.0, 5.0, 6.0]
    assert reply.output_tokens == 3
    assert reply.ended_s == BEGIN_S + 7.0


async def test_a_chunks_bytes_within_a_larger_chunk_are_its_body() -> None:
    """The parser stands in the middle of a chunk, and what comes next looks like a whole one."""
    inner = as_chunk(token("b"))
    large = token("a") + inner + token("c")
    begin = len(b"%x\r\n" % len(large)) + len(token("a"))
    whole = as_chunk(large)
    rest = as_chunk(DONE) + b"0\r\n\r\n"
    reads = [HEAD, whole[:begin], whole[begin : begin + len(inner)], whole[begin + len(inner) :]]
    cut, joined = await answered([*reads, rest]), await answered([HEAD + whole + rest])
    assert len(cut.times) == len(joined.times)
    assert cut.outcome == joined.outcome


_BODIES = st.one_of(
    st.builds(token, st.text(alphabet=st.sampled_from('ab "\\\n\ré{}'), max_size=4)),
    st.builds(lambda a, b: token(a) + token(b), st.sampled_from("ab"), st.sampled_from("ab")),
    st.sampled_from([b": ping\n\n", b": ping\r\n\r\n", token("x").replace(b"\n", b"\r\n")]),
)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_reads_give_the_same_tokens(data: st.DataObject) -> None:
    bodies = data.draw(st.lists(_BODIES, max_size=8))
    parts = [HEAD, *map(as_chunk, [token("first"), *bodies, USAGE, DONE]), b"0\r\n\r\n"]
    reads: list[bytes] = [b""]
    for part in parts:
        if data.draw(st.booleans()):
            reads.append(b"")
        cut = data.draw(st.sampled_from([0, 0, 0, len(part) // 2, len(part) - 1]))
        reads[-1] += part[:cut]
        reads += [part[cut:]] if cut else []
        reads[-1] += b"" if cut else part

    async def both() -> tuple[Reply, Reply]:
        return await answered([one for one in reads if one]), await answered([b"".join(parts)])

    cut_up, whole = asyncio.run(both())
    assert len(cut_up.times) == len(whole.times)
    assert (cut_up.outcome, cut_up.output_tokens) == (whole.outcome, whole.output_tokens)
    assert list(cut_up.times) == sorted(cut_up.times)
