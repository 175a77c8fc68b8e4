"""Which gateway and which key: above all, where this machine's own key never goes."""

from pathlib import Path

import pytest

from loraplex.connection import find_connection
from loraplex.errors import UsageError


@pytest.mark.parametrize(
    "url",
    [
        None,
        "http://localhost:8080",
        "http://LOCALHOST",
        "http://127.0.0.1:8080/v1",
        "https://127.9.9.9",
        "http://[::1]:8080",
    ],
)
def test_this_machines_key_is_for_this_machine(url: str | None, tmp_path: Path) -> None:
    environ = {"LORAPLEX_DATA_DIR": str(tmp_path)}
    (tmp_path / "admin.key").write_text("from-file\n")
    assert find_connection(url, None, environ).key == "from-file"
    environ["LORAPLEX_ADMIN_KEY"] = "from-environment"
    assert find_connection(url, None, environ).key == "from-environment"


@pytest.mark.parametrize(
    "url",
    [
        "http://gateway.test",
        "http://10.0.0.1:8080",
        "http://128.0.0.1",
        "http://0.0.0.0:8080",
        "http://[::]:8080",
        "http://[fe80::1]:8080",
        "http://localhost.gateway.test",
        "http://127.0.0.1.gateway.test",
        "http://127.0.0.1@gateway.test",
        "http://gateway.test/127.0.0.1",
    ],
)
def test_another_machine_needs_a_key_that_was_chosen_for_it(url: str, tmp_path: Path) -> None:
    own = {"LORAPLEX_DATA_DIR": str(tmp_path), "LORAPLEX_ADMIN_KEY": "own"}
    (tmp_path / "admin.key").write_text("own")
    for environ in (own, {**own, "LORAPLEX_URL": url}):
        flag = None if "LORAPLEX_URL" in environ else url
        for no_key in (None, "", " "):
            with pytest.raises(UsageError, match="with --key or LORAPLEX_KEY") as caught:
                find_connection(flag, no_key, environ)
            assert "own" not in caught.value.message.split()
        assert find_connection(flag, "chosen", environ).key == "chosen"
        assert find_connection(flag, None, {**environ, "LORAPLEX_KEY": "chosen"}).key == "chosen"


def test_an_own_key_that_cannot_be_read_hinders_no_chosen_one(tmp_path: Path) -> None:
    (tmp_path / "admin.key").mkdir()
    environ = {"LORAPLEX_DATA_DIR": str(tmp_path)}
    assert find_connection("http://gateway.test", "chosen", environ).key == "chosen"
