"""The unmodified Node `openai` client against the whole system on the real vLLM."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.live_system import ADAPTER, LiveSystem

pytestmark = pytest.mark.vllm

SOURCES = Path(__file__).parent / "node"
INSTALL_S = 300
RUN_S = 300


@pytest.fixture(scope="session")
def node_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script beside an installed client, at the version that package.json pins."""
    if shutil.which("npm") is None:
        missing = "Node is not installed; install nodejs and npm"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "client.mjs"):
        shutil.copy(SOURCES / name, folder)
    install = ["npm", "install", "--no-save", "--no-package-lock", "--no-audit", "--no-fund"]
    subprocess.run(install, cwd=folder, check=True, capture_output=True, timeout=INSTALL_S)
    return folder / "client.mjs"


@pytest.fixture(scope="session")
def found(node_client: Path, live: LiveSystem) -> dict[str, Any]:
    """What the script found."""
    arguments = [live.openai_url, live.keys["acme"], ADAPTER, live.base]
    command = ["node", str(node_client), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_chat_plain_and_streamed(found: dict[str, Any]) -> None:
    plain = found["plain"]
    assert plain["text"]
    assert plain["model"].startswith(f"acme/{ADAPTER}@1:")
    assert plain["usage"]["completion_tokens"] == 8
    assert found["counted"]["text"] == found["uncounted"]["text"] == plain["text"]
    assert found["counted"]["usage"]["completion_tokens"] == 8
    assert found["uncounted"]["usages"] == 0


def test_completions_and_responses(found: dict[str, Any]) -> None:
    assert found["completion"] == found["completionStreamed"] != ""
    assert found["response"] == found["responseStreamed"] != ""
    assert found["responseUsage"]["output_tokens"] == 6


def test_models(found: dict[str, Any], live: LiveSystem) -> None:
    assert {live.base, ADAPTER, f"{ADAPTER}@1"} <= set(found["models"])
    assert found["retrieved"] == found["plain"]["model"]
    assert found["base"] == live.base


def test_tools_and_json(found: dict[str, Any]) -> None:
    assert found["tool"]["name"] == "get_weather"
    assert json.loads(found["tool"]["arguments"])["city"] in ("Paris", "Rome")
    assert found["toolLeftToModel"] == 1
    assert json.loads(found["json"]) in ("red", "blue")


def test_logprobs_many_answers_and_stop_strings(found: dict[str, Any]) -> None:
    assert len(found["logprobs"]) == 8
    assert all(len(token["top_logprobs"]) == 2 for token in found["logprobs"])
    assert found["many"] == [0, 1]
    stopped, text = found["stopped"], found["plain"]["text"]
    assert stopped["choice"]["finish_reason"] == "stop"
    assert stopped["choice"]["message"]["content"] == text[: text.index(stopped["stop"])]


@pytest.mark.parametrize(
    ("case", "name", "status", "param"),
    [
        ("key", "AuthenticationError", 401, None),
        ("keyStreamed", "AuthenticationError", 401, None),
        ("model", "NotFoundError", 404, "model"),
        ("retrieve", "NotFoundError", 404, "model"),
        ("long", "BadRequestError", 400, None),
        ("temperature", "BadRequestError", 400, "temperature"),
        ("n", "BadRequestError", 400, "n"),
        ("embeddings", "BadRequestError", 400, "model"),
        ("stored", "NotFoundError", 404, "response_id"),
        ("previous", "BadRequestError", 400, "previous_response_id"),
    ],
)
def test_failures_raise_the_clients_own_exceptions(
    found: dict[str, Any], case: str, name: str, status: int, param: str | None
) -> None:
    failure = found["failures"][case]
    assert (failure["name"], failure["status"]) == (name, status)
    if param is not None:
        assert failure["param"] == param
    if case == "long":
        assert failure["code"] == "context_length_exceeded"
