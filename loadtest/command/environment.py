"""What the command reads from the environment, and nothing else does."""

import os
from collections.abc import Mapping


def environment() -> Mapping[str, str]:
    """LORAPLEX_URL, LORAPLEX_KEY, and the variables that a workload names with `key_env`."""
    return os.environ
