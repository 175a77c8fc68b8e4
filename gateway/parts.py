"""What `create_app` builds and hands to the routes as `app.state.parts`."""

from dataclasses import dataclass

from adapters_registry.base_model import BaseModelSpec
from adapters_registry.registry import Registry
from gateway.config import Settings
from gateway.engine import Engine
from gateway.feedback import Completions
from gateway.inference import Inference
from gateway.key_use import KeyUse
from gateway.metrics import Metrics
from gateway.prover import Prover
from gateway.quality import Quality
from gateway.siblings import Siblings
from gateway.snapshots import Snapshots


@dataclass(slots=True)
class Parts:
    """The parts of one gateway."""

    settings: Settings
    base: BaseModelSpec
    base_name: str
    """The base model's served name, which no adapter may have."""
    admin_key_sha256: bytes
    registry: Registry
    snapshots: Snapshots
    siblings: Siblings
    key_use: KeyUse
    engine: Engine
    prover: Prover
    metrics: Metrics
    quality: Quality
    completions: Completions
    inference: Inference
    started_at: int
    """Unix seconds."""
    draining: bool = False
