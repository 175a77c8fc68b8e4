"""The gateway's metrics: what calls are counted in, and whose series go."""

from itertools import product

import pytest

from gateway.judge import Verdict
from gateway.metrics import BASE_ADAPTER, NOBODY, Metrics, Subject
from tests.test_series import Sample, parsed

ACME = Subject("acme", "support", "1")
GLOBEX = Subject("globex", "sales", "2")
IDLE_S = 60.0


def samples_of(metrics: Metrics) -> dict[Sample, float]:
    return parsed(b"".join(metrics.render()).decode())


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """The sum over all labels not named."""
    return sum(
        found
        for (each, all_labels), found in samples_of(metrics).items()
        if each == name and labels.items() <= set(all_labels)
    )


def owners(metrics: Metrics) -> set[tuple[str, ...]]:
    """Whom any series names."""
    found: set[tuple[str, ...]] = set()
    for _, labels in samples_of(metrics):
        who = dict(labels)
        if "tenant" in who:
            found.add((who["tenant"], who["adapter"], who["version"]))
    return found


def count_one_call(metrics: Metrics, subject: Subject, route: str = "chat") -> None:
    call = metrics.call(subject, route)
    call.in_flight.inc()
    call.queue.observe(0.01)
    call.ttft.observe(0.1)
    call.itl.observe(0.02, 9)
    call.duration.observe(0.5)
    call.prompt_tokens.inc(7)
    call.count_tokens(10, estimated=False)
    call.in_flight.dec()
    call.count(200)


def verdict() -> Verdict:
    return Verdict(
        finish_reason="stop", chars=12, empty=True, loops=True, json_valid=True, schema_valid=False
    )


def test_a_call_is_counted_in_the_series_that_dashboards_read() -> None:
    metrics = Metrics()
    count_one_call(metrics, ACME)
    call = metrics.call(ACME, "chat")
    call.count(499)
    call.count_tokens(3, estimated=True)
    who = {"tenant": "acme", "adapter": "support", "version": "1", "route": "chat"}
    assert value(metrics, "loraplex_requests_total", **who, status="200") == 1
    assert value(metrics, "loraplex_requests_total", **who, status="499") == 1
    assert value(metrics, "loraplex_requests_in_flight", **who) == 0
    assert value(metrics, "loraplex_prompt_tokens_total", **who) == 7
    assert value(metrics, "loraplex_completion_tokens_total", **who, estimated="false") == 10
    assert value(metrics, "loraplex_completion_tokens_total", **who, estimated="true") == 3
    assert value(metrics, "loraplex_request_duration_seconds_bucket", **who, le="0.5") == 1
    assert value(metrics, "loraplex_queue_time_seconds_count", **who) == 1
    assert value(metrics, "loraplex_time_to_first_token_seconds_sum", **who) == 0.1
    assert value(metrics, "loraplex_inter_token_latency_seconds_count", **who) == 9


def test_a_call_s_series_are_bound_once_and_are_those_of_the_families() -> None:
    metrics = Metrics()
    call = metrics.call(ACME, "chat")
    assert metrics.call(Subject("acme", "support", "1"), "chat") is call
    assert metrics.call(ACME, "messages") is not call
    assert metrics.call(GLOBEX, "chat") is not call
    assert call.duration is metrics.duration.labels(*ACME, "chat")
    assert call.in_flight is metrics.in_flight.labels(*ACME, "chat")


def test_verdicts_feedback_and_drops_are_counted() -> None:
    metrics = Metrics()
    metrics.observe_answer(*ACME, verdict())
    metrics.observe_feedback(ACME, 0.5)
    metrics.observe_feedback(ACME, -1)
    metrics.observe_feedback(ACME, 0)
    metrics.dropped(3)
    assert value(metrics, "loraplex_answers_total", adapter="support", finish_reason="stop") == 1
    assert value(metrics, "loraplex_answer_length_chars_sum", adapter="support") == 12
    assert value(metrics, "loraplex_empty_answers_total", adapter="support") == 1
    assert value(metrics, "loraplex_repetition_loops_total", adapter="support") == 1
    assert value(metrics, "loraplex_json_answers_total", valid="true") == 1
    assert value(metrics, "loraplex_schema_answers_total", valid="false") == 1
    for sentiment in ("positive", "negative", "neutral"):
        assert value(metrics, "loraplex_feedback_total", sentiment=sentiment) == 1
    assert value(metrics, "loraplex_feedback_score_count") == 3
    assert value(metrics, "loraplex_feedback_score_sum") == -0.5
    assert value(metrics, "loraplex_quality_samples_dropped_total") == 3


def test_a_process_tells_what_it_uses() -> None:
    metrics = Metrics()
    assert 2**20 < value(metrics, "process_resident_memory_bytes") < 2**40
    assert value(metrics, "process_open_fds") >= 3
    assert value(metrics, "process_cpu_seconds_total") > 0
    assert value(metrics, "process_start_time_seconds") > 1.5e9


