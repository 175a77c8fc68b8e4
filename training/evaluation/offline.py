"""vLLM's offline engine, in a process of its own: what is judged is what will serve.

Base and adapters are answered for by one engine. It ends with its context, and with this process.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from training.data.rows import Message
from training.errors import EvaluationError
from training.evaluation.engines import Answer, Likelihood, Progress, Subject

_LOG_BYTES = 4096


def unseen(_stage: str, _fraction: float | None) -> None:
    """Progress that nobody looks at."""


class OfflineEngine:
    """Answers for base and adapters on this machine, CPU or GPU. Starts when it is entered.

    base: the model's folder. max_rank: the highest rank of an adapter that will be asked.
    max_model_len: tokens of prompt and answer at most; None for the model's own, 8192 at most.
    dtype: `auto` is what the gateway would choose here. Raises EvaluationError.
    """

    def __init__(
        self,
        base: Path,
        *,
        max_rank: int = 16,
        max_model_len: int | None = None,
        dtype: str = "auto",
        progress: Progress = unseen,
    ) -> None:
        self._options = {
            "base": str(base.resolve()),
            "max_rank": max_rank,
            "max_model_len": max_model_len,
            "dtype": dtype,
        }
        self._progress = progress
        self._process: subprocess.Popen[str] | None = None
        self._log: IO[bytes] | None = None
        self.facts: Mapping[str, Any] = {}
        """What was chosen, once started: device, dtype, max_model_len."""

    @property
    def pid(self) -> int | None:
        """The engine's process and process group, while it runs."""
        return self._process.pid if self._process else None

    def __enter__(self) -> "OfflineEngine":
        self._progress("starting vLLM", None)
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "training.evaluation.engine_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            encoding="utf-8",
            process_group=0,  # Ctrl-C is for this process, which then ends the engine
        )
        try:
            self.facts = self._ask(self._options, "starting vLLM", unseen)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the engine and whatever it started."""
        process, self._process = self._process, None
        if process is not None:
            # Before it is reaped, so that the group's number cannot mean another group.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):
                        pipe.close()
        if self._log is not None:
            self._log.close()
            self._log = None

    def generate(
        self,
        subject: Subject,
        prompts: Sequence[Sequence[Message]],
        *,
        max_tokens: int,
        progress: Progress = unseen,
    ) -> list[Answer]:
        """Greedy answers, in the order of the prompts."""
        request = {
            "do": "generate",
            "prompts": [list(prompt) for prompt in prompts],
            "max_tokens": max_tokens,
            "adapter": _adapter(subject),
        }
        found = self._ask(request, f"answers of {subject.name}", progress) if prompts else []
        return [
            Answer(one["text"], tuple(one["prompt_ids"]), tuple(one["token_ids"]), one["stopped"])
            for one in found
        ]

    def score(
        self,
        subject: Subject,
        rows: Sequence[tuple[Sequence[Message], str]],
        *,
        progress: Progress = unseen,
    ) -> list[Likelihood]:
        """How likely the model finds the given answers, each with its end of turn."""
        request = {
            "do": "score",
            "rows": [(list(prompt), answer) for prompt, answer in rows],
            "adapter": _adapter(subject),
        }
        found = self._ask(request, f"likelihoods of {subject.name}", progress) if rows else []
        return [Likelihood(log_prob, tokens) for log_prob, tokens in found]

    def log_probs(
        self,
        subject: Subject,
        sequences: Sequence[tuple[Sequence[int], Sequence[int]]],
        *,
        progress: Progress = unseen,
    ) -> list[list[float]]:
        """Of each token of a continuation, in nats. sequences: token ids of prompt, continuation.

        A prompt must not be empty.
        """
        request = {
            "do": "log_probs",
            "sequences": [(list(prompt), list(tokens)) for prompt, tokens in sequences],
            "adapter": _adapter(subject),
        }
        stage = f"likelihoods of {subject.name}"
        return self._ask(request, stage, progress) if sequences else []

    def _ask(self, request: Mapping[str, Any], stage: str, progress: Progress) -> Any:
        """What the child answers. A failure ends the engine: vLLM may be in any state then."""
        if self._process is None:
            raise EvaluationError("the engine is not running; use it inside its `with` block")
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        with suppress(BrokenPipeError):  # then its output ends too, and the reason is told below
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
        for line in stdout:
            said = json.loads(line)
            if "result" in said:
                return said["result"]
            if "error" in said:
                self.close()
                raise EvaluationError(f"vLLM: {said['error']}")
            progress(stage, said["done"] / max(1, said["total"]))
        raise EvaluationError(f"vLLM: {self._how_it_ended()}")

    def _how_it_ended(self) -> str:
        """From its exit status and the last line of its log."""
        process, log = self._process, self._log
        assert process is not None
        assert log is not None
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_BYTES))
        said = log.read().decode(errors="replace").splitlines()
        self.close()
        code = process.returncode
        if code == -signal.SIGKILL:
            return "it was killed; when nobody did so, the machine ran out of memory"
        if code < 0:
            return f"it was ended by {signal.Signals(-code).name}"
        last = next((line.strip() for line in reversed(said) if line.strip()), "no message")
        return f"it ended with status {code}: {last}"


def _adapter(subject: Subject) -> dict[str, str] | None:
    """The adapter by its content: other weights at the same path are another adapter."""
    if subject.adapter is None:
        return None
    # Absolute: vLLM takes a relative path that is not there for a name on the Hub.
    folder = subject.adapter.resolve()
    digest = hashlib.sha256()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        try:
            with (folder / name).open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise EvaluationError(f"{folder / name}: {error.strerror}") from None
    return {"name": digest.hexdigest(), "path": str(folder)}
