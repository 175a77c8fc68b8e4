"""Adapters fetched from a bucket or the Hub: the two files under caps, or a clear reason."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from adapters_registry.artifacts import CONFIG_FILE, FILES, WEIGHTS_FILE
from adapters_registry.bucket import Place
from adapters_registry.errors import InvalidSource, SourceUnavailable
from adapters_registry.sources import HubRepo, fetch, parse_source
from tests.admin_gateway import AdminGateway, adapter_files, admin_gateway
from tests.http_server import serving
from tests.s3_server import S3Bucket

CAPS = {CONFIG_FILE: 100, WEIGHTS_FILE: 1000}
GOOD = {CONFIG_FILE: b"{}", WEIGHTS_FILE: b"w" * 1000}
PUSH = "/tenants/acme/adapters/support/versions"


# What names a source


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("s3://bucket/a/b", Place("bucket", "a/b")),
        ("hf://acme/support", HubRepo("acme/support", "main")),
        ("hf://acme/support-1.5_b@v2", HubRepo("acme/support-1.5_b", "v2")),
        ("hf://acme/support@refs/pr/1", HubRepo("acme/support", "refs/pr/1")),
    ],
)
def test_a_source_is_read(text: str, source: Place | HubRepo) -> None:
    assert parse_source(text) == source


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/etc/passwd",
        "file:///etc/passwd",
        "http://169.254.169.254/latest/meta-data",
        "https://huggingface.co/acme/support",
        "s3://",
        "s3://bucket/../other",
        "hf://support",
        "hf://acme/support/more",
        "hf://acme/../support",
        "hf://acme/support@../../x",
        "hf://acme/support@",
        "hf://acme/support?x=1",
        "hf://acme/support#x",
        "hf://user:password@acme/support",
        "hf://acme/support\n",
        "S3://bucket/a",
    ],
)
def test_what_is_no_source_is_refused(text: str) -> None:
    with pytest.raises(InvalidSource, match=r"must be") as refused:
        parse_source(text)
    assert refused.value.field == "source"


# A bucket


def _in_bucket(s3: S3Bucket, files: dict[str, bytes]) -> Place:
    for name, content in files.items():
        s3.write(f"one/{name}", content)
    return Place(s3.name, "adapters/one")


def test_the_two_files_come_from_a_bucket_and_nothing_else(s3: S3Bucket, tmp_path: Path) -> None:
    place = _in_bucket(s3, {**GOOD, "evil.py": b"import os", "README.md": b"#"})
    fetch(place, tmp_path, CAPS, s3_endpoint=s3.endpoint)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == GOOD


@pytest.mark.parametrize("name", FILES)
def test_a_file_larger_than_its_cap_is_not_fetched(name: str, s3: S3Bucket, tmp_path: Path) -> None:
    place = _in_bucket(s3, {**GOOD, name: b"x" * (CAPS[name] + 1)})
    with pytest.raises(InvalidSource, match=f"{name} is larger than {CAPS[name]} bytes"):
        fetch(place, tmp_path, CAPS, s3_endpoint=s3.endpoint)
    assert not (tmp_path / name).exists()


def test_a_file_that_is_not_there_is_named(s3: S3Bucket, tmp_path: Path) -> None:
    place = _in_bucket(s3, {CONFIG_FILE: b"{}"})
    with pytest.raises(InvalidSource, match=WEIGHTS_FILE):
        fetch(place, tmp_path, CAPS, s3_endpoint=s3.endpoint)


def test_a_bucket_that_is_not_there_is_told(s3: S3Bucket, tmp_path: Path) -> None:
    with pytest.raises(InvalidSource, match="does not exist"):
        fetch(Place("no-such-bucket", "one"), tmp_path, CAPS, s3_endpoint=s3.endpoint)


def test_a_bucket_that_does_not_answer_is_unavailable(s3: S3Bucket, tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match="check the endpoint and the network"):
        fetch(Place(s3.name, "one"), tmp_path, CAPS, s3_endpoint="http://127.0.0.1:9")


# The Hub


@dataclass
class FakeHub:
    """Answers as the Hub's resolve route does."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=lambda: dict(GOOD))
    seen: list[tuple[str, str | None]] = field(default_factory=list)
    """Paths asked for, with the authorization sent along."""

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/{owner}/{name}/resolve/{revision:path}/{file}", self.resolve),
                Route("/cdn/{file}", self.cdn),
            ]
        )

    async def resolve(self, request: Request) -> Response:
        self.seen.append((request.url.path, request.headers.get("authorization")))
        at = request.path_params
        match at["name"]:
            case "gated":
                return Response(status_code=403, headers={"x-error-code": "GatedRepo"})
            case "missing":
                return Response(status_code=401, headers={"x-error-code": "RepoNotFound"})
            case "broken":
                return Response(status_code=503)
            case "circle":
                return RedirectResponse(request.url.path)
            case "endless":
                return StreamingResponse(_endless())
            case "short":
                return StreamingResponse(_some(b"{}"), headers={"content-length": "50"})
        if at["revision"] != "main":
            return Response(status_code=404, headers={"x-error-code": "RevisionNotFound"})
        if at["file"] not in self.files:
            return Response(status_code=404, headers={"x-error-code": "EntryNotFound"})
        elsewhere = self.url.replace("127.0.0.1", "localhost")
        return RedirectResponse(f"{elsewhere}/cdn/{at['file']}")

    async def cdn(self, request: Request) -> Response:
        self.seen.append((request.url.path, request.headers.get("authorization")))
        return Response(self.files[request.path_params["file"]])


