"""The real engine killed under load: what clients see, and how everything comes back."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from loraplex.demo_data import TENANTS
from tests.live_system import ADAPTER, LiveSystem

pytestmark = pytest.mark.vllm

BACK_S = 400.0
MARKERS = {tenant.name: tenant.marker for tenant in TENANTS}


def engine_pid(live: LiveSystem) -> int:
    """The API server; its core and worker are its children."""
    for pid in live.pids():
        if b"vllm.entrypoints.openai.api_server" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise AssertionError("no engine below the supervisor")


def stream(live: LiveSystem, tenant: str, started: threading.Semaphore) -> str:
    """One long stream; all that came of it."""
    body = {
        "model": ADAPTER,
        "messages": [{"role": "user", "content": "Tell me a long story about the sea."}],
        "max_tokens": 900,
        "ignore_eos": True,
        "stream": True,
    }
    headers = {"authorization": f"Bearer {live.keys[tenant]}"}
    seen: list[str] = []
    with (
        httpx.Client(timeout=120, trust_env=False) as client,
        client.stream(
            "POST", f"{live.openai_url}/chat/completions", json=body, headers=headers
        ) as answer,
    ):
        assert answer.status_code == 200
        for text in answer.iter_text():
            if not seen:
                started.release()
            seen.append(text)
    return "".join(seen)


def ask_until(live: LiveSystem, tenant: str, done: threading.Event, texts: list[str]) -> None:
    """Asks again and again; adds the texts of all answers there were to `texts`."""
    while not done.is_set():
        answer = live.post(
            "/v1/completions",
            {
                "model": ADAPTER,
                "prompt": "<|im_start|>user\nHello?<|im_end|>\n<|im_start|>assistant\n",
                "max_tokens": 8,
                "temperature": 0,
            },
            tenant=tenant,
        )
        if answer.status_code == 200:
            texts.append(answer.json()["choices"][0]["text"])
        else:
            assert answer.status_code in (502, 503), answer.text
            assert answer.json()["error"]["message"]
            done.wait(0.1)


def test_kill_9_of_the_engine_during_16_streams(live: LiveSystem) -> None:
    done, started = threading.Event(), threading.Semaphore(0)
    tenants = [*MARKERS] * 8
    answers: dict[str, list[str]] = {tenant: [] for tenant in MARKERS}
    with ThreadPoolExecutor(32) as pool:
        streams = [pool.submit(stream, live, tenant, started) for tenant in tenants]
        for _ in streams:
            assert started.acquire(timeout=120)
        askers = [
            pool.submit(ask_until, live, tenant, done, texts) for tenant, texts in answers.items()
        ]
        try:
            os.kill(engine_pid(live), signal.SIGKILL)
            broken = [future.result() for future in streams]
            _wait(lambda: not _ready(live), 30, live)
            _wait(lambda: _ready(live), BACK_S, live)
            resident = live.admin("GET", "/engines")["data"][0]["resident"]
            _wait(lambda: all(answers.values()), 120, live)
        finally:
            done.set()
    for text in broken:
        _ends_with_one_error_event(text)
    # Ready means that the live adapters in use are back.
    assert {f"{tenant}/{ADAPTER}@1" for tenant in MARKERS} <= set(resident)
    for asker in askers:
        asker.result()
    for tenant, texts in answers.items():
        for text in texts:
            assert text.strip().startswith(MARKERS[tenant][:6]), text
    for tenant, marker in MARKERS.items():
        answer = live.post(
            "/v1/chat/completions",
            {"model": ADAPTER, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 24},
            tenant=tenant,
        )
        assert answer.json()["choices"][0]["message"]["content"].startswith(marker)


def _ends_with_one_error_event(text: str) -> None:
    assert text.endswith("\n\n")
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    errors = [event for event in events if "error" in event]
    assert errors == [events[-1]]
    assert errors[0]["error"]["message"]


def _ready(live: LiveSystem) -> bool:
    return httpx.get(f"{live.gateway_url}/readyz", trust_env=False).status_code == 200


def _wait(holds: Callable[[], bool], deadline_s: float, live: LiveSystem) -> None:
    end_s = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < end_s, live.log()[-3000:]
        time.sleep(0.1)
