"""Hostile uploads to the real gateway: refused, nothing left of them, memory within bounds."""

import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import httpx
import pytest

from adapters_registry.safetensors_header import MAX_HEADER_BYTES
from tests.adapters_for_tests import good_adapter, raw_safetensors
from tests.fake_engine import FakeEngine
from tests.process_memory import Memory
from tests.running_gateway import ADMIN_KEY, BASE, RunningGateway, TinyModel, running_gateway

CONFIG, WEIGHTS, METADATA = "adapter_config.json", "adapter_model.safetensors", "metadata.json"
UPLOAD_BYTES = 8 * 2**20
HEADER_BYTES = 4 * 2**20
MOST_GROWTH_MIB = 256
"""A header of the largest size allowed, full of tensors, takes the most."""

Parts = list[tuple[str, bytes]]


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: TinyModel
) -> Iterator[RunningGateway]:
    fake = FakeEngine.start("--served-model-name", BASE)
    folder = tmp_path_factory.mktemp("hostile")
    limits = {"upload_bytes": UPLOAD_BYTES}
    with running_gateway(fake, folder, tiny_model, limits=limits) as running:
        neighbour = good_adapter(folder / "neighbour", running.base)
        assert send(running, files_of(neighbour), adapter="neighbour").status_code == 201
        yield running
    fake.stop()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, tiny_model: TinyModel) -> dict[str, bytes]:
    """The two files of an adapter that the gateway takes."""
    return dict(files_of(good_adapter(tmp_path_factory.mktemp("good"), tiny_model.spec, seed=9)))


def files_of(folder: Path) -> Parts:
    return [(name, (folder / name).read_bytes()) for name in (CONFIG, WEIGHTS)]


def send(gateway: RunningGateway, parts: Parts, adapter: str = "support") -> httpx.Response:
    files = [(name, (name, content)) for name, content in parts]
    path = f"/admin/v1/tenants/acme/adapters/{adapter}/versions"
    return gateway.call("POST", path, key=ADMIN_KEY, files=files, timeout=120)


def versions_of(gateway: RunningGateway) -> dict[str, list[int]]:
    """The numbers of every adapter's versions."""
    adapters = gateway.admin("GET", "/tenants/acme/adapters").json()["data"]
    return {each["adapter"]: [one["version"] for one in each["versions"]] for each in adapters}


def everything_below(folder: Path) -> dict[str, int]:
    """All files but the database's own, with their sizes."""
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("registry.db")
    }


def crowded_header() -> bytes:
    """As many tensors as a header may name, none of them there."""
    header = bytearray(b"{")
    number = 0
    while len(header) < HEADER_BYTES - 200:
        header += b'"t%d":{"dtype":"F32","shape":[],"data_offsets":[0,0]},' % number
        number += 1
    return bytes(header[:-1]) + b"}"


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@dataclass(frozen=True)
class Attack:
    """What is changed of a good upload, and the field that the refusal names."""

    name: str
    change: Callable[[dict[str, bytes]], Parts]
    status: int = 400
    param: str | None = WEIGHTS


def weights(content: bytes) -> Callable[[dict[str, bytes]], Parts]:
    return lambda good: [(CONFIG, good[CONFIG]), (WEIGHTS, content)]


def config(**fields: object) -> Callable[[dict[str, bytes]], Parts]:
    return lambda good: [
        (CONFIG, json.dumps({**json.loads(good[CONFIG]), **fields}).encode()),
        (WEIGHTS, good[WEIGHTS]),
    ]


def metadata(content: bytes) -> Callable[[dict[str, bytes]], Parts]:
    return lambda good: [*good.items(), (METADATA, content)]


def extra(name: str) -> Callable[[dict[str, bytes]], Parts]:
    return lambda good: [*good.items(), (name, b"import os")]


def zipped() -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("../../../etc/cron.d/evil", "boom")
    return out.getvalue()


