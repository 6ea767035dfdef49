"""Readers of foreign formats: tiny files, written here by the same libraries, come back with every value."""

import io
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save

from mothr.benchmark.errors import MothrError, Skipped
from mothr.generators.real.readers.h5 import read_keras
from mothr.generators.real.readers.ncnn import HALF, read_ncnn
from mothr.generators.real.readers.nnue import ARCHITECTURES, LEB128, Architecture, NnueNetwork
from mothr.generators.real.readers.onnx import OnnxNetwork
from mothr.generators.real.readers.torch_files import InZip, TorchCheckpoint, read_safetensors, read_state
from mothr.generators.real.readers.wasm import initial_memory

RNG = np.random.default_rng(1)


# HDF5


def keras(**edits) -> bytes:
    """Returns the bytes of a file as Keras writes it: one layer, and the state of an optimizer beside it."""
    h5py = pytest.importorskip("h5py")
    place = io.BytesIO()
    with h5py.File(place, "w") as file:
        file["model_weights/lstm_1/lstm_1/kernel:0"] = np.arange(6, dtype=np.float32).reshape(2, 3)
        file["model_weights/lstm_1/lstm_1/bias:0"] = np.ones(3, np.float32)
        file["optimizer_weights/lstm_1/kernel/m:0"] = np.zeros(3, np.float32)
        for name, value in edits.items():
            file[f"model_weights/{name}"] = value
    return place.getvalue()


def test_keras_weights_have_the_names_of_their_layers():
    tensors = read_keras({"a.h5": keras()}, "a")
    assert set(tensors) == {"lstm_1.kernel", "lstm_1.bias"}
    assert torch.equal(tensors["lstm_1.kernel"], torch.arange(6.0).reshape(2, 3))


def test_a_link_to_another_file_is_refused():
    h5py = pytest.importorskip("h5py")
    with pytest.raises(MothrError, match="a link to another place"):
        read_keras({"a.h5": keras(secret=h5py.ExternalLink("/etc/passwd", "/x"))}, "a")


def test_values_in_another_file_are_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "raw").write_bytes(b"\0" * 64)
    place = io.BytesIO()
    with h5py.File(place, "w") as file:
        file.create_dataset("layer/kernel:0", (4,), np.float32, external=[(str(tmp_path / "raw"), 0, 16)])
    with pytest.raises(MothrError, match="in another file"):
        read_keras({"a.h5": place.getvalue()}, "a")


@pytest.mark.parametrize("content", [b"", b"not HDF5", "half"])
def test_damaged_files_of_keras(content):
    content = keras()[:700] if content == "half" else content
    with pytest.raises(MothrError, match="cut short or of another format"):
        read_keras({"a.h5": content}, "a")


def test_a_missing_library_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(
        Skipped, match=r'needs the library h5py, which is not installed; run: pip install "mothr\[fetch\]"'
    ):
        read_keras({"a.h5": b""}, "a")
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(Skipped, match="needs the library onnx"):
        OnnxNetwork()({"a.onnx": b""}, "a")


# PyTorch and safetensors


def checkpoint(value) -> dict[str, bytes]:
    place = io.BytesIO()
    torch.save(value, place)
    return {"a.pt": place.getvalue()}


class Settings:
    """A class of a package, as it stands in its checkpoints."""

    def __init__(self):
        self.width = 3


