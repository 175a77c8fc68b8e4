"""The report that is printed at a run's end, as it stands on 80 columns."""

from dataclasses import replace

from loadtest.report.verdict import headline, lines
from loadtest.running.tester import Verdict
from loadtest.samples import Sample
from loadtest.statistics.conditions import parse_condition
from loadtest.view.summary import summary
from tests.load_engines import NO_GAPS, failed, sample
from tests.load_shown import ABOUT, KEPT_UP, result, shown

TITLE = "2026-11-22 18:30:00  http://127.0.0.1:8000, 61.2 s"
KEPT = """\
✓ The tester kept up: 99% of requests left within 310 µs of their time, and it
  used 12% of a core."""
TO_ITS_END = "· It ran to its end, 61.2 s."
CUT = """\
! Interrupted by the user after 61.2 s: the figures are of what was run until
  then."""


def _fours(**changed: object) -> list[Sample]:
    return [sample(n, n, **changed) for n in range(4)]


def _told(text: str, label: str) -> str:
    """The line of a field."""
    return next(line for line in text.splitlines() if line.startswith(label))


def test_a_good_run_in_full() -> None:
    conditions = [parse_condition("ttft_p95 > 100ms"), parse_condition("errors > 1%")]
    told = result(
        _fours(queue_s=0.004),
        "ttft=500ms,itl=50.1ms",
        about=replace(ABOUT, price_per_hour=3.6, conditions=conditions),
    )
    assert (
        shown(summary(told))
        == f"""\
{TITLE}
Fails 1 of 2 conditions
✗ Fails, as asked by --fail-if: ttft_p95 > 100ms: ttft_p95 is 200 ms.
✓ Does not fail: errors > 1%: errors is 0.00%.
{KEPT}
✓ All 4 were answered.
{TO_ITS_END}
· 4 of 4 requests (100%) kept the objectives TTFT ≤ 500 ms, ITL ≤ 50.1 ms.

         mean     p50     p90     p95     p99     max
TTFT   200 ms  200 ms  200 ms  200 ms  200 ms  200 ms
ITL     50 ms   50 ms   50 ms   50 ms   50 ms   50 ms
TPOT    50 ms   50 ms   50 ms   50 ms   50 ms   50 ms
E2E    710 ms  710 ms  710 ms  710 ms  710 ms  710 ms
queue    4 ms    4 ms    4 ms    4 ms    4 ms    4 ms

throughput  1.08 requests/s, 11.9 output tokens/s, 19.4 with prompts
tokens      44 output, 28 prompt
cost        at 3.60 an hour: 84.32 per million output tokens, 0.927 per thousand
            answers, 0.927 per thousand good ones"""
    )


def test_a_run_without_a_request() -> None:
    assert (
        shown(summary(result([])))
        == f"""\
{TITLE}
Nothing was measured
! No request fell in the measured phase.
{KEPT}
{TO_ITS_END}"""
    )


def test_a_run_that_ended_in_its_warm_up() -> None:
    told = result([*_fours(phase="warmup"), failed(5, 4.0, phase="warmup")], ended="interrupted")
    assert (
        shown(summary(told))
        == f"""\
{TITLE}
Nothing was measured
{CUT}
! No request fell in the measured phase: 5 requests fell in warm-up or cool-down
  (80.0% answered); run it for longer.
{KEPT}

left out  5 requests of the warm-up"""
    )


def test_a_wrong_target_and_all_failed() -> None:
    problem = "http://127.0.0.1:8000 answered 401 to the first requests: check --key"
    samples = [failed(n, n, tenant=f"t{n % 2}", error="http_401") for n in range(4)]
    told = result(samples, "ttft=1s", ended="target", problem=problem)
    assert (
        shown(summary(told))
        == f"""\
{TITLE}, 2 tenants
The target could not be tested
✗ http://127.0.0.1:8000 answered 401 to the first requests: check --key.
✗ 4 of 4 requests failed (100%): 4 http_401.
{KEPT}
· 0 of 4 requests (0%) kept the objectives TTFT ≤ 1 s.

tenant  requests  failed  good  TTFT p50  p95  tokens/s
t0             2       2    0%         -    -         0
t1             2       2    0%         -    -         0"""
    )


def test_what_is_not_streamed_has_no_ttft() -> None:
    whole = {"first_token_s": None, "last_token_s": None, "gaps": NO_GAPS, "events": 0}
    told = shown(summary(result(_fours(**whole))))
    assert "TTFT  " not in told
    assert _told(told, "E2E") == "E2E  710 ms  710 ms  710 ms  710 ms  710 ms  710 ms"
    assert _told(told, "streaming") == "streaming   none, so there is no TTFT, ITL or TPOT"


