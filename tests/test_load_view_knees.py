"""The search for the knee, as it is told of."""

import pytest

from loadtest.knee import Knee, Level, Probe
from loadtest.report.result import KneeSearch
from loadtest.view.knees import knee, probe_line
from tests.load_shown import shown

LEVELS = [
    Level(10.0, 1, 300, 1.0, True, 1.0, 10.0),
    Level(41.41, 3, 3726, 0.957, False, 0.957, 41.4),
    Level(42.13, 2, 2528, 0.887, True, 0.887, 42.1),
    Level(80.0, 1, 2400, 0.0, True, 0.0, 43.0),
]
FOUND = Knee(41.51, 41.41, 42.13, True, "41.41 a second held and 42.13 did not", 7)


@pytest.mark.parametrize(
    ("probe", "line"),
    [
        (Probe(10.0, 300, 300, 10.0),
         "     10 requests/s    100% good       10 answers/s  held"),
        (Probe(42.13, 1000, 890, 42.1),
         "  42.13 requests/s   89.0% good     42.1 answers/s  failed: fewer than 95%"),
        (Probe(80.0, 2400, 2395, 43.0, sustained=False),
         "     80 requests/s  99.79% good       43 answers/s  failed: work piled up"),
        # One that was given up on its bad answers is not sustained either.
        (Probe(80.0, 100, 60, 43.0, sustained=False),
         "     80 requests/s   60.0% good       43 answers/s  failed: fewer than 95%"),
        (Probe(5000.0, 9, 9, 900.0, tester_bound=True),
         "   5000 requests/s    100% good      900 answers/s  no verdict: tester-bound"),
        (Probe(1.0, 0, 0, 0.0),
         "      1 requests/s       - good        0 answers/s  no verdict: nothing was measured"),
    ],
)  # fmt: skip
def test_a_line_a_probe(probe: Probe, line: str) -> None:
    assert probe_line(probe, 0.95).plain == line


def test_the_knee_in_full() -> None:
    search = KneeSearch(knee=FOUND, levels=LEVELS, target=0.95, probe_s=30, figures_of_rate=41.41)
    assert (
        shown(knee(search))
        == """\

requests/s  good requests                          answers/s
        10  ██████████████████████████████   100%         10
     41.41  ████████████████████████████▊   95.7%       41.4  3 probes disagree
     42.13  ██████████████████████████▋ │   88.7%       42.1
        80                              │      0%         43
                                        ↑ 95%
0%: work piled up, the probe was given up, or no answer was good."""
    )


def test_the_target_is_marked() -> None:
    early = Knee(40.0, 40.0, None, False, "24 probes were made", 3)
    search = KneeSearch(knee=early, levels=LEVELS[:1], target=0.99, probe_s=5, figures_of_rate=10.0)
    assert shown(knee(search)).splitlines()[-1].endswith(" ↑ 99%")


def test_a_search_without_a_probe_has_no_curve() -> None:
    none = Knee(None, None, None, False, "0 probes were made", 0)
    search = KneeSearch(knee=none, levels=[], target=0.95, probe_s=30, figures_of_rate=None)
    assert shown(knee(search)) == ""
