"""Reads networks of the chess program Stockfish (NNUE, "efficiently updatable neural network").

The format is published with the trainer nnue-pytorch (docs/nnue.md, serialize.py) and in Stockfish's own source
(src/nnue). A network has a feature transformer of 16-bit integers and small layers of 8-bit integers. A program
can hold the network in its own binary, so the network is searched for by its first bytes.
"""

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from mothr.generators.real.readers.tensors import Tensors, damaged
from mothr.generators.real.readers.wasm import MAGIC, initial_memory

LEB128 = b"COMPRESSED_LEB128"
"""The word before compressed integers: 7 bits a byte, the highest bit says that another byte follows."""
STACKS = 8
"""Number of stacks of small layers; a position's number of pieces selects one of them."""
HIDDEN = 32
"""Number of neurons of the second small layer."""
MAX_DESCRIPTION = 1000
"""Largest length in bytes of the description of a network."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """The sizes of one kind of network, as Stockfish's source has them."""

    hash: int
    """The number that the file gives for this kind of features and layers."""
    features: int
    """Number of input features."""
    width: int
    """Number of outputs of the feature transformer, for one side."""
    inputs: int
    """Number of inputs of the first small layer."""
    outputs: int
    """Number of outputs of the first small layer."""
    stacks: int = STACKS
    """Number of stacks of small layers."""
    square_values: bool = True
    """Whether the feature transformer also has piece-square values: 8 integers of 32 bits a feature."""
    version: int = 0x7AF32F20
    """The first number of the file."""


ARCHITECTURES = {
    network.hash: network
    for network in (
        Architecture(0x3E5AA6EE, 41024, 256, 512, 32, stacks=1, square_values=False, version=0x7AF32F16),  # HalfKP
        Architecture(0x3C103E72, 45056, 512, 1024, 16),  # HalfKAv2
        Architecture(0x1C102EEC, 22528, 1024, 2048, 8),  # HalfKAv2_hm from here on
        Architecture(0x1C102EF2, 22528, 1024, 1024, 16),
        Architecture(0x1C102B72, 22528, 1536, 1536, 16),
        Architecture(0x1C103C92, 22528, 128, 128, 16),
        Architecture(0x1C103EB2, 22528, 256, 256, 16),
    )
}
"""Hash in the file -> sizes."""


@dataclass(slots=True)
class _Reader:
    """Reads integers from the bytes of a network, one array after the other."""

    content: bytes
    position: int
    name: str

    def number(self) -> int:
        return int(self.array("<u4", 1)[0])

    def array(self, dtype: str, count: int) -> np.ndarray:
        """Returns ``count`` integers."""
        size = count * np.dtype(dtype).itemsize
        if self.position + size > len(self.content):
            raise damaged(self.name, f"ends at byte {len(self.content)}, in the middle of an array")
        values = np.frombuffer(self.content, dtype, count, self.position)
        self.position += size
        return values

    def compressed(self, dtype: str, count: int) -> np.ndarray:
        """Returns ``count`` integers, that are compressed if :data:`LEB128` stands before them."""
        if not self.content.startswith(LEB128, self.position):
            return self.array(dtype, count)
        self.position += len(LEB128)
        return _decode(self.array("u1", self.number()), count, self.name)


def _decode(data: np.ndarray, count: int, name: str) -> np.ndarray:
    """Returns ``count`` signed integers from their bytes in LEB128."""
    last = np.flatnonzero(data < 128)  # the last byte of each integer
    if len(last) != count or (len(data) and last[-1] != len(data) - 1):
        raise damaged(name, f"holds {len(last)} compressed integers where {count} are expected")
    first = np.concatenate([[0], last[:-1] + 1])
    length = last - first + 1
    if length.max(initial=0) > 5:
        raise damaged(name, "holds a compressed integer of more than 32 bits")
    values = np.zeros(count, np.int64)
    for byte in range(int(length.max(initial=0))):
        has = length > byte
        values[has] |= (data[first[has] + byte].astype(np.int64) & 127) << (7 * byte)
    negative = (data[last] & 64).astype(bool)
    values[negative] -= np.int64(1) << (7 * length[negative])
    return values


@dataclass(frozen=True, slots=True)
class NnueNetwork:
    """Reads one network of a file or a program."""

    architecture: int
    """The hash of its architecture: which of :data:`ARCHITECTURES` it has."""
    digits: str
    """The name of the network: the first 12 hex digits of the SHA-256 of its bytes. They are checked."""

    def __call__(self, files: Mapping[str, bytes], name: str) -> Tensors:
        """Returns the weights, float32, named as nnue-pytorch names them; every integer is kept exactly.

        Args:
            files: One file, or the parts of one file in the order of their names.
            name: Name in messages.

        Raises:
            MothrError: there is no such network, it is cut short, or it is another one.
        """
        network = ARCHITECTURES[self.architecture]
        content = b"".join(files[path] for path in sorted(files))
        if content.startswith(MAGIC):
            content = initial_memory(content, name)
        start = content.find(struct.pack("<II", network.version, network.hash))
        if start < 0:
            raise damaged(name, f"does not hold a network with the architecture {network.hash:#010x}")
        reader = _Reader(content, start + 8, name)
        length = reader.number()
        if length > MAX_DESCRIPTION:
            raise damaged(name, f"has a description of {length} bytes")
        reader.position += length
        arrays = _arrays(reader, network)
        digest = hashlib.sha256(content[start : reader.position]).hexdigest()
        if not digest.startswith(self.digits):
            raise damaged(name, f"holds the network nn-{digest[:12]} where nn-{self.digits} is expected")
        return {key: torch.from_numpy(array.astype(np.float32)) for key, array in arrays.items()}


def _arrays(reader: _Reader, network: Architecture) -> dict[str, np.ndarray]:
    """Returns the integers of a network by name; ``reader`` is at the feature transformer."""
    reader.number()  # the hash of the feature transformer
    width, features = network.width, network.features
    arrays = {"input.bias": reader.compressed("<i2", width)}
    arrays["input.weight"] = reader.compressed("<i2", width * features).reshape(features, width)
    if network.square_values:
        arrays["input.square_values"] = reader.compressed("<i4", features * STACKS).reshape(features, STACKS)
    for stack in range(network.stacks):
        reader.number()  # the hash of the small layers
        sizes = ((network.inputs, network.outputs), (HIDDEN, HIDDEN), (HIDDEN, 1))
        for part, (inputs, outputs) in zip(("l1", "l2", "output"), sizes, strict=True):
            arrays[f"layer_stacks.{stack}.{part}.bias"] = reader.array("<i4", outputs)
            weight = reader.array("i1", inputs * outputs)  # rows are padded to 32 inputs
            arrays[f"layer_stacks.{stack}.{part}.weight"] = weight.reshape(outputs, inputs)
    return arrays
