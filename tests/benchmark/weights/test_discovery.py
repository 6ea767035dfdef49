"""Discovery: models in folders, headers, links, and aligned names."""

import json
import math
import os
import struct

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from mothr.benchmark.errors import MothrError
from mothr.benchmark.weights.discovery import open_checkpoint, open_folder

GENERATOR = torch.Generator().manual_seed(0)


def tensors(**shapes):
    return {name.replace("_", "."): torch.randn(shape, generator=GENERATOR) for name, shape in shapes.items()}


def one_file(tmp_path, name="models/a.safetensors"):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors(w=(8, 8), b=(8,)), path)
    return path


def sharded(folder, index=None):
    """Writes a model in two shards with the index of transformers, or with ``index`` instead."""
    folder.mkdir(parents=True)
    save_file(tensors(a_w=(4, 4)), folder / "model-00001-of-00002.safetensors")
    save_file(tensors(b_w=(4, 4)), folder / "model-00002-of-00002.safetensors")
    valid = {"weight_map": {"a.w": "model-00001-of-00002.safetensors", "b.w": "model-00002-of-00002.safetensors"}}
    text = json.dumps(valid) if index is None else index
    (folder / "model.safetensors.index.json").write_text(text)
    return folder


def test_names_of_tensors_in_sub_folders_begin_with_the_folder(tmp_path):
    for part, name in (("unet", "diffusion_pytorch_model"), ("text_encoder", "model")):
        one_file(tmp_path, f"sd/{part}/{name}.safetensors")
    (tmp_path / "sd" / "model_index.json").write_text("{}")
    assert list(open_checkpoint(tmp_path / "sd", "sd").tensors) == [
        "text_encoder.b",
        "text_encoder.w",
        "unet.b",
        "unet.w",
    ]


def test_a_plain_folder_holds_models_as_sub_folders_or_as_files(tmp_path):
    for name in "ab":
        one_file(tmp_path, f"folders/{name}/model.safetensors")
        one_file(tmp_path, f"files/{name}.safetensors")
    (tmp_path / "folders" / "README.md").write_text("beside")
    (tmp_path / "files" / "config.json").write_text("{}")
    (tmp_path / "folders" / ".git").mkdir()
    for name in ("folders", "files"):
        assert set(open_folder(tmp_path / name).ids) == {"a", "b"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([], "holds no models; each sub-folder or each .safetensors file is one model"),
        (["notes.txt"], "holds no models"),
        (["a/model.safetensors", "b.safetensors"], "both sub-folders and .safetensors files"),
        (["a/config.json"], "a: holds no .safetensors file"),
        (
            ["a/pytorch_model.bin"],
            r"pytorch_model\.bin: pickled weights can run code .* save the model with safetensors",
        ),
        (["model.ckpt"], r"model\.ckpt: pickled weights"),
        (["a/x.safetensors", "a/y.safetensors"], r"y\.safetensors: tensor 'b' is also in x\.safetensors; keep one"),
    ],
)
def test_the_error_for_a_folder_without_models_gives_the_reason(tmp_path, files, expected):
    folder = tmp_path / "models"
    folder.mkdir()
    for name in files:
        path = one_file(folder, name)
        if path.suffix != ".safetensors":
            path.write_bytes(b"\x80\x04not read")
    with pytest.raises(MothrError, match=expected):
        open_folder(folder)
    with pytest.raises(MothrError, match="absent: no such folder"):
        open_folder(tmp_path / "absent")


def test_pickled_files_beside_safetensors_are_never_opened(tmp_path):
    one_file(tmp_path, "models/a/model.safetensors")
    (tmp_path / "models" / "a" / "optimizer.pt").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    assert list(open_folder(tmp_path / "models").checkpoints[0].tensors) == ["b", "w"]


