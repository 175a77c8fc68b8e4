"""`loraplex adapters pull` against a real HTTP server: the folder is right, or there is none."""

import asyncio
import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from loraplex import AsyncClient, Client
from loraplex.cli import app
from loraplex.client import errors
from loraplex.client.answers import VersionRecord, VersionState
from tests.fake_gateway import FakeGateway, serving_fake

ADAPTER = "/admin/v1/tenants/acme/adapters/support"
FILES = {"adapter_config.json": b'{"r": 8}', "adapter_model.safetensors": b"weights" * 100_000}
NO_PROFILE: dict[str, Any] = {
    "system_prompt": None,
    "sampling": {"temperature": None, "top_p": None},
    "stop": [],
    "chat_template": None,
}


def digest_of(files: dict[str, bytes]) -> str:
    """As `sha256sum adapter_config.json adapter_model.safetensors | sha256sum` prints it."""
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def version(
    number: int, state: VersionState = "candidate", profile: Any = NO_PROFILE
) -> VersionRecord:
    return {
        "version": number,
        "digest": digest_of(FILES),
        "state": state,
        "verdict": None,
        "proof": "unproved",
        "rank": 8,
        "size_bytes": sum(map(len, FILES.values())),
        "warnings": [],
        "profile": profile,
        "created_at": "2026-01-31T12:00:00+00:00",
        "created_by": "admin",
        "summary": {},
        "files": {},
        "lineage": {},
        "evaluation": None,
        "proof_figures": None,
    }


def offer(gateway: FakeGateway, body: VersionRecord) -> None:
    path = f"{ADAPTER}/versions/{body['version']}"
    gateway.on(f"GET {path}", body)
    for name, content in FILES.items():
        gateway.on(f"GET {path}/files/{name}", content)


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with serving_fake() as running:
        yield running


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the command is run in, empty."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def pull(gateway: FakeGateway, *words: str) -> Result:
    flags = ["--url", gateway.url, "--key", "k"]
    return CliRunner().invoke(app, ["adapters", "pull", *words, *flags])


def content_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_version_into_a_folder_of_its_name(gateway: FakeGateway, here: Path) -> None:
    offer(gateway, version(3))
    result = pull(gateway, "acme/support@3")
    assert result.exit_code == 0, result.output
    digest = digest_of(FILES)[:12]
    assert result.stdout == f"Pulled acme/support@3, digest {digest}, into support-3.\n"
    assert result.stderr == ""
    assert [one.name for one in here.iterdir()] == ["support-3"]
    assert content_of(here / "support-3") == FILES


def test_without_a_number_the_live_one(gateway: FakeGateway, here: Path) -> None:
    versions = [version(3), version(2, "live"), version(1, "retired")]
    gateway.on(f"GET {ADAPTER}/versions", {"data": versions})
    offer(gateway, versions[1])
    result = pull(gateway, "acme/support", "--json")
    assert json.loads(result.stdout) == {**versions[1], "path": "support-2"}
    assert content_of(here / "support-2") == FILES


def test_no_live_version(gateway: FakeGateway, here: Path) -> None:
    gateway.on(f"GET {ADAPTER}/versions", {"data": [version(3)]})
    result = pull(gateway, "acme/support")
    assert result.exit_code == 1
    assert "acme/support has no live version; write acme/support@N" in result.stderr


def test_the_serving_profile_comes_as_metadata(gateway: FakeGateway, here: Path) -> None:
    said = {"system_prompt": "Sé breve.", "sampling": {"temperature": 0.0}, "stop": ["END"]}
    profile = {**NO_PROFILE, **said, "sampling": {"temperature": 0.0, "top_p": None}}
    offer(gateway, version(3, profile=profile))
    assert pull(gateway, "acme/support@3").exit_code == 0
    metadata = json.loads((here / "support-3" / "metadata.json").read_text())
    assert metadata == {"serving_profile": said}


def test_the_lineage_comes_too_without_a_parent_of_another_adapter(
    gateway: FakeGateway, here: Path
) -> None:
    found = version(3)
    found["lineage"] = {"base": {"name": "tiny"}, "dataset": "d1", "parent": 2}
    offer(gateway, found)
    assert pull(gateway, "acme/support@3").exit_code == 0
    metadata = json.loads((here / "support-3" / "metadata.json").read_text())
    assert metadata == {"lineage": {"base": {"name": "tiny"}, "dataset": "d1"}}