def test_hundreds_of_subjects_are_rendered_right() -> None:
    metrics = Metrics()
    subjects = [Subject(f"t-{number}", 'ad"ap\\ter\n', str(number)) for number in range(500)]
    for at, (subject, route) in enumerate(product(subjects, ("chat", "messages"))):
        call = metrics.call(subject, route)
        call.count(200)
        call.duration.observe(0.25, at + 1)
        call.prompt_tokens.inc(at)
    samples = samples_of(metrics)
    for at, (subject, route) in enumerate(product(subjects, ("chat", "messages"))):
        who = {**subject._asdict(), "route": route}
        assert samples[_key("loraplex_requests_total", **who, status="200")] == 1
        assert samples[_key("loraplex_prompt_tokens_total", **who)] == at
        bucket = "loraplex_request_duration_seconds_bucket"
        assert samples[_key(bucket, **who, le="0.1")] == 0
        assert samples[_key(bucket, **who, le="0.25")] == at + 1
        assert samples[_key("loraplex_request_duration_seconds_sum", **who)] == 0.25 * (at + 1)


def _key(name: str, **labels: str) -> Sample:
    return name, frozenset(labels.items())


def test_all_series_of_a_subject_that_is_gone_are_removed() -> None:
    metrics = Metrics()
    for subject in (ACME, GLOBEX):
        for route in ("chat", "messages"):
            count_one_call(metrics, subject, route)
        metrics.observe_answer(*subject, verdict())
        metrics.observe_feedback(subject, 1)
        metrics.note(subject)
        metrics.loads.labels(*subject, "engine", "loaded").inc()
    bound = metrics.call(ACME, "chat")
    metrics.prune({GLOBEX}, 0, IDLE_S)
    assert owners(metrics) == {GLOBEX}
    assert metrics.call(ACME, "chat") is not bound
    count_one_call(metrics, ACME)
    assert value(metrics, "loraplex_requests_total", tenant="acme") == 1


def test_series_made_without_a_note_are_removed_too() -> None:
    metrics = Metrics()
    metrics.loads.labels(*ACME, "engine", "loaded").inc()
    metrics.prune({ACME}, 1000, IDLE_S)
    assert owners(metrics) == {ACME}
    metrics.prune(set(), 1000, IDLE_S)
    assert owners(metrics) == set()


def test_series_without_traffic_go_after_the_idle_time() -> None:
    metrics = Metrics()
    known = {ACME, GLOBEX}
    count_one_call(metrics, ACME)
    metrics.observe_feedback(GLOBEX, 1)
    metrics.prune(known, 1000, IDLE_S)
    metrics.call(ACME, "chat").count(200)
    metrics.prune(known, 1000 + IDLE_S - 1, IDLE_S)
    assert owners(metrics) == {ACME, GLOBEX}
    metrics.prune(known, 1000 + IDLE_S, IDLE_S)
    assert owners(metrics) == {ACME}
    metrics.note(ACME)
    metrics.prune(known, 1000 + 2 * IDLE_S, IDLE_S)
    assert owners(metrics) == {ACME}
    metrics.prune(known, 1000 + 3 * IDLE_S, IDLE_S)
    assert owners(metrics) == set()


@pytest.mark.parametrize("known", [{ACME}, set()])
def test_a_call_in_flight_keeps_its_subject(known: set[Subject]) -> None:
    metrics = Metrics()
    call = metrics.call(ACME, "chat")
    metrics.call(ACME, "messages").count(200)
    call.in_flight.inc()
    for now_s in (0, IDLE_S, 5 * IDLE_S):
        metrics.prune(known, now_s, IDLE_S)
    call.in_flight.dec()
    if known:  # Its idle time begins with its end.
        metrics.prune(known, 6 * IDLE_S - 1, IDLE_S)
    call.count(200)
    assert value(metrics, "loraplex_requests_total", tenant="acme") == 2
    metrics.prune(known, 6 * IDLE_S, IDLE_S)
    metrics.prune(known, 7 * IDLE_S, IDLE_S)
    assert owners(metrics) == set()


def test_what_is_counted_before_anybody_is_known_stays() -> None:
    metrics = Metrics()
    metrics.call(NOBODY, "chat").count(401)
    metrics.prune(set(), 0, IDLE_S)
    metrics.prune(set(), 10 * IDLE_S, IDLE_S)
    assert value(metrics, "loraplex_requests_total", status="401") == 1


def test_other_series_stay() -> None:
    metrics = Metrics()
    metrics.engine_up.labels("engine").set(1)
    metrics.other_requests.labels("GET", "/livez", "200").inc()
    metrics.call(Subject("acme", BASE_ADAPTER, "0"), "chat").count(200)
    metrics.prune(set(), 0, IDLE_S)
    assert value(metrics, "loraplex_engine_up") == 1
    assert value(metrics, "loraplex_other_requests_total") == 1
    assert owners(metrics) == set()


def test_pruning_is_done_in_steps_between_which_series_may_come_and_go() -> None:
    metrics = Metrics()
    subjects = [Subject("acme", "support", str(number)) for number in range(300)]
    for subject in subjects:
        count_one_call(metrics, subject)
    living = set(subjects[:5])
    steps = metrics.pruning(living, 0, IDLE_S)
    next(steps)
    metrics.prune(living, 0, IDLE_S)
    count_one_call(metrics, GLOBEX)
    for _ in steps:
        pass
    assert owners(metrics) == living | {GLOBEX}


def test_looking_at_many_that_stay_is_done_in_steps_too() -> None:
    metrics = Metrics()
    subjects = {Subject("acme", "support", str(number)) for number in range(1000)}
    for subject in subjects:
        metrics.note(subject)
    assert sum(1 for _ in metrics.pruning(subjects, 0, IDLE_S)) == 1000 // 128
