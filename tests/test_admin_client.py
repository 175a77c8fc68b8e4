"""The client, plain and awaited, against a real HTTP server: what it sends, and what it raises."""

import asyncio
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, assert_type

import pytest

from gateway import admin_api
from loraplex import AsyncClient, Client, LoraplexError
from loraplex.client import errors
from loraplex.client.answers import Adapter, Tenant
from loraplex.client.api import AdminApi, Route
from loraplex.client.call import UploadPart
from tests.fake_gateway import FakeGateway, serving_fake

KEY = "lpx_0123456789abcdef_secret"
SUPPORT = "/admin/v1/tenants/acme/adapters/support"
END = datetime(2031, 1, 31, tzinfo=UTC)


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with serving_fake() as running:
        yield running


Do = Callable[..., Any]


@pytest.fixture(params=["plain", "awaited"])
def do(request: pytest.FixtureRequest, gateway: FakeGateway) -> Do:
    """`do("tenants")`: one call with either client."""
    if request.param == "plain":

        def plain(route: str, /, *args: Any, **more: Any) -> Any:
            with Client(gateway.url, KEY) as client:
                return getattr(client, route)(*args, **more)

        return plain

    async def awaited(route: str, /, *args: Any, **more: Any) -> Any:
        async with AsyncClient(gateway.url, KEY) as client:
            return await getattr(client, route)(*args, **more)

    return lambda route, /, *args, **more: asyncio.run(awaited(route, *args, **more))


def one(route: str, /, *args: Any, **more: Any) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    return route, args, more


def ignore(block: bytes) -> None:
    pass


CALLS = [
    (one("tenants"), "GET /admin/v1/tenants", None),
    (one("tenant", "acme"), "GET /admin/v1/tenants/acme", None),
    (one("create_tenant", "acme"), "POST /admin/v1/tenants", {"name": "acme"}),
    (
        one("set_policy", "acme", require_pass=False, reason="why"),
        "PATCH /admin/v1/tenants/acme",
        {"policy": {"require_pass": False}, "reason": "why"},
    ),
    (one("delete_tenant", "acme"), "DELETE /admin/v1/tenants/acme", None),
    (
        one("delete_tenant", "acme", reason="it left"),
        "DELETE /admin/v1/tenants/acme?reason=it+left",
        None,
    ),
    (one("deleted_tenants"), "GET /admin/v1/deleted-tenants", None),
    (one("restore_tenant", "acme"), "POST /admin/v1/deleted-tenants/acme/restore", {}),
    (one("export_tenant", "acme", take=ignore), "GET /admin/v1/tenants/acme/export", None),
    (one("keys", "acme"), "GET /admin/v1/tenants/acme/keys", None),
    (one("create_key", "acme"), "POST /admin/v1/tenants/acme/keys", {}),
    (
        one("create_key", "acme", name="ci", scopes=["manage"], expires_at=END, reason="why"),
        "POST /admin/v1/tenants/acme/keys",
        {
            "name": "ci",
            "scopes": ["manage"],
            "expires_at": "2031-01-31T00:00:00+00:00",
            "reason": "why",
        },
    ),
    (
        one("rotate_key", "acme", "ab", overlap_s=0, expires_at=END),
        "POST /admin/v1/tenants/acme/keys/ab/rotate",
        {"overlap_s": 0, "expires_at": "2031-01-31T00:00:00+00:00"},
    ),
    (one("revoke_key", "acme", "ab"), "DELETE /admin/v1/tenants/acme/keys/ab", None),
    (one("adapters", "acme"), "GET /admin/v1/tenants/acme/adapters", None),
    (one("adapter", "acme", "support"), f"GET {SUPPORT}", None),
    (one("versions", "acme", "support"), f"GET {SUPPORT}/versions", None),
    (one("version", "acme", "support", 3), f"GET {SUPPORT}/versions/3", None),
    (one("card", "acme", "support", 3), f"GET {SUPPORT}/versions/3/card", None),
    (
        one("push", "acme", "support", "hf://o/r@1", metadata={"reason": "why"}),
        f"POST {SUPPORT}/versions",
        {"source": "hf://o/r@1", "metadata": {"reason": "why"}},
    ),
    (
        one("read_file", "acme", "support", 3, "adapter_config.json", take=ignore),
        f"GET {SUPPORT}/versions/3/files/adapter_config.json",
        None,
    ),
    (
        one("evaluate", "acme", "support", 3, "passed", report={"f1": 0.9}, if_match=7),
        f"POST {SUPPORT}/versions/3/evaluation",
        {"verdict": "passed", "report": {"f1": 0.9}},
    ),
    (one("prove", "acme", "support", 3), f"POST {SUPPORT}/versions/3/prove", {}),
    (
        one("delete_version", "acme", "support", 3, reason="old", if_match=7),
        f"DELETE {SUPPORT}/versions/3?reason=old",
        None,
    ),
    (one("promote", "acme", "support", 3), f"POST {SUPPORT}/promote", {"version": 3}),
    (
        one("promote", "acme", "support", 3, force=True, reason="why", if_match=7),
        f"POST {SUPPORT}/promote",
        {"version": 3, "force": True, "reason": "why"},
    ),
    (one("rollback", "acme", "support"), f"POST {SUPPORT}/rollback", {}),
    (
        one("rollback", "acme", "support", to=1, reason="worse", if_match=7),
        f"POST {SUPPORT}/rollback",
        {"to": 1, "reason": "worse"},
    ),
    (one("history", "acme", "support"), f"GET {SUPPORT}/history", None),
    (one("gc"), "POST /admin/v1/gc", {}),
    (one("gc", grace_s=60), "POST /admin/v1/gc", {"grace_s": 60}),
    (one("verify"), "POST /admin/v1/verify", {}),
    (one("backup", take=ignore), "GET /admin/v1/backup", None),
    (one("audit"), "GET /admin/v1/audit", None),
    (one("audit", limit=5, before=9), "GET /admin/v1/audit?limit=5&before=9", None),
    (one("engines"), "GET /admin/v1/engines", None),
    (one("ready"), "GET /readyz", None),
]
ELSEWHERE = {"import_tenant", "download"}
"""Calls with tests of their own below, and in test_adapter_pull.py."""
BETWEEN_GATEWAYS = {"/admin/v1/refresh", "/admin/v1/in-flight"}


