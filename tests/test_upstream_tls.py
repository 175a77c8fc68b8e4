"""The hot path's HTTP client over TLS, whose transports end and pause differently."""

import asyncio
import contextlib
import datetime
import ipaddress
import os
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.upstream import CannotConnect, ConnectionLost, Upstream
from tests.raw_server import Handler, RawServer, raw_server, read_request
from tests.upstream_calls import CHUNKED, OK, WAYS, answer_to, ask, body_of

# It comes with vLLM.
x509 = pytest.importorskip("cryptography.x509")
hashes = pytest.importorskip("cryptography.hazmat.primitives.hashes")
serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
ec = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ec")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of 127.0.0.1, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "engine")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    path = tmp_path_factory.mktemp("tls") / "engine.pem"
    path.write_bytes(
        made.public_bytes(pem)
        + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


@pytest.fixture
def tls(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The server's side; clients that are made from now on trust it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


@contextlib.asynccontextmanager
async def served(
    handler: Handler, tls: ssl.SSLContext
) -> AsyncIterator[tuple[Upstream, RawServer]]:
    async with raw_server(handler, tls) as server:
        upstream = Upstream(server.url, connect_s=5)
        try:
            yield upstream, server
        finally:
            await upstream.close()
            assert upstream.open_connections == 0


def answering(*parts: bytes) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            for part in parts:
                writer.write(part)
                await writer.drain()

    return handler


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("answer", [OK, CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"])
async def test_a_connection_is_kept(tls: ssl.SSLContext, answer: bytes, way: str) -> None:
    async with served(answering(answer), tls) as (upstream, server):
        for _ in range(3):
            assert await answer_to(upstream, way) == b"hello"
        assert server.connections == 1


async def test_a_certificate_nobody_vouches_for_is_cannot_connect(
    tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with raw_server(answering(OK), tls) as server:
        monkeypatch.delenv("SSL_CERT_FILE")
        upstream = Upstream(server.url, connect_s=5)
        with pytest.raises(CannotConnect, match="self-signed certificate"):
            await ask(upstream)
        assert upstream.open_connections == 0


async def test_a_server_without_tls_is_cannot_connect() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(OK)

    async with raw_server(handler) as server:
        upstream = Upstream(server.url.replace("http", "https"), connect_s=5)
        with pytest.raises(CannotConnect):
            await ask(upstream)
        assert upstream.open_connections == 0


@pytest.mark.parametrize("how", ["cancelled", "limited"])
async def test_a_handshake_is(how: str) -> None:
    """A server that takes the connection and then says nothing."""
    shaking, left = asyncio.Event(), asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        shaking.set()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        left.set()

    async with raw_server(handler) as server:
        connect_s = 60.0 if how == "cancelled" else 0.01
        upstream = Upstream(server.url.replace("http", "https"), connect_s=connect_s)
        call = asyncio.create_task(ask(upstream))
        await shaking.wait()
        if how == "cancelled":
            call.cancel()
        with pytest.raises((asyncio.CancelledError, CannotConnect)):
            await call
        await left.wait()
        assert upstream.open_connections == 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("whole", [True, False])
async def test_a_body_without_length_is_whole_only_where_tls_says_so(
    tls: ssl.SSLContext, way: str, whole: bool
) -> None:
    """Anyone on the way could end the connection below TLS."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        if not whole:
            below = socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno()))
            with below:
                below.shutdown(socket.SHUT_WR)

    async with served(handler, tls) as (upstream, _):
        with await ask(upstream) as response:
            if whole:
                assert await body_of(response, way) == b"all of it"
            else:
                with pytest.raises(ConnectionLost):
                    await body_of(response, way)


async def test_a_paused_pipe_slows_the_engine_and_goes_on(tls: ssl.SSLContext) -> None:
    total, written, full = 32 * 2**20, 0, asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        while written < total:
            writer.write(bytes(65_536))
            written += 65_536
            if writer.transport.get_write_buffer_size():
                full.set()
            await writer.drain()

    came = calls = 0
    async with served(handler, tls) as (upstream, _):
        with await ask(upstream) as response:

            def sink(part: bytes) -> None:
                nonlocal came, calls
                came, calls = came + len(part), calls + 1
                if calls == 1:
                    response.pause()

            pipe = asyncio.create_task(response.pipe(sink, 60))
            await full.wait()
            for _ in range(300):
                await asyncio.sleep(0)
            assert calls == 1
            assert written < total / 2
            response.resume()
            await pipe
            assert came == total


@pytest.mark.parametrize("stage", ["headers", "body"])
async def test_close_ends_calls_in_flight(tls: ssl.SSLContext, stage: str) -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        if stage == "body":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\nabc")
        asked.set()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await reader.read()
        left.set()

    there = asyncio.Event() if stage == "body" else asked

    async def call(upstream: Upstream) -> None:
        with await ask(upstream) as response:
            await response.pipe(lambda _: there.set(), 5)

    async with served(handler, tls) as (upstream, _):
        task = asyncio.create_task(call(upstream))
        await there.wait()
        await upstream.close()
        assert upstream.open_connections == 0
        with pytest.raises(ConnectionLost):
            await task
        await left.wait()
