"""Keys: read from where the workload says, and shown nowhere."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from loadtest.workload.errors import WorkloadError
from loadtest.workload.keys import listed_keys, read_keys
from loadtest.workload.loading import make_workload
from loadtest.workload.spec import Workload

STEADY: dict[str, Any] = {"kind": "poisson", "stages": [{"rate": 5, "seconds": 10}]}
HERE = Path("/here")


def made(**fields: Any) -> Workload:
    return make_workload({"arrivals": STEADY, "models": ["m"]} | fields, HERE)


def test_keys_are_read_from_where_the_workload_says(tmp_path: Path) -> None:
    (tmp_path / "acme").write_text("sk-acme\n")
    (tmp_path / "keys").write_text("# all\nglobex = sk-globex=\n\nother=sk-other\n")
    tenants = [
        {"name": "acme", "key_file": str(tmp_path / "acme")},
        {"name": "globex"},
        {"name": "initech", "key_env": "INITECH"},
    ]
    workload = made(tenants=tenants, keys_file=str(tmp_path / "keys"))
    keys = read_keys(workload, {"INITECH": "sk-initech"})
    assert {name: key.get_secret_value() for name, key in keys.items()} == {
        "acme": "sk-acme",
        "globex": "sk-globex=",
        "initech": "sk-initech",
    }
    assert "sk-" not in repr(keys) + repr(workload) + workload.model_dump_json()
    assert read_keys(made(tenants=["t"]), {}) == {}


@pytest.mark.parametrize(
    ("tenant", "message"),
    [
        ({"key_env": "NONE"}, "tenants[0].key_env: `NONE` is not set; export it with the key"),
        ({"key_env": "TWO"}, "tenants[0].key_env: `TWO` holds spaces, lines or marks that no key"),
        ({"key_file": "none"}, "tenants[0].key_file: FOLDER/none cannot be read (No such file"),
        ({"key_file": "empty"}, "tenants[0].key_file: FOLDER/empty is empty; it must hold the key"),
        ({"key_file": "binary"}, "tenants[0].key_file: FOLDER/binary is not UTF-8"),
        ({}, "keys_file: has no line for the tenant `acme`; add it"),
    ],
)
def test_a_key_that_cannot_be_read_is_told_without_it(
    tmp_path: Path, tenant: dict[str, str], message: str
) -> None:
    (tmp_path / "keys").write_text("other=sk-secret\n")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"sk-secret\xff")
    fields = {
        "arrivals": STEADY,
        "models": ["m"],
        "tenants": [{"name": "acme"} | tenant],
        "keys_file": "keys",
    }
    with pytest.raises(WorkloadError) as caught:
        read_keys(make_workload(fields, tmp_path), {"TWO": "sk-secret and more"})
    assert str(caught.value).replace(str(tmp_path), "FOLDER").startswith(message)
    assert "secret" not in str(caught.value)


def test_a_bad_line_of_keys_is_told_without_it(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("acme=sk-secret\nsk-secret\n")
    workload = made(tenants=["acme"], keys_file=str(tmp_path / "keys"))
    with pytest.raises(WorkloadError, match="line 2: is not NAME=KEY") as caught:
        read_keys(workload, {})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("acme=sk-1\nacme=sk-2\n", "line 2: `acme` stands there twice; take one out"),
        ("acme=sk-1\nglobex=\n", "line 2: what follows `=` is empty; it must hold the key alone"),
    ],
)
def test_a_line_of_keys_that_says_nothing_sure_is_told(
    tmp_path: Path, lines: str, message: str
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(lines)
    with pytest.raises(WorkloadError) as caught:
        listed_keys(keys)
    assert message in str(caught.value)
    assert "sk-" not in str(caught.value)


@pytest.mark.parametrize(
    "tenant",
    [
        {"name": "t", "key": "sk-secret"},
        {"name": "t", "keyy": "sk-secret"},
        {"name": "t", "key_env": ["sk-secret"]},
        {"name": "t", "weight": "sk-secret"},
    ],
)
def test_a_key_in_a_workload_is_refused_and_not_shown(tenant: dict[str, Any]) -> None:
    with pytest.raises(WorkloadError, match=r"tenants\[0\]\.") as caught:
        made(tenants=[tenant])
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    with pytest.raises(ValidationError) as inner:
        Workload.model_validate({"arrivals": STEADY, "models": ["m"], "tenants": [tenant]})
    assert "secret" not in str(inner.value)
