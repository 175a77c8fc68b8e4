"""How much an adapter adds to its base's weights at most, by the sizes of its own."""

import math
import os
import sys
from collections import defaultdict
from pathlib import Path

from adapters_registry.adapter_config import read_config
from adapters_registry.artifacts import WEIGHTS_FILE, open_plain
from adapters_registry.errors import StorageError
from adapters_registry.safetensors_header import read_header
from adapters_registry.tensor_scan import largest

_PREFIX = "base_model.model."


def largest_update(folder: Path) -> float:
    """A bound on every element of every module's update, B @ A times alpha over the rank.

    folder: of an adapter that was checked. Reads all of its weights. Raises StorageError.
    """
    try:
        config = read_config(folder, sys.maxsize)
        descriptor = open_plain(folder / WEIGHTS_FILE)
    except OSError as error:
        raise StorageError(f"an adapter's files cannot be read: {error.strerror}") from error
    try:
        products: dict[str, float] = defaultdict(lambda: 1.0)
        for tensor in read_header(descriptor):
            module = tensor.name.rpartition(".lora_")[0].removeprefix(_PREFIX)
            products[module] *= largest(descriptor, tensor)
    finally:
        os.close(descriptor)
    # The root of the rank is rsLoRA's; a bound may be that much too high.
    return max(
        abs(config.alpha_of(module)) * math.sqrt(config.rank_of(module)) * product
        for module, product in products.items()
    )
