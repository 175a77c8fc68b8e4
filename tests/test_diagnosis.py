"""Reasons named from the last lines of real failures."""

import json

import pytest

from gateway.diagnosis import why_it_failed


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            "ImportError: libnuma.so.1: cannot open shared object file: No such file or directory",
            "apt-get install libnuma1",
        ),
        ("OSError: libfoo.so.2: cannot open shared object file: No", "library libfoo.so.2 is"),
        ("/usr/bin/python: Error while finding module: No module named 'vllm'", "loraplex[cpu]"),
        ("api_server.py: error: unrecognized arguments: --no-such-flag 1", "--no-such-flag 1"),
        (
            "api_server.py: error: argument --max-lora-rank: invalid choice: 17",
            "argument --max-lora-rank: invalid choice: 17",
        ),
        (
            "ValueError: To serve at least one request with the model's max seq len (8192), "
            "(0.70 GiB KV cache is needed, which is larger than the available KV cache memory "
            "(0.25 GiB). Based on the available memory, the estimated maximum model length is "
            "2944. Try",
            "--max-model-len 2944",
        ),
        (
            "ValueError: Available memory on node 0 (3.61/23.54 GiB) on kv cache allocation is "
            "less than requested memory for kv (5.62 GiB). Decrease --kv-cache-memory-bytes, or",
            "the KV cache takes 5.62 GiB, and 3.61 GiB are free; stop something else",
        ),
        ("RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory", "not enough"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried", "not enough GPU memory"),
        ("OSError: [Errno 98] Address already in use", "its port is taken"),
        (
            "consider setting `trust_remote_code=True` in LLM",
            "the model comes with code of its own",
        ),
        ("ValueError: FooForCausalLM does not support LoRA yet.", "FooForCausalLM does not"),
    ],
)
def test_a_known_failure_is_named(line: str, reason: str) -> None:
    tail = ["INFO something", f"(EngineCore pid=7) ERROR {line}", "RuntimeError: see above"]
    assert reason in why_it_failed(1, tail)


def test_a_config_dump_is_no_reason() -> None:
    tail = ["config: trust_remote_code=False, dtype=float32", "KeyError: 'x'"]
    assert why_it_failed(1, tail) == "KeyError: 'x'"


def test_the_first_error_is_the_cause() -> None:
    tail = ["(EngineCore) KeyError: 'x'", "RuntimeError: Engine core initialization failed. See"]
    assert why_it_failed(1, tail) == "KeyError: 'x'"


LOGGED = "(Worker pid=7) ERROR 01-02 03:04:05 [multiproc_executor.py:1063] "
WRAPPER = "RuntimeError: Engine core initialization failed. See root cause above."


def test_the_worker_s_error_is_the_cause_of_the_engine_s() -> None:
    tail = [
        "(APIServer pid=5) WARNING 01-02 03:04:05 [system_utils.py:255] Found ulimit of 20000. "
        "This can cause fd limit errors like `OSError: [Errno 24] Too many open files`.",
        f"{LOGGED}Traceback (most recent call last):",
        f"{LOGGED}    raise ValueError(",
        f"{LOGGED}ValueError: the moon is full",
        "RuntimeError: Worker failed with error 'the moon is full', please check the stack trace",
        WRAPPER,
    ]
    assert why_it_failed(1, tail) == "ValueError: the moon is full"


def test_memory_that_others_took_meanwhile() -> None:
    """The worker's lines may be out of reach: what wraps them quotes them."""
    said = (
        "Available memory on node 0 (3.61/23.54 GiB) on kv cache allocation is less than requested "
        "memory for kv (5.62 GiB). Decrease --kv-cache-memory-bytes, VLLM_CPU_KVCACHE_SPACE, or "
        "reduce CPU memory used by other processes."
    )
    whole = [f"{LOGGED}ValueError: {said}", f"RuntimeError: Worker failed: '{said}'", WRAPPER]
    for tail in (whole, whole[1:]):
        assert why_it_failed(1, tail) == (
            "less memory is free than was planned with: the KV cache takes 5.62 GiB, and 3.61 GiB "
            "are free; stop something else that takes memory, lower --max-model-len, or pass a "
            "smaller cache as `-- --kv-cache-memory-bytes N`"
        )


def test_an_error_in_the_gateway_s_log() -> None:
    entry = json.dumps({"level": "error", "event": "Traceback ...\nValueError: no such table"})
    assert why_it_failed(3, [entry]) == "ValueError: no such table"


def test_a_killed_process() -> None:
    assert "ran out of memory" in why_it_failed(-9, ["ValueError: stale"])
    assert why_it_failed(-11, []) == "it was ended by SIGSEGV"


def test_the_gateway_s_own_last_words() -> None:
    said = {"level": "critical", "event": "cannot start: database is locked"}
    tail = ["{not json", json.dumps({"level": "info", "event": "x"}), json.dumps(said), "Trace"]
    assert why_it_failed(1, tail) == "database is locked"


def test_nothing_but_a_status() -> None:
    assert why_it_failed(3, ["bye"]) == "it exited with status 3"
