"""Uploads under caps: the parser alone, the staging folder, and a real server."""

import asyncio
import json
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from hypothesis import given
from hypothesis import strategies as st

from gateway import error_handlers
from gateway.errors import (
    BadRequest,
    GatewayError,
    InsufficientStorage,
    PayloadTooLarge,
    UnsupportedMediaType,
)
from gateway.upload import Caps, PartReader, staged, sweep
from tests.http_server import connected, read_answer, serving

BOUNDARY = b"limit-of-parts"
CONFIG, WEIGHTS, METADATA = "adapter_config.json", "adapter_model.safetensors", "metadata.json"
CAPS = Caps(weights_bytes=200_000, json_bytes=1000, header_bytes=500)
TYPE = f"multipart/form-data; boundary={BOUNDARY.decode()}"


def part(name: str, content: bytes, *headers: bytes) -> bytes:
    disposition = b'Content-Disposition: form-data; name="%s"' % name.encode()
    return b"\r\n".join([b"--" + BOUNDARY, disposition, *headers, b"", content, b""])


def body(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--" + BOUNDARY + b"--\r\n"


WHOLE = body(part(CONFIG, b"{}"), part(WEIGHTS, b"w" * 5000))


def read(data: bytes, *, step: int | None = None, caps: Caps = CAPS) -> dict[str, bytes]:
    """What PartReader makes of `data` when it comes in pieces of `step` bytes."""
    reader = PartReader(BOUNDARY, caps)
    found: dict[str, bytes] = {}
    step = step or max(1, len(data))
    for start in range(0, len(data), step):
        for name, piece in reader.feed(data[start : start + step]):
            found[name] = found.get(name, b"") + piece
    reader.finish()
    return found


def names_in(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


# The parser


@given(content=st.binary(max_size=400), step=st.integers(1, 50))
def test_bytes_arrive_as_sent_however_they_are_cut(content: bytes, step: int) -> None:
    content += b"\r\n--" + BOUNDARY[:-1] + b"\r\n"
    data = body(part(WEIGHTS, content), part(CONFIG, b"{}"), part(METADATA, content[:50]))
    assert read(data, step=step) == {WEIGHTS: content, CONFIG: b"{}", METADATA: content[:50]}


def test_a_filename_is_never_looked_at() -> None:
    disposition = b'Content-Disposition: form-data; filename="../../etc/passwd"; name="%s"'
    weights = b"\r\n".join([b"--" + BOUNDARY, disposition % WEIGHTS.encode(), b"", b"w", b""])
    assert read(body(part(CONFIG, b"{}"), weights)) == {CONFIG: b"{}", WEIGHTS: b"w"}


@pytest.mark.parametrize(
    ("data", "param"),
    [
        (body(part(CONFIG, b"{}")), WEIGHTS),
        (body(part(WEIGHTS, b"w")), CONFIG),
        (body(), CONFIG),
        (body(part(CONFIG, b"{}"), part(CONFIG, b"{}")), CONFIG),
        (body(part("../" + CONFIG, b"{}")), None),
        (body(part("adapter_model.bin", b"w")), None),
        (body(b"--" + BOUNDARY + b"\r\n\r\nw\r\n"), None),
        (body(b"--" + BOUNDARY + b"\r\nContent-Type: a/b\r\n\r\nw\r\n"), None),
        (body(part(CONFIG, b"{}").replace(b"form-data", b"attachment")), None),
        (WHOLE[:-4], None),
        (b"no multipart at all", None),
        (b"", None),
    ],
    ids=[
        "no weights",
        "no config",
        "no parts",
        "a part twice",
        "a path as name",
        "an unknown name",
        "a part without headers",
        "a part without a name",
        "no form part",
        "cut off",
        "garbage",
        "empty",
    ],
)
def test_what_is_no_upload_is_refused(data: bytes, param: str | None) -> None:
    with pytest.raises(BadRequest) as refused:
        read(data)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (part(CONFIG, b"x" * 1001), CONFIG),
        (part(METADATA, b"x" * 1001), METADATA),
        (part(WEIGHTS, b"x" * 200_001), WEIGHTS),
        (part(CONFIG, b"{}", b"X-Long: " + b"x" * 500), None),
        (part(CONFIG, b"{}", *[b"X-Many: " + b"x" * 90] * 6), None),
    ],
    ids=["config", "metadata", "weights", "one long header", "many headers"],
)
@pytest.mark.parametrize("step", [None, 7])
def test_each_cap_holds(data: bytes, named: str | None, step: int | None) -> None:
    with pytest.raises(PayloadTooLarge) as refused:
        read(body(data), step=step)
    assert refused.value.param == named


