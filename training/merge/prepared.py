"""A merge before its first write: base and adapters read and matched, the files laid out."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from adapters_registry.base_model import BaseModelSpec, load_spec
from adapters_registry.errors import ModelError
from training.errors import MergeError
from training.merge.adapter_folder import AdapterFolder, open_adapter
from training.merge.base_match import check_base
from training.merge.checkpoint import Checkpoint, open_checkpoint
from training.merge.combine import combine
from training.merge.copies import without_copies
from training.merge.finish import CONFIG_FILE, merged_config
from training.merge.job import MergeJob
from training.merge.json_file import read_object
from training.merge.layout import Shard, config_dtype, lay_out
from training.merge.lora import LoraSource
from training.merge.names import ExpertPlace, load_names, needs_names
from training.merge.plan import make_plan
from training.merge.quantized import Quantized, find_quantized
from training.merge.tensors import Plan

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that is known before the weights are read.

    source: the adapters as one. quantized: how the base is rounded first. config: the merged
    model's config.json. dtype: of most weights, as `bfloat16`. fingerprint: of all that the result
    depends on.
    """

    checkpoint: Checkpoint
    spec: BaseModelSpec
    adapters: tuple[AdapterFolder, ...]
    source: LoraSource
    plan: Plan
    quantized: Quantized | None
    notes: tuple[str, ...]
    shards: tuple[Shard, ...]
    config: Mapping[str, Any]
    dtype: str
    fingerprint: str

    @property
    def tied(self) -> bool:
        """Whether input and output embeddings are one tensor."""
        return self.spec.tied and self.plan.config.get("tie_word_embeddings") is not False

    @property
    def weight_bytes(self) -> int:
        """Of all tensors that will be written."""
        return sum(shard.weight_bytes for shard in self.shards)


def prepare(job: MergeJob) -> Prepared:
    """Reads headers and configurations; nothing is written. Raises MergeError."""
    checkpoint = open_checkpoint(job.base)
    config = read_object(job.base / CONFIG_FILE)

    def experts() -> Mapping[str, ExpertPlace]:
        return load_names(job.base, checkpoint.tensors, job.cache_dir).experts

    spec = _describe(job)
    adapters = tuple(
        without_copies(open_adapter(one.folder, experts), checkpoint.tensors, spec)
        for one in job.adapters
    )
    source = _as_one(job, adapters)
    notes = [note for adapter in adapters for note in check_base(adapter, spec)]
    quantized = find_quantized(adapters, job.base_quantization)
    names = _names(job, checkpoint, spec, source)
    plan = make_plan(
        checkpoint.tensors, spec, source, config=config, quantized=quantized, names=names
    )
    shards = lay_out(
        plan.outputs,
        checkpoint.tensors,
        dtype=job.dtype,
        max_shard_bytes=job.max_shard_bytes,
        metadata=checkpoint.metadata,
    )
    dtype = config_dtype(shards)
    return Prepared(
        checkpoint=checkpoint,
        spec=spec,
        adapters=adapters,
        source=source,
        plan=plan,
        quantized=quantized,
        notes=(*notes, *plan.notes),
        shards=shards,
        config=merged_config(config, plan.config, dtype, job.dtype),
        dtype=dtype,
        fingerprint=_fingerprint(job, checkpoint, adapters, quantized, shards),
    )


def _describe(job: MergeJob) -> BaseModelSpec:
    try:
        return load_spec(job.base, job.cache_dir)
    except ModelError as error:
        raise MergeError(f"{job.base}: {error.message}") from error


def _names(
    job: MergeJob, checkpoint: Checkpoint, spec: BaseModelSpec, source: LoraSource
) -> Mapping[str, str]:
    if not needs_names(checkpoint.tensors, spec, source):
        return {}
    return load_names(job.base, checkpoint.tensors, job.cache_dir).names


def _as_one(job: MergeJob, adapters: tuple[AdapterFolder, ...]) -> LoraSource:
    """One adapter at its full strength stays what it is, and so may be of any kind."""
    if len(adapters) == 1 and job.adapters[0].weight == 1:
        return adapters[0]
    if len(adapters) == 1 and any(s.magnitude or s.bias for s in adapters[0].shapes.values()):
        raise MergeError(
            f"{adapters[0].folder} is a DoRA, or has biases of LoRA, which no weight applies to: "
            f"give it the weight 1, not {job.adapters[0].weight:g}"
        )
    weights = (one.weight for one in job.adapters)
    return combine(list(zip(adapters, weights, strict=True)), job.method)


def _fingerprint(
    job: MergeJob,
    checkpoint: Checkpoint,
    adapters: tuple[AdapterFolder, ...],
    quantized: Quantized | None,
    shards: tuple[Shard, ...],
) -> str:
    """Two merges that share it write the same bytes."""
    base = [
        [str(file.resolve()), header.size_bytes, header.mtime_ns, header.sha256]
        for file, header in checkpoint.files.items()
    ]
    weighed = zip(adapters, job.adapters, strict=True)
    parts = {
        "format": _FORMAT,
        "versions": {name: version(name) for name in ("loraplex", "torch")},
        "base": base,
        "config": hashlib.sha256((job.base / CONFIG_FILE).read_bytes()).hexdigest(),
        "adapters": [[adapter.sha256, asked.weight] for adapter, asked in weighed],
        "method": asdict(job.method),
        "compute": job.compute,
        "quantized": None if quantized is None else quantized.kind,
        "files": [[shard.name, hashlib.sha256(shard.header).hexdigest()] for shard in shards],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
