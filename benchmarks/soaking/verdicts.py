"""What must hold after a soak, what was found, and whether it held; pure."""

import statistics
from collections.abc import Callable, Iterator, Sequence

from benchmarks.sides.verdicts import Verdict
from benchmarks.soaking.results import END, SETTLED, START, Books, Checkpoint, Results

CANCELLED_SHARE = 0.10
RESET_SHARE = 0.01
LONG_ENOUGH = 10_000
"""Requests between the two quarters, without which growth says nothing."""
GROWTH_BYTES = 8 * 2**20
BLOCKS = 5_000
"""Small blocks that may be new at the end: the series of statuses that the start has not seen."""
HEAP_BYTES = 2**20
THREADS = 8
"""The event loop's own pool of threads is filled as it is needed."""
_MIB = 2**20


def verdicts(results: Results) -> list[Verdict]:
    """On what has been found so far; held is None where the run did not come so far.

    Of memory's growth it is None in a short run too.
    """
    found = [*_counted(results)]
    if results.books is not None:
        found += [*_booked(results.books), *_mixed(results)]
    start, settled, end = map(results.checkpoint, (START, SETTLED, END))
    return [*found, *_given_back(results, start, settled, end), _memory(results.checkpoints)]


def _counted(results: Results) -> Iterator[Verdict]:
    """What holds at every checkpoint, since nothing was asked then."""
    looks = results.checkpoints
    yield _never(
        looks,
        "each request is counted once, at every checkpoint",
        lambda c: abs(c.counted - c.requests),
        lambda c: f"{c.counted:,} of {c.requests:,} requests",
    )
    yield _never(
        looks,
        "each request has one line in the log, at every checkpoint",
        lambda c: abs(c.logged - c.requests),
        lambda c: f"{c.logged:,} lines of {c.requests:,} requests",
    )
    yield _never(
        looks,
        "nothing is in flight while nothing is asked",
        lambda c: abs(c.in_flight),
        lambda c: f"{c.in_flight} by the gauge",
    )
    yield _never(
        looks,
        "the engine answers no call while nothing is asked",
        lambda c: c.engine_open,
        lambda c: f"{c.engine_open} open calls",
    )
    yield _never(
        looks,
        "the gateway holds no connection that its client has ended",
        lambda c: max(0, c.process.sockets.clients - c.connections),
        lambda c: f"{c.process.sockets.clients} connections, {c.connections} at the client",
    )


def _booked(books: Books) -> Iterator[Verdict]:
    counted, logged = books.counted_by_status, books.logged_by_status
    yield Verdict(
        "metrics and log agree on every status",
        _pairs(counted) if counted == logged else f"{_pairs(counted)}; log: {_pairs(logged)}",
        counted == logged,
    )
    yield Verdict(
        "no request has two lines in the log", f"{books.doubled} doubled", books.doubled == 0
    )
    matched, whole = books.matched, sum(books.mix.answered_by_status.values())
    yield Verdict(
        "each answer that came whole is logged under the status it came with",
        f"{whole:,} answers: {matched.missing} missing, {matched.other_status} with another status"
        + (f" ({matched.example})" if matched.example else ""),
        matched.missing == 0 and matched.other_status == 0,
    )
    yield Verdict(
        "what else the log holds are the requests that were left before an answer",
        f"{matched.unread:,} lines, {books.mix.unanswered:,} requests",
        matched.unread == books.mix.unanswered,
    )
    yield Verdict(
        "requests that were left are counted as left, served or broken off",
        _pairs(matched.odd) or "none under another status",
        not matched.odd,
    )
    yield Verdict(
        "each request that was not left got its own answer, or the refusal it deserves",
        _pairs(books.problems) or "no exception",
        not books.problems,
    )
    first = f": {books.complaint_examples[0][:200]}" if books.complaint_examples else ""
    yield Verdict(
        "the gateway's log holds no warning, error or stray line",
        f"{books.complaints}{first}",
        books.complaints == 0,
    )


def _mixed(results: Results) -> Iterator[Verdict]:
    """A soak without its faults would show nothing."""
    books, engine = results.books, results.engine
    assert books is not None
    left, requests = sum(books.mix.cancelled.values()), max(1, books.mix.requests)
    share = left / requests
    # The warm-up's requests are all good.
    done = None if results.partial else share >= CANCELLED_SHARE * 0.95
    yield Verdict("a tenth of the requests was left", f"{left:,} ({share:.1%})", done)
    if engine is not None:
        share = engine.reset / requests
        done = None if results.partial else share >= RESET_SHARE * 0.75
        yield Verdict(
            "the engine reset a hundredth of the requests", f"{engine.reset:,} ({share:.1%})", done
        )


