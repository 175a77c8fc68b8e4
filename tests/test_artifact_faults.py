"""The real gateway with large adapters, a bucket, a full disk and flipped bytes."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters_registry.artifacts import CONFIG_FILE, WEIGHTS_FILE
from adapters_registry.base_model import BaseModelSpec, load_spec
from tests.adapters_for_tests import good_adapter, make_config
from tests.described import described
from tests.fake_engine import FakeEngine
from tests.process_memory import Memory
from tests.running_gateway import ADMIN_KEY, BASE, RunningGateway, TinyModel, running_gateway
from tests.s3_server import S3Bucket
from tests.small_disk import small_disk_at
from tests.test_housekeeping import flip_a_byte

RANK = 256
WIDTH = 8192
PAIR_BYTES = 2 * RANK * WIDTH * 4
"""Of the two matrices of one module: 16 MiB."""

MOST_GROWTH_MIB = 64
VERSIONS = "/tenants/acme/adapters/support/versions"


@pytest.fixture(scope="module")
def wide_model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """A base model whose adapters are large."""
    folder = tmp_path_factory.mktemp("wide")
    (folder / "model").mkdir()
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 64,
        "num_key_value_heads": 64,
        "vocab_size": 64,
        "max_position_embeddings": 128,
    }
    (folder / "model" / "config.json").write_text(json.dumps(config))
    spec = load_spec(folder / "model", described(folder / "cache", folder / "model"))
    return TinyModel(folder / "model", folder / "cache", spec)


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    """A fake engine of the gateway's base model."""
    fake = FakeEngine.start("--served-model-name", BASE)
    yield fake
    fake.stop()


def wide_adapter(folder: Path, base: BaseModelSpec, pairs: int) -> Path:
    """A good adapter of `pairs` times 16 MiB that takes next to nothing on disk: it is sparse."""
    targets = ("q_proj", "k_proj", "v_proj", "o_proj")
    modules = [path for path in base.modules if path.rpartition(".")[2] in targets][:pairs]
    assert len(modules) == pairs
    header: dict[str, Any] = {}
    end = 0
    for path in modules:
        for letter, shape in (("A", [RANK, WIDTH]), ("B", [WIDTH, RANK])):
            start, end = end, end + RANK * WIDTH * 4
            name = f"base_model.model.{path}.lora_{letter}.weight"
            header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    content = json.dumps(header).encode()
    folder.mkdir()
    (folder / CONFIG_FILE).write_text(
        json.dumps(make_config(base, rank=RANK, target_modules=list(targets)))
    )
    with (folder / WEIGHTS_FILE).open("wb") as file:
        file.write(len(content).to_bytes(8, "little") + content)
        for side in range(2):
            file.seek(8 + len(content) + side * RANK * WIDTH * 4)
            file.write(b"\0\0\x80\x3f")  # 1.0
        file.truncate(8 + len(content) + end)
    return folder


def upload(gateway: RunningGateway, folder: Path, adapter: str = "support") -> httpx.Response:
    """Sends the two files as they lie on disk."""
    with (folder / CONFIG_FILE).open("rb") as config, (folder / WEIGHTS_FILE).open("rb") as weights:
        return httpx.post(
            f"{gateway.url}/admin/v1/tenants/acme/adapters/{adapter}/versions",
            files={CONFIG_FILE: (CONFIG_FILE, config), WEIGHTS_FILE: (WEIGHTS_FILE, weights)},
            headers={"authorization": f"Bearer {ADMIN_KEY}"},
            timeout=300,
            trust_env=False,
        )


def ask(gateway: RunningGateway, model: str) -> httpx.Response:
    return gateway.post("/v1/completions", {"model": model, "prompt": "x", "max_tokens": 2})


def stored_at(gateway: RunningGateway, folder: Path, number: int, adapter: str = "support") -> Path:
    path = f"/tenants/acme/adapters/{adapter}/versions/{number}"
    digest: str = gateway.admin("GET", path).json()["digest"]
    return folder / "data" / "artifacts" / digest[:2] / digest


