"""Several adapters made one, against what PEFT makes of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from adapters_registry.adapter_config import read_config
from adapters_registry.base_model import load_spec
from adapters_registry.manifest import check_adapter
from loraplex.client.folder import check_files, metadata_of
from tests.described import described
from training.errors import MergeError
from training.merge.adapter_folder import AdapterFolder, open_adapter
from training.merge.combine import CombineMethod, combine
from training.merge.combine.sparsity import module_seed
from training.merge.combine_to_folder import combine_to_folder
from training.merge.job import AdapterInput, MergeJob
from training.merge.lora import LoraModule
from training.merge.made_config import made_config

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

# Adapters of tied embeddings are what is combined here; PEFT warns of merging them.
pytestmark = pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")

WEIGHTS = {"red": 0.7, "green": -0.4, "blue": 1.3}
LINEAR = ("red", "green")
ALL = ("red", "green", "blue")


@dataclass(frozen=True)
class Peers:
    """Three adapters on one model of PEFT's, and the same as folders.

    red and green are of one rank. Each has modules that another lacks; green is an rsLoRA.
    """

    model: "PeftModel"
    folders: Mapping[str, AdapterFolder]

    def sources(self, names: tuple[str, ...]) -> list[tuple[AdapterFolder, float]]:
        return [(self.folders[name], WEIGHTS[name]) for name in names]

    def layers(self, name: str) -> "dict[str, Any]":
        """PEFT's layers that have this adapter, by the path in the base."""
        return {
            path.removeprefix("base_model.model."): layer
            for path, layer in self.model.named_modules()
            if name in getattr(layer, "lora_A", {})
            or name in getattr(layer, "lora_embedding_A", {})
        }


@pytest.fixture(scope="module")
def peers(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Peers:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(3)
    plain: dict[str, Any] = {"init_lora_weights": False, "task_type": "CAUSAL_LM"}
    configs = {
        "red": LoraConfig(
            r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "embed_tokens"], **plain
        ),
        "green": LoraConfig(
            r=4, lora_alpha=2, use_rslora=True, target_modules=["q_proj", "embed_tokens"], **plain
        ),
        "blue": LoraConfig(r=8, lora_alpha=4, target_modules=["q_proj", "down_proj"], **plain),
    }
    model: Any = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_base), configs["red"], "red"
    )
    for name in ("green", "blue"):
        model.add_adapter(name, configs[name])
    folder = tmp_path_factory.mktemp("peers")
    model.save_pretrained(folder, save_embedding_layers=False)
    return Peers(model, {name: open_adapter(folder / name) for name in ALL})


def delta(module: LoraModule) -> "torch.Tensor":
    """The update as the base keeps the weight, which is what PEFT's `get_delta_weight` gives."""
    update = module.scaling * module.b @ module.a
    return update.T if module.kind == "embedding" or module.fan_in_fan_out else update


def assert_equal(ours: "torch.Tensor", theirs: "torch.Tensor") -> None:
    """But for what float32 rounds, which a decomposition spreads by the size of the whole."""
    import torch

    size = float(torch.linalg.matrix_norm(theirs.detach(), ord=2))
    assert size > 0
    error = 4 * torch.finfo(torch.float32).eps * size
    torch.testing.assert_close(ours, theirs.detach(), rtol=0, atol=error)


@pytest.mark.parametrize(
    ("names", "method"),
    [
        (ALL, CombineMethod()),
        (LINEAR, CombineMethod("linear")),
        (ALL, CombineMethod("svd", rank=3)),
        (ALL, CombineMethod("svd", rank=30)),
        (LINEAR, CombineMethod("ties", density=0.4)),
        (LINEAR, CombineMethod("ties", density=0.4, sign="frequency")),
        (LINEAR, CombineMethod("ties", density=1)),
        (ALL, CombineMethod("ties_svd", rank=5, density=0.3)),
        (ALL, CombineMethod("ties_svd", rank=5, density=0.3, sign="frequency")),
        (LINEAR, CombineMethod("magnitude_prune", density=0.6)),
        (ALL, CombineMethod("magnitude_prune_svd", rank=6, density=0.2)),
    ],
    ids=lambda value: value.name if isinstance(value, CombineMethod) else "+".join(value),
)
@pytest.mark.filterwarnings("ignore:The density 1 is greater than or equal to 1")
def test_every_method_gives_what_peft_gives(
    peers: Peers, names: tuple[str, ...], method: CombineMethod
) -> None:
    peers.model.base_model.add_weighted_adapter(  # type: ignore[operator]
        list(names),
        [WEIGHTS[name] for name in names],
        "mixed",
        combination_type=method.name,
        svd_rank=method.rank,
        density=method.density,
        majority_sign_method=method.sign,
    )
    try:
        theirs = {
            path: layer.get_delta_weight("mixed") for path, layer in peers.layers("mixed").items()
        }
    finally:
        peers.model.delete_adapter("mixed")
    ours = combine(peers.sources(names), method)
    assert set(ours.paths) == set(theirs)
    assert any("embed_tokens" in path for path in theirs)
    for path, expected in theirs.items():
        assert_equal(delta(ours.load(path)), expected)


