"""LiteLLM's proxy, the best-known gateway in Python, with a master key."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from benchmarks.sides import peers
from benchmarks.sides.engine import Engine
from benchmarks.sides.processes import Child
from benchmarks.sides.question import Target
from benchmarks.sides.side import START_S, Running, answers, free_port, wait_until

_KEY = "sk-benchmark"


class LiteLlm:
    """One model behind an OpenAI-compatible URL, one worker."""

    name = "litellm"

    def prepare(self) -> None:
        peers.install(peers.LITELLM)

    def versions(self) -> dict[str, str]:
        return peers.versions(peers.LITELLM)

    def start(self, engine: Engine, folder: Path, cores: Sequence[int]) -> Running:
        port, model = free_port(), engine.target.model
        config = folder / "config.yaml"
        config.write_text(litellm_config(engine.url, model))
        command = [str(peers.install(peers.LITELLM)), "--config", str(config)]
        command += ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
        # Its price list would be fetched at every start.
        environ = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        child = Child(command, cores=cores, log=folder / "out.log", cwd=folder, environ=environ)
        headers = {"authorization": f"Bearer {_KEY}"}
        target = Target(f"http://127.0.0.1:{port}", model, headers)
        wait_until(child, answers(target), START_S)
        return Running(self.name, target, child)


def litellm_config(engine_url: str, model: str) -> str:
    """The proxy's YAML."""
    engine = {"model": f"openai/{model}", "api_base": f"{engine_url}/v1", "api_key": "none"}
    return yaml.safe_dump(
        {
            "model_list": [{"model_name": model, "litellm_params": engine}],
            "general_settings": {"master_key": _KEY},
            "litellm_settings": {"telemetry": False},
        }
    )
