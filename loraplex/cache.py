"""Where what can be made again lies on this machine, the converted embedded model first."""

from pathlib import Path

from loraplex.errors import UsageError


def cache_dir() -> Path:
    """As `loraplex serve` finds it: LORAPLEX_CACHE_DIR, else the user's cache folder."""
    from gateway.config import SettingsError, load_settings

    try:
        return load_settings({}).cache_dir
    except SettingsError as error:
        raise UsageError(str(error)) from None
