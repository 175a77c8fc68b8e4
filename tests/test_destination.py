"""What a name means is remembered for as long as the registry's snapshot is current, no longer."""

import json

import pytest

from adapters_registry.types import ServingProfile, Snapshot, TenantPolicy, Version
from gateway.destination import Destination, Destinations
from gateway.engine_call import cache_salt
from gateway.errors import Forbidden, NotFound
from tests.snapshots_for_tests import snapshot, version

BASE, SECRET = "base-model", b"salt"
ONE, TWO, THEIRS = version(number=1), version(number=2), version("globex", number=1)
LIVE = {("acme", "support"): 1, ("globex", "support"): 1}
FIRST = snapshot(ONE, TWO, THEIRS, live=LIVE)
NAMES = ["support", "support@1", "acme/support", "acme/support@1", ONE.engine_name]


@pytest.fixture
def destinations() -> Destinations:
    return Destinations(BASE, SECRET)


def found(destinations: Destinations, now: Snapshot, model: str = "support") -> Version | None:
    """The version that acme's name means."""
    return destinations.find(now, "acme", model).target.version


def test_a_destination_has_all_that_the_relay_needs(destinations: Destinations) -> None:
    for name in NAMES:
        destination = destinations.find(FIRST, "acme", name)
        assert destination.target.version is ONE
        assert destination.cache_salt == cache_salt(SECRET, FIRST.tenants["acme"])
        assert json.loads(destination.engine_name_json) == ONE.engine_name
        assert destination.head == b"x-loraplex-version: acme/support@1\r\n"
        assert destination.profile is None


def test_the_same_name_is_each_tenants_own(destinations: Destinations) -> None:
    mine = destinations.find(FIRST, "acme", "support")
    theirs = destinations.find(FIRST, "globex", "support")
    assert (mine.target.version, theirs.target.version) == (ONE, THEIRS)
    assert mine.cache_salt != theirs.cache_salt
    assert destinations.find(FIRST, "acme", "support") is mine


def test_a_promotion_takes_effect_with_the_next_snapshot(destinations: Destinations) -> None:
    assert found(destinations, FIRST) is ONE
    promoted = snapshot(ONE, TWO, THEIRS, live={("acme", "support"): 2})
    assert found(destinations, promoted) is TWO
    assert found(destinations, promoted, "support@1") is ONE
    assert found(destinations, FIRST) is ONE


def test_a_deletion_takes_effect_with_the_next_snapshot(destinations: Destinations) -> None:
    assert found(destinations, FIRST, "support@2") is TWO
    with pytest.raises(NotFound):
        found(destinations, snapshot(ONE, live=LIVE), "support@2")
    with pytest.raises(NotFound):
        found(destinations, snapshot(THEIRS))


def test_a_changed_policy_takes_effect_with_the_next_snapshot(destinations: Destinations) -> None:
    assert found(destinations, FIRST, BASE) is None
    with pytest.raises(Forbidden):
        found(destinations, snapshot(ONE, policy=TenantPolicy(allow_base=False)), BASE)


def test_a_profile_is_given_only_where_it_changes_anything(destinations: Destinations) -> None:
    brief = ServingProfile(system_prompt="Be brief.")
    now = snapshot(version(profile=brief), live=LIVE)
    assert destinations.find(now, "acme", "support").profile == brief
    assert destinations.find(now, "acme", BASE).profile is None


def test_names_that_mean_nothing_are_not_remembered(destinations: Destinations) -> None:
    for name in NAMES:
        destinations.find(FIRST, "acme", name)
    for number in range(1000):
        with pytest.raises(NotFound):
            destinations.find(FIRST, "acme", f"support@{number + 3}")
        with pytest.raises(NotFound):
            destinations.find(FIRST, f"tenant-{number}", "support")
    assert len(destinations._known) == len(NAMES)


def test_nothing_of_an_old_snapshot_is_held(destinations: Destinations) -> None:
    old = destinations.find(FIRST, "acme", "support")
    now = snapshot(ONE, TWO, THEIRS, live=LIVE)
    new: Destination = destinations.find(now, "acme", "support@1")
    assert new is not old
    assert list(destinations._known.values()) == [new]
    assert destinations._snapshot is now
