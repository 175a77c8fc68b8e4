"""`loraplex serve` as a command: its exit codes, and a whole life attached to a fake engine."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from gateway.preflight import pick_port
from tests.fake_engine import FakeEngine
from tests.running_gateway import TinyModel

ROOT = Path(__file__).parents[1]
DEADLINE_S = 120.0
FAKE_BASE = "base"
"""What the fake engine calls its model."""


class Serve:
    """A running `loraplex serve`, with its own data dir and ports."""

    def __init__(self, folder: Path, *flags: str, cache_dir: Path | None = None) -> None:
        self.port = pick_port("127.0.0.1")
        self.output = folder / "output"
        self.data_dir = folder / "data"
        environ = {name: v for name, v in os.environ.items() if not name.startswith("LORAPLEX_")}
        command = [sys.executable, "-m", "loraplex", "serve", "--data-dir", str(self.data_dir)]
        command += ["--metrics-port", str(pick_port("127.0.0.1", [self.port]))]
        if "--port" not in flags:
            command += ["--port", str(self.port)]
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [*command, *flags],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environ | {"LORAPLEX_CACHE_DIR": str(cache_dir or folder / "cache")},
            )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def text(self) -> str:
        return self.output.read_text()

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not holds():
            assert time.monotonic() < deadline, self.text()
            assert self.process.poll() is None, self.text()
            time.sleep(0.05)

    def exit_code(self) -> int:
        return self.process.wait(DEADLINE_S)

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.exit_code()


def attached(url: str, model: TinyModel) -> list[str]:
    """The flags that attach to the engine at `url`, as the fake one is."""
    return ["--engine-url", url, "--model", str(model.folder), "--served-name", FAKE_BASE]


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_life_attached_to_an_engine(
    serve: Callable[..., Serve],
    fake_engine: FakeEngine,
    tiny_model: TinyModel,
    number: signal.Signals,
) -> None:
    served = serve(*attached(fake_engine.url, tiny_model), cache_dir=tiny_model.cache_dir)
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
    assert served.end(number) == 0
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
