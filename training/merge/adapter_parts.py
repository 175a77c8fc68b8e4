"""What an adapter's tensors come to, checked against its configuration. Pure."""

from collections.abc import Mapping

from training.adapter_files import CONFIG_FILE
from training.errors import MergeError
from training.merge.adapter_config import AdapterConfig
from training.merge.adapter_keys import Role, Sorted
from training.merge.lora import LoraShape, TokenRows
from training.merge.tensors import TensorInfo


def shape_of(path: str, roles: Mapping[Role, TensorInfo], config: AdapterConfig) -> LoraShape:
    """Of a module's part. Raises MergeError where its tensors do not belong together."""
    if {"a", "b"} <= roles.keys() and not {"embedding_a", "embedding_b"} & roles.keys():
        a, b = roles["a"], roles["b"]
    elif {"embedding_a", "embedding_b"} <= roles.keys() and not {"a", "b"} & roles.keys():
        a, b = roles["embedding_a"], roles["embedding_b"]
    else:
        raise MergeError(f"{path}: the adapter must hold an A and a B for it: save it again")
    _check_rank(path, a, b, config)
    if config.dora != ("magnitude" in roles):
        raise MergeError(
            f"{path}: use_dora is {str(config.dora).lower()} in {CONFIG_FILE}, and the adapter "
            f"holds {'a' if 'magnitude' in roles else 'no'} lora_magnitude_vector: save it again"
        )
    shape = LoraShape(
        kind="linear" if "a" in roles else "embedding",
        out_features=b.shape[0],
        in_features=a.shape[1],
        magnitude="magnitude" in roles,
        bias="bias" in roles,
    )
    for role in ("magnitude", "bias"):
        if role in roles and roles[role].shape != (shape.out_features,):
            raise MergeError(
                f"{roles[role].name} has the shape {list(roles[role].shape)} beside "
                f"{shape.out_features} rows of B: save the adapter again"
            )
    return shape


def _check_rank(path: str, a: TensorInfo, b: TensorInfo, config: AdapterConfig) -> None:
    rank = config.rank_of(path)
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise MergeError(
            f"{path}: A and B have the shapes {list(a.shape)} and {list(b.shape)}: LoRA of"
            " convolutions is not merged here"
        )
    if a.shape[0] != rank or b.shape[1] != rank:
        raise MergeError(
            f"{path}: A has {a.shape[0]} rows and B {b.shape[1]} columns, and the rank in "
            f"{CONFIG_FILE} is {rank}: its r, rank_pattern and weights do not belong together"
        )


def tokens_of(found: Sorted, config: AdapterConfig) -> dict[str, TokenRows]:
    """Trained rows with their numbers, by module. Raises MergeError where they are not as many."""
    tokens: dict[str, TokenRows] = {}
    for path, info in found.tokens.items():
        names = [n for n in config.token_indices if not n or path == n or path.endswith(f".{n}")]
        indices = config.token_indices[names[0]] if names else ()
        if len(info.shape) != 2 or info.shape[0] != len(indices):
            raise MergeError(
                f"{info.name}: its {info.shape[0]} rows are not the {len(indices)} of "
                f"trainable_token_indices in {CONFIG_FILE}: save the adapter again"
            )
        tokens[path] = TokenRows(indices, info)
    return tokens


def shared_of(found: Sorted, config: AdapterConfig) -> frozenset[str]:
    """PEFT makes a copy for a module to save; all else it loads into the base's own weight."""
    copies = {
        name
        for name in found.saved
        if any(f".{module}." in f".{name}" for module in config.modules_to_save)
    }
    return frozenset(found.saved.keys() - copies | found.beneath)
