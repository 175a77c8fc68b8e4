"""What `create_app` builds, from its making to its start."""

from pathlib import Path

from adapters_registry.registry import Registry
from gateway.app import create_app
from gateway.config import Settings, load_settings
from gateway.engine import EngineState
from tests.fake_engine import FakeEngine
from tests.running_gateway import TinyModel
from tests.running_serve import FAKE_BASE


def settings_on(engine_url: str, model: TinyModel, data_dir: Path) -> Settings:
    return load_settings(
        {
            "engine_url": [engine_url],
            "model": str(model.folder),
            "served_name": FAKE_BASE,
            "cache_dir": model.cache_dir,
            "data_dir": data_dir,
            "metrics_port": 0,
            "registry_poll_s": 3600,
        }
    )


async def test_a_gateway_that_listens_knows_its_engine(
    fake_engine: FakeEngine, tiny_model: TinyModel, tmp_path: Path
) -> None:
    app = create_app(settings_on(fake_engine.url, tiny_model, tmp_path / "data"))
    async with app.router.lifespan_context(app):
        assert app.state.parts.engine.state is EngineState.UP


async def test_what_was_written_while_a_worker_started_is_known_when_it_listens(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    settings = settings_on("http://127.0.0.1:1", tiny_model, tmp_path / "data")
    app = create_app(settings)
    snapshots = app.state.parts.snapshots
    sibling = Registry.open(settings.sqlalchemy_url, settings.artifacts_dir)
    sibling.create_tenant("acme", actor="admin")
    sibling.close()
    assert "acme" not in snapshots.current.tenants
    async with app.router.lifespan_context(app):
        assert "acme" in snapshots.current.tenants