def test_a_bound_tester_and_a_lost_process_come_first() -> None:
    reasons = ("requests were sent 35 ms late at the 99th percentile, more than 10 ms",)
    bound = Verdict(True, reasons, 0.01, 0.02, 0.035, 0.05, 0.001, 0.002, 0.4)
    told = result(_fours(), ended="interrupted", problem="one of 2 processes died", tester=bound)
    assert shown(summary(told)).splitlines()[1:6] == [
        "The run broke off after 61.2 s",
        "✗ One of 2 processes died.",
        "! Tester-bound: figures may be the tester's own, not the server's. Requests were",
        "  sent 35 ms late at the 99th percentile, more than 10 ms.",
        "✓ All 4 were answered.",
    ]


def test_requests_cut_off_are_told_apart_from_failures() -> None:
    cut = failed(4, 4.0, outcome="cancelled", status=None, error=None)
    told = shown(summary(result([*_fours(), cut], ended="interrupted")))
    still = "· 1 request was still in flight at the interruption, and in no share."
    assert told.startswith(
        f"{TITLE}\nInterrupted after 61.2 s\n{CUT}\n{KEPT}\n✓ All 4 were answered.\n{still}\n"
    )
    nothing = shown(summary(result([cut], "ttft=1s", ended="interrupted")))
    assert nothing == f"{TITLE}\nNo request was answered\n{CUT}\n{KEPT}\n{still}"


def test_many_kinds_of_errors_are_folded() -> None:
    samples = [failed(n, n, error=f"kind_{n % 6}") for n in range(12)]
    told = shown(summary(result([*samples, *_fours()])))
    assert _told(told, "✗ 12") == (
        "✗ 12 of 16 requests failed (75.0%): 2 kind_0, 2 kind_1, 2 kind_2, 2 kind_3 and 2"
    )
    assert "\n  kinds more.\n" in told


def test_the_worst_served_of_many_tenants() -> None:
    samples = [sample(n, n, tenant=f"t{n % 7}", first_token_s=n + 0.1 * (n % 7)) for n in range(14)]
    told = shown(summary(result([*samples, failed(14, 1.0, tenant="t3")], "ttft=550ms")))
    lines = told.splitlines()
    at = lines.index("The 5 worst served of 7 tenants:")
    assert lines[at + 1 :] == [
        "tenant  requests  failed   good  TTFT p50     p95  tokens/s",
        "t6             2       0     0%    600 ms  600 ms       1.6",
        "t3             3       1  66.7%    300 ms  300 ms       1.6",
        "t5             2       0   100%    500 ms  500 ms       1.6",
        "t4             2       0   100%    400 ms  400 ms       1.6",
        "t2             2       0   100%    200 ms  200 ms       1.6",
    ]
    assert _told(told, "fairness") == ("fairness    Jain 1.000 by tokens, 0.843 by goodput")


def test_cold_starts_tokens_counted_here_and_turns_not_sent() -> None:
    samples = [*_fours(tokens_from="events"), sample(4, 4.0, cold_start=True)]
    told = shown(summary(result(samples, unsent=3)))
    assert _told(told, "cold TTFT") == ("cold TTFT  200 ms  200 ms  200 ms  200 ms  200 ms  200 ms")
    assert _told(told, "cold starts") == "cold starts  1 answer loaded an adapter first"
    assert _told(told, "tokens") == (
        "tokens       55 output, 35 prompt (4 answers by token events)"
    )
    assert "· 3 turns of sessions were not reached." in told
    unknown = shown(summary(result(_fours(output_tokens=None, tokens_from="events"))))
    assert _told(unknown, "tokens") == (
        "tokens      not known: the server does not tell; --tokenizer counts them"
    )


def test_it_reads_on_60_columns() -> None:
    tenants = [sample(n, n, tenant=f"a tenant with quite a long name {n}") for n in range(3)]
    told = shown(summary(result(tenants)), 60)
    assert (
        told.splitlines()[-2:]
        == [
            "a tenant with…         1       0    200 ms  200 ms      4.06",
        ]
        * 2
    )


def test_markup_in_names_is_text() -> None:
    told = result(_fours(), about=replace(ABOUT, name="[red]x[/red]"))
    assert shown(summary(told)).startswith("[red]x[/red]  http://127.0.0.1:8000")


def test_a_tester_that_saw_nothing_of_itself() -> None:
    blind = replace(KEPT_UP, lag_p99_s=None, cpu_share=None)
    told = shown(summary(result(_fours(), tester=blind)))
    assert "· How the tester itself did was not measured." in told
    assert "kept up" not in told


def test_it_says_what_the_page_says() -> None:
    broken = "the tester failed (ValueError); the figures are those of what was run"
    for told in (
        result([*_fours(), failed(9, 4.0)], "ttft=100ms"),
        result(_fours(), ended="interrupted", problem=broken),
    ):
        text = " ".join(shown(summary(told), 200).split())
        for line in (headline(told), *lines(told)):
            assert line.text in text
        assert "by the user" not in text