class Attack:
    """Runs a command when an ordinary unpickler reads it."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (self.marker, "w")


def test_a_checkpoint_is_read_without_its_integers():
    value = {"epoch": 3, "model": {"state_dict": {"w": torch.ones(2, 2), "steps": torch.tensor(5)}}}
    tensors = TorchCheckpoint(("model", "state_dict"))(checkpoint(value), "a")
    assert list(tensors) == ["w"]
    assert torch.equal(tensors["w"], torch.ones(2, 2))
    assert torch.equal(read_state(checkpoint({"params": {"w": torch.ones(2, 2)}}), "a")["w"], torch.ones(2, 2))
    assert torch.equal(read_state(checkpoint({"w": torch.zeros(2)}), "a")["w"], torch.zeros(2))


def test_objects_of_a_package_are_read_as_nothing_and_only_if_named():
    files = checkpoint({"hyper": Settings(), "state_dict": {"w": torch.ones(2)}})
    with pytest.raises(MothrError, match="weights_only refuses it"):
        TorchCheckpoint()(files, "a")
    dotted = f"{Settings.__module__}.{Settings.__qualname__}"
    assert torch.equal(TorchCheckpoint(inert=(dotted,))(files, "a")["w"], torch.ones(2))


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    marker = tmp_path / "ran"
    with pytest.raises(MothrError, match="weights_only refuses it"):
        TorchCheckpoint()(checkpoint({"state_dict": {"w": torch.ones(1)}, "x": Attack(str(marker))}), "a")
    with pytest.raises(MothrError, match="cut short or of another format"):
        TorchCheckpoint()({"a": pickle.dumps(Attack(str(marker)))}, "a")
    assert not marker.exists()


def test_damaged_checkpoints():
    whole = checkpoint({"state_dict": {"w": torch.ones(100)}})["a.pt"]
    for content in (b"", whole[: len(whole) // 2]):
        with pytest.raises(MothrError, match="cut short or of another format"):
            TorchCheckpoint()({"a.pt": content}, "a")
    with pytest.raises(MothrError, match="has no 'state_dict'"):
        TorchCheckpoint()(checkpoint({"weights": {}}), "a")
    with pytest.raises(MothrError, match="neither itself nor under"):
        read_state(checkpoint({"step": 1}), "a")


def test_safetensors_alone_and_inside_a_zip():
    stored = save({"w": torch.ones(2), "n": torch.tensor([1])})
    assert list(read_safetensors({"a": stored}, "a")) == ["w"]
    place = io.BytesIO()
    with zipfile.ZipFile(place, "w") as archive:
        archive.writestr("model.safetensors", stored)
    assert torch.equal(InZip("model.safetensors")({"a.zip": place.getvalue()}, "a")["w"], torch.ones(2))
    with pytest.raises(MothrError, match="is not a zip file with other"):
        InZip("other")({"a.zip": place.getvalue()}, "a")
    with pytest.raises(MothrError, match="safetensors cannot read it"):
        read_safetensors({"a": stored[:-1]}, "a")


# ncnn

PARAM = """7767517
4 4
Input input 0 1 data 0=8 1=8 2=3
Convolution conv1 1 1 data a 0=2 1=3 5=1 6=54 9=2 -23310=1,0.1
InnerProduct fc 1 1 a b 0=4 1=1 2=8
ReLU relu 1 1 b c
"""


def network(param: str = PARAM, cut: int = 0, more: bytes = b"") -> tuple[dict[str, bytes], np.ndarray, np.ndarray]:
    """Returns the two files of a network, and the weights of its two layers."""
    conv, dense = RNG.normal(size=(2, 3, 3, 3)).astype(np.float16), RNG.normal(size=(4, 2)).astype(np.float32)
    content = struct.pack("<I", HALF) + conv.tobytes() + np.array([1, 2], np.float32).tobytes()
    content += struct.pack("<I", 0) + dense.tobytes() + np.zeros(4, np.float32).tobytes() + more
    return {"m.param": param.encode(), "m.bin": content[: len(content) - cut]}, conv, dense


def test_ncnn_weights_come_back():
    files, conv, dense = network()
    tensors = read_ncnn(files, "m")
    assert list(tensors) == ["conv1.weight", "conv1.bias", "fc.weight", "fc.bias"]
    assert np.array_equal(tensors["conv1.weight"].numpy(), conv.astype(np.float32))
    assert np.array_equal(tensors["fc.weight"].numpy(), dense)
    assert tensors["conv1.bias"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cut": 4}, "in the middle of an array"),
        ({"more": b"\0\0\0\0"}, "where its layers need"),
        ({"param": PARAM.replace("7767517", "1")}, "does not begin with 7767517"),
        ({"param": PARAM.replace("InnerProduct", "Gemm")}, "type 'Gemm', which is not known"),
        ({"param": PARAM.replace("6=54", "6=55")}, "do not divide"),
        ({"param": PARAM.replace("4 4", "5 4")}, "4 layers, but says 5"),
        ({"param": PARAM.replace("6=54", "6=many")}, "field 6 is 'many'"),
        ({"param": PARAM.replace("Input input 0 1", "Input input zero 1")}, "a line of another form"),
    ],
)
def test_damaged_networks_of_ncnn(changes, message):
    with pytest.raises(MothrError, match=message):
        read_ncnn(network(**changes)[0], "m")


def test_both_files_of_ncnn_are_needed():
    with pytest.raises(MothrError, match=r"one \.param file and one \.bin file"):
        read_ncnn({"m.param": PARAM.encode()}, "m")


# ONNX


def test_onnx_matrices_are_named_after_their_biases():
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    weight, bias = np.array([[1, -2], [3, 4], [5, 6]], np.int8), np.array([0.5, 1.5], np.float32)
    stored = [
        numpy_helper.from_array(weight, "val_1_q"), numpy_helper.from_array(np.array([0.1, 0.2], np.float32), "val_1_scale"),
        numpy_helper.from_array(bias, "inner.layer.bias"), numpy_helper.from_array(np.ones(3, np.float32), "inner.norm.weight"),
    ]  # fmt: skip
    nodes = [
        helper.make_node("Cast", ["val_1_q"], ["val_1_f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["val_1_f", "val_1_scale"], ["val_1"]),
        helper.make_node("MatMul", ["x", "val_1"], ["product"]),
        helper.make_node("Add", ["product", "inner.layer.bias"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", [], [], initializer=stored)
    content = helper.make_model(graph).SerializeToString()
    tensors = OnnxNetwork("inner.")({"m.onnx": content}, "m")
    assert set(tensors) == {"layer.weight", "layer.bias", "norm.weight"}
    assert torch.allclose(tensors["layer.weight"], torch.tensor([[0.1, 0.3, 0.5], [-0.4, 0.8, 1.2]]))
    with pytest.raises(MothrError, match="cut short or of another format"):
        OnnxNetwork("inner.")({"m.onnx": content[: len(content) // 2]}, "m")
    stored[2].data_location = TensorProto.EXTERNAL
    outside = helper.make_model(helper.make_graph(nodes, "g", [], [], initializer=stored)).SerializeToString()
    with pytest.raises(MothrError, match=r"keeps 'inner\.layer\.bias' in another file"):
        OnnxNetwork("inner.")({"m.onnx": outside}, "m")
    assert onnx


# NNUE

TINY = Architecture(hash=0xABCD, features=3, width=4, inputs=32, outputs=2, stacks=1)


def leb128(values: np.ndarray) -> bytes:
    """Returns signed integers in LEB128 behind their word and their length."""
    encoded = bytearray()
    for number in values.ravel().tolist():
        while not -64 <= number < 64:
            encoded.append(number & 127 | 128)
            number >>= 7
        encoded.append(number & 127)
    return LEB128 + struct.pack("<I", len(encoded)) + bytes(encoded)


@pytest.fixture
def nnue(monkeypatch):
    """The bytes of a tiny network, its compressed form, and its arrays."""
    monkeypatch.setitem(ARCHITECTURES, TINY.hash, TINY)
    arrays = [RNG.integers(-300, 300, shape) for shape in ((4,), (3, 4), (3, 8))]
    small = b"hash" + RNG.integers(0, 255, 4 * 2 + 64 + 4 * 32 + 1024 + 4 + 32, dtype=np.uint8).tobytes()
    head = struct.pack("<III", TINY.version, TINY.hash, 4) + b"text" + b"hash"
    plain = head + b"".join(
        array.astype(kind).tobytes() for array, kind in zip(arrays, ("<i2", "<i2", "<i4"), strict=True)
    )
    return plain + small, head + b"".join(map(leb128, arrays)) + small, arrays


def digits(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()[:12]


def test_networks_of_stockfish_come_back_plain_and_compressed(nnue):
    plain, compressed, arrays = nnue
    for content in (plain, compressed):
        tensors = NnueNetwork(TINY.hash, digits(content))({"n": b"a program" + content + b"its end"}, "n")
        assert np.array_equal(tensors["input.bias"].numpy(), arrays[0])
        assert np.array_equal(tensors["input.weight"].numpy(), arrays[1])
        assert np.array_equal(tensors["input.square_values"].numpy(), arrays[2])
        assert tensors["layer_stacks.0.output.weight"].shape == (1, 32)


def test_damaged_networks_of_stockfish(nnue):
    plain, compressed, _ = nnue
    for content in (plain[:-1], compressed[:-1]):
        with pytest.raises(MothrError, match="in the middle of an array"):
            NnueNetwork(TINY.hash, "0")({"n": content}, "n")
    with pytest.raises(MothrError, match=r"holds the network nn-\w{12} where nn-000000000000 is expected"):
        NnueNetwork(TINY.hash, "0" * 12)({"n": plain}, "n")
    with pytest.raises(MothrError, match="does not hold a network"):
        NnueNetwork(TINY.hash, "0")({"n": b"nothing"}, "n")
    broken = compressed.replace(LEB128 + compressed.split(LEB128)[1][:4], LEB128 + struct.pack("<I", 2), 1)
    with pytest.raises(MothrError, match="compressed integers where 4 are expected"):
        NnueNetwork(TINY.hash, "0")({"n": broken}, "n")


# WebAssembly


def section(number: int, content: bytes) -> bytes:
    assert len(content) < 128
    return bytes([number, len(content)]) + content


def test_segments_of_a_program_are_put_back_to_their_places():
    init = b"\x41\x0a\x41\x00\x41\x03\xfc\x08\x01\x00"  # i32.const 10, i32.const 0, i32.const 3, memory.init 1
    program = b"\0asm\1\0\0\0" + section(10, init) + section(11, b"\x02" + b"\x00\x41\x02\x0b\x02ab" + b"\x01\x03cde")
    assert initial_memory(program, "p") == b"\0\0ab\0\0\0\0\0\0cde"
    with pytest.raises(MothrError, match="is not a WebAssembly program"):
        initial_memory(b"ELF", "p")
    with pytest.raises(MothrError, match="ends in the middle"):
        initial_memory(program[:-1], "p")
    with pytest.raises(MothrError, match="ends in the middle"):
        initial_memory(program[:-8], "p")