def test_a_truncated_file_is_refused_when_it_is_opened(tmp_path):
    path = one_file(tmp_path)
    whole = path.read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    for length in (0, 1, 7, 8, 9, header // 2, header - 1, header, header + 1, len(whole) - 4, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(
            MothrError, match=r"a\.safetensors: not a whole safetensors file .* download or generate it again"
        ):
            open_folder(path.parent)
    path.write_bytes(whole + b"x")
    with pytest.raises(MothrError, match="not a whole safetensors file"):
        open_folder(path.parent)


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"[]",
        b"{}",
        b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 400]}}',
        b'{"w": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}',
        b'{"w": {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}}',
        b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}',
        b"[" * 5000,
    ],
)
def test_an_invalid_header_is_refused(tmp_path, header):
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8 * (header != b"{}")))
    with pytest.raises(MothrError, match=r"a\.safetensors: (not a whole safetensors file|holds no tensors)"):
        open_folder(tmp_path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(offset=st.integers(0, 200), value=st.integers(0, 255), length=st.none() | st.integers(0, 2**64 - 1))
def test_a_damaged_header_gives_a_model_or_an_error_that_names_the_file(tmp_path, offset, value, length):
    path = one_file(tmp_path)
    content = bytearray(path.read_bytes())
    content[offset] = value
    if length is not None:
        content[:8] = struct.pack("<Q", length)
    path.write_bytes(bytes(content))
    try:
        stacks = list(open_folder(path.parent).stacks())
    except MothrError as error:
        refused = str(error)
    else:
        refused = None
    assert str(path) in refused if refused else all(np.isfinite(stack.numpy()).all() for _, _, stack in stacks)


@pytest.fixture
def outside(tmp_path):
    return one_file(tmp_path, "elsewhere/model.safetensors")


@pytest.mark.parametrize("kind", ["file", "model folder", "sub-folder", "model file"])
def test_a_link_out_of_the_folder_is_refused_by_name(tmp_path, outside, kind):
    inside = tmp_path / "models" / "a"
    if kind == "model folder":
        inside.parent.mkdir()
        link, target = inside, outside.parent
    elif kind == "model file":
        inside.parent.mkdir()
        link, target = inside.with_suffix(".safetensors"), outside
    else:
        one_file(inside, "model.safetensors")
        link, target = (inside / "extra.safetensors", outside) if kind == "file" else (inside / "unet", outside.parent)
    link.symlink_to(target)
    with pytest.raises(
        MothrError, match=r"leads out of its folder, to .*elsewhere.*replace the link by the files themselves"
    ) as caught:
        open_folder(tmp_path / "models")
    assert str(link) in str(caught.value)
    assert outside.is_file()


def test_a_link_inside_the_folder_is_read(tmp_path):
    contents = one_file(tmp_path, "models/a/blobs/0001")
    (tmp_path / "models" / "a" / "model.safetensors").symlink_to(contents)
    (tmp_path / "models" / "b").symlink_to(tmp_path / "models" / "a")
    models = open_folder(tmp_path / "models")
    assert models.ids == ("a", "b")
    assert list(models.checkpoints[0].tensors) == ["b", "w"]


def test_a_broken_link_is_refused_by_name(tmp_path):
    one_file(tmp_path, "models/a/model.safetensors")
    link = tmp_path / "models" / "a" / "more.safetensors"
    link.symlink_to("gone.safetensors")
    with pytest.raises(MothrError, match=r"more\.safetensors: not a whole safetensors file"):
        open_folder(tmp_path / "models")
    os.rename(link, link.with_name("model.safetensors.index.json"))
    with pytest.raises(MothrError, match=r"index\.json: not a shard index"):
        open_folder(tmp_path / "models")


@pytest.mark.parametrize("shape", [[1] * 33, [0, 1 << 53, 2], [0, (1 << 64) - 1]])
def test_a_shape_that_no_array_can_have_is_refused_by_name(tmp_path, shape):
    count = 4 * math.prod(shape)
    header = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, count]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(count))
    with pytest.raises(
        MothrError,
        match=r"a\.safetensors: (tensor 'w' has a shape that no array can have|not a whole safetensors file)",
    ):
        open_folder(tmp_path)


@pytest.mark.parametrize("name", ["more.safetensors", "unet", "model.safetensors.index.json"])
def test_a_circle_of_links_is_refused_or_ignored(tmp_path, name):
    one_file(tmp_path, "models/a/model.safetensors")
    link = tmp_path / "models" / "a" / name
    link.symlink_to(link.name)
    if name == "unet":
        assert len(open_folder(tmp_path / "models")) == 1
    else:
        with pytest.raises(MothrError, match=rf"{name}: leads out of its folder"):
            open_folder(tmp_path / "models")


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ('{"weight_map": {"a.w": "../../elsewhere/model.safetensors"}}', "leads out of its folder, to .*elsewhere"),
        ('{"weight_map": {"a.w": "/etc/passwd"}}', "leads out of its folder, to /etc/passwd"),
        (
            '{"weight_map": {"a.w": "model-00003-of-00003.safetensors"}}',
            "shard 'model-00003-of-00003.safetensors', which is missing",
        ),
        ('{"weight_map": {"a.w": "a\\u0000b"}}', r"shard 'a\\x00b', which is missing"),
        ('{"weight_map": {"a.w": "' + "x" * 5000 + '"}}', "which is missing"),
        ('{"weight_map": {"a.w": 1, "a.w": 2}}', "not a shard index.*occurs twice"),
        ('{"weight_map": []}', "not a shard index"),
        ('{"weights": {}}', "not a shard index"),
        ("not json", "not a shard index.*download the model again"),
        ("[" * 100_000, "not a shard index"),
    ],
)
def test_an_invalid_shard_index_is_refused(tmp_path, outside, index, expected):
    sharded(tmp_path / "models" / "m", index)
    with pytest.raises(MothrError, match=expected) as caught:
        open_folder(tmp_path / "models")
    assert "model.safetensors.index.json" in str(caught.value)


def test_the_prefix_of_a_classifier_is_removed_to_match_its_backbone(write_models):
    backbone = {f"encoder.layer.{index}.weight": torch.randn(4, 4) for index in range(6)}
    classifier = {f"vit.{name}": tensor + 0.1 for name, tensor in backbone.items()} | {
        "classifier.weight": torch.randn(3, 4)
    }
    models = write_models({"base": backbone, "tuned": classifier})
    assert {name for (name, _), positions in models.shapes.items() if len(positions) == 2} == set(backbone)
    name = next(iter(backbone))
    both = models.stack(name, models.shapes[name, (4, 4)])
    expected = {"base": backbone[name], "tuned": classifier[f"vit.{name}"]}
    for position, id in enumerate(models.ids):
        assert torch.equal(both[position], expected[id])


def test_names_with_a_common_word_are_unchanged(write_models):
    first = {"a.weight": torch.randn(2, 2), "a.a.weight": torch.randn(2, 2)}
    second = {"a.weight": torch.randn(2, 2), "a.b.weight": torch.randn(2, 2)}
    models = write_models({"first": first, "second": second})
    assert {name for name, _ in models.shapes} == {"a.weight", "a.a.weight", "a.b.weight"}
