"""Every metric of the gateway, made once and handed down; no module-level state.

Labels name a tenant, adapter and version only after they were resolved, so that a caller cannot
make series. The base model has the adapter `(base)` and the version `0`. Series of a version that
is gone, or without traffic for long, are removed.
"""

from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple

from gateway.judge import Verdict
from gateway.process_series import ProcessSeries
from gateway.series import CounterSeries, Family, GaugeSeries, HistogramSeries, Owner, Series

BASE_ADAPTER = "(base)"

_FIRST_TOKEN_S = (0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3, 6, 12, 30, 60, 120)
_TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5)
_REQUEST_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
_QUEUE_S = (0.0005, 0.001, 0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60)
_CHARS = (0, 16, 64, 256, 1024, 4096, 16384, 65536)

_WHO = ("tenant", "adapter", "version")
_CALL = (*_WHO, "route")
_LOOKS_A_STEP = 128
_SLICE_SERIES = 16


class Subject(NamedTuple):
    """Whose call it is: the labels that name a tenant and the version that answers."""

    tenant: str = ""
    adapter: str = ""
    version: str = ""


NOBODY = Subject()
"""Before anything is known of a request."""


class CallSeries:
    """All that the calls of one subject on one route are counted in."""

    __slots__ = (
        "_by_estimated",
        "_by_status",
        "_metrics",
        "_of_call",
        "_owner",
        "duration",
        "in_flight",
        "itl",
        "prompt_tokens",
        "queue",
        "ttft",
    )

    def __init__(self, metrics: "Metrics", subject: Subject, route: str) -> None:
        call = (*subject, route)
        self._metrics = metrics
        self._of_call = call
        self._owner: Owner = metrics.series.owner(*subject)
        self._by_status: dict[int, CounterSeries] = {}
        self._by_estimated: dict[bool, CounterSeries] = {}
        self.in_flight: GaugeSeries = metrics.in_flight.labels(*call)
        self.duration: HistogramSeries = metrics.duration.labels(*call)
        self.queue: HistogramSeries = metrics.queue.labels(*call)
        self.ttft: HistogramSeries = metrics.ttft.labels(*call)
        self.itl: HistogramSeries = metrics.itl.labels(*call)
        self.prompt_tokens: CounterSeries = metrics.prompt_tokens.labels(*call)

    def count(self, status: int) -> None:
        """Counts a call that ended."""
        self._owner.active = True
        ended = self._by_status.get(status)
        if ended is None:
            ended = self._metrics.requests.labels(*self._of_call, str(status))
            self._by_status[status] = ended
        ended.inc()

    def count_tokens(self, completion_tokens: int, estimated: bool) -> None:
        """Counts the tokens of an answer; estimated: from what was delivered of it."""
        counter = self._by_estimated.get(estimated)
        if counter is None:
            counter = self._metrics.completion_tokens.labels(*self._of_call, _word(estimated))
            self._by_estimated[estimated] = counter
        counter.inc(completion_tokens)


