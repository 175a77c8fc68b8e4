"""What `create_app` builds, from its making to its start."""

from pathlib import Path

from adapters_registry.registry import Registry
from gateway.app import create_app
from gateway.config import load_settings
from tests.running_gateway import BASE, TinyModel


async def test_what_was_written_while_a_worker_started_is_known_when_it_listens(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    settings = load_settings(
        {
            "engine_url": ["http://127.0.0.1:1"],
            "model": str(tiny_model.folder),
            "served_name": BASE,
            "cache_dir": tiny_model.cache_dir,
            "data_dir": tmp_path / "data",
            "metrics_port": 0,
            "registry_poll_s": 3600,
        }
    )
    app = create_app(settings)
    snapshots = app.state.parts.snapshots
    sibling = Registry.open(settings.sqlalchemy_url, settings.artifacts_dir)
    sibling.create_tenant("acme", actor="admin")
    sibling.close()
    assert "acme" not in snapshots.current.tenants
    async with app.router.lifespan_context(app):
        assert "acme" in snapshots.current.tenants
