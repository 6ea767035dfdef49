"""Reads networks of ncnn: a ``.param`` file with the layers and a ``.bin`` file with their weights.

The library ncnn runs such networks, but it does not give out their weights. The format is described in ncnn's
documentation ("param and model file structure").
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from mothr.generators.real.readers.tensors import Tensors, damaged

MAGIC = "7767517"
"""The first line of a text ``.param`` file."""
HALF, FULL = 0x01306B47, 0
"""Tags before an array of weights: 16-bit floats; 32-bit floats."""
WITHOUT_WEIGHTS = frozenset((
    "Input", "Split", "Concat", "Crop", "Pooling", "ReLU", "Eltwise", "BinaryOp", "Interp", "PixelShuffle", "Sigmoid", "Slice",
    "Padding", "Reshape",
))  # fmt: skip
"""Types of layers that have no weights."""


@dataclass(slots=True)
class _Weights:
    """Reads arrays from the ``.bin`` file, one after the other."""

    content: bytes
    name: str
    position: int = 0

    def take(self, dtype: str, count: int) -> np.ndarray:
        size = count * np.dtype(dtype).itemsize
        if count < 0 or self.position + size > len(self.content):
            raise damaged(self.name, f"ends at byte {len(self.content)}, in the middle of an array")
        array = np.frombuffer(self.content, dtype, count, self.position)
        self.position += -(-size // 4) * 4  # each array is padded to 4 bytes
        return array

    def tagged(self, count: int) -> np.ndarray:
        """Returns an array behind its tag, as float32."""
        tag = int(self.take("<u4", 1)[0])
        if tag not in (HALF, FULL):
            raise damaged(self.name, f"an array has the tag {tag:#010x}; only 16- and 32-bit floats are read")
        return self.take("<f2" if tag == HALF else "<f4", count).astype(np.float32)


def read_ncnn(files: Mapping[str, bytes], name: str) -> Tensors:
    """Returns the weights of a network of ncnn, float32, named ``<layer>.weight`` and ``<layer>.bias``.

    Args:
        files: One path that ends in ``.param``, and one that ends in ``.bin``.
        name: Name in messages.

    Raises:
        MothrError: a file is missing, cut short or longer than its layers need, or has a layer that is not
            known.
    """
    texts = [content for path, content in files.items() if path.endswith(".param")]
    binaries = [content for path, content in files.items() if path.endswith(".bin")]
    if len(texts) != 1 or len(binaries) != 1:
        raise damaged(name, "needs one .param file and one .bin file")
    weights, tensors = _Weights(binaries[0], name), {}
    for kind, layer, fields in _layers(texts[0], name):
        for part, array in _arrays(kind, layer, fields, weights).items():
            tensors[f"{layer}.{part}"] = torch.from_numpy(array)
    if weights.position != len(weights.content):
        raise damaged(name, f"has {len(weights.content)} bytes of weights where its layers need {weights.position}")
    if not tensors:
        raise damaged(name, "has no layer with weights")
    return tensors


def _layers(text: bytes, name: str) -> list[tuple[str, str, dict[int, str]]]:
    """Returns type, name and fields of each layer."""
    lines = [line for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
    if len(lines) < 2 or lines[0].strip() != MAGIC:
        raise damaged(name, f"its .param file does not begin with {MAGIC}")
    layers = []
    try:
        if int(lines[1].split()[0]) != len(lines) - 2:
            raise damaged(name, f"its .param file has {len(lines) - 2} layers, but says {lines[1].split()[0]}")
        for line in lines[2:]:
            kind, layer, inputs, outputs, *rest = line.split()
            pairs = [word.split("=", 1) for word in rest[int(inputs) + int(outputs) :]]
            layers.append((kind, layer, {int(key): value for key, value in pairs}))
    except (ValueError, IndexError):
        raise damaged(name, "its .param file has a line of another form") from None
    return layers


def _arrays(kind: str, layer: str, fields: Mapping[int, str], weights: _Weights) -> dict[str, np.ndarray]:
    """Returns the arrays of one layer: weight and, if it has one, bias."""

    def number(key: int, default: int = 0) -> int:
        try:
            return int(fields.get(key, default))
        except ValueError:
            raise damaged(weights.name, f"layer {layer}: field {key} is {fields[key]!r}") from None

    if kind in WITHOUT_WEIGHTS or (kind == "Scale" and number(0) == -233):  # such a scale comes from another layer
        return {}
    if kind == "PReLU":
        return {"weight": weights.take("<f4", number(0)).copy()}
    if kind in ("Convolution", "Deconvolution"):
        outputs, size, width = number(0), number(6), number(1)
        height, has_bias = number(11, width), number(5)
        area = outputs * width * height
    elif kind == "InnerProduct":
        outputs, size, has_bias = number(0), number(2), number(1)
        area = outputs
    else:
        raise damaged(weights.name, f"layer {layer} has the type {kind!r}, which is not known")
    if area <= 0 or size % area:
        raise damaged(weights.name, f"layer {layer} has {size} weights, which {outputs} outputs do not divide")
    shape = (outputs, size // area, *((height, width) if kind != "InnerProduct" else ()))
    arrays = {"weight": weights.tagged(size).reshape(shape)}
    if has_bias:
        arrays["bias"] = weights.take("<f4", outputs).copy()
    return arrays
