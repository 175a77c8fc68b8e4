"""The admin API's client against a real HTTP server: what it sends, what it says of failures."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from loraplex.admin_client import AdminClient, GatewayUnreachable, Refused, UploadPart
from loraplex.errors import CommandError
from tests.fake_gateway import FakeGateway, serving_fake

KEY = "lpx_0123456789abcdef_secret"


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with serving_fake() as running:
        yield running


@pytest.fixture
def client(gateway: FakeGateway) -> Iterator[AdminClient]:
    with AdminClient(gateway.url, KEY, key_source="LORAPLEX_KEY") as made:
        yield made


def test_the_key_goes_as_bearer(gateway: FakeGateway, client: AdminClient) -> None:
    gateway.on("GET /admin/v1/tenants", {"data": []})
    assert client.tenants() == []
    assert gateway.asked[0].headers["authorization"] == f"Bearer {KEY}"


def test_without_a_key_none_is_sent(gateway: FakeGateway) -> None:
    gateway.on("GET /readyz", {"status": "ready"})
    with AdminClient(gateway.url, None) as client:
        assert client.ready() == {"status": "ready"}
    assert "authorization" not in gateway.asked[0].headers


def test_each_call_asks_its_route(gateway: FakeGateway, client: AdminClient) -> None:
    adapter = "/admin/v1/tenants/acme/adapters/support"
    for method, path in [
        ("POST", "/admin/v1/tenants"),
        ("POST", "/admin/v1/tenants/acme/keys"),
        ("GET", f"{adapter}/versions/3"),
        ("POST", f"{adapter}/promote"),
        ("POST", f"{adapter}/rollback"),
    ]:
        gateway.on(f"{method} {path}", {})
    for path in [
        "tenants/acme/keys",
        "tenants/acme/adapters",
        "tenants/acme/adapters/support/versions",
        "tenants/acme/adapters/support/history",
        "engines",
    ]:
        gateway.on(f"GET /admin/v1/{path}", {"data": [1]})
    for path in [
        "tenants/acme",
        "tenants/acme/keys/ab",
        "tenants/acme/adapters/support/versions/3",
    ]:
        gateway.on(f"DELETE /admin/v1/{path}", b"", 204)
    client.create_tenant("acme")
    client.create_key("acme")
    client.version("acme", "support", 3)
    client.promote("acme", "support", 3)
    client.rollback("acme", "support")
    lists: list[object] = [client.keys("acme"), client.adapters("acme"), client.engines()]
    lists += [client.versions("acme", "support"), client.history("acme", "support")]
    assert lists == [[1]] * 5
    client.delete_tenant("acme")
    client.revoke_key("acme", "ab")
    client.delete_version("acme", "support", 3)
    assert len(gateway.asked) == len(gateway.answers)


def test_bodies_hold_only_what_was_said(gateway: FakeGateway, client: AdminClient) -> None:
    adapter = "/admin/v1/tenants/acme/adapters/support"
    for path in [f"{adapter}/promote", f"{adapter}/rollback", "/admin/v1/tenants/acme/keys"]:
        gateway.on(f"POST {path}", {})
    client.promote("acme", "support", 3)
    client.promote("acme", "support", 3, reason="better", force=True, if_match=7)
    client.rollback("acme", "support")
    client.rollback("acme", "support", to=1, reason="worse", if_match=8)
    client.create_key("acme")
    client.create_key("acme", name="ci", scopes=["manage"])
    assert [json.loads(asked.body) for asked in gateway.asked] == [
        {"version": 3},
        {"version": 3, "force": True, "reason": "better"},
        {},
        {"to": 1, "reason": "worse"},
        {},
        {"name": "ci", "scopes": ["manage"]},
    ]
    assert [asked.headers.get("if-match") for asked in gateway.asked[:4]] == [
        None,
        '"7"',
        None,
        '"8"',
    ]


def test_names_cannot_leave_their_place_in_the_path(
    gateway: FakeGateway, client: AdminClient
) -> None:
    with pytest.raises(Refused):
        client.delete_tenant("a/../b?x#y")
    assert gateway.asked[0].path == "/admin/v1/tenants/a%2F..%2Fb%3Fx%23y"


def test_push_sends_the_parts_and_reports_the_bytes(
    gateway: FakeGateway, client: AdminClient, tmp_path: Path
) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(b"w" * 300_000)
    gateway.on("POST /admin/v1/tenants/acme/adapters/support/versions", {"version": 1}, 201)
    steps: list[int] = []
    pushed = client.push(
        "acme",
        "support",
        [
            UploadPart("metadata.json", b"{}"),
            UploadPart("adapter_model.safetensors", weights),
        ],
        sent=steps.append,
    )
    assert pushed["version"] == 1
    assert gateway.asked[0].parts == {
        "metadata.json": b"{}",
        "adapter_model.safetensors": b"w" * 300_000,
    }
    assert sum(steps) == 300_000
    assert max(steps) < 300_000
    assert "content-length" in gateway.asked[0].headers


def test_push_needs_no_more_memory_for_a_large_file(gateway: FakeGateway, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    with weights.open("wb") as file:
        file.truncate(96 * 2**20)
    gateway.on("POST /admin/v1/tenants/acme/adapters/support/versions", {"version": 1}, 201)
    program = f"""