@pytest.mark.parametrize(
    "method",
    [
        CombineMethod("dare_linear", density=0.5, seed=1),
        CombineMethod("dare_ties", density=0.5, sign="frequency"),
        CombineMethod("dare_linear_svd", rank=5, density=0.5),
        CombineMethod("dare_ties_svd", rank=5, density=0.5, seed=7),
    ],
    ids=lambda method: method.name,
)
def test_what_is_drawn_is_all_that_differs_from_peft(peers: Peers, method: CombineMethod) -> None:
    """PEFT's own code for a module, begun at the seed that the module has here."""
    import torch

    names = ALL if method.cuts_rank else LINEAR
    ours = combine(peers.sources(names), method)
    for path in ours.paths:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(module_seed(method.seed, path))
            a, b = _peft_draws(peers, names, method, path)
        expected = b @ a
        assert_equal(delta(ours.load(path)), expected.T if "embed" in path else expected)


def _peft_draws(
    peers: Peers, names: tuple[str, ...], method: CombineMethod, path: str
) -> "tuple[torch.Tensor, torch.Tensor]":
    model: Any = peers.model.base_model
    layer = {p: at for name in names for p, at in peers.layers(name).items()}[path]
    weights = [WEIGHTS[name] for name in names]
    if method.cuts_rank:
        a, b = model._svd_generalized_task_arithmetic_weighted_adapter(
            method.name,
            names,
            weights,
            method.rank,
            layer,
            None,
            None,
            method.density,
            method.sign,
        )
    else:
        a, b = model._generalized_task_arithmetic_weighted_adapter(
            method.name, names, weights, layer, method.density, method.sign
        )
    return a.detach(), b.detach()


def test_a_module_is_drawn_for_alike_whenever_it_is_asked_for(peers: Peers) -> None:
    mixed = combine(peers.sources(LINEAR), CombineMethod("dare_linear", density=0.5))
    first, second = mixed.paths[:2]
    again = [mixed.load(path).a for path in (second, first, second)]
    assert again[0].equal(again[2])
    other = combine(peers.sources(LINEAR), CombineMethod("dare_linear", density=0.5, seed=1))
    assert not other.load(second).a.equal(again[0])