def test_200_mb_go_to_a_bucket_and_come_back_in_flat_memory(
    engine: FakeEngine, tmp_path: Path, wide_model: TinyModel, s3: S3Bucket
) -> None:
    folder = wide_adapter(tmp_path / "in", wide_model.spec, 12)
    assert (folder / WEIGHTS_FILE).stat().st_size > 200_000_000
    with running_gateway(
        engine,
        tmp_path,
        wide_model,
        artifacts_url=s3.url,
        s3_endpoint=s3.endpoint,
        max_lora_rank=RANK,
    ) as gateway:
        memory = Memory(gateway.process.pid)
        answer = upload(gateway, folder)
        assert answer.status_code == 201, answer.text
        assert memory.growth_mib() < MOST_GROWTH_MIB
        digest = answer.json()["digest"]
        assert {each.key: each.size_bytes for each in s3.open().listing()} == {
            f"{digest[:2]}/{digest}/{name}": (folder / name).stat().st_size
            for name in (CONFIG_FILE, WEIGHTS_FILE)
        }
        shutil.rmtree(stored_at(gateway, tmp_path, 1))
        memory = Memory(gateway.process.pid)
        assert _sha256_of(gateway, WEIGHTS_FILE) == _sha256(folder / WEIGHTS_FILE)
        assert memory.growth_mib() < MOST_GROWTH_MIB
        memory = Memory(gateway.process.pid)
        fetched = gateway.admin(
            "POST", "/tenants/acme/adapters/other/versions", json={"source": _copy_of(s3, digest)}
        )
        assert fetched.json()["digest"] == digest
        assert memory.growth_mib() < MOST_GROWTH_MIB


def _copy_of(s3: S3Bucket, digest: str) -> str:
    """The stored content is itself a source."""
    return f"{s3.url}/{digest[:2]}/{digest}"


def _sha256_of(gateway: RunningGateway, name: str) -> str:
    url = f"{gateway.url}/admin/v1{VERSIONS}/1/files/{name}"
    sha256 = hashlib.sha256()
    with httpx.stream(
        "GET", url, headers={"authorization": f"Bearer {ADMIN_KEY}"}, timeout=300, trust_env=False
    ) as answer:
        assert answer.status_code == 200
        for piece in answer.iter_bytes():
            sha256.update(piece)
    return sha256.hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def test_an_engine_gets_from_the_bucket_what_is_missing_or_damaged_here(
    engine: FakeEngine, tmp_path: Path, tiny_model: TinyModel, s3: S3Bucket
) -> None:
    with running_gateway(
        engine, tmp_path, tiny_model, artifacts_url=s3.url, s3_endpoint=s3.endpoint
    ) as gateway:
        for seed in range(1, 4):
            folder = good_adapter(tmp_path / f"in{seed}", gateway.base, seed=seed)
            assert upload(gateway, folder).status_code == 201
        _forget_everything(gateway, *(f"{VERSIONS}/{number}" for number in (1, 2, 3)))
        missing, damaged, lost = (stored_at(gateway, tmp_path, number) for number in (1, 2, 3))
        shutil.rmtree(missing)
        flip_a_byte(damaged / WEIGHTS_FILE)
        shutil.rmtree(lost)
        s3.delete(f"{lost.parent.name}/{lost.name}/{WEIGHTS_FILE}")
        for number in (1, 2):
            assert ask(gateway, f"support@{number}").status_code == 200
        refused = ask(gateway, "support@3")
        assert (refused.status_code, refused.json()["error"]["code"]) == (502, "adapter_damaged")
        assert ask(gateway, "support@1").status_code == 200
        found = gateway.admin("POST", "/verify", json={}).json()
        assert [(each["version"], each["damage"]) for each in found["damaged"]] == [
            ("acme/support@3", "missing")
        ]
        assert upload(gateway, tmp_path / "in3").status_code == 201
        assert ask(gateway, "support@3").status_code == 200


