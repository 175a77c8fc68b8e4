"""The adapters benchmark as a page; pure."""

from benchmarks.adapting.results import (
    GATEWAY,
    PLAIN,
    Level,
    Results,
    Window,
    choices_of,
    claims,
    expected_cold_share,
    kib_an_adapter,
    pairs,
    ratios,
)
from benchmarks.serving.window import shown
from benchmarks.sides.report import table

_HEAD = [
    "adapters", "choice", "side", "requests/s", "tokens/s", "TTFT p50 ms", "p95", "ITL p50 ms",
    "p95", "cold", "cold TTFT p50 ms", "failed", "engine GiB",
]  # fmt: skip
_PARTIAL = "**Partial: the run was ended before all was measured.**\n"


def markdown(results: Results) -> str:
    """The page."""
    settings = results.settings
    parts = [
        "# One to a thousand adapters behind one gateway\n",
        *([_PARTIAL] if results.partial else []),
        f"{results.at}. {pairs(results.machine)}. {pairs(results.versions)}.\n",
        f"Command: `{results.command}`.\n",
        f"vLLM on the embedded model, both cores, shared with gateway and load tester; "
        f"{pairs(results.engine)}. {settings['users']} users in a closed loop, prompts of "
        f"{settings['prompt_tokens']} tokens, streamed answers of {settings['answer_tokens']}, "
        f"{settings['seconds']} s a window after {settings['warmup_s']} s of warm-up. Adapters "
        f"have rank {settings['rank']}, random weights, and a tenant with a key each.\n",
        "## Claims\n",
        "\n".join(f"- {'held' if ok else '**not held**'}: {text}" for text, ok in claims(results)),
        "\n## Load\n",
        table(_HEAD, [_row(one) for one in results.windows]),
        *_beside(results),
        *_bound(results),
        "\n## Registering\n",
        table(
            ["adapters", "registry ms each", "followed in ms", "push over HTTP ms", "gateway MiB"],
            [_level(one) for one in results.levels],
        ),
        *([_memory(results)] if kib_an_adapter(results.levels) is not None else []),
        *(f"- {note}" for note in results.notes),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _row(one: Window) -> list[str]:
    of = one.figures
    latencies = [of.ttft_p50_ms, of.ttft_p95_ms, of.itl_p50_ms, of.itl_p95_ms]
    ours = one.side != PLAIN
    return [
        f"{one.adapters:,}",
        one.choice,
        one.side,
        f"{of.requests_per_s:.2f}",
        f"{of.tokens_per_s:.1f}",
        *(shown(value) for value in latencies),
        f"{of.cold_starts} of {of.sent}" if ours else "",
        shown(of.cold_ttft_p50_ms) if ours else "",
        str(of.failed),
        f"{one.engine_bytes / 2**30:.2f}",
    ]


def _beside(results: Results) -> list[str]:
    found = ratios(results)
    if not found:
        return []
    rows = [[f"{adapters:,}", choice, f"{share:.2f}x"] for adapters, choice, share in found]
    starts = ", ".join(
        f"{seconds:.0f} s with {count:,} listed"
        for count, seconds in sorted(results.plain_start_s.items())
    )
    return [
        "\nPlain vLLM has no gateway before it and all adapters in `--lora-modules`: no keys, no "
        "tenants, and a restart for each new adapter. Its start took "
        f"{starts}. What does not fit `max_cpu_loras` it reads again inside a step. A gateway "
        "before the same engine is asked in turn with it; its adapters are others to the engine.\n",
        table(["adapters", "choice", "gateway's requests/s over plain vLLM's"], rows),
    ]


def _bound(results: Results) -> list[str]:
    """What `max_loras` and `max_cpu_loras` have to do with it."""
    rows = []
    for choice in choices_of(results.windows):
        for one in results.windows:
            if one.side != GATEWAY or one.choice != choice or not one.figures.sent:
                continue
            share = one.figures.cold_starts / one.figures.sent
            expected = expected_cold_share(one.adapters, results.capacity)
            told = f"{expected:.0%}" if choice == "uniform" else "-"
            rows.append([f"{one.adapters:,}", choice, f"{share:.0%}", told])
    settings = results.settings
    return [
        "\n## What bounds it\n",
        f"`max_cpu_loras` {settings['max_cpu_loras']}: the gateway keeps {results.capacity} "
        "adapters on the engine and leaves an eighth free, since vLLM forgets an unloaded one "
        "late. Of more, the share that is asked while it is not there must be loaded, one at a "
        "time, and each load stalls all streams. Where all fit, each was asked once before; "
        "elsewhere windows also load what was never asked yet. `max_loras` "
        f"{settings['max_loras']}: of more users at once than that, each with another adapter, "
        "some would wait for a place in the batch.\n",
        table(["adapters", "choice", "cold starts", "expected in the long run"], rows),
    ]


def _level(one: Level) -> list[str]:
    return [
        f"{one.adapters:,}",
        f"{one.registered_ms:.0f}",
        f"{one.followed_ms:.0f}",
        f"{one.push_ms:.0f}",
        f"{one.gateway_bytes / 2**20:.0f}",
    ]


def _memory(results: Results) -> str:
    kib = kib_an_adapter(results.levels)
    return f"\nA tenant with its key and adapter takes {kib:.1f} KiB of the gateway."