def test_a_folder_that_is_empty_may_be_filled(gateway: FakeGateway, here: Path) -> None:
    offer(gateway, version(3))
    (here / "empty").mkdir()
    assert pull(gateway, "acme/support@3", "--out", "empty").exit_code == 0
    assert content_of(here / "empty") == FILES


def test_nothing_is_overwritten(gateway: FakeGateway, here: Path) -> None:
    offer(gateway, version(3))
    (here / "full").mkdir()
    (here / "full" / "mine").write_bytes(b"mine")
    (here / "file").write_bytes(b"mine")
    (here / "link").symlink_to(here / "nowhere")
    for out, said in [
        ("full", "is not empty"),
        ("file", "is no folder"),
        ("link", "is no folder"),
        (".", "is the folder you are in"),
    ]:
        result = pull(gateway, "acme/support@3", "--out", out)
        assert result.exit_code == 2
        assert said in result.stderr
    assert sorted(one.name for one in here.iterdir()) == ["file", "full", "link"]
    assert content_of(here / "full") == {"mine": b"mine"}


@pytest.mark.parametrize("name", list(FILES))
def test_content_of_another_digest_is_not_kept(gateway: FakeGateway, here: Path, name: str) -> None:
    offer(gateway, version(3))
    gateway.on(f"GET {ADAPTER}/versions/3/files/{name}", FILES[name][:-1] + b"?")
    result = pull(gateway, "acme/support@3")
    assert result.exit_code == 1
    assert "what came is not acme/support@3: its digest is" in result.stderr
    assert list(here.iterdir()) == []


def test_a_refusal_leaves_nothing(gateway: FakeGateway, here: Path) -> None:
    offer(gateway, version(3))
    path = f"{ADAPTER}/versions/3/files/adapter_model.safetensors"
    gateway.refuse(f"GET {path}", 507, "The disk is damaged.")
    result = pull(gateway, "acme/support@3")
    assert (result.exit_code, result.stderr) == (1, "error: The disk is damaged.\n")
    assert list(here.iterdir()) == []


def test_an_answer_that_breaks_off_leaves_nothing(here: Path) -> None:
    record = json.dumps(version(3)).encode()
    whole = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(record), record)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def break_off() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(whole)
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")

        thread = threading.Thread(target=break_off)
        thread.start()
        with (
            Client(f"http://127.0.0.1:{listener.getsockname()[1]}", "k") as client,
            pytest.raises(errors.BrokenOff, match="broke off"),
        ):
            client.download("acme", "support", 3, here / "out")
        thread.join()
    assert list(here.iterdir()) == []


def test_a_folder_that_cannot_be_made(gateway: FakeGateway, here: Path) -> None:
    offer(gateway, version(3))
    (here / "file").write_bytes(b"")
    result = pull(gateway, "acme/support@3", "--out", "file/out")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith("error: cannot write file/out: ")


def test_each_block_is_reported(gateway: FakeGateway, here: Path) -> None:
    offer(gateway, version(3))
    steps: list[int] = []
    with Client(gateway.url, "k") as client:
        record = client.download("acme", "support", 3, here / "out", received=steps.append)
    assert record == version(3)
    assert sum(steps) == version(3)["size_bytes"]
    assert max(steps) < len(FILES["adapter_model.safetensors"])


def test_the_awaited_client_makes_the_same_folder(gateway: FakeGateway, here: Path) -> None:
    async def download(out: str) -> VersionRecord:
        async with AsyncClient(gateway.url, "k") as client:
            return await client.download("acme", "support", 3, here / out)

    offer(gateway, version(3))
    assert asyncio.run(download("out")) == version(3)
    assert content_of(here / "out") == FILES
    with pytest.raises(errors.UnusableFolder, match="is not empty"):
        asyncio.run(download("out"))
    path = f"{ADAPTER}/versions/3/files/adapter_model.safetensors"
    gateway.on(f"GET {path}", b"other weights")
    with pytest.raises(errors.Damaged, match="what came is not acme/support@3"):
        asyncio.run(download("other"))
    assert [one.name for one in here.iterdir()] == ["out"]
