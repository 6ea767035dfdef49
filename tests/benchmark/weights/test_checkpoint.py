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
from mothr.benchmark.weights.model_set import ModelSet

GENERATOR = torch.Generator().manual_seed(0)


def tensors(**shapes):
    return {name.replace("_", "."): torch.randn(shape, generator=GENERATOR) for name, shape in shapes.items()}


def one_file(tmp_path, name="models/a.safetensors"):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors(w=(8, 8), b=(8,)), path)
    return path


def sharded(folder, index=None):
    """Writes a model in two shards with transformers' index, or with ``index`` in its place."""
    folder.mkdir(parents=True)
    save_file(tensors(a_w=(4, 4)), folder / "model-00001-of-00002.safetensors")
    save_file(tensors(b_w=(4, 4)), folder / "model-00002-of-00002.safetensors")
    right = {"weight_map": {"a.w": "model-00001-of-00002.safetensors", "b.w": "model-00002-of-00002.safetensors"}}
    text = json.dumps(right) if index is None else index
    (folder / "model.safetensors.index.json").write_text(text)
    return folder


# --- order and identity ---


def test_order_follows_the_weights_whatever_the_models_are_called(write_models):
    weights = [tensors(w=(4, 4)) for _ in range(6)]
    found = []
    for names in ("abcdef", "fedcba", "cafdeb"):
        models = write_models(dict(zip(names, weights, strict=True)))
        found.append([names.index(node) for node in models.ids])
    assert found[0] == found[1] == found[2]
    assert sorted(found[0]) == list(range(6))


def test_renaming_keeps_the_order_and_reads_nothing_again(write_models):
    models = write_models({name: tensors(w=(4, 4)) for name in "abc"})
    for path in {info.file for checkpoint in models.checkpoints for info in checkpoint.tensors.values()}:
        path.unlink()
    renamed = models.relabel({"a": "z", "b": "y", "c": "x"})
    assert renamed.ids == tuple({"a": "z", "b": "y", "c": "x"}[node] for node in models.ids)


def test_no_description_of_the_models_shows_where_they_lie(tmp_path):
    path = one_file(tmp_path)
    models = open_folder(path.parent)
    for value in (models, models.checkpoints[0], models.checkpoints[0].tensors["w"]):
        assert str(path.parent) not in repr(value)


def test_digest_is_of_the_weights_alone_not_of_how_they_are_packed(tmp_path):
    held = tensors(a_w=(4, 4), b_w=(3,))
    places = [tmp_path / name for name in ("whole", "parts", "noted")]
    for place in places:
        place.mkdir()
    save_file(held, places[0] / "model.safetensors")
    for number, (name, value) in enumerate(held.items()):
        save_file({name: value}, places[1] / f"part-{number}.safetensors")
    save_file(held, places[2] / "other.safetensors", metadata={"base_model": "secret"})
    digests = {open_checkpoint(place, place.name).digest for place in places}
    assert len(digests) == 1
    for changed in (
        {"a.w": held["a.w"].T.contiguous()},
        {"a.w": held["a.w"].reshape(2, 8)},
        {"a.w": held["a.w"].view(torch.int32)},
    ):
        place = tmp_path / str(len(digests))
        place.mkdir()
        save_file({**held, **changed}, place / "model.safetensors")
        digests.add(open_checkpoint(place, "m").digest)
    assert len(digests) == 4


def test_one_model_two_models_and_copies_are_legal_sets(write_models):
    same = tensors(w=(4, 4))
    assert len(write_models({"a": same})) == 1
    assert len(write_models({"a": same, "b": tensors(w=(4, 4))})) == 2
    copies = write_models(dict.fromkeys("abc", same))
    assert copies.ids == ("a", "b", "c")
    assert len({checkpoint.digest for checkpoint in copies.checkpoints}) == 1
    with pytest.raises(MothrError, match="no models: at least one"):
        ModelSet(())


# --- what is read ---


def test_stacks_hold_every_tensor_once_in_the_order_of_the_models(write_models):
    contents = {name: tensors(w=(4, 4), b=(4,)) for name in "abcd"}
    models = write_models(contents)
    seen = {}
    for name, positions, stack in models.stacks():
        assert stack.dtype == torch.float32
        seen[name] = [models.ids[position] for position in positions]
        for node, part in zip(seen[name], stack, strict=True):
            assert torch.equal(part, contents[node][name])
    assert seen == {"b": list(models.ids), "w": list(models.ids)}


def test_models_of_other_shapes_or_without_a_tensor_are_kept_apart(write_models):
    models = write_models({"a": tensors(w=(4, 4), b=(4,)), "b": tensors(w=(4, 4)), "c": tensors(w=(2, 8), b=(4,))})
    holders = {key: {models.ids[position] for position in positions} for key, positions in models.shapes.items()}
    assert holders == {("b", (4,)): {"a", "c"}, ("w", (4, 4)): {"a", "b"}, ("w", (2, 8)): {"c"}}


@pytest.mark.parametrize(
    "stored", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int8, torch.int64, torch.bool]
)
def test_every_storage_is_computed_in_float32_with_the_same_values(write_models, stored):
    value = torch.arange(-4, 4).to(torch.float32).to(stored)
    models = write_models({"a": {"w": value}, "b": {"w": value.clone()}})
    stack = models.stack("w", (0, 1))
    assert stack.dtype == torch.float32
    assert torch.equal(stack[1], value.to(torch.float32))