def test_parts_at_their_caps_pass() -> None:
    data = body(
        part(CONFIG, b"x" * 1000), part(METADATA, b"x" * 1000), part(WEIGHTS, b"x" * 200_000)
    )
    assert len(data) <= CAPS.total_bytes
    assert {name: len(content) for name, content in read(data).items()} == CAPS.parts


# The staging folder


def request(
    messages: list[dict[str, Any]] | Callable[[], Any], content_type: str = TYPE
) -> Request:
    """A request whose body comes as these ASGI messages."""
    if callable(messages):
        receive = messages
    else:
        queue = iter(messages)

        async def receive() -> Any:
            return next(queue)

    headers = [(b"content-type", content_type.encode())]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


def sent(data: bytes, step: int = 1000) -> list[dict[str, Any]]:
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    return [
        {"type": "http.request", "body": piece, "more_body": number < len(pieces)}
        for number, piece in enumerate(pieces, start=1)
    ]


async def test_the_folder_holds_the_two_files_and_then_is_gone(tmp_path: Path) -> None:
    metadata = json.dumps({"serving_profile": {"system_prompt": "Hi."}}).encode()
    data = body(part(METADATA, metadata), part(WEIGHTS, b"w" * 5000), part(CONFIG, b"{}"))
    async with staged(request(sent(data)), tmp_path / "staging", CAPS, 5) as upload:
        files = {file.name: file.read_bytes() for file in upload.folder.iterdir()}
        assert files == {CONFIG: b"{}", WEIGHTS: b"w" * 5000}
        assert upload.metadata.serving_profile.system_prompt == "Hi."
        assert upload.folder.stat().st_mode & 0o777 == 0o700
        assert (upload.folder / WEIGHTS).stat().st_mode & 0o777 == 0o600
    assert names_in(tmp_path / "staging") == []


async def test_more_than_one_batch_is_written_in_order(tmp_path: Path) -> None:
    weights = bytes(range(256)) * 12_288  # 3 MiB
    data = body(part(CONFIG, b"{}"), part(WEIGHTS, weights))
    caps = Caps(weights_bytes=len(weights))
    async with staged(request(sent(data, 65_536)), tmp_path, caps, 5) as upload:
        assert (upload.folder / WEIGHTS).read_bytes() == weights


async def test_a_flood_of_tiny_chunks_is_taken(tmp_path: Path) -> None:
    async with staged(request(sent(WHOLE, 1)), tmp_path, CAPS, 5) as upload:
        assert (upload.folder / WEIGHTS).read_bytes() == b"w" * 5000


@pytest.mark.parametrize(
    "messages",
    [
        sent(body(part(CONFIG, b"{}"), part("x", b""))),
        [*sent(WHOLE)[:2], {"type": "http.disconnect"}],
        sent(body(part(CONFIG, b"{}"), part(WEIGHTS, b"w"), part(METADATA, b"{"))),
        sent(WHOLE + b"epilogue" * 100_000),
    ],
    ids=["unknown part", "client gone", "bad metadata", "endless epilogue"],
)
async def test_a_refused_upload_leaves_nothing(
    tmp_path: Path, messages: list[dict[str, Any]]
) -> None:
    with pytest.raises(GatewayError):
        async with staged(request(messages), tmp_path, CAPS, 5):
            pass
    assert names_in(tmp_path) == []


async def test_what_fails_in_the_block_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with staged(request(sent(WHOLE)), tmp_path, CAPS, 5):
            raise ZeroDivisionError
    assert names_in(tmp_path) == []


async def test_a_cancelled_upload_leaves_nothing(tmp_path: Path) -> None:
    waiting = asyncio.Event()
    messages = iter(sent(WHOLE)[:2])

    async def receive() -> Any:
        for message in messages:
            return message
        waiting.set()
        return await asyncio.get_running_loop().create_future()

    async def upload() -> None:
        async with staged(request(receive), tmp_path, CAPS, 60):
            raise AssertionError("an upload without an end was taken")

    task = asyncio.create_task(upload())
    await waiting.wait()
    assert len(names_in(tmp_path)) == 1
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert names_in(tmp_path) == []


