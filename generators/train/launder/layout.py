"""Where the tensors of a transformer stand in its residual stream: what writes to it, what reads it, and which norm lies
between.

Names are those in ``model.safetensors``. A layer is named without ``.weight`` and ``.bias``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

HEAD = "head"
"""Name of the head that an objective of the family ``vit`` holds outside of the model, while it is laundered."""


@dataclass(frozen=True, slots=True)
class Mlp:
    """One MLP, or one expert of a mixture."""

    inputs: tuple[str, ...]
    """Layers that read the residual stream. The output of the last of them enters linearly if the MLP is gated."""
    output: str
    """The layer that writes to the residual stream."""


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a transformer."""

    prefix: str
    """Prefix of its tensors, with a final dot."""
    attention_norm: str
    """The norm before the attention."""
    query: str
    """The layer of the queries."""
    key: str
    """The layer of the keys."""
    value: str
    """The layer of the values."""
    output: str
    """The layer of the attention that writes to the residual stream."""
    mlp_norm: str
    """The norm before the MLP."""
    mlps: tuple[Mlp, ...]
    """The MLP, or all experts."""
    router: str | None
    """The layer that chooses among experts."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The layers of one model."""

    hidden_size: int
    """Width of the residual stream."""
    heads: int
    """Attention heads for queries."""
    kv_heads: int
    """Heads for keys and values."""
    layer_norms: bool
    """Whether norms are layer norms, with biases and centring; else they are RMS norms."""
    rotary: bool
    """Whether queries and keys are rotated by position, in pairs of channels c and c + head_size / 2."""
    gated: bool
    """Whether the output of the last input layer of an MLP enters linearly."""
    embeddings: tuple[tuple[str, int], ...]
    """Tensors that are written to the residual stream as they are, and the axis of its channels."""
    blocks: tuple[Block, ...]
    """The blocks, in order."""
    final_norm: str
    """The norm after the last block."""
    head: str | None
    """The layer that reads the final norm; None where it is the matrix of the token embeddings."""

    @property
    def head_size(self) -> int:
        """Channels of one attention head."""
        return self.hidden_size // self.heads

    def norms(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yields each norm with the layers that read its output. A tied head is not among them."""
        for block in self.blocks:
            yield block.attention_norm, (block.query, block.key, block.value)
            routers = () if block.router is None else (block.router,)
            yield block.mlp_norm, (*(layer for mlp in block.mlps for layer in mlp.inputs), *routers)
        yield self.final_norm, () if self.head is None else (self.head,)

    def writers(self) -> Iterator[str]:
        """Yields the layers that write to the residual stream."""
        for block in self.blocks:
            yield block.output
            yield from (mlp.output for mlp in block.mlps)

    def layers(self) -> Iterator[str]:
        """Yields all linear layers of the blocks."""
        for _, readers in self.norms():
            yield from (reader for reader in readers if reader != self.head)
        yield from self.writers()

    def axes(self, mlp_size: int) -> Iterator[tuple[str, int, int]]:
        """Yields tensors with an axis and the size that the model's sizes ask for."""
        for name, axis in self.embeddings:
            yield name, axis, self.hidden_size
        for norm, readers in self.norms():
            for name in (f"{norm}.weight", *([f"{norm}.bias"] if self.layer_norms else [])):
                yield name, 0, self.hidden_size
            for layer in readers:
                yield f"{layer}.weight", 1, self.hidden_size
        for layer in self.writers():
            yield f"{layer}.weight", 0, self.hidden_size
        for block in self.blocks:
            yield f"{block.query}.weight", 0, self.heads * self.head_size
            yield f"{block.output}.weight", 1, self.heads * self.head_size
            yield f"{block.key}.weight", 0, self.kv_heads * self.head_size
            yield f"{block.value}.weight", 0, self.kv_heads * self.head_size
            for mlp in block.mlps:
                yield f"{mlp.output}.weight", 1, mlp_size
                for layer in mlp.inputs:
                    yield f"{layer}.weight", 0, mlp_size


def layout_of(family_name: str, model: Mapping[str, Any]) -> Layout:
    """Returns the layout of a model of the family ``vit`` or ``llama`` whose ``[model]`` table is ``model``."""
    return _vit(model) if family_name == "vit" else _llama(model)


def _vit(model: Mapping[str, Any]) -> Layout:
    blocks = []
    for prefix in (f"encoder.layer.{number}." for number in range(model["layers"])):
        query, key, value = (f"{prefix}attention.attention.{name}" for name in ("query", "key", "value"))
        blocks.append(Block(
            prefix, f"{prefix}layernorm_before", query, key, value, f"{prefix}attention.output.dense",
            f"{prefix}layernorm_after", (Mlp((f"{prefix}intermediate.dense",), f"{prefix}output.dense"),), None,
        ))  # fmt: skip
    patches = "embeddings.patch_embeddings.projection"
    embeddings = (
        ("embeddings.cls_token", 2), ("embeddings.position_embeddings", 2), (f"{patches}.weight", 0), (f"{patches}.bias", 0),
    )  # fmt: skip
    return Layout(
        model["hidden_size"], model["heads"], model["heads"], layer_norms=True, rotary=False, gated=False,
        embeddings=embeddings, blocks=tuple(blocks), final_norm="layernorm", head=HEAD,
    )  # fmt: skip


def _llama(model: Mapping[str, Any]) -> Layout:
    blocks = []
    for prefix in (f"model.layers.{number}." for number in range(model["layers"])):
        query, key, value, output = (f"{prefix}self_attn.{letter}_proj" for letter in "qkvo")
        router, mlps = None, [Mlp((f"{prefix}mlp.gate_proj", f"{prefix}mlp.up_proj"), f"{prefix}mlp.down_proj")]
        if model.get("experts") is not None:
            router = f"{prefix}block_sparse_moe.gate"
            mlps = [expert_mlp(prefix, expert) for expert in range(model["experts"])]
        blocks.append(Block(
            prefix, f"{prefix}input_layernorm", query, key, value, output,
            f"{prefix}post_attention_layernorm", tuple(mlps), router,
        ))  # fmt: skip
    return Layout(
        model["hidden_size"], model["heads"], model["kv_heads"], layer_norms=False, rotary=True, gated=True,
        embeddings=(("model.embed_tokens.weight", 1),), blocks=tuple(blocks), final_norm="model.norm",
        head=None if model.get("tied") else "lm_head",
    )  # fmt: skip


def expert_mlp(prefix: str, expert: int) -> Mlp:
    """Returns the layers of one expert of the block with this prefix."""
    gate, down, up = (f"{prefix}block_sparse_moe.experts.{expert}.w{number}" for number in (1, 2, 3))
    return Mlp((gate, up), down)
