"""The testers as the benchmark runs them: each takes a load and tells its figures."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from benchmarks.sides import peers
from benchmarks.sides.peers import Package
from benchmarks.sides.processes import Child, ChildFailed
from benchmarks.sides.question import BASE, ROUTE
from benchmarks.testing.figures import Told, from_guidellm, from_ours, from_vllm
from benchmarks.testing.lines import ENDED, READY
from benchmarks.testing.loads import PROMPT_TOKENS, Load

ROOT = Path(__file__).resolve().parents[2]
_RUN_S = 240.0
_LOOK_S = 0.02
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

GUIDELLM_PACKAGE = Package(
    "guidellm", "guidellm==0.8.1", "guidellm", ("guidellm", "httpx"),
    # Its torch and transformers are this environment's: they only make its prompts.
    alone_with=(
        "click==8.4.2", "culsans==0.10.0", "aiologic==0.17.1", "sniffio==1.3.1", "wrapt==2.5.2",
        "eval-type-backport==0.4.0", "faker==40.54.0", "ftfy==6.3.1", "wcwidth==0.9.4",
        "msgpack==1.2.4", "more-itertools==11.2.1", "sanic==25.12.1", "sanic-routing==23.12.0",
        "html5tagger==2.0.0", "tracerite==2.6.5", "aiofiles==25.1.0", "h2==4.4.1",
        "hpack==4.2.0", "hyperframe==6.1.0",
    ),
)  # fmt: skip


class Side(Protocol):
    """A tester on a core of its own."""

    def ask(self, load: Load) -> Told:
        """Sends the load. Raises ChildFailed."""
        ...

    def stop(self) -> None:
        """Ends what it has running. Can be called twice."""
        ...


class _Kept:
    """A tester whose process stays: it is told of a load by a line, and says when it has ended."""

    def __init__(self, module: str, folder: Path, core: int, environ: Mapping[str, str]) -> None:
        self.out = folder / f"{module}.json"
        self._log = folder / f"{module}.log"
        command = ["taskset", "-c", str(core), sys.executable, "-W", "ignore"]
        command += ["-m", f"benchmarks.testing.{module}"]
        self._name, self._seen = module, 0
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=ROOT,
                env={**os.environ, **environ}, start_new_session=True,
            )  # fmt: skip
        try:
            self._wait_for(READY)
        except BaseException:
            self.stop()
            raise

    def ask(self, told: object) -> dict[str, Any]:
        """What it wrote to `out`."""
        assert self._process.stdin is not None
        self.out.unlink(missing_ok=True)
        try:
            self._process.stdin.write(json.dumps(told).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise ChildFailed(f"{self._name} has ended:\n{self._tail()}") from None
        self._wait_for(ENDED)
        found: dict[str, Any] = json.loads(self.out.read_text())
        return found

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _wait_for(self, line: str) -> None:
        end_s = time.monotonic() + _RUN_S
        while time.monotonic() < end_s:
            said = self._log.read_text(errors="replace")[self._seen :]
            if line in said.splitlines():
                self._seen += len(said)
                return
            if self._process.poll() is not None:
                break
            time.sleep(_LOOK_S)
        raise ChildFailed(f"{self._name} did not end its run:\n{self._tail()}")

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]


class Ours:
    """`loadtest.running` with all statistics, as the command runs it."""

    def __init__(self, url: str, folder: Path, core: int) -> None:
        self._url = url
        self._kept = _Kept("ours", folder, core, {})

    def ask(self, load: Load) -> Told:
        asked = {"load": asdict(load), "url": self._url, "model": BASE, "out": str(self._kept.out)}
        return from_ours(self._kept.ask(asked))

    def stop(self) -> None:
        self._kept.stop()


class Vllm:
    """`vllm bench serve`."""

    def __init__(self, url: str, folder: Path, core: int) -> None:
        self._url = url
        self._tokenizer = folder / "tokenizer"
        write_tokenizer(self._tokenizer)
        self._kept = _Kept("vllm_entry", folder, core, _OFFLINE)

    def ask(self, load: Load) -> Told:
        return from_vllm(self._kept.ask(self._options(load)))

    def stop(self) -> None:
        self._kept.stop()

    def _options(self, load: Load) -> list[str]:
        out = self._kept.out
        options = {
            "backend": "openai-chat", "base-url": self._url, "endpoint": ROUTE, "model": BASE,
            "tokenizer": self._tokenizer, "dataset-name": "random",
            "random-input-len": PROMPT_TOKENS, "random-output-len": load.tokens,
            "num-prompts": load.requests, "percentile-metrics": "ttft,tpot,itl,e2el",
            "result-dir": out.parent, "result-filename": out.name,
        }  # fmt: skip
        if load.rate is None:
            options["max-concurrency"] = load.users or 1
        else:
            # It has no constant arrivals: a gamma distribution so narrow that it comes to that.
            options |= {"request-rate": load.rate, "burstiness": 1000}
        pairs = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        return [*pairs, "--ignore-eos", "--disable-tqdm", "--save-result"]


class Guidellm:
    """`guidellm run`, a process a run."""

    def __init__(self, url: str, folder: Path, core: int) -> None:
        self._url, self._folder, self._core = url, folder, core
        self._tokenizer = folder / "tokenizer"
        write_tokenizer(self._tokenizer)
        self._program = peers.install(GUIDELLM_PACKAGE)
        self._child: Child | None = None

    def ask(self, load: Load) -> Told:
        out, log = self._folder / "guidellm.json", self._folder / "guidellm.log"
        out.unlink(missing_ok=True)
        command = [str(self._program), *self._options(load, out)]
        self._child = Child(command, cores=[self._core], log=log, environ=_OFFLINE)
        end_s = time.monotonic() + _RUN_S
        try:
            while time.monotonic() < end_s and not self._child.ended:
                time.sleep(_LOOK_S)
            if not out.exists():
                raise ChildFailed(f"guidellm gave no result:\n{self._child.tail()}")
        finally:
            self.stop()
        return from_guidellm(json.loads(out.read_text()))

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop()

    def _options(self, load: Load, out: Path) -> Sequence[str]:
        steady = f"kind=constant,rate={load.rate}"
        profile = f"kind=concurrent,streams={load.users}" if load.rate is None else steady
        backend = f"kind=openai_http,target={self._url},model={BASE},request_format={ROUTE}"
        data = f"prompt_tokens={PROMPT_TOKENS},output_tokens={load.tokens}"
        return [
            "run", "--backend", backend, "--profile", profile,
            "--constraint", f"kind=max_requests,count={load.requests}",
            "--tokenizer", f"kind=hf_auto,model={self._tokenizer}",
            "--data", f"kind=synthetic_text,{data}",
            "--output", f"kind=json,path={out}", "--disable-console",
        ]  # fmt: skip


def write_tokenizer(folder: Path) -> None:
    """One of 500 words, for peers that cannot do without; the engine counts for itself."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    names = ["<unk>", "<s>", "</s>", *(f"w{number:03d}" for number in range(500))]
    vocabulary = {name: place for place, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=names[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>", "bos_token": "<s>",
        "eos_token": "</s>", "model_max_length": 4096,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
