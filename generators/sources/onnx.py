"""Reads the float32 tensors of ONNX files. ONNX files are messages of Protocol Buffers."""

from pathlib import Path

import numpy as np

from mothr.generators.data.protobuf import content, fields, integers


def onnx_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns the float32 tensors of an ONNX file by name, and the name of the second operand of each matrix
    multiplication."""
    stored, operands = {}, {}
    for number, graph in fields(memoryview(path.read_bytes())):
        for part, held in fields(content(graph)) if number == 7 else ():
            if part == 5:
                name, value = _tensor(content(held))
                if value is not None:
                    stored[name] = value
            elif part == 1:
                texts: dict[int, list[str]] = {1: [], 3: [], 4: []}  # inputs, name, operator
                for key, text in fields(content(held)):
                    if key in texts:
                        texts[key].append(bytes(content(text)).decode())
                if texts[4] == ["MatMul"]:
                    operands[texts[3][0]] = texts[1][1]
    return stored, operands


def _tensor(message: memoryview) -> tuple[str, np.ndarray | None]:
    """Returns the name and the values of an ONNX tensor; None if the values are not 32-bit floats."""
    shape: list[int] = []
    name, kinds, raw = "", [0], memoryview(b"")
    for key, value in fields(message):
        if key == 1:
            shape += integers(value)
        elif key == 2:
            kinds = integers(value)
        elif key == 8:
            name = bytes(content(value)).decode()
        elif key == 9:
            raw = content(value)
    return name, np.frombuffer(raw, "<f4").reshape(shape) if kinds == [1] and raw else None
