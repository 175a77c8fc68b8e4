"""`loraplex serve` as a command: its exit codes, and a whole life attached to a fake engine."""

import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from gateway.preflight import pick_port
from tests.fake_engine import FakeEngine
from tests.running_gateway import TinyModel
from tests.running_serve import FAKE_BASE, Serve, attached
from tests.test_supervisor import children_of, command, lives


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Serve]]:
    started: list[Serve] = []

    def start(*flags: str, cache_dir: Path | None = None) -> Serve:
        started.append(Serve(tmp_path, *flags, cache_dir=cache_dir))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.end(signal.SIGKILL)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--max-cpu-loras", "4"], "--max-cpu-loras 4 is below --max-loras 8"),
        (["--max-loras", "1", "--max-cpu-loras", "5", "--workers", "3"], "it takes at least 6"),
        (["--max-lora-rank", "17"], "must be one of 1, 8, 16"),
        (["--", "--host", "0.0.0.0"], "error: --host: the engine stays on the loopback"),
        (["--", "--enable-log-requests"], "prompts must not reach the logs"),
        (["some-model"], "error: some-model: "),
        (["--config", "no-such-file.yaml"], "no-such-file.yaml"),
        (["--engine-url", "http://127.0.0.1:1", "--", "--seed", "1"], "attached engine"),
    ],
)
def test_wrong_usage_exits_with_2(serve: Callable[..., Serve], flags: list[str], said: str) -> None:
    served = serve(*flags)
    assert served.exit_code() == 2
    assert said in served.text()


def test_a_taken_port_is_told_before_anything_starts(serve: Callable[..., Serve]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        served = serve("--port", str(port))
        assert served.exit_code() == 1
    assert served.text() == (
        f"error: port {port} on 127.0.0.1 is taken: choose another with --port\n"
    )
    assert not served.data_dir.exists()


def test_a_missing_model_is_told(serve: Callable[..., Serve]) -> None:
    served = serve("--engine-url", "http://127.0.0.1:1", "--model", "/no/such/model")
    assert served.exit_code() == 1
    assert "model '/no/such/model' is not there" in served.text()


def test_an_attached_engine_that_answers_for_any_name_is_refused(
    serve: Callable[..., Serve], fake_engine: FakeEngine, tiny_model: TinyModel
) -> None:
    fake_engine.control(skip_name_validation=True)
    served = serve(*attached(fake_engine.url, tiny_model), cache_dir=tiny_model.cache_dir)
    assert served.exit_code() == 1
    assert "VLLM_SKIP_MODEL_NAME_VALIDATION" in served.text()


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 1), (signal.SIGTERM, 2)])
def test_a_life_attached_to_an_engine(
    serve: Callable[..., Serve],
    fake_engine: FakeEngine,
    tiny_model: TinyModel,
    number: signal.Signals,
    workers: int,
) -> None:
    flags = [*attached(fake_engine.url, tiny_model), "--workers", str(workers)]
    served = serve(*flags, cache_dir=tiny_model.cache_dir)
    served.until(lambda: "Ready after" in served.text())
    assert httpx.get(f"{served.url}/readyz", trust_env=False).status_code == 200
    assert f"{served.url}/v1   (base model: {FAKE_BASE})" in served.text()
    assert f"in {served.data_dir / 'admin.key'}" in served.text()
    key = (served.data_dir / "admin.key").read_text().strip()
    answer = httpx.get(
        f"{served.url}/admin/v1/tenants",
        headers={"authorization": f"Bearer {key}"},
        trust_env=False,
    )
    assert answer.status_code == 200
    processes = children_of(served.process.pid)
    assert sum("-m gateway --worker" in command(pid) for pid in processes) == workers
    assert served.end(number) == 0
    assert not any(map(lives, processes))
    assert key not in served.text()


def test_ctrl_c_before_the_engine_answers(
    serve: Callable[..., Serve], tiny_model: TinyModel
) -> None:
    nobody = f"http://127.0.0.1:{pick_port('127.0.0.1')}"
    served = serve(*attached(nobody, tiny_model), cache_dir=tiny_model.cache_dir)
    served.until(lambda: "Uvicorn running" in served.text())
    assert f"warning: no engine answers at {nobody} yet" in served.text()
    assert httpx.get(f"{served.url}/readyz", trust_env=False).status_code == 503
    assert served.end(signal.SIGINT) == 130
