"""Checkpoint: digests, and reading values."""

import json

import pytest
import torch
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


def test_the_digest_does_not_depend_on_the_division_into_files(tmp_path):
    contents = tensors(a_w=(4, 4), b_w=(3,))
    folders = [tmp_path / name for name in ("whole", "parts", "with_metadata")]
    for folder in folders:
        folder.mkdir()
    save_file(contents, folders[0] / "model.safetensors")
    for number, (name, value) in enumerate(contents.items()):
        save_file({name: value}, folders[1] / f"part-{number}.safetensors")
    save_file(contents, folders[2] / "other.safetensors", metadata={"base_model": "secret"})
    digests = {open_checkpoint(folder, folder.name).digest for folder in folders}
    assert len(digests) == 1
    for changed in (
        {"a.w": contents["a.w"].T.contiguous()},
        {"a.w": contents["a.w"].reshape(2, 8)},
        {"a.w": contents["a.w"].view(torch.int32)},
    ):
        folder = tmp_path / str(len(digests))
        folder.mkdir()
        save_file({**contents, **changed}, folder / "model.safetensors")
        digests.add(open_checkpoint(folder, "m").digest)
    assert len(digests) == 4


def test_shards_are_read_as_one_model(tmp_path):
    model = open_checkpoint(sharded(tmp_path / "m"), "m")
    assert list(model.tensors) == ["a.w", "b.w"]
    assert model.read("b.w").shape == (4, 4)


def test_a_file_truncated_or_removed_after_opening_is_refused_when_it_is_read(tmp_path):
    path = one_file(tmp_path)
    models = open_folder(path.parent)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(MothrError, match=r"a\.safetensors: not a whole"):
        models.stack("w", (0,))
    path.unlink()
    with pytest.raises(MothrError, match=r"a\.safetensors: not a whole"):
        models.stack("w", (0,))