ATTACKS = [
    # code in weights
    Attack("a pickle", weights(b"\x80\x04cos\nsystem\n(S'true'\ntR.")),
    Attack("a zip that climbs out", weights(zipped())),
    Attack("auto_map", config(auto_map={"AutoModel": "evil.Model"}), param="auto_map"),
    # hostile safetensors
    Attack("no file at all", weights(b"")),
    Attack("a length beyond the file", weights(struct.pack("<Q", 1000) + b"{}")),
    Attack("a length of 2**64-1", weights(b"\xff" * 8 + b"{}")),
    Attack("a header over the cap", weights(raw_safetensors(b"{" + b" " * HEADER_BYTES + b"}"))),
    Attack("a crowded header", weights(raw_safetensors(crowded_header())), param="t0"),
    Attack("a deep header", weights(raw_safetensors(b'{"a":' + nested(500_000) + b"}"))),
    Attack("a header that names a tensor twice", weights(raw_safetensors(b'{"a":{},"a":{}}'))),
    Attack("a number without end", weights(raw_safetensors(b'{"a":' + b"9" * 100_000 + b"}"))),
    Attack("sizes that overflow", weights(raw_safetensors(
        {"a": {"dtype": "F32", "shape": [2**52] * 8, "data_offsets": [0, 2**52]}}
    )), param="a"),
    # floods
    Attack("weights over the cap", weights(bytes(UPLOAD_BYTES + 1)), status=413),
    Attack("a config over the cap", lambda good: [(CONFIG, b" " * (2**20 + 1))], 413, CONFIG),
    Attack("a deep config", lambda good: [
        (CONFIG, b'{"r":' + nested(400_000) + b"}"), (WEIGHTS, good[WEIGHTS])
    ], param=CONFIG),
    Attack("a config with a pattern that runs away",
           config(rank_pattern={"(a+)+$": 4}), param="rank_pattern.(a+)+$"),
    Attack("deep metadata", metadata(
        b'{"lineage":{"recipe":{"a":' + nested(400_000) + b"}}}"), param=METADATA),
    Attack("metadata over the cap", metadata(b" " * (2**20 + 1)), 413, METADATA),
    Attack("metadata that names a path", metadata(b'{"file":"/etc/passwd"}'),
           param="metadata.json: file"),
    Attack("the same part a thousand times",
           lambda good: [(CONFIG, good[CONFIG])] * 1000, param=CONFIG),
    # paths
    Attack("a part that climbs out", extra("../../evil.py"), param=None),
    Attack("an absolute part", extra("/etc/cron.d/evil"), param=None),
    Attack("a part of another kind", extra("tokenizer.json"), param=None),
    Attack("a part with a NUL", extra("adapter_config.json\0.py"), param=None),
]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_it_is_refused_and_leaves_nothing(
    attack: Attack, gateway: RunningGateway, good: dict[str, bytes]
) -> None:
    data_dir = gateway.log_file.parent / "data"
    before, versions = everything_below(data_dir), versions_of(gateway)
    memory = Memory(gateway.process.pid)
    answer = send(gateway, attack.change(good))
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (attack.status, attack.param), error
    assert len(error["message"]) < 1000
    assert str(data_dir) not in answer.text
    assert memory.growth_mib() < MOST_GROWTH_MIB
    assert everything_below(data_dir) == before
    assert versions_of(gateway) == versions


def test_names_in_the_path_climb_nowhere(gateway: RunningGateway, good: dict[str, bytes]) -> None:
    data_dir = gateway.log_file.parent / "data"
    before = everything_below(data_dir)
    for adapter in ("..", "%2e%2e", "a%2f..%2f..", "a%00", "A", "-a", "a" * 64):
        assert send(gateway, list(good.items()), adapter=adapter).status_code in (400, 404)
    assert everything_below(data_dir) == before


def test_after_all_of_it_a_good_upload_is_taken(
    gateway: RunningGateway, good: dict[str, bytes]
) -> None:
    assert send(gateway, list(good.items())).status_code == 201
    assert gateway.admin("POST", "/verify", json={}).json()["damaged"] == []


def test_the_crowded_header_is_as_large_as_it_may_be() -> None:
    assert HEADER_BYTES - 300 < len(crowded_header()) <= HEADER_BYTES == MAX_HEADER_BYTES