def test_weights_kept_as_in_by_out_are_combined_as_peft_does(tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    shape = GPT2Config(vocab_size=50, n_embd=32, n_layer=1, n_head=2)
    base = GPT2LMHeadModel(shape)  # type: ignore[no-untyped-call]
    config = LoraConfig(
        r=4, target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False
    )
    model: Any = get_peft_model(base, config, "red")
    model.add_adapter("green", config)
    model.save_pretrained(tmp_path)
    model.base_model.add_weighted_adapter(
        ["red", "green"], [1.0, 0.5], "mixed", combination_type="ties_svd", svd_rank=3, density=0.5
    )
    sources = [(open_adapter(tmp_path / "red"), 1.0), (open_adapter(tmp_path / "green"), 0.5)]
    ours = combine(sources, CombineMethod("ties_svd", rank=3, density=0.5))
    (path,) = ours.paths
    expected = model.base_model.model.get_submodule(path).get_delta_weight("mixed")
    assert_equal(delta(ours.load(path)), expected)


def job(peers: Peers, base: Path, out: Path, names: tuple[str, ...], **more: Any) -> MergeJob:
    inputs = [AdapterInput(peers.folders[name].folder, WEIGHTS[name], name) for name in names]
    cache_dir = described(out.parent / "cache", base)
    return MergeJob(base, "tiny", tuple(inputs), out, cache_dir, **more)


def test_adapters_become_one_that_peft_the_registry_and_a_push_take(
    peers: Peers, tiny_base: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mixed"
    made = combine_to_folder(job(peers, tiny_base, out, ALL))

    assert sorted(file.name for file in tmp_path.iterdir()) == ["cache", "mixed"]
    assert sorted(file.name for file in out.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "metadata.json",
    ]
    # q_proj is in all three, v_proj in red, down_proj in blue.
    assert {rank for path, rank in made.adapter.ranks.items() if "q_proj" in path} == {16}
    spec = load_spec(tiny_base, tmp_path / "cache")
    assert made.adapter.rank == 16 == check_adapter(out, spec, max_rank=16).rank
    check_files(out)
    lineage = metadata_of(out)["lineage"]
    assert lineage["base"]["config_sha256"] == spec.config_sha256
    made_of = lineage["recipe"]["combine"]
    assert made_of["method"] == {"name": "cat"}
    assert [(one["name"], one["weight"]) for one in made_of["adapters"]] == list(WEIGHTS.items())
    assert made_of["adapters"][0]["sha256"] == peers.folders["red"].sha256
    assert_answers_alike(peers, tiny_base, out)


def assert_answers_alike(peers: Peers, base: Path, out: Path) -> None:
    """PEFT reads the folder and computes with it what it computes with all adapters at once."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    tokens = torch.arange(3, 40)[None]
    apart: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), out)
    together: Any = peers.model
    layers = [(name, layer) for name in ALL for layer in peers.layers(name).values()]
    together.base_model.set_adapter(list(ALL))
    for name, layer in layers:
        layer.set_scale(name, WEIGHTS[name])
    with torch.no_grad():
        ours, theirs = apart(tokens).logits, together(tokens).logits
        with apart.disable_adapter():
            base_logits = apart(tokens).logits
    for name, layer in layers:
        layer.set_scale(name, 1)
    assert float((theirs - base_logits).abs().max()) > 0.1
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_the_type_is_the_one_that_all_share(peers: Peers, tiny_base: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    narrow = tmp_path / "narrow"
    narrow.mkdir()
    source = peers.folders["red"].folder
    tensors = load_file(source / "adapter_model.safetensors")
    half = {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}
    save_file(half, narrow / "adapter_model.safetensors")
    (narrow / "adapter_config.json").write_bytes((source / "adapter_config.json").read_bytes())

    plain = job(peers, tiny_base, tmp_path / "mixed", ("red",))
    two = (AdapterInput(narrow, 0.5, "one"), AdapterInput(narrow, 0.5, "two"))
    assert combine_to_folder(replace(plain, adapters=two)).dtype == "bfloat16"
    wide = replace(plain, adapters=(*two, *plain.adapters), out=tmp_path / "wide")
    assert combine_to_folder(wide).dtype == "float32"
    asked = replace(wide, dtype="float16", out=tmp_path / "asked")
    assert combine_to_folder(asked).dtype == "float16"
    stored = load_file(tmp_path / "asked" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}


def test_nothing_is_overwritten_and_nothing_half_is_left(
    peers: Peers, tiny_base: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mixed"
    out.mkdir()
    plain = job(peers, tiny_base, out, ALL)
    with pytest.raises(MergeError, match="is there already"):
        combine_to_folder(plain)
    too_large = replace(plain.adapters[0], weight=1e9)
    with pytest.raises(MergeError, match=r"NaN or infinity in float16.*use float32"):
        combine_to_folder(
            replace(plain, adapters=(too_large,), out=tmp_path / "large", dtype="float16")
        )
    (tmp_path / "file").write_text("in the way")
    missing = replace(plain, out=tmp_path / "file" / "mixed")
    with pytest.raises(MergeError, match="mixed: the adapter cannot be written: Not a directory"):
        combine_to_folder(missing)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cache", "file", "mixed"]
    assert list(out.iterdir()) == []


def test_adapters_of_another_base_are_refused(
    peers: Peers, tiny_base: Path, tmp_path: Path
) -> None:
    other = tmp_path / "base"
    other.mkdir()
    config = json.loads((tiny_base / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"intermediate_size": 96}))
    with pytest.raises(
        MergeError, match=r"down_proj: the adapters are made for 64 by 128.*64 by 96"
    ):
        combine_to_folder(job(peers, other, tmp_path / "out", ALL))
    (other / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    with pytest.raises(MergeError, match=r"layers\.1.*: the base has no such module"):
        combine_to_folder(job(peers, other, tmp_path / "out", ALL))
    assert not (tmp_path / "out").exists()


def test_every_module_finds_its_own_rank_in_the_patterns(tmp_path: Path) -> None:
    """As PEFT and as the registry, which is as vLLM, look it up."""
    from peft.utils.other import get_pattern_key

    ranks = {
        "model.layers.0.self-attn.q_proj": 4,
        "model.layers.1.self-attn.q_proj": 8,
        "model.layers.11.self-attn.q_proj": 4,
        "draft.model.layers.1.self-attn.q_proj": 4,
        "model.layers.0.mlp.up_proj": 2,
        "model.layers.1.mlp.up_proj": 2,
    }
    everywhere = [*ranks, "model.layers.2.mlp.up_proj"]
    config = made_config(ranks, "base", everywhere, fan_in_fan_out=False)
    assert config["target_modules"] == [
        "model.layers.0.mlp.up_proj",
        "model.layers.1.mlp.up_proj",
        "q_proj",
    ]
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    registered = read_config(tmp_path, max_rank=8)
    for path, rank in ranks.items():
        assert registered.rank_of(path) == registered.alpha_of(path) == rank
        key = get_pattern_key(list(config["rank_pattern"]), path)
        assert config["rank_pattern"].get(key, config["r"]) == rank