import resource
from pathlib import Path
from loraplex.admin_client import AdminClient, UploadPart
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with AdminClient({gateway.url!r}, "k") as client:
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


def test_a_refusal_keeps_the_gateways_words(gateway: FakeGateway, client: AdminClient) -> None:
    gateway.refuse("POST /admin/v1/tenants", 409, "Tenant acme is there already.", "exists")
    with pytest.raises(Refused) as caught:
        client.create_tenant("acme")
    assert caught.value.message == "Tenant acme is there already."
    assert (caught.value.status, caught.value.code) == (409, "exists")


def test_401_names_the_source_of_the_key_and_never_the_key(
    gateway: FakeGateway, client: AdminClient
) -> None:
    gateway.refuse("GET /admin/v1/tenants", 401, "no", "invalid_api_key")
    with pytest.raises(Refused, match="does not know the key from LORAPLEX_KEY; pass --key"):
        client.tenants()
    with pytest.raises(Refused) as caught:
        client.tenants()
    assert KEY not in caught.value.message


def test_401_without_a_key_says_where_one_was_looked_for(gateway: FakeGateway) -> None:
    gateway.refuse("GET /admin/v1/tenants", 401, "no")
    with (
        AdminClient(gateway.url, None, key_source="the file /data/admin.key") as client,
        pytest.raises(Refused, match="there is none in the file /data/admin"),
    ):
        client.tenants()


def test_nothing_there(client: AdminClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with (
        AdminClient(f"http://127.0.0.1:{port}", KEY) as lost,
        pytest.raises(GatewayUnreachable, match="is `loraplex serve` running"),
    ):
        lost.tenants()


@pytest.mark.parametrize("body", [b"<html>", {"data": None}, ["x"], {}])
def test_another_kind_of_server(gateway: FakeGateway, client: AdminClient, body: object) -> None:
    gateway.on("GET /admin/v1/tenants", body)
    with pytest.raises(CommandError, match=r"does not answer like a Loraplex gateway \(HTTP 200\)"):
        client.tenants()


def test_a_proxys_error_page(gateway: FakeGateway, client: AdminClient) -> None:
    gateway.on("GET /admin/v1/tenants", b"<html>bad gateway</html>", 502)
    with pytest.raises(CommandError, match="HTTP 502"):
        client.tenants()


def test_a_connection_that_breaks_off() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1)

        thread = threading.Thread(target=hang_up)
        thread.start()
        with (
            AdminClient(f"http://127.0.0.1:{listener.getsockname()[1]}", KEY) as client,
            pytest.raises(CommandError, match="broke off"),
        ):
            client.tenants()
        thread.join()


def test_not_ready_is_an_answer(gateway: FakeGateway, client: AdminClient) -> None:
    gateway.on("GET /readyz", {"status": "not_ready", "reason": "engine starting"}, 503)
    assert client.ready() == {"status": "not_ready", "reason": "engine starting"}


def test_loopback_does_not_go_through_a_proxy(
    gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    gateway.on("GET /admin/v1/tenants", {"data": []})
    with AdminClient(gateway.url, KEY) as client:
        assert client.tenants() == []
