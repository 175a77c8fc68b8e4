"""The admin routes on a real registry, with a stand-in for the engine."""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI
from pydantic import SecretStr
from safetensors.numpy import save

from adapters_registry.artifacts import ArtifactStore
from adapters_registry.base_model import BaseModelSpec, ModuleSpec
from adapters_registry.database import Database
from adapters_registry.registry import Registry
from adapters_registry.types import Proof, ProofState, Version
from gateway import admin_api, error_handlers
from gateway.config import Limits, Settings, Timeouts
from gateway.engine import EngineState
from gateway.errors import GatewayError
from gateway.key_use import KeyUse
from gateway.siblings import Siblings
from gateway.snapshots import Snapshots

ADMIN_KEY = "the-admin-key-of-this-test"
BASE_NAME = "base"
_MODULE = "model.layers.0.self_attn.q_proj"
_WIDTH = 8

BASE = BaseModelSpec(
    name="tiny",
    architecture="LlamaForCausalLM",
    model_type="llama",
    config_sha256="0" * 64,
    modules={_MODULE: ModuleSpec(kind="linear", out_features=_WIDTH, in_features=_WIDTH)},
    max_model_len=128,
    chat_template=None,
)


@dataclass
class StandInEngine:
    """Records what it is asked to load. refuses: raised instead. busy: calls in flight.

    holds: first digits of contents.
    """

    state: EngineState = EngineState.UP
    loads: list[str] = field(default_factory=list)
    refuses: GatewayError | None = None
    busy: dict[str, int] = field(default_factory=dict)
    holds: set[str] = field(default_factory=set)

    async def ensure_loaded(self, version: Version) -> None:
        self.loads.append(version.label)
        if self.refuses is not None:
            raise self.refuses

    def in_flight(self, version: Version) -> int:
        return self.busy.get(version.label, 0)

    def digests(self) -> set[str]:
        return self.holds

    def info(self) -> dict[str, Any]:
        return {"id": "one", "state": self.state.value}


PROVED = Proof(state=ProofState.PROVED, difference=0.5, noise=0.01, tokens=240, base=BASE_NAME)


@dataclass
class StandInProver:
    """Finds every version proved, and keeps nothing. refuses: raised instead."""

    offered: list[str] = field(default_factory=list)
    proof: Proof = PROVED
    refuses: GatewayError | None = None

    def offer(self, version: Version) -> None:
        self.offered.append(version.label)

    async def ensure(self, version: Version) -> Proof:
        del version
        if self.refuses is not None:
            raise self.refuses
        return self.proof


@dataclass
class StandInParts:
    """What the admin routes use of `gateway.parts.Parts`."""

    settings: Settings
    registry: Registry
    snapshots: Snapshots
    engine: StandInEngine
    key_use: KeyUse
    siblings: Siblings = field(default_factory=lambda: Siblings([], ADMIN_KEY))
    prover: StandInProver = field(default_factory=StandInProver)
    base: BaseModelSpec = BASE
    base_name: str = BASE_NAME
    admin_key_sha256: bytes = hashlib.sha256(ADMIN_KEY.encode()).digest()


@dataclass(frozen=True)
class AdminGateway:
    """The application, its parts, and an HTTP client with the admin key."""

    app: FastAPI
    parts: StandInParts
    admin: httpx.AsyncClient

    def client(self, key: str | None) -> httpx.AsyncClient:
        """A client with another key."""
        return _client(self.app, key)

    async def tenant(self, name: str, *scopes: str) -> str:
        """Makes a tenant with a key, by default of both scopes; the key."""
        (await self.admin.post("/tenants", json={"name": name})).raise_for_status()
        return await self.key(name, *scopes)

    async def key(self, tenant: str, *scopes: str) -> str:
        """Makes a key; its text."""
        body = {"scopes": scopes or ("inference", "manage")}
        answer = await self.admin.post(f"/tenants/{tenant}/keys", json=body)
        return str(answer.raise_for_status().json()["key"])

    async def push(
        self, adapter: str = "acme/support", seed: int = 0, verdict: str | None = "passed"
    ) -> dict[str, Any]:
        """Pushes an adapter, by default with a passed evaluation; the version."""
        tenant, _, name = adapter.partition("/")
        metadata = {"evaluation": {"verdict": verdict}} if verdict else {}
        files = adapter_files(seed) | {"metadata.json": json.dumps(metadata).encode()}
        answer = await self.admin.post(f"/tenants/{tenant}/adapters/{name}/versions", files=files)
        found: dict[str, Any] = answer.raise_for_status().json()
        return found


@asynccontextmanager
async def admin_gateway(data_dir: Path, **limits: int) -> AsyncIterator[AdminGateway]:
    """An AdminGateway with its data in `data_dir`."""
    settings = Settings(
        data_dir=data_dir,
        cache_dir=data_dir / "cache",
        admin_key=SecretStr(ADMIN_KEY),
        limits=Limits(**limits),
        timeouts=Timeouts(body_s=5),
    )
    database = Database(settings.sqlalchemy_url, busy_timeout_s=1)
    database.migrate()
    registry = Registry(database, ArtifactStore(settings.artifacts_dir))
    try:
        parts = StandInParts(
            settings,
            registry,
            Snapshots(registry, 1.0),
            StandInEngine(),
            KeyUse(registry.note_key_use),
        )
        app = FastAPI()
        app.state.parts = parts
        app.include_router(admin_api.router)
        error_handlers.install(app)
        async with _client(app, ADMIN_KEY) as admin:
            yield AdminGateway(app, parts, admin)
    finally:
        registry.close()


def adapter_files(seed: int = 0, **config: Any) -> dict[str, bytes]:
    """The parts of an upload that the registry accepts for BASE. config: fields to change."""
    rank = 4
    fields = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 8,
        "target_modules": ["q_proj"],
        "base_model_name_or_path": BASE.name,
    } | config
    random = np.random.default_rng(seed)
    prefix = f"base_model.model.{_MODULE}"
    tensors = {
        f"{prefix}.lora_A.weight": random.normal(size=(rank, _WIDTH)).astype(np.float32),
        f"{prefix}.lora_B.weight": random.normal(size=(_WIDTH, rank)).astype(np.float32),
    }
    return {
        "adapter_config.json": json.dumps(fields).encode(),
        "adapter_model.safetensors": save(tensors),
    }


def _client(app: FastAPI, key: str | None) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app),
        base_url="http://gateway.test/admin/v1",
        headers={} if key is None else {"authorization": f"Bearer {key}"},
    )