@pytest.mark.parametrize(("call", "asked", "body"), CALLS, ids=[row[1] for row in CALLS])
def test_each_call_asks_its_route(
    gateway: FakeGateway, do: Do, call: tuple[str, Any, Any], asked: str, body: Any
) -> None:
    name, args, more = call
    gateway.on(asked.partition("?")[0], {"data": [], "status": "ready"})
    do(name, *args, **more)
    (seen,) = gateway.asked
    query = f"?{seen.query}" if seen.query else ""
    assert f"{seen.method} {seen.path}{query}" == asked
    assert (json.loads(seen.body) if seen.body else None) == body
    assert seen.headers.get("if-match") == ('"7"' if "if_match" in more else None)
    assert seen.headers["authorization"] == f"Bearer {KEY}"


def test_every_call_is_tested() -> None:
    routes = {name for name, value in vars(AdminApi).items() if isinstance(value, Route)}
    assert routes == {call[0] for call, _, _ in CALLS} | ELSEWHERE


def test_every_route_of_the_gateway_has_its_call() -> None:
    asked = [row[1].partition("?")[0] for row in CALLS] + ["POST /admin/v1/tenants/import"]
    routes: Any = admin_api.router.routes
    forgotten = [
        f"{method} {route.path}"
        for route in routes
        for method in route.methods
        if route.path not in BETWEEN_GATEWAYS
        and not any(
            word.startswith(f"{method} ") and route.path_regex.match(word.partition(" ")[2])
            for word in asked
        )
    ]
    assert forgotten == []


def test_the_types_are_those_of_the_answers(gateway: FakeGateway) -> None:
    gateway.on("GET /admin/v1/tenants", {"data": []})
    gateway.on(f"POST {SUPPORT}/rollback", {"live": 1})
    with Client(gateway.url, KEY) as client:
        assert_type(client.tenants(), list[Tenant])
        assert_type(client.rollback("acme", "support"), Adapter)

    async def awaited() -> None:
        async with AsyncClient(gateway.url, KEY) as client:
            assert_type(await client.tenants(), list[Tenant])
            assert_type(await client.rollback("acme", "support"), Adapter)

    asyncio.run(awaited())


def test_a_method_is_documented_as_its_call() -> None:
    with Client("http://127.0.0.1:9") as client:
        assert client.promote.__doc__ == Client.promote.__doc__
        assert (client.promote.__doc__ or "").startswith("Makes a version the live one.")


