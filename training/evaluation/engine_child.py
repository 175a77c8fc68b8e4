"""vLLM in a process of its own, asked over pipes: `python -m training.evaluation.engine_child`.

One JSON object a line. First come the options, then one request at a time; each is answered with
`{"stage", "fraction"}` while it is worked on, and at last with `{"result"}` or `{"error"}`. The
process leads a group of its own and ends it when standard input closes, as it does when the parent
dies, however it dies.
"""

import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from typing import IO, Any

from adapters_registry.child import take_standard_output
from training.evaluation.engine_session import Say, Session, in_words

Line = dict[str, Any]

# The engine core lives in this process: nothing of it can outlive it.
_ENVIRONMENT: Mapping[str, str] = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",  # at DEBUG vLLM writes prompts
    "HF_HUB_OFFLINE": "1",  # the model is a folder by now
    "TOKENIZERS_PARALLELISM": "false",
}
_CPU_ENVIRONMENT: Mapping[str, str] = {
    # With LoRA vLLM compiles nothing but its log-probabilities: anew for many a length, and with a
    # compiler that may not be there.
    "TORCH_COMPILE_DISABLE": "1",
    # Threads that wait for each other by spinning stand still where something else takes a core:
    # beside a busy process 117 tokens a second, against 8.
    "OMP_WAIT_POLICY": "PASSIVE",
}
# Set by the user for a server, it would win over the size chosen here.
_REMOVED = ("VLLM_CPU_KVCACHE_SPACE",)


def main() -> int:
    """Serves the parent until it closes the pipe."""
    lines = take_standard_output()
    if os.getpgrp() != os.getpid():
        os.setpgrp()
    os.environ.update(_ENVIRONMENT)
    if _is_cpu_build():
        os.environ.update(_CPU_ENVIRONMENT)
    for name in _REMOVED:
        os.environ.pop(name, None)
    requests: queue.SimpleQueue[Line] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(requests,), daemon=True).start()
    try:
        session = Session.start(requests.get())
    except Exception as error:  # vLLM raises anything: the parent gets the reason, the log the rest
        _write(lines, error=in_words(error))
        raise
    _write(lines, result=session.facts)
    while True:
        _serve(session, requests.get(), lines)


def _serve(session: Session, request: Line, lines: IO[str]) -> None:
    say: Say = lambda done, total: _write(lines, done=done, total=total)  # noqa: E731
    try:
        result: Sequence[object] = getattr(session, request.pop("do"))(**request, say=say)
    except Exception as error:
        _write(lines, error=in_words(error))
        raise
    _write(lines, result=result)


def _is_cpu_build() -> bool:
    """By the installed distribution: vLLM itself must not be imported yet."""
    for name in ("vllm-cpu", "vllm"):
        with suppress(metadata.PackageNotFoundError):
            version = metadata.version(name)
            return name == "vllm-cpu" or "+cpu" in version
    return False


def _receive(requests: "queue.SimpleQueue[Line]") -> None:
    """Passes the parent's lines on. Their end is the end of everything here."""
    for line in sys.stdin.buffer:
        requests.put(json.loads(line))
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _write(lines: IO[str], **line: object) -> None:
    print(json.dumps(line), file=lines, flush=True)


if __name__ == "__main__":
    sys.exit(main())