async def _endless() -> AsyncIterator[bytes]:
    for _ in range(256):
        yield b"x" * 65_536
        await asyncio.sleep(0)


async def _some(content: bytes) -> AsyncIterator[bytes]:
    yield content


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setenv("HF_TOKEN", "hf_operators_token")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    fake = FakeHub()
    with serving(fake.app()) as port:
        fake.url = f"http://127.0.0.1:{port}"
        yield fake


def test_the_two_files_come_from_the_hub(hub: FakeHub, tmp_path: Path) -> None:
    hub.files["tokenizer.json"] = b"{}"
    fetch(parse_source("hf://acme/support"), tmp_path, CAPS, hub_endpoint=hub.url)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == GOOD
    asked = [path for path, _ in hub.seen]
    assert asked == [
        f"/acme/support/resolve/main/{CONFIG_FILE}",
        f"/cdn/{CONFIG_FILE}",
        f"/acme/support/resolve/main/{WEIGHTS_FILE}",
        f"/cdn/{WEIGHTS_FILE}",
    ]


def test_the_token_goes_to_the_hub_and_not_to_where_it_sends_us(
    hub: FakeHub, tmp_path: Path
) -> None:
    fetch(parse_source("hf://acme/support"), tmp_path, CAPS, hub_endpoint=hub.url)
    sent = {path.startswith("/cdn/"): token for path, token in hub.seen}
    assert sent == {False: "Bearer hf_operators_token", True: None}


@pytest.mark.parametrize(
    ("source", "error", "reason"),
    [
        ("hf://acme/gated", InvalidSource, "gated: accept its terms"),
        ("hf://acme/missing", InvalidSource, "not on the Hub; a private one needs HF_TOKEN"),
        ("hf://acme/support@v9", InvalidSource, "no revision v9"),
        ("hf://acme/broken", SourceUnavailable, "the Hub answered 503"),
        ("hf://acme/circle", SourceUnavailable, "does not answer"),
        ("hf://acme/endless", InvalidSource, "is larger than 100 bytes"),
        ("hf://acme/short", SourceUnavailable, "does not answer"),
    ],
)
def test_what_the_hub_has_not_is_told(
    source: str, error: type[Exception], reason: str, hub: FakeHub, tmp_path: Path
) -> None:
    with pytest.raises(error, match=reason) as refused:
        fetch(parse_source(source), tmp_path, CAPS, hub_endpoint=hub.url)
    assert "hf_operators_token" not in str(refused.value)
    assert hub.url not in str(refused.value)


def test_a_repository_without_an_adapter_is_told(hub: FakeHub, tmp_path: Path) -> None:
    del hub.files[WEIGHTS_FILE]
    with pytest.raises(InvalidSource, match=f"has no file {WEIGHTS_FILE} at revision main"):
        fetch(parse_source("hf://acme/support"), tmp_path, CAPS, hub_endpoint=hub.url)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_hub_larger_than_its_cap_is_refused(
    name: str, hub: FakeHub, tmp_path: Path
) -> None:
    hub.files[name] = b"x" * (CAPS[name] + 1)
    with pytest.raises(InvalidSource, match=f"{name} is larger than {CAPS[name]} bytes"):
        fetch(parse_source("hf://acme/support"), tmp_path, CAPS, hub_endpoint=hub.url)


