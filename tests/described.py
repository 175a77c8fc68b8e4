"""Descriptions of base models, made in this process instead of a child that loads torch anew."""

from pathlib import Path

from adapters_registry import base_model


def described(cache_dir: Path, *models: Path) -> Path:
    """The cache folder, in which `load_spec` then finds what it would have made."""
    (cache_dir / "base-models").mkdir(parents=True, exist_ok=True)
    for model in models:
        file = cache_dir / "base-models" / f"{base_model._cache_key(model)}.json"
        if not file.exists():
            base_model._write(base_model.describe(model), file)
    return cache_dir
