"""What a Pushgateway is told of a run, over real HTTP, and what is said when it is not there."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from prometheus_client.parser import text_string_to_metric_families

from loadtest.report.push import PushError, exposition, push
from loadtest.report.result import Result
from tests.load_results import BOUND, result_of, some

HOSTILE = 'a"b\\c\nd}'
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Gateway(HTTPServer):
    """Keeps what it is told, and answers as it is asked to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.asked: list[tuple[str, str, dict[str, str], str]] = []
        self.answer = (200, "")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Asked(BaseHTTPRequestHandler):
    server: Gateway

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append((self.command, self.path, headers, body))
        status, text = self.server.answer
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[Gateway]:
    with Gateway() as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.01,))
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def gateway(server: Gateway) -> Gateway:
    server.asked.clear()
    server.answer = (200, "")
    return server


def series(result: Result) -> Series:
    """Samples as Prometheus's own parser reads them."""
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(exposition(result))
        for one in family.samples
    }


def of(found: Series, name: str, **labels: str) -> float:
    return found[f"loraplex_loadtest_{name}", tuple(sorted(labels.items()))]


def test_prometheus_reads_the_figures_with_their_units() -> None:
    result = result_of(some(40, fails=lambda i: i == 7), price=3.6, conditions=["errors > 1%"])
    found = series(result)
    assert of(found, "ttft_seconds", quantile="0.95") == pytest.approx(result.ttft_s.p95)
    assert of(found, "ttft_seconds_count") == 39
    assert of(found, "ttft_seconds_sum") == pytest.approx(39 * (result.ttft_s.mean or 0))
    assert of(found, "ttft_max_seconds") == pytest.approx(result.ttft_s.max)
    assert of(found, "requests", outcome="ok") == 39
    assert of(found, "errors", kind="http_503") == 1
    assert of(found, "failed_ratio") == pytest.approx(1 / 40)
    assert of(found, "condition_failed", condition="errors > 1%") == 1
    assert of(found, "tenant_requests", tenant="globex", outcome="http_error") == 1
    assert of(found, "model_e2e_seconds", model="bot", quantile="0.5") > 0.5
    assert of(found, "made_timestamp_seconds") == result.made_at.timestamp()
    assert (of(found, "completed"), of(found, "tester_bound")) == (1, 0)


def test_every_family_is_described_once_and_named_alike() -> None:
    families = list(text_string_to_metric_families(exposition(result_of(some(8)))))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    assert all(name.startswith("loraplex_loadtest_") for name in names)
    assert {family.type for family in families} == {"gauge", "summary"}
    assert all(family.documentation for family in families)


def test_what_was_not_measured_has_no_series() -> None:
    found = series(result_of([], ended="interrupted", tester=BOUND, slo=None))
    assert not any("seconds" in name and "quantile" in dict(labels) for name, labels in found)
    assert (of(found, "completed"), of(found, "tester_bound")) == (0, 1)
    assert not any(name.startswith("loraplex_loadtest_tenant") for name, _ in found)


def test_names_may_hold_anything() -> None:
    found = series(result_of(some(4, tenants=(HOSTILE,), models=("日本",))))
    assert of(found, "tenant_requests", tenant=HOSTILE, outcome="ok") == 4
    assert of(found, "model_requests", model="日本", outcome="ok") == 4


def test_tenants_are_bounded() -> None:
    samples = some(260, tenants=[f"t{i}" for i in range(130)])
    found = series(result_of(samples))
    tenants = {dict(labels)["tenant"] for _, labels in found if "tenant" in dict(labels)}
    assert len(tenants) == 100
    assert of(found, "tenants_left_out") == 30


def test_a_push_replaces_the_group_of_job_and_labels(gateway: Gateway) -> None:
    result = result_of(some(4))
    push(result, f"{gateway.url}/prefix/", "nightly", {"branch": "main", "ref": "a/b", "none": ""})
    ((method, path, headers, body),) = gateway.asked
    assert method == "PUT"
    assert path == "/prefix/metrics/job/nightly/branch/main/ref@base64/YS9i/none@base64/="
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "authorization" not in headers
    assert body == exposition(result)


def test_a_user_and_a_password_are_sent_but_never_told(gateway: Gateway) -> None:
    url = gateway.url.replace("http://", "http://me:secret@")
    gateway.answer = (401, "who are you?")
    with pytest.raises(PushError) as caught:
        push(result_of([]), url, "nightly", {})
    assert gateway.asked[0][2]["authorization"].startswith("Basic ")
    assert "secret" not in str(caught.value)
    assert "401 (who are you?); give user and password" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "said"),
    [(400, "answered 400 (broken); its log says more"),
     (404, "answered 404 (broken); is it a Pushgateway"),
     (301, "answered 301 (broken)")],
)  # fmt: skip
def test_a_refusal_is_told_with_a_fix(gateway: Gateway, status: int, said: str) -> None:
    gateway.answer = (status, "broken")
    with pytest.raises(PushError, match=r"^--push: http://127\.0\.0\.1:") as caught:
        push(result_of([]), gateway.url, "nightly", {})
    assert said in str(caught.value)


def test_nobody_there_is_told_with_a_fix() -> None:
    with pytest.raises(PushError, match=r"--push: http://127\.0\.0\.1:1 cannot be reached .*9091"):
        push(result_of([]), "http://127.0.0.1:1", "nightly", {})


@pytest.mark.parametrize(
    ("url", "job", "labels", "said"),
    [
        ("gateway:9091", "j", {}, "the address is none; write http://HOST:9091"),
        ("http://x:y:z", "j", {}, "the address is none"),
        ("http://me:se/cret@x", "j", {}, "--push: the address is none; write http://HOST:9091"),
        ("http://x:9091?a=1", "j", {}, "has a query or fragment"),
        ("http://x:9091", "", {}, "the job has no name"),
        ("http://x:9091", "j", {"a-b": "c"}, "`a-b` is no label"),
        ("http://x:9091", "j", {"tenant": "c"}, "`tenant` is one of the figures' own"),
    ],
)
def test_wrong_options_are_told_before_anything_is_sent(
    url: str, job: str, labels: dict[str, str], said: str
) -> None:
    with pytest.raises(PushError) as caught:
        push(result_of([]), url, job, labels)
    assert str(caught.value).startswith("--push")
    assert said in str(caught.value)
