"""Which adapter makes room, by table and by random walks."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.residency import Residency
from tests.snapshots_for_tests import version

V = [version(number=n) for n in range(1, 9)]


def test_the_least_recently_used_idle_one_makes_room() -> None:
    residency = Residency(3)
    for v in V[:3]:
        assert residency.to_evict() == []
        residency.add(v)
    residency.touch(V[0].engine_name)
    assert residency.to_evict() == [V[1].engine_name]
    residency.acquire(V[1].engine_name)
    assert residency.to_evict() == [V[2].engine_name]


def test_where_all_are_in_use_nothing_makes_room() -> None:
    residency = Residency(1)
    residency.add(V[0])
    residency.acquire(V[0].engine_name)
    residency.acquire(V[0].engine_name)
    residency.release(V[0].engine_name)
    assert residency.to_evict() is None
    residency.release(V[0].engine_name)
    assert residency.to_evict() == [V[0].engine_name]
    assert residency.total_in_use == 0


def test_strangers_are_the_ones_the_registry_forgot() -> None:
    residency = Residency(4)
    for v in V[:3]:
        residency.add(v)
    assert residency.strangers({V[1].engine_name}) == [V[0].engine_name, V[2].engine_name]


@given(st.lists(st.tuples(st.sampled_from(range(8)), st.booleans()), max_size=60))
def test_never_over_capacity_and_never_one_in_use(steps: list[tuple[int, bool]]) -> None:
    residency = Residency(3)
    held: list[str] = []
    for index, keep in steps:
        name = V[index].engine_name
        residency.acquire(name)
        if name not in residency:
            victims = residency.to_evict()
            if victims is None:
                residency.release(name)
                continue
            assert not set(victims) & set(held)
            for victim in victims:
                residency.drop(victim)
            residency.add(V[index])
        if keep:
            held.append(name)
        else:
            residency.release(name)
        assert len(residency) <= 3
        assert residency.total_in_use == len(held)
        assert all(name in residency for name in held)
