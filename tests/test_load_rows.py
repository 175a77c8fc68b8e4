"""The rows of single requests: which are kept, and that they come back as they went."""

import numpy as np
import pytest

from loadtest.statistics.rows import OTHER, Names, Rows, pack, unpack
from loadtest.statistics.units import StatisticsError
from tests.load_engines import failed, sample


def test_rows_are_a_sample_that_two_runs_of_one_schedule_share() -> None:
    first, second = Rows(100, seed=3), Rows(100, seed=3)
    for index in range(3000):
        first.add(sample(index, index / 10))
        second.add(sample(2999 - index, 7.0))
    kept = first.table()["index"]
    assert (len(kept), first.seen, first.sampled) == (100, 3000, True)
    assert (kept == second.table()["index"]).all()
    # As many from each third as chance gives.
    assert np.histogram(kept, 3, (0, 3000))[0] == pytest.approx([33, 33, 33], abs=15)
    other = Rows(100, seed=4)
    for index in range(3000):
        other.add(sample(index))
    assert (other.table()["index"] != kept).any()


def test_rows_of_parts_are_the_rows_of_the_whole() -> None:
    whole, parts = Rows(50), [Rows(50), Rows(50)]
    for index in range(900):
        one = sample(index, tenant=f"t{index % 7}", model=f"m{index % 3}")
        whole.add(one)
        parts[index % 2].add(one)
    parts[1].merge(parts[0])
    named = [
        [
            (row["index"], rows.tenants.listed[row["tenant"]], rows.models.listed[row["model"]])
            for row in rows.table()
        ]
        for rows in (whole, parts[1])
    ]
    assert named[0] == named[1]
    assert parts[1].seen == 900
    with pytest.raises(ValueError, match="another size or seed"):
        whole.merge(Rows(50, seed=1))


def test_rows_come_back_from_what_they_are_packed_to() -> None:
    rows = Rows(20)
    for one in (sample(0, cold_start=True), failed(1, sent_s=None), sample(2, tenant="zeta")):
        rows.add(one)
    packed = pack(rows)
    table = unpack(packed)
    assert table.tobytes() == rows.table().tobytes()
    assert [packed["tenants"][row["tenant"]] for row in table] == ["acme", "acme", "zeta"]
    assert np.isnan(table["ttft_s"][1])
    assert table["output_tokens"].tolist() == [11, -1, 11]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"format": 2}, "format 2 is not 1"),
        ({"data": "%%%"}, "damaged"),
        ({"rows": 10}, "damaged"),
        ({"rows": 1}, "damaged"),
    ],
)
def test_damaged_rows_are_refused(changed: dict[str, object], said: str) -> None:
    rows = Rows(20)
    for index in range(3):
        rows.add(sample(index))
    with pytest.raises(StatisticsError, match=said):
        unpack(pack(rows) | changed)


def test_names_beyond_two_bytes_share_a_place() -> None:
    names = Names()
    places = [names.place(str(n)) for n in range(66_000)]
    assert max(places) == 65_535
    assert names.listed[65_535] == OTHER
    assert names.place("0") == 0
    assert names.place("new") == 65_535