def _given_back(
    results: Results, start: Checkpoint | None, settled: Checkpoint | None, end: Checkpoint | None
) -> Iterator[Verdict]:
    claims: list[tuple[str, Callable[[Checkpoint], int], int]] = [
        ("sockets are back to the start's number", lambda c: c.process.sockets.total, 0),
        ("open descriptors are back to the start's number", lambda c: c.process.descriptors, 0),
        ("tasks are back to the start's number", lambda c: c.tasks, 0),
        (
            f"threads: at most {THREADS} more than at the start",
            lambda c: c.process.threads,
            THREADS,
        ),
    ]
    for claim, get, more in claims:
        if start is None or end is None:
            yield Verdict(claim, "", None)
        else:
            shown = f"{get(start)} at the start, {get(end)} at the end"
            yield Verdict(claim, shown, get(end) <= get(start) + more)
    yield _pool(results, settled)
    yield _in_use(start, end)


def _pool(results: Results, settled: Checkpoint | None) -> Verdict:
    """The engine's connections are kept for later: no more than were in use at once."""
    claim = "no more connections to the engine are kept than there were requests at once"
    if settled is None:
        return Verdict(claim, "", None)
    most = int(results.options["concurrency"]) + 1  # and the gateway's own probe
    kept = settled.process.sockets.engine
    return Verdict(claim, f"{kept} of at most {most}", kept <= most)


def _in_use(start: Checkpoint | None, end: Checkpoint | None) -> Verdict:
    claim = (
        f"memory in use is back to the start's but for {BLOCKS:,} small blocks and "
        f"{HEAP_BYTES // _MIB} MiB of the heap, garbage collected"
    )
    if start is None or end is None:
        return Verdict(claim, "", None)
    blocks, heap_bytes = end.blocks - start.blocks, end.heap_bytes - start.heap_bytes
    shown = (
        f"{start.blocks:,} blocks and {start.heap_bytes / _MIB:.1f} MiB at the start, "
        f"{blocks:+,} and {heap_bytes / _MIB:+.2f} MiB at the end"
    )
    return Verdict(claim, shown, blocks <= BLOCKS and heap_bytes <= HEAP_BYTES)


def _memory(looks: Sequence[Checkpoint]) -> Verdict:
    claim = (
        f"memory in the run's last quarter is at most {GROWTH_BYTES // _MIB} MiB above that of its "
        "second quarter, medians, what is remembered for feedback not counted"
    )
    early = [look for look in looks if 25 < _percent(look) <= 50]
    late = [look for look in looks if _percent(look) > 75]
    if not early or not late:
        return Verdict(claim, "", None)
    before, after = _resident_bytes(early), _resident_bytes(late)
    shown = f"{before / _MIB:.1f} to {after / _MIB:.1f} MiB: {(after - before) / _MIB:+.1f} MiB"
    if late[0].requests - early[-1].requests < LONG_ENOUGH:
        return Verdict(claim, f"{shown}, of a run that is too short to tell", None)
    return Verdict(claim, shown, after - before <= GROWTH_BYTES)


def _resident_bytes(looks: Sequence[Checkpoint]) -> float:
    return statistics.median(look.process.rss_bytes - look.remembered_bytes for look in looks)


def _percent(look: Checkpoint) -> int:
    """How far the run has come; 0 where the checkpoint is not one in its midst."""
    return int(look.name.removesuffix(" %")) if look.name.endswith(" %") else 0


def _never(
    looks: Sequence[Checkpoint],
    claim: str,
    off: Callable[[Checkpoint], int],
    shown: Callable[[Checkpoint], str],
) -> Verdict:
    """The claim holds where every checkpoint is off by nothing; the worst one is shown."""
    if not looks:
        return Verdict(claim, "", None)
    worst = max(looks, key=lambda look: (off(look), look.seconds))
    return Verdict(claim, f"{shown(worst)} ({worst.name})", off(worst) == 0)


def _pairs(counts: dict[int, int] | dict[str, int]) -> str:
    return ", ".join(f"{count:,} x {what}" for what, count in sorted(counts.items()))