def test_importing_loraplex_loads_no_client() -> None:
    program = """
import sys, loraplex
print("httpx" in sys.modules, "loraplex.client" in sys.modules)
from loraplex import AsyncClient, Client, LoraplexError
print("httpx" in sys.modules)
try: loraplex.nothing
except AttributeError as error: print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    expected = ["False False", "True", "module 'loraplex' has no attribute 'nothing'"]
    assert done.stdout.splitlines() == expected, done.stderr


def test_without_a_key_none_is_sent(gateway: FakeGateway) -> None:
    gateway.on("GET /readyz", {"status": "ready"})
    with Client(gateway.url) as client:
        assert client.ready() == {"status": "ready"}
    assert "authorization" not in gateway.asked[0].headers


def test_names_cannot_leave_their_place_in_the_path(gateway: FakeGateway, do: Do) -> None:
    with pytest.raises(errors.NotFound):
        do("delete_tenant", "a/../b?x#y")
    assert gateway.asked[0].path == "/admin/v1/tenants/a%2F..%2Fb%3Fx%23y"
    assert gateway.asked[0].query == ""


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://x", "http://"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match="write it like http://"):
        Client(url)


# pushes and archives


def test_push_of_parts_reports_the_bytes(gateway: FakeGateway, do: Do, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(b"w" * 300_000)
    gateway.on(f"POST {SUPPORT}/versions", {"version": 1}, 201)
    steps: list[int] = []
    parts = [UploadPart("adapter_config.json", b"{}"), UploadPart("weights", weights)]
    pushed = do("push", "acme", "support", parts, metadata={"reason": "why"}, sent=steps.append)
    assert pushed["version"] == 1
    assert gateway.asked[0].parts == {
        "metadata.json": b'{"reason": "why"}',
        "adapter_config.json": b"{}",
        "weights": b"w" * 300_000,
    }
    assert sum(steps) == 300_000
    assert max(steps) < 300_000
    assert "content-length" in gateway.asked[0].headers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "adapter"
    made.mkdir()
    (made / "adapter_config.json").write_text('{"r": 8}')
    (made / "adapter_model.safetensors").write_bytes(b"weights")
    return made


def test_push_of_a_folder_and_what_it_says_of_itself(
    gateway: FakeGateway, do: Do, folder: Path
) -> None:
    gateway.on(f"POST {SUPPORT}/versions", {"version": 1}, 201)
    do("push", "acme", "support", folder)
    assert set(gateway.asked[0].parts) == {"adapter_config.json", "adapter_model.safetensors"}
    own = {
        "serving_profile": {"stop": ["END"]},
        "lineage": {"dataset": "d1"},
        "evaluation": {"verdict": "passed"},
        "made_by": "another tool",
    }
    (folder / "metadata.json").write_text(json.dumps(own))
    do("push", "acme", "support", str(folder), metadata={"lineage": {"dataset": "d2"}})
    # A verdict counts only where whoever pushes says it.
    assert json.loads(gateway.asked[1].parts["metadata.json"]) == {
        "serving_profile": {"stop": ["END"]},
        "lineage": {"dataset": "d2"},
    }


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ({"serving_profile": {"tone": 1}}, "serving_profile.tone"),
        ({"lineage": {"parent": 0}}, "lineage.parent"),
        ({"lineage": 1}, "lineage"),
        ({"evaluation": {"verdict": "good"}}, "evaluation.verdict"),
    ],
)
def test_wrong_metadata_is_refused_before_anything_is_sent(
    gateway: FakeGateway, do: Do, folder: Path, metadata: Any, field: str
) -> None:
    with pytest.raises(errors.InvalidMetadata, match=f"^metadata: .*{field.split('.')[0]}") as bad:
        do("push", "acme", "support", folder, metadata=metadata)
    assert bad.value.param == field
    assert gateway.asked == []


def test_a_folder_that_holds_no_adapter(gateway: FakeGateway, do: Do, tmp_path: Path) -> None:
    with pytest.raises(errors.UnusableFolder, match="holds no adapter_config"):
        do("push", "acme", "support", tmp_path)
    assert gateway.asked == []


def test_push_needs_no_more_memory_for_a_large_file(gateway: FakeGateway, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    with weights.open("wb") as file:
        file.truncate(96 * 2**20)
    gateway.on(f"POST {SUPPORT}/versions", {"version": 1}, 201)
    program = f"""
import resource
from pathlib import Path
from loraplex import Client
from loraplex.client import UploadPart
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with Client({gateway.url!r}, "k") as client:
    try: client.tenants()
    except Exception: pass
    before = peak()
    client.push("acme", "support", [UploadPart("weights", Path({str(weights)!r}))])
