"""Two runs side by side, as it stands on 80 columns."""

from loadtest.statistics.compare import Comparison, Difference
from loadtest.view.comparing import comparison
from tests.load_shown import shown

MANY = (1000, 1000)
DIFFERENCES = [
    Difference("ttft_p95", 0.1, 0.12, 0.01, 0.03, 0.2, 0.1, 0.3, "worse", MANY),
    Difference("itl_mean", 0.05, 0.04, -0.0125, -0.0075, -0.2, -0.25, -0.15, "better", MANY),
    Difference("e2e_p99", 1.5, 1.6, None, None, 0.0667, None, None, "unclear", (20, 20)),
    Difference("errors", 0.0, 0.02, 0.01, 0.03, None, None, None, "worse", MANY),
    Difference("requests_per_s", 20.0, 20.0, 0.0, 0.0, 0.0, 0.0, 0.0, "same", MANY),
    Difference("output_tokens_per_s", 300.0, 310.0, -5.0, 25.0, 0.03, -0.1, 0.1, "unclear", MANY),
]


def test_a_comparison_in_full() -> None:
    why = "paired: 1000 requests of the same schedule are in both runs"
    told = Comparison("before", "after [red]", True, why, 0.95, DIFFERENCES)
    assert (
        shown(comparison(told))
        == """\
A  before
B  after [red]
Paired: 1000 requests of the same schedule are in both runs.

                      A       B  change                 B - A (95%)  B is
TTFT p95         100 ms  120 ms  +20.0%            +10 ms to +30 ms  worse
ITL mean          50 ms   40 ms  -20.0%         -12.5 ms to -7.5 ms  better
E2E p99           1.5 s   1.6 s   +6.7%            too few requests  unclear
failed requests      0%    2.0%       -  +1.0 points to +3.0 points  worse
requests/s           20      20    0.0%                           0  same
output tokens/s     300     310   +3.0%                   -5 to +25  unclear
ITL is each request's mean gap here.

B is worse in TTFT and failed requests, better in ITL."""
    )


def test_runs_that_do_not_differ() -> None:
    told = Comparison("a", "b", False, "not paired: the runs had different schedules", 0.95, [
        Difference("ttft_p50", 0.1, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0, "same", MANY),
    ])  # fmt: skip
    lines = shown(comparison(told)).splitlines()
    assert lines[2] == "Not paired: the runs had different schedules."
    assert lines[-1] == "No difference is clear."