def test_a_hub_that_is_away_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match="check the network"):
        fetch(parse_source("hf://a/b"), tmp_path, CAPS, hub_endpoint="http://127.0.0.1:9")


# The route


@pytest.fixture
async def gateway(tmp_path: Path, s3: S3Bucket) -> AsyncIterator[AdminGateway]:
    async with admin_gateway(tmp_path) as found:
        parts: Any = found.parts
        parts.settings = parts.settings.model_copy(update={"s3_endpoint": s3.endpoint})
        await found.tenant("acme")
        yield found


async def test_a_version_is_pushed_from_a_source(gateway: AdminGateway, s3: S3Bucket) -> None:
    _in_bucket(s3, adapter_files(1))
    body = {
        "source": f"{s3.url}/one",
        "metadata": {
            "serving_profile": {"system_prompt": "Be brief."},
            "evaluation": {"verdict": "passed", "report": {"accuracy": 0.9}},
            "lineage": {"dataset": "tickets-3"},
            "reason": "from training",
        },
    }
    answer = await gateway.admin.post(PUSH, json=body)
    assert answer.status_code == 201, answer.text
    assert answer.json()["state"] == "passed"
    assert answer.json()["profile"] == {"system_prompt": "Be brief."}
    uploaded = await gateway.push(seed=1)
    assert uploaded["digest"] == answer.json()["digest"]
    assert list(gateway.parts.settings.staging_dir.iterdir()) == []


async def test_only_the_admin_key_names_a_source(gateway: AdminGateway, s3: S3Bucket) -> None:
    _in_bucket(s3, adapter_files(1))
    async with gateway.client(await gateway.key("acme")) as client:
        answer = await client.post(PUSH, json={"source": f"{s3.url}/one"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (
        403,
        "admin_key_needed",
        "source",
    )


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"source": "file:///etc/passwd"}, 400, "source"),
        ({"source": "s3://no-such-bucket/one"}, 400, "source"),
        ({"source": 5}, 400, "source"),
        ({}, 400, "source"),
        ({"source": "s3://no-such-bucket/one", "folder": "/etc"}, 400, "folder"),
        ({"source": "s3://b-b/one", "metadata": {"profile": {}}}, 400, "metadata.profile"),
    ],
)
async def test_a_bad_source_is_refused_by_field(
    gateway: AdminGateway, body: Any, status: int, param: str
) -> None:
    answer = await gateway.admin.post(PUSH, json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    assert gateway.parts.snapshots.current.tenants["acme"].adapters == {}


async def test_a_fetched_adapter_is_checked_as_an_upload_is(
    gateway: AdminGateway, s3: S3Bucket
) -> None:
    _in_bucket(s3, {**adapter_files(1), WEIGHTS_FILE: b"\x80\x04pickle"})
    answer = await gateway.admin.post(PUSH, json={"source": f"{s3.url}/one"})
    assert answer.status_code == 400
    assert "pickle" in answer.json()["error"]["message"]
    assert list(gateway.parts.settings.staging_dir.iterdir()) == []


async def test_the_caps_are_those_of_an_upload(tmp_path: Path, s3: S3Bucket) -> None:
    async with admin_gateway(tmp_path, upload_bytes=1024) as gateway:
        parts: Any = gateway.parts
        parts.settings = parts.settings.model_copy(update={"s3_endpoint": s3.endpoint})
        await gateway.tenant("acme")
        _in_bucket(s3, {**adapter_files(1), WEIGHTS_FILE: bytes(1025)})
        answer = await gateway.admin.post(PUSH, json={"source": f"{s3.url}/one"})
    assert answer.status_code == 400
    assert "larger than 1024 bytes" in answer.json()["error"]["message"]


async def test_a_bucket_that_is_away_is_a_502(gateway: AdminGateway) -> None:
    parts: Any = gateway.parts
    parts.settings = parts.settings.model_copy(update={"s3_endpoint": "http://127.0.0.1:9"})
    answer = await gateway.admin.post(PUSH, json={"source": "s3://some-bucket/one"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "source_unavailable")


async def test_the_source_is_no_secret_and_the_endpoint_is(
    gateway: AdminGateway, s3: S3Bucket
) -> None:
    answer: httpx.Response = await gateway.admin.post(PUSH, json={"source": "s3://some-bucket/x"})
    assert s3.endpoint not in json.dumps(answer.json())
