"""Reads transformers from ONNX files, with the library onnx."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mothr.generators.real.readers.tensors import Tensors, damaged, no_library, only_file


@dataclass(frozen=True, slots=True)
class OnnxNetwork:
    """Reads the weights of an ONNX file under the names that they have in PyTorch.

    An exporter keeps the names of biases, but it transposes matrices and renames them. The matrix of a
    product is named after the bias that is added to this product. 8-bit integers are multiplied by their
    scales.
    """

    prefix: str = ""
    """The beginning of every name, which is removed."""

    def __call__(self, files: Mapping[str, bytes], name: str) -> Tensors:
        """Returns the weights, float32.

        Raises:
            Skipped: the library onnx is not installed.
            MothrError: the file is damaged, or keeps its weights in another file.
        """
        try:
            import onnx
            from google.protobuf.message import DecodeError
            from onnx import numpy_helper
        except ImportError:
            raise no_library(name, "onnx") from None
        try:
            graph = onnx.load_model_from_string(only_file(files, name)).graph
        except DecodeError as error:
            raise damaged(name, f"onnx cannot read it ({error})") from None
        arrays: dict[str, np.ndarray] = {}
        for stored in graph.initializer:
            if stored.data_location == onnx.TensorProto.EXTERNAL:
                raise damaged(name, f"keeps {stored.name!r} in another file")
            try:
                arrays[stored.name] = numpy_helper.to_array(stored)
            except (ValueError, TypeError) as error:
                raise damaged(name, f"cannot read {stored.name!r} ({error})") from None
        self._expand(graph.node, arrays)
        self._rename(graph.node, arrays)
        tensors = {
            key.removeprefix(self.prefix): torch.from_numpy(np.array(array, np.float32, order="C"))
            for key, array in arrays.items()
            if key.startswith(self.prefix) and array.ndim and np.issubdtype(array.dtype, np.floating)
            and key.rpartition(".")[2] in ("weight", "bias")
        }  # fmt: skip
        if not tensors:
            raise damaged(name, f"has no weights whose names begin with {self.prefix!r}")
        return tensors

    @staticmethod
    def _expand(nodes: Any, arrays: dict[str, np.ndarray]) -> None:
        """Adds the result of each product of two stored arrays: integers (cast to floats) and their scales."""
        for node in nodes:
            if node.op_type == "Cast" and node.input[0] in arrays:
                arrays[node.output[0]] = arrays[node.input[0]].astype(np.float32)
            elif node.op_type == "Mul" and node.input[0] in arrays and node.input[1] in arrays:
                arrays[node.output[0]] = arrays[node.input[0]] * arrays[node.input[1]]

    @staticmethod
    def _rename(nodes: Any, arrays: dict[str, np.ndarray]) -> None:
        """Names the matrix of each product after the bias that is added to it."""
        matrices = {node.output[0]: node.input[1] for node in nodes if node.op_type == "MatMul"}
        for node in nodes:
            if node.op_type != "Add":
                continue
            for product, bias in (node.input, reversed(node.input)):
                matrix = matrices.get(product)
                if matrix in arrays and bias in arrays and bias.endswith(".bias"):
                    arrays[bias.removesuffix("bias") + "weight"] = arrays[matrix].T
