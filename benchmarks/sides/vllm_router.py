"""vllm-router, vLLM's own router in Rust, with what is its default."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.sides import peers
from benchmarks.sides.engine import Engine
from benchmarks.sides.processes import Child
from benchmarks.sides.question import Target
from benchmarks.sides.side import START_S, Running, answers, free_port, wait_until


class VllmRouter:
    """One worker URL, round robin."""

    name = "vllm-router"

    def prepare(self) -> None:
        peers.install(peers.ROUTER)

    def versions(self) -> dict[str, str]:
        return peers.versions(peers.ROUTER)

    def start(self, engine: Engine, folder: Path, cores: Sequence[int]) -> Running:
        port = free_port()
        command = [str(peers.install(peers.ROUTER)), "--host", "127.0.0.1", "--port", str(port)]
        command += ["--worker-urls", engine.url, "--policy", "round_robin"]
        command += ["--prometheus-port", str(free_port())]
        child = Child(command, cores=cores, log=folder / "out.log", cwd=folder)
        target = Target(f"http://127.0.0.1:{port}", engine.target.model)
        wait_until(child, answers(target), START_S)
        return Running(self.name, target, child)
