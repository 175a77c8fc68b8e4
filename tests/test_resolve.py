"""Model names: what each form means, and what a stranger learns from them."""

import pytest

from adapters_registry.types import TenantPolicy, Version
from gateway.errors import Forbidden, NotFound
from gateway.metrics import Subject
from gateway.resolve import resolve
from tests.snapshots_for_tests import snapshot, version

ONE, TWO = version(number=1), version(number=2)
THEIRS = version("globex", number=1)
SNAPSHOT = snapshot(ONE, TWO, THEIRS, live={("acme", "support"): 2, ("globex", "support"): 1})
BASE = "base-model"


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("support", TWO),
        ("support@1", ONE),
        ("support@2", TWO),
        ("acme/support", TWO),
        ("acme/support@1", ONE),
        (ONE.engine_name, ONE),
    ],
)
def test_every_form_of_a_name_means_its_version(model: str, expected: Version) -> None:
    target = resolve(SNAPSHOT, "acme", model, BASE)
    assert target.version is expected
    assert target.engine_name == expected.engine_name


def test_the_same_name_is_each_tenants_own() -> None:
    assert resolve(SNAPSHOT, "globex", "support", BASE).version is THEIRS


def test_the_base_has_labels_of_its_own() -> None:
    target = resolve(SNAPSHOT, "acme", BASE, BASE)
    assert target.version is None
    assert target.label == BASE
    assert target.subject == Subject("acme", "(base)", "0")


def test_a_policy_can_bar_the_base() -> None:
    barred = snapshot(ONE, policy=TenantPolicy(allow_base=False))
    with pytest.raises(Forbidden) as caught:
        resolve(barred, "acme", BASE, BASE)
    assert caught.value.param == "model"


@pytest.mark.parametrize(
    "model",
    [
        "globex/support",
        "globex/support@1",
        THEIRS.engine_name,
        "support@3",
        "support@0",
        "support@01",
        f"acme/support@1:{'0' * 12}",
        "nope",
        "SUPPORT",
        "support\n",
        "../support",
        "support@" + "9" * 400,
        "",
    ],
)
def test_a_strangers_adapter_looks_like_a_missing_one(model: str) -> None:
    with pytest.raises(NotFound) as caught:
        resolve(SNAPSHOT, "acme", model, BASE)
    with pytest.raises(NotFound) as missing:
        resolve(snapshot(tenants=("acme",)), "acme", model, BASE)
    assert caught.value.message == missing.value.message
    assert (caught.value.param, caught.value.code) == ("model", "model_not_found")


def test_an_adapter_without_a_live_version_is_called_by_number_only() -> None:
    candidate = snapshot(ONE)
    assert resolve(candidate, "acme", "support@1", BASE).version is ONE
    with pytest.raises(NotFound):
        resolve(candidate, "acme", "support", BASE)
