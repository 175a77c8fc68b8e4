"""What dedupe.py plants, and that it is found."""

from collections import Counter
from pathlib import Path

from benchmarks.dedupe import _judge
from benchmarks.deduping.planted import TWINS, make, write
from training.data.joined import Joined
from training.data.readers import read_rows
from training.data.similar import compare_rows


def test_planted_copies_are_found_and_twins_are_not(tmp_path: Path) -> None:
    made = make(1000)
    files = {path.stem: read_rows(path) for path in write(made, tmp_path)}
    found = _judge(made, compare_rows(Joined(files)).groups.tolist())
    assert found["recall"] >= 0.98
    assert found["precision"] == 1
    assert all(found["kinds"][kind] == 0 for kind in TWINS)


def test_rows_are_the_same_each_time_and_as_many_as_asked_for(tmp_path: Path) -> None:
    made = make(500)
    assert made.texts == make(500).texts
    learned, held_out = (read_rows(path) for path in write(made, tmp_path))
    assert (len(learned.rows), len(held_out.rows)) == (450, 50)
    kinds = Counter(one.kind for one in made.planted)
    assert set(kinds.values()) == {5}
    assert all(made.texts[one.row] != "" for one in made.planted)
