"""What the command takes besides the workload: target, judging, search, comparison, outputs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from typer import Option


@dataclass(frozen=True)
class TargetOptions:
    """Where requests go, and with which key."""

    PANEL: ClassVar[str] = "Target"

    url: Annotated[
        str | None,
        Option("--url", metavar="URL", help="An OpenAI-compatible server; else LORAPLEX_URL."),
    ] = None
    key: Annotated[
        str | None,
        Option(
            "--key",
            metavar="KEY",
            help="Its key. Others on this machine see it there: --key-file or LORAPLEX_KEY don't"
            " show it.",
        ),
    ] = None
    key_file: Annotated[
        Path | None, Option("--key-file", metavar="FILE", help="Holds the key, alone in it.")
    ] = None
    header: Annotated[
        list[str] | None,
        Option("--header", metavar="NAME:VALUE", help="Sent with each request; repeatable."),
    ] = None
    ca_file: Annotated[
        Path | None,
        Option("--ca-file", metavar="FILE", help="Certificates to trust, not the system's."),
    ] = None
    insecure: Annotated[bool, Option("--insecure", help="Trust any certificate.")] = False


@dataclass(frozen=True)
class JudgeOptions:
    """What the figures are held against."""

    PANEL: ClassVar[str] = "Judging"

    slo: Annotated[
        str | None,
        Option(
            "--slo",
            metavar="NAME=TIME,…",
            help="Objectives of a request, for goodput: `ttft=500ms,itl=50ms,tpot=…,e2e=…`.",
        ),
    ] = None
    fail_if: Annotated[
        list[str] | None,
        Option(
            "--fail-if",
            metavar="CONDITION",
            help="Exit code 1 if it holds, as `ttft_p95 > 400ms`, `errors > 1%`, `tester_bound`;"
            " repeatable.",
        ),
    ] = None
    price_per_hour: Annotated[
        float | None,
        Option("--price-per-hour", min=0, metavar="PRICE", help="Of the machine, for the cost."),
    ] = None


@dataclass(frozen=True)
class RunOptions:
    """How the tester works."""

    PANEL: ClassVar[str] = "Tester"

    processes: Annotated[
        int, Option("--processes", min=1, help="Of the tester, where one core is too few.")
    ] = 1
    max_connections: Annotated[
        int, Option("--max-connections", min=1, help="Requests in flight at most.")
    ] = 10_000
    timeout: Annotated[
        str | None,
        Option("--timeout", metavar="TIME", help="Gives a request up after it. Default: 10m."),
    ] = None
    grace: Annotated[
        str | None,
        Option(
            "--grace",
            metavar="TIME",
            help="What is under way may take it after Ctrl-C. Default: 5s.",
        ),
    ] = None
    keep_going: Annotated[
        bool, Option("--keep-going", help="Run even if the target seems wrong or not there.")
    ] = False


@dataclass(frozen=True)
class KneeOptions:
    """The search for the highest rate that holds."""

    PANEL: ClassVar[str] = "Finding the knee"

    find_knee: Annotated[
        bool,
        Option("--find-knee", help="Search the highest rate that holds --slo, from --rate on."),
    ] = False
    probe: Annotated[
        str | None,
        Option("--probe", metavar="TIME", help="How long a rate is tried, warm-up besides. [20s]"),
    ] = None
    target_share: Annotated[
        str | None,
        Option("--target-share", metavar="SHARE", help="Of requests that must hold it. [95%]"),
    ] = None
    bounds: Annotated[
        str | None, Option("--bounds", metavar="LOW..HIGH", help="Rates to search. [0.01..100000]")
    ] = None
    tolerance: Annotated[
        str | None,
        Option("--tolerance", metavar="SHARE", help="How near the knee must be known. [2%]"),
    ] = None
    most_probes: Annotated[
        int | None, Option("--most-probes", min=1, help="Ends the search after them. [24]")
    ] = None


@dataclass(frozen=True)
class CompareOptions:
    """Two runs that were made before, side by side."""

    PANEL: ClassVar[str] = "Comparing two runs"

    compare: Annotated[
        tuple[Path, Path] | None,
        Option(
            "--compare",
            metavar="A B",
            help="Show how B differs from A: two result.json, or their folders. Sends nothing.",
        ),
    ] = None
    fail_if_worse: Annotated[
        list[str] | None,
        Option(
            "--fail-if-worse",
            metavar="FIGURE",
            help="Exit code 1 if B is worse in it: `ttft_p95`, `ttft_p95 by 5%`, or `any`;"
            " repeatable.",
        ),
    ] = None


@dataclass(frozen=True)
class OutputOptions:
    """What is left of the run."""

    PANEL: ClassVar[str] = "Output"

    out: Annotated[
        Path | None,
        Option(
            "--out",
            metavar="DIR",
            help="Gets report.html, result.json and CSV. Default: a new loadtest-DATE-TIME.",
        ),
    ] = None
    overwrite: Annotated[
        bool, Option("--overwrite", help="Let --out hold a result already, and replace it.")
    ] = False
    report: Annotated[bool, Option("--report/--no-report", help="Whether report.html is made.")] = (
        True
    )
    name: Annotated[
        str | None, Option("--name", metavar="TEXT", help="What the run is called. [the time]")
    ] = None
    push: Annotated[
        str | None,
        Option("--push", metavar="URL", help="A Prometheus Pushgateway that gets the figures."),
    ] = None
    push_job: Annotated[str, Option("--push-job", metavar="NAME", help="The job's name there.")] = (
        "loadtest"
    )
    push_label: Annotated[
        list[str] | None,
        Option("--push-label", metavar="NAME=VALUE", help="Of the group there; repeatable."),
    ] = None
    dry_run: Annotated[
        bool, Option("--dry-run", help="Show the schedule's first requests, and send nothing.")
    ] = False
    json: Annotated[
        bool, Option("--json", help="Print the result as JSON, and nothing else on stdout.")
    ] = False