def test_float64_is_kept_also_beside_float32(write_models):
    precise = torch.tensor([1.0 + 1e-12], dtype=torch.float64)
    models = write_models({"a": {"w": precise}, "b": {"w": torch.ones(1)}})
    stack = models.stack("w", (0, 1))
    assert stack.dtype == torch.float64
    assert set(stack.flatten().tolist()) == {1.0, 1.0 + 1e-12}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_a_value_that_is_no_number_is_named_with_its_file_and_tensor(write_models, bad, stored):
    spoiled = torch.zeros(4, 4, dtype=stored)
    spoiled[1, 2] = bad
    models = write_models({"a": {"w": torch.ones(4, 4, dtype=stored)}, "b": {"w": spoiled}})
    with pytest.raises(MothrError, match=r"b\.safetensors: tensor 'w' holds NaN or infinite values; remove this model"):
        list(models.stacks())


def test_shards_are_read_as_one_model(tmp_path):
    found = open_checkpoint(sharded(tmp_path / "m"), "m")
    assert list(found.tensors) == ["a.w", "b.w"]
    assert found.read("b.w").shape == (4, 4)


def test_tensors_of_sub_folders_carry_the_folder_in_their_name(tmp_path):
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
    for place in ("folders", "files"):
        assert set(open_folder(tmp_path / place).ids) == {"a", "b"}


# --- what is refused ---


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([], "holds no models; each sub-folder or each .safetensors file is one"),
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
def test_a_folder_that_is_no_set_of_models_is_refused_with_the_reason(tmp_path, files, expected):
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


def test_a_file_cut_anywhere_is_refused_when_opened(tmp_path):
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


def test_a_file_cut_or_gone_after_it_was_opened_is_refused_when_read(tmp_path):
    path = one_file(tmp_path)
    models = open_folder(path.parent)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(MothrError, match=r"a\.safetensors: not a whole"):
        models.stack("w", (0,))
    path.unlink()
    with pytest.raises(MothrError, match=r"a\.safetensors: not a whole"):
        models.stack("w", (0,))


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
def test_a_header_that_means_nothing_is_refused(tmp_path, header):
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8 * (header != b"{}")))
    with pytest.raises(MothrError, match=r"a\.safetensors: (not a whole safetensors file|holds no tensors)"):
        open_folder(tmp_path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 200), value=st.integers(0, 255), claimed=st.none() | st.integers(0, 2**64 - 1))
def test_no_damage_to_a_header_gives_anything_but_a_model_or_a_named_error(tmp_path, place, value, claimed):
    path = one_file(tmp_path)
    content = bytearray(path.read_bytes())
    content[place] = value
    if claimed is not None:
        content[:8] = struct.pack("<Q", claimed)
    path.write_bytes(bytes(content))
    try:
        stacks = list(open_folder(path.parent).stacks())
    except MothrError as error:
        refused = str(error)
    else:
        refused = None
    assert str(path) in refused if refused else all(np.isfinite(stack.numpy()).all() for _, _, stack in stacks)


# --- what leads out of a folder ---


@pytest.fixture
def outside(tmp_path):
    return one_file(tmp_path, "elsewhere/model.safetensors")


@pytest.mark.parametrize("kind", ["file", "model folder", "sub-folder", "model file"])
def test_a_link_that_leads_out_is_refused_by_name(tmp_path, outside, kind):
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


def test_a_link_that_stays_inside_is_fine(tmp_path):
    held = one_file(tmp_path, "models/a/blobs/0001")
    (tmp_path / "models" / "a" / "model.safetensors").symlink_to(held)
    (tmp_path / "models" / "b").symlink_to(tmp_path / "models" / "a")
    models = open_folder(tmp_path / "models")
    assert models.ids == ("a", "b")
    assert list(models.checkpoints[0].tensors) == ["b", "w"]


def test_a_link_to_nothing_is_refused_by_name(tmp_path):
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
def test_a_circle_of_links_is_refused_or_passed_over(tmp_path, name):
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
        ('{"weight_map": {"a.w": 1, "a.w": 2}}', "not a shard index.*named twice"),
        ('{"weight_map": []}', "not a shard index"),
        ('{"weights": {}}', "not a shard index"),
        ("not json", "not a shard index.*download the model again"),
        ("[" * 100_000, "not a shard index"),
    ],
)
def test_a_shard_index_that_does_not_fit_is_refused(tmp_path, outside, index, expected):
    sharded(tmp_path / "models" / "m", index)
    with pytest.raises(MothrError, match=expected) as caught:
        open_folder(tmp_path / "models")
    assert "model.safetensors.index.json" in str(caught.value)


def test_a_classifier_is_compared_with_the_backbone_it_was_made_from(write_models):
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


def test_names_that_share_a_word_are_left_alone(write_models):
    first = {"a.weight": torch.randn(2, 2), "a.a.weight": torch.randn(2, 2)}
    second = {"a.weight": torch.randn(2, 2), "a.b.weight": torch.randn(2, 2)}
    models = write_models({"one": first, "two": second})
    assert {name for name, _ in models.shapes} == {"a.weight", "a.a.weight", "a.b.weight"}


def test_the_old_name_of_the_side_information_says_the_new_one(write_models):
    models = write_models({"a": {"x": torch.ones(2)}})
    with pytest.raises(AttributeError, match=r"ModelSet\.told is called ModelSet\.given now"):
        _ = models.told
