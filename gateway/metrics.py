"""Every Prometheus object of the gateway, made once and handed down; no module-level state.

Labels name a tenant, adapter and version only after they were resolved, so that a caller cannot
make series. The base model has the adapter `(base)` and the version `0`. Series of a version that
is gone are removed.
"""

from collections.abc import Iterable, Set
from typing import NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Summary,
    disable_created_metrics,
)
from prometheus_client.metrics import MetricWrapperBase

from gateway.judge import Verdict

BASE_ADAPTER = "(base)"

_FIRST_TOKEN_S = (0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3, 6, 12, 30, 60, 120)
_TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5)
_REQUEST_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
_QUEUE_S = (0.0005, 0.001, 0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60)
_CHARS = (0, 16, 64, 256, 1024, 4096, 16384, 65536)

_WHO = ("tenant", "adapter", "version")
_CALL = (*_WHO, "route")


class Subject(NamedTuple):
    """Whose call it is: the labels that name a tenant and the version that answers."""

    tenant: str = ""
    adapter: str = ""
    version: str = ""


NOBODY = Subject()
"""Before anything is known of a request."""


class Metrics:
    """The gateway's series, in a registry of their own."""

    def __init__(self) -> None:
        # A creation time for each series would double the text of a scrape, and nobody reads it.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = CollectorRegistry(auto_describe=True)
        self.registry = registry

        def counter(name: str, text: str, labels: Iterable[str]) -> Counter:
            return Counter(f"loraplex_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, labels: Iterable[str]) -> Gauge:
            return Gauge(f"loraplex_{name}", text, labels, registry=registry)

        def histogram(
            name: str, text: str, labels: Iterable[str], buckets: tuple[float, ...]
        ) -> Histogram:
            return Histogram(f"loraplex_{name}", text, labels, registry=registry, buckets=buckets)

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
        self.feedback_score = Summary(
            "loraplex_feedback_score", "Scores of feedback, -1 to 1.", _WHO, registry=registry
        )
        self.samples_dropped = counter(
            "quality_samples_dropped_total", "Answers that were not judged.", ()
        )
        self._subjects: set[Subject] = set()
        self._of_versions: tuple[MetricWrapperBase, ...] = (
            self.requests,
            self.in_flight,
            self.ttft,
            self.itl,
            self.duration,
            self.queue,
            self.prompt_tokens,
            self.completion_tokens,
            self.loads,
            self.answers,
            self.empty_answers,
            self.answer_length,
            self.loops,
            self.json_answers,
            self.schema_answers,
            self.feedback,
            self.feedback_score,
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
        self.samples_dropped.inc(count)

    def observe_feedback(self, subject: Subject, score: float) -> None:
        """Counts one user's feedback; score from -1 to 1."""
        self.note(subject)
        sentiment = "positive" if score > 0 else "negative" if score < 0 else "neutral"
        self.feedback.labels(*subject, sentiment).inc()
        self.feedback_score.labels(*subject).observe(score)

    def keep_only(self, subjects: Set[Subject]) -> None:
        """Removes the series of all other subjects, so that their number stays bounded."""
        gone = self._subjects - subjects
        self._subjects -= gone
        for subject in gone:
            for metric in self._of_versions:
                metric.remove_by_labels(subject._asdict())

    def note(self, subject: Subject) -> None:
        """To be called with every subject that has series."""
        self._subjects.add(subject)


def _word(valid: bool) -> str:
    return "true" if valid else "false"
