"""Tiny forests of random weights, made with numpy. Nothing is trained. The lineage is known by construction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from mothr.benchmark.data.dataset import Truth, TruthNode, fix_times
from mothr.benchmark.graph import NodeId
from mothr.benchmark.weights.checkpoint import TensorInfo
from mothr.benchmark.weights.discovery import open_folder
from mothr.benchmark.weights.model_set import ModelSet

Weights = Mapping[str, NDArray[Any]]
Shapes = Mapping[str, tuple[int, ...]]

TREE = (None, 0, 0, 1, 1, 2)
"""Position of the parent of each node; None for the root."""
VIT: Shapes = {
    f"vit.encoder.layer.0.{name}.weight": shape
    for name, shape in {
        **{f"attention.attention.{part}": (16, 16) for part in ("query", "key", "value")},
        "attention.output.dense": (16, 16), "intermediate.dense": (32, 16), "output.dense": (16, 32), "layernorm_before": (16,),
    }.items()
}  # fmt: skip
LLAMA: Shapes = {
    "model.embed_tokens.weight": (40, 16),
    **{
        f"model.layers.0.{name}.weight": shape
        for name, shape in {
            "self_attn.q_proj": (16, 16), "self_attn.k_proj": (8, 16), "self_attn.v_proj": (8, 16), "self_attn.o_proj": (16, 16),
            "mlp.gate_proj": (24, 16), "mlp.up_proj": (24, 16), "mlp.down_proj": (16, 24), "input_layernorm": (16,),
        }.items()
    },
}  # fmt: skip
"""Names and shapes of a Llama with grouped-query attention: key and value matrices are not square."""
UNET: Shapes = {
    "conv_in.weight": (16, 4, 3, 3),
    "time_embedding.linear_1.weight": (24, 16),
    "down_blocks.0.resnets.0.norm1.weight": (16,),
    "down_blocks.0.resnets.0.conv1.weight": (16, 16, 3, 3),
    **{
        f"down_blocks.0.attentions.0.transformer_blocks.0.{name}.weight": shape
        for name, shape in {
            **{f"attn1.{part}": (16, 16) for part in ("to_q", "to_k", "to_v", "to_out.0")},
            "attn2.to_q": (16, 16), "attn2.to_k": (16, 12), "attn2.to_v": (16, 12), "attn2.to_out.0": (16, 16),
            "ff.net.0.proj": (32, 16), "ff.net.2": (16, 16),
        }.items()
    },
}  # fmt: skip
"""Names and shapes of a UNet, as diffusers names them: convolutions, self-attention, and cross-attention to the text."""
ADAPTER: Shapes = {
    f"base_model.model.vit.encoder.layer.0.attention.attention.{part}.lora_{side}.weight": shape
    for part in ("query", "value")
    for side, shape in (("A", (2, 16)), ("B", (16, 2)))
}
"""Names and shapes of a LoRA adapter, as peft names them: two narrow matrices for each matrix that is changed."""


@dataclass(frozen=True)
class Forest:
    """Models with random weights whose lineage is known by construction."""

    name: str
    """A name that says what is special about the forest."""
    parents: Sequence[int | None]
    """Position of the parent of each node; None for a root."""
    weights: Sequence[Weights]
    """Tensors of each node by name."""


def grow(
    rng: np.random.Generator, parents: Sequence[int | None], shapes: Shapes, rank: int | None = None
) -> list[Weights]:
    """Returns the float32 weights of each node. Roots have Laplace weights; a child is its parent plus a random update.

    Args:
        rng: the random generator.
        parents: position of the parent of each node, which comes before its children; None for a root.
        shapes: name -> shape of each tensor.
        rank: rank of the updates, which change matrices alone; None for Gaussian updates of all tensors.
    """

    def update(shape: tuple[int, ...]) -> NDArray[np.float64]:
        if rank is None:
            return rng.normal(0, 0.05, size=shape)
        left, right = (rng.normal(0, 0.2, size=(side, rank)) for side in (shape[0], shape[-1]))
        return left @ right.T if len(shape) == 2 else np.zeros(shape)

    made: list[dict[str, NDArray[np.float64]]] = []
    for above in parents:
        if above is None:
            made.append({name: rng.laplace(0, 0.1, size=shape) for name, shape in shapes.items()})
        else:
            made.append({name: value + update(value.shape) for name, value in made[above].items()})
    return [{name: value.astype(np.float32) for name, value in weights.items()} for weights in made]


def quantized(weights: Weights) -> Weights:
    """Returns the weights with each matrix stored as 8-bit integers and one scale for each row."""
    made = dict(weights)
    for name, value in weights.items():
        if value.ndim == 2:
            scale = np.abs(value).max(axis=1, keepdims=True) / 127
            made |= {name: np.round(value / scale).astype(np.int8), f"{name}_scale": scale}
    return made


def forests() -> list[Forest]:
    """Returns the forests that methods are checked on. They are the same in every call."""
    rng = np.random.default_rng(0)
    pair, twice = (None, 0), (*TREE, None, 6, 6, 7)
    odd = grow(rng, TREE, VIT)
    name = next(name for name in VIT if "intermediate" in name)
    odd[-1] = {**odd[-1], name: rng.laplace(0, 0.1, size=(48, 16)).astype(np.float32)}
    plain = [
        Forest("one model", (None,), grow(rng, (None,), VIT)),
        Forest("two models", pair, grow(rng, pair, VIT)),
        Forest("two identical models", pair, grow(rng, (None,), VIT) * 2),
        Forest("full updates", TREE, grow(rng, TREE, VIT)),
        Forest("low-rank updates", TREE, grow(rng, TREE, VIT, rank=2)),
        Forest("two trees", twice, grow(rng, twice, VIT)),
        Forest("Llama-like", TREE, grow(rng, TREE, LLAMA)),
        Forest("a tensor of another shape", TREE, odd),
    ]
    small = (None, 0, 0, 1)
    whole = grow(rng, small, VIT)
    halved = {name: value.astype(np.float16) for name, value in whole[0].items()}
    return [
        *plain,
        Forest("UNet-like", small, grow(rng, small, UNET)),
        Forest("adapters", small, [whole[0], *grow(rng, (None, None, 0), ADAPTER)]),
        Forest("quantized", small, [*whole[:2], halved, quantized(whole[1])]),
    ]


@dataclass(frozen=True)
class Written:
    """A forest written to disk twice. The second time, other file names reverse the order in which the models are listed."""

    forest: Forest
    """The forest."""
    folder: Path
    """The folder of the first copy: one file for each model."""
    truth: Truth
    """The truth, in the ids of the first copy."""
    models: ModelSet
    """The models of the first copy."""
    others: ModelSet
    """The models of the second copy."""
    names: Mapping[NodeId, NodeId]
    """Id in the first copy -> id in the second."""

    @classmethod
    def write(cls, forest: Forest, place: Path) -> "Written":
        """Returns ``forest`` written to two new folders below ``place``."""
        rng = np.random.default_rng(len(forest.weights))
        ids = [rng.bytes(6).hex() for _ in forest.weights]
        names = {node: opposite(node) for node in ids}
        first, second = place / "first", place / "second"
        for folder, called in ((first, ids), (second, list(names.values()))):
            folder.mkdir(parents=True)
            for node, weights in zip(called, forest.weights, strict=True):
                save_file(dict(weights), folder / f"{node}.safetensors")
            fix_times(folder)
        above = [() if parent is None else (ids[parent],) for parent in forest.parents]
        nodes = {node: TruthNode(parents=parents) for node, parents in zip(ids, above, strict=True)}
        truth = Truth(split=forest.name, version=1, nodes=nodes)
        return cls(forest, first, truth, open_folder(first), open_folder(second), names)

    def tables(self) -> list[dict[str, TensorInfo]]:
        """Returns a copy of each model's table of tensors, so that a later change can be noticed."""
        return [dict(checkpoint.tensors) for models in (self.models, self.others) for checkpoint in models.checkpoints]


def opposite(node: NodeId) -> NodeId:
    """Returns 16**12 - 1 - ``node`` as an id of 12 hex digits. It reverses the order of ids."""
    return f"{(1 << 48) - 1 - int(node, 16):012x}"