class Metrics:
    """The gateway's series. To be used on the event loop's thread alone."""

    def __init__(self) -> None:
        self.series = series = Series(_WHO)
        self._process = ProcessSeries(series)
        self._calls: dict[Subject, dict[str, CallSeries]] = {}

        def counter(name: str, text: str, labels: Sequence[str]) -> Family[CounterSeries]:
            return series.counter(f"loraplex_{name}", text, labels)

        def gauge(name: str, text: str, labels: Sequence[str]) -> Family[GaugeSeries]:
            return series.gauge(f"loraplex_{name}", text, labels)

        def histogram(
            name: str, text: str, labels: Sequence[str], buckets: tuple[float, ...]
        ) -> Family[HistogramSeries]:
            return series.histogram(f"loraplex_{name}", text, labels, buckets)

        self.requests = counter(
            "requests_total",
            "Inference requests that ended, by final status (499: the client went away; 502 also: "
            "the engine broke off in mid-stream).",
            (*_CALL, "status"),
        )
        self.in_flight = gauge("requests_in_flight", "Inference requests being served.", _CALL)
        self.ttft = histogram(
            "time_to_first_token_seconds",
            "From the request's arrival to its first token, streamed requests.",
            _CALL,
            _FIRST_TOKEN_S,
        )
        self.itl = histogram(
            "inter_token_latency_seconds", "Between tokens of a stream.", _CALL, _TOKEN_S
        )
        self.duration = histogram(
            "request_duration_seconds", "From a request's arrival to its end.", _CALL, _REQUEST_S
        )
        self.queue = histogram(
            "queue_time_seconds",
            "From a request's arrival until it was sent to the engine, adapter load included.",
            _CALL,
            _QUEUE_S,
        )
        self.prompt_tokens = counter("prompt_tokens_total", "Tokens of prompts.", _CALL)
        self.completion_tokens = counter(
            "completion_tokens_total",
            "Tokens generated; estimated: counted from what was delivered of a broken-off call.",
            (*_CALL, "estimated"),
        )
        self.other_requests = counter(
            "other_requests_total",
            "Requests that ended on all other routes, by the route's template.",
            ("method", "path", "status"),
        )
        self.loads = counter(
            "adapter_loads_total",
            "Loads of adapters on an engine.",
            (*_WHO, "engine", "outcome"),
        )
        self.load_duration = histogram(
            "adapter_load_duration_seconds", "Time of one load.", ("engine",), _QUEUE_S
        )
        self.proofs = counter(
            "proofs_total",
            "Proofs of versions on an engine, by outcome (failed: the version stays unproved).",
            ("outcome",),
        )
        self.resident = gauge("adapters_resident", "Adapters loaded on an engine.", ("engine",))
        self.engine_up = gauge("engine_up", "Whether the engine takes requests.", ("engine",))
        self.engine_restarts = counter(
            "engine_restarts_total", "Times the engine came back after it was up.", ("engine",)
        )
        self.answers = counter(
            "answers_total", "Answers by finish reason.", (*_WHO, "finish_reason")
        )
        self.empty_answers = counter("empty_answers_total", "Answers without text or call.", _WHO)
        self.answer_length = histogram("answer_length_chars", "Length of answers.", _WHO, _CHARS)
        self.loops = counter(
            "repetition_loops_total", "Answers that end in a loop of repeated text.", _WHO
        )
        self.json_answers = counter(
            "json_answers_total", "Answers to requests for JSON, by validity.", (*_WHO, "valid")
        )
        self.schema_answers = counter(
            "schema_answers_total", "Answers to requests with a JSON schema.", (*_WHO, "valid")
        )
        self.feedback = counter("feedback_total", "Users' feedback.", (*_WHO, "sentiment"))
        self.feedback_score = series.summary(
            "loraplex_feedback_score", "Scores of feedback, -1 to 1.", _WHO
        )
        self.samples_dropped = counter(
            "quality_samples_dropped_total", "Answers that were not judged.", ()
        )

    def observe_answer(self, tenant: str, adapter: str, version: str, verdict: Verdict) -> None:
        """Counts one judged answer."""
        who = Subject(tenant, adapter, version)
        self.note(who)
        self.answers.labels(*who, verdict.finish_reason or "unknown").inc()
        self.answer_length.labels(*who).observe(verdict.chars)
        if verdict.empty:
            self.empty_answers.labels(*who).inc()
        if verdict.loops:
            self.loops.labels(*who).inc()
        if verdict.json_valid is not None:
            self.json_answers.labels(*who, _word(verdict.json_valid)).inc()
        if verdict.schema_valid is not None:
            self.schema_answers.labels(*who, _word(verdict.schema_valid)).inc()

    def dropped(self, count: int) -> None:
        """Counts answers that were not judged."""
        self.samples_dropped.labels().inc(count)

    def observe_feedback(self, subject: Subject, score: float) -> None:
        """Counts one user's feedback; score from -1 to 1."""
        self.note(subject)
        sentiment = "positive" if score > 0 else "negative" if score < 0 else "neutral"
        self.feedback.labels(*subject, sentiment).inc()
        self.feedback_score.labels(*subject).observe(score)

    def call(self, subject: Subject, route: str) -> CallSeries:
        """What a subject's calls on one route are counted in. Bound once, and kept."""
        routes = self._calls.get(subject)
        if routes is None:
            routes = self._calls[subject] = {}
        call = routes.get(route)
        if call is None:
            call = routes[route] = CallSeries(self, subject, route)
        return call

    def note(self, subject: Subject) -> None:
        """To be called at traffic of a subject that is not counted with its `CallSeries`."""
        self.series.owner(*subject).active = True

    def render(self) -> Iterator[bytes]:
        """All series as Prometheus reads them, in slices that take at most some 0.05 ms each."""
        self._process.refresh()
        return self.series.render(_SLICE_SERIES)

    def prune(self, known: Container[Subject], now_s: float, idle_s: float) -> None:
        """Removes the series of subjects that are not known or had no traffic for `idle_s` seconds.

        Those of a subject with a call in flight stay, and those of NOBODY. now_s: of any clock,
        but always the same one; how exactly idle time is known depends on how often this is called.
        """
        for _ in self.pruning(known, now_s, idle_s):
            pass

    def pruning(self, known: Container[Subject], now_s: float, idle_s: float) -> Iterator[None]:
        """The same as `prune`, step by step, so that other work can be done in between."""
        for looked_at, (values, owner) in enumerate(self.series.owners(), 1):
            subject = Subject(*values)
            if owner.active:
                owner.active = False
                owner.last_s = now_s
            stays = subject in known and now_s - owner.last_s < idle_s
            if not stays and self._is_in_flight(owner):
                owner.last_s = now_s
            elif not stays and subject != NOBODY:
                self.series.forget(*subject)
                self._calls.pop(subject, None)
                yield
            if looked_at % _LOOKS_A_STEP == 0:
                yield

    def _is_in_flight(self, owner: Owner) -> bool:
        return any(
            child.family is self.in_flight and isinstance(child, GaugeSeries) and child.value > 0
            for child in owner.children
        )


def _word(valid: bool) -> str:
    return "true" if valid else "false"