def _forget_everything(gateway: RunningGateway, *versions: str) -> None:
    """Once all are proved, and so will not be loaded by themselves any more, the engine forgets."""
    gateway.wait_for(
        lambda: {gateway.admin("GET", at).json()["proof"] for at in versions} == {"proved"},
        deadline_s=60,
    )
    gateway.fake.control(forget_adapters=True)


def test_a_flipped_byte_is_refused_named_and_healed_and_neighbours_are_unharmed(
    engine: FakeEngine, tmp_path: Path, tiny_model: TinyModel
) -> None:
    with running_gateway(engine, tmp_path, tiny_model) as gateway:
        for adapter, seed in (("support", 1), ("sales", 2)):
            folder = good_adapter(tmp_path / adapter, gateway.base, seed=seed)
            assert upload(gateway, folder, adapter).status_code == 201
        _forget_everything(gateway, f"{VERSIONS}/1", "/tenants/acme/adapters/sales/versions/1")
        flip_a_byte(stored_at(gateway, tmp_path, 1) / WEIGHTS_FILE)
        refused = ask(gateway, "support@1")
        error = refused.json()["error"]
        assert (refused.status_code, error["code"]) == (502, "adapter_damaged")
        assert error["message"] == (
            "The files of acme/support@1 are damaged; push the adapter again."
        )
        assert ask(gateway, "sales@1").status_code == 200
        found = gateway.admin("POST", "/verify", json={}).json()
        assert [each["version"] for each in found["damaged"]] == ["acme/support@1"]
        assert upload(gateway, tmp_path / "support").json()["version"] == 2
        assert gateway.admin("POST", "/verify", json={}).json() == {"checked": 2, "damaged": []}
        assert ask(gateway, "support@1").status_code == 200


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Of 24 MiB."""
    with small_disk_at(tmp_path / "data", 24) as folder:
        yield folder


def test_a_full_disk_refuses_a_push_and_harms_nothing_else(
    engine: FakeEngine, tmp_path: Path, wide_model: TinyModel, small_disk: Path
) -> None:
    with running_gateway(engine, tmp_path, wide_model, max_lora_rank=RANK) as gateway:
        neighbour = good_adapter(tmp_path / "small", gateway.base, rank=1)
        assert upload(gateway, neighbour, "sales").status_code == 201
        # It fits once, as an upload, and not a second time, in the store.
        refused = upload(gateway, wide_adapter(tmp_path / "large", gateway.base, 1))
        _is_507(refused, small_disk)
        assert (
            gateway.admin("GET", "/tenants/acme/adapters").json()["data"][0]["adapter"] == "sales"
        )
        _fill(small_disk / "filler")
        again = good_adapter(tmp_path / "more", gateway.base, rank=1, seed=5)
        _is_507(upload(gateway, again, "sales"), small_disk)
        _is_507(
            gateway.call("POST", "/admin/v1/tenants", key=ADMIN_KEY, json={"name": "x"}), small_disk
        )
        assert ask(gateway, "sales@1").status_code == 200
        (small_disk / "filler").unlink()
        assert upload(gateway, again, "sales").json()["version"] == 2
        assert ask(gateway, "sales@2").status_code == 200
        assert gateway.admin("POST", "/verify", json={}).json() == {"checked": 2, "damaged": []}
        for folder in ("staging", "artifacts/tmp"):
            assert list((small_disk / folder).iterdir()) == []


def _is_507(answer: httpx.Response, disk: Path) -> None:
    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "storage_failed")
    assert "Nothing was changed" in answer.json()["error"]["message"]
    assert str(disk) not in answer.text


def _fill(file: Path) -> None:
    with file.open("wb", buffering=0) as filler:
        for size in (2**16, 2**12, 2**8, 1):
            try:
                while True:
                    filler.write(bytes(size))
            except OSError:
                continue
