"""The fairness benchmark as a page; pure."""

from benchmarks.adapting.results import pairs
from benchmarks.serving.window import shown
from benchmarks.sharing.results import NOISY, Results, Window, capacity, claims, slower
from benchmarks.sides.report import table

_PARTIAL = "**Partial: the run was ended before all was measured.**\n"
_HEAD = [
    "side", "", "answers/s", "others' TTFT p50 ms", "p95", "refused", "noisy TTFT p95 ms",
    "refused", "Jain", "TTFT worst/best", "answered worst/best",
]  # fmt: skip


def markdown(results: Results) -> str:
    """The page."""
    of = results.settings
    sides = [[side, pairs(found)] for side, found in results.versions.items() if found]
    parts = [
        "# One noisy tenant and four that keep to their share\n",
        *([_PARTIAL] if results.partial else []),
        f"{results.at}. {pairs(results.machine)}.\n",
        f"Command: `{results.command}`.\n",
        table(["side", "versions"], sides),
        f"The fake engine has {of['places']} places and takes {of['first_token_ms']:g} ms "
        f"for the first token and {of['token_ms']:g} ms for each further one; "
        f"answers have {of['answer_tokens']}, so it carries {capacity(of):.1f} requests a second, "
        f"first come first served. {of['victims']} tenants send {of['victim_rate']:g} a second "
        f"each, Poisson, for {of['seconds']:g} s; `{NOISY}` sends {of['noisy_rate']:.1f}. Each is "
        "measured until its last answer, from the intended moment of sending. Jain's index is "
        f"over the tenants' shares of requests with a first token within {of['objective_ms']:g} "
        "ms: it is high too where all fare badly alike, so read it beside the TTFT. TTFT is of the "
        "answered: who refuses some has the shorter queue for the rest.\n",
        "The gateway does not order or limit by tenant yet: `max_in_flight` counts the calls of "
        "all together, and who comes first is served first. LiteLLM has one master key for all "
        "here (its keys with limits need a database), vllm-router knows no tenants.\n",
        "## Claims\n",
        "\n".join(f"- {'held' if ok else '**not held**'}: {text}" for text, ok in claims(results)),
        "\n## Side by side\n",
        table(_HEAD, [_row(one) for one in results.windows]),
        table(
            ["side", "others' TTFT p95 with the noisy tenant over that without"],
            [
                [side, f"{times:.1f}x"]
                for side in dict.fromkeys(one.side for one in results.windows)
                if (times := slower(results.windows, side)) is not None
            ],
        ),
        *(f"- {note}" for note in results.notes),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _row(one: Window) -> list[str]:
    return [
        one.side,
        "with noisy" if one.noisy else "without",
        f"{one.requests_per_s:.1f}",
        shown(one.victims_ttft_p50_ms),
        shown(one.victims_ttft_p95_ms),
        f"{one.victims_failed} of {one.victims_sent}",
        shown(one.noisy_ttft_p95_ms),
        f"{one.noisy_failed} of {one.noisy_sent}",
        shown(one.jain_good, "{:.2f}"),
        shown(one.ttft_worst_over_best, "{:.2f}"),
        shown(one.answered_worst_over_best, "{:.2f}"),
    ]