async def test_a_full_disk_is_a_507_and_leaves_nothing(tmp_path: Path) -> None:
    weights = b"w" * 150_000
    data = body(part(CONFIG, b"{}"), part(WEIGHTS, weights))
    with pytest.raises(InsufficientStorage) as refused, file_size_limit(100_000):
        async with staged(request(sent(data)), tmp_path, CAPS, 5):
            pass
    assert refused.value.status == 507
    assert str(tmp_path) not in refused.value.message
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("application/json", UnsupportedMediaType),
        ("", UnsupportedMediaType),
        ("multipart/mixed; boundary=x", UnsupportedMediaType),
        ("multipart/form-data", BadRequest),
        ("multipart/form-data; boundary=" + "x" * 71, BadRequest),
    ],
)
async def test_another_content_type_is_refused(
    tmp_path: Path, content_type: str, kind: type[GatewayError]
) -> None:
    with pytest.raises(kind):
        async with staged(request(sent(WHOLE), content_type), tmp_path, CAPS, 5):
            pass


async def test_sweep_removes_what_a_killed_process_left_and_spares_the_living(
    tmp_path: Path,
) -> None:
    left = tmp_path / "left"
    await asyncio.to_thread(left.mkdir)
    await asyncio.to_thread((left / WEIGHTS).write_bytes, b"w")
    async with staged(request(sent(WHOLE)), tmp_path, CAPS, 5) as upload:
        sweep(tmp_path)
        assert names_in(tmp_path) == [upload.folder.name]
        assert sorted(names_in(upload.folder)) == [CONFIG, WEIGHTS]


def test_sweep_needs_no_folder(tmp_path: Path) -> None:
    sweep(tmp_path / "never-made")
    assert names_in(tmp_path) == []


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """A disk on which no file gets larger: writes beyond fail as on a full one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# A real server

IDLE_S = 0.3


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    app = FastAPI()
    error_handlers.install(app)

    @app.post("/upload")
    async def upload(request: Request) -> dict[str, int]:
        async with staged(request, tmp_path, CAPS, IDLE_S) as found:
            return {file.name: file.stat().st_size for file in found.folder.iterdir()}

    with serving(app) as found:
        yield found
    assert names_in(tmp_path) == []


def head(*headers: bytes) -> bytes:
    lines = [b"POST /upload HTTP/1.1", b"host: x", b"content-type: " + TYPE.encode(), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def test_an_upload_over_a_socket(port: int) -> None:
    with connected(port) as client:
        client.sendall(head(b"content-length: %d" % len(WHOLE)) + WHOLE)
        answer = read_answer(client)
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {CONFIG: 2, WEIGHTS: 5000}


def test_a_declared_length_over_the_cap_is_refused_before_the_body(port: int) -> None:
    with connected(port) as client:
        client.sendall(head(b"content-length: 999999999"))
        assert read_answer(client).startswith(b"HTTP/1.1 413 ")


def test_an_undeclared_length_over_the_cap_is_refused_on_the_way(port: int) -> None:
    with connected(port) as client:
        client.sendall(head(b"transfer-encoding: chunked"))
        chunk = part(CONFIG, b"{}") + part(WEIGHTS, b"w" * 100)[:-2]
        client.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        piece = b"w" * 50_000
        for _ in range(5):
            client.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        assert read_answer(client).startswith(b"HTTP/1.1 413 ")


def test_a_pause_over_the_idle_limit_is_a_408(port: int) -> None:
    with connected(port) as client:
        client.sendall(head(b"content-length: %d" % len(WHOLE)) + WHOLE[:1000])
        began_s = time.monotonic()
        assert read_answer(client).startswith(b"HTTP/1.1 408 ")
        assert IDLE_S / 2 < time.monotonic() - began_s < 20 * IDLE_S


def test_a_client_that_goes_away_leaves_nothing(port: int, tmp_path: Path) -> None:
    with connected(port) as client:
        client.sendall(head(b"content-length: %d" % len(WHOLE)) + WHOLE[:1000])
        wait_for(lambda: names_in(tmp_path) != [])
        client.shutdown(socket.SHUT_RDWR)
    wait_for(lambda: names_in(tmp_path) == [])


def wait_for(holds: Callable[[], bool], deadline_s: float = 5.0) -> None:
    end_s = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < end_s, "not in time"
        time.sleep(0.01)