print(peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 24 * 1024
    assert len(gateway.asked[-1].parts["weights"]) == 96 * 2**20


def test_an_import_sends_the_file(gateway: FakeGateway, do: Do, tmp_path: Path) -> None:
    tar = tmp_path / "acme.tar"
    tar.write_bytes(b"tar" * 100_000)
    gateway.on("POST /admin/v1/tenants/import", {"name": "other"}, 201)
    steps: list[int] = []
    assert do("import_tenant", tar, name="other", sent=steps.append) == {"name": "other"}
    (asked,) = gateway.asked
    assert asked.body == tar.read_bytes()
    assert asked.query == "name=other"
    assert asked.headers["content-type"] == "application/x-tar"
    assert asked.headers["content-length"] == "300000"
    assert sum(steps) == 300_000
    assert max(steps) < 300_000


def test_an_export_comes_block_by_block_with_its_length(gateway: FakeGateway, do: Do) -> None:
    gateway.on("GET /admin/v1/tenants/acme/export", b"tar" * 1_000_000)
    blocks: list[bytes] = []
    lengths: list[int] = []
    do("export_tenant", "acme", take=blocks.append, expect=lengths.append)
    assert b"".join(blocks) == b"tar" * 1_000_000
    assert len(blocks) > 1
    assert lengths == [3_000_000]


# what is raised


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.InvalidRequest),
        (401, errors.InvalidKey),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (412, errors.Stale),
        (413, errors.InvalidRequest),
        (503, errors.Unavailable),
        (507, errors.Refused),
    ],
)
def test_a_refusal_keeps_the_gateways_words(
    gateway: FakeGateway, do: Do, status: int, kind: type[LoraplexError]
) -> None:
    headers = {"x-request-id": "r1", "retry-after": "2"}
    gateway.refuse("POST /admin/v1/tenants", status, "No, because.", "code", "name", headers)
    with pytest.raises(LoraplexError) as caught:
        do("create_tenant", "acme")
    error = caught.value
    assert type(error) is kind
    assert str(error) == error.message == "No, because."
    assert (error.status, error.code, error.param) == (status, "code", "name")
    assert (error.request_id, error.retry_after_s) == ("r1", 2.0)


def test_no_error_holds_the_key(gateway: FakeGateway, do: Do) -> None:
    gateway.refuse("GET /admin/v1/tenants", 401, "The API key is not known.")
    with pytest.raises(errors.InvalidKey) as caught:
        do("tenants")
    assert KEY not in repr(caught.value) + str(vars(caught.value))


def test_a_refused_file_is_not_taken_for_it(gateway: FakeGateway, do: Do) -> None:
    blocks: list[bytes] = []
    with pytest.raises(errors.NotFound):
        do("read_file", "acme", "support", 3, "adapter_config.json", take=blocks.append)
    assert blocks == []


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = {line.split()[0] for line in (errors.__doc__ or "").replace("|", " ").split("+-- ")[1:]}
    kinds = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, LoraplexError)
    }
    assert drawn == kinds - {"LoraplexError"}


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


def test_nothing_there() -> None:
    url = f"http://127.0.0.1:{unused_port()}"
    with Client(url) as lost, pytest.raises(errors.Unreachable, match="`loraplex serve` running"):
        lost.tenants()

    async def awaited() -> None:
        async with AsyncClient(url) as client:
            await client.tenants()

    with pytest.raises(errors.Unreachable):
        asyncio.run(awaited())


@pytest.mark.parametrize("body", [b"<html>", {"data": None}, ["x"], {}])
def test_another_kind_of_server(gateway: FakeGateway, do: Do, body: object) -> None:
    gateway.on("GET /admin/v1/tenants", body)
    with pytest.raises(errors.NotAGateway, match=r"not answer like a .* gateway \(HTTP 200\)"):
        do("tenants")


def test_a_proxys_error_page(gateway: FakeGateway, do: Do) -> None:
    gateway.on("GET /admin/v1/tenants", b"<html>bad gateway</html>", 502)
    with pytest.raises(errors.NotAGateway, match="HTTP 502"):
        do("tenants")


def answering_once(answer: bytes) -> tuple[str, threading.Thread]:
    """A server of one connection that reads a little, says `answer` and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}", thread


HALF = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"


@pytest.mark.parametrize("answer", [b"", HALF], ids=["no answer", "half an answer"])
def test_a_connection_that_breaks_off(answer: bytes) -> None:
    url, thread = answering_once(answer)
    with Client(url) as client, pytest.raises(errors.BrokenOff, match="broke off"):
        client.tenants()
    thread.join()


def test_no_answer_in_time() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        Client(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.05) as client,
        pytest.raises(errors.TimedOut, match="took too long"),
    ):
        client.tenants()


def test_not_ready_is_an_answer(gateway: FakeGateway, do: Do) -> None:
    gateway.on("GET /readyz", {"status": "not_ready", "reason": "engine starting"}, 503)
    assert do("ready") == {"status": "not_ready", "reason": "engine starting"}
    gateway.on("GET /readyz", {})
    with pytest.raises(errors.NotAGateway):
        do("ready")


def test_loopback_does_not_go_through_a_proxy(
    gateway: FakeGateway, do: Do, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    gateway.on("GET /admin/v1/tenants", {"data": []})
    with Client(gateway.url, KEY) as client:
        assert client.tenants() == []
