"""The admin key: as set, else made at the first start and kept in the data dir, mode 0600."""

import os
import re
import secrets
import tempfile
from pathlib import Path

from gateway.config import Settings, SettingsError

_PREFIX = "lpx_admin_"
_KEY = re.compile(r"lpx_admin_[A-Za-z0-9_-]{43}")
_SECRET_BYTES = 32


def load_or_make(settings: Settings) -> str:
    """The key. Two processes that start at once get the same one.

    Raises SettingsError when the file cannot be read or written, or holds no key.
    """
    if settings.admin_key is not None:
        if not (key := settings.admin_key.get_secret_value().strip()):
            raise SettingsError("admin_key: is empty; set a key, or unset it to have one made")
        return key
    file = settings.admin_key_file
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _read(file) if file.exists() else _make(file)
    except OSError as error:
        raise SettingsError(f"data_dir: {error.filename}: {error.strerror}") from None


def _read(file: Path) -> str:
    key = file.read_text().strip()
    if not _KEY.fullmatch(key):
        raise SettingsError(f"{file}: holds no admin key; delete the file and a new one is made")
    return key


def _make(file: Path) -> str:
    """The file appears with the whole key in it or not at all."""
    key = _PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    fd, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # O_EXCL, 0600
    draft = Path(name)
    try:
        with os.fdopen(fd, "w") as out:
            out.write(f"{key}\n")
            out.flush()
            os.fsync(out.fileno())
        os.link(draft, file)
    except FileExistsError:
        return _read(file)  # another process was first
    finally:
        draft.unlink(missing_ok=True)
    return key
