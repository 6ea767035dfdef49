"""verify: a valid data set has no problems, and each problem is reported."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from mothr.benchmark.data.dataset import FILE_TIME, open_truth
from mothr.benchmark.data.verify import verify


def edit(path, change):
    """Changes the JSON value in ``path`` by ``change`` and writes it back."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def first_model(data):
    return min((data / "models").iterdir())


def snapshot(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def damage(data, sealed, name, change):
    """Changes tensors of the model ``name`` and writes a matching manifest."""
    path = data / "models" / name / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    sealed(data)


def problem(data):
    """Returns the only problem of the data set."""
    verdict = verify(data)
    assert verdict.models == 14
    assert len(verdict.problems) == 1, verdict.problems
    return verdict.problems[0]


def test_a_valid_data_set_has_no_problems(tiny):
    before = snapshot(tiny)
    verdict = verify(tiny)
    assert verdict.problems == ()
    assert verdict.notes == ("14 models, 0.2 MB", "2 trees, 12 edges; 14 nodes learned")
    assert snapshot(tiny) == before


@pytest.mark.parametrize("path", ["more.json", "unet/more.json", "../stray.txt"])
def test_a_file_that_is_not_in_the_manifest_is_reported(data, path):
    path = first_model(data) / path
    path.parent.mkdir(exist_ok=True)
    path.write_text("x")
    assert problem(data).endswith(": not in the manifest; remove it")
    assert path.name in problem(data)


def test_a_linked_folder_that_is_not_in_the_manifest_is_reported(data, tmp_path):
    (first_model(data) / "more").symlink_to(tmp_path)
    assert problem(data).endswith("more: not in the manifest; remove it")


def test_a_time_that_differs_is_reported(data):
    os.utime(first_model(data) / "model.safetensors", (FILE_TIME + 5, FILE_TIME + 5))
    assert "files have 2 different modification times, which can tell lineage" in problem(data)


def test_a_configuration_that_differs_is_reported(data, sealed):
    name = sorted(path.name for path in (data / "models").iterdir())[3]
    (data / "models" / name / "config.json").write_text('{"model_type": "TOY"}\n')
    sealed(data)
    assert problem(data).startswith(f"model {name}: config.json differs from that of")


def test_a_size_that_differs_is_reported(data, sealed):
    name = sorted(path.name for path in (data / "models").iterdir())[3]
    (data / "models" / name / "config.json").write_text('{"model_type": "toy", "_name_or_path": "parent"}\n')
    sealed(data)
    assert any(line.startswith(f"model {name}: its files or their sizes differ") for line in verify(data).problems)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_reported(data, sealed, value):
    name = first_model(data).name

    def change(tensors):
        tensors["layers.1.norm.weight"][3] = value

    damage(data, sealed, name, change)
    assert problem(data) == f"model {name}: tensor 'layers.1.norm.weight' holds NaN or infinite values"


def test_eight_bit_floats_are_checked_too(data, sealed):
    for path in (data / "models").iterdir():
        tensors = load_file(path / "model.safetensors")
        save_file({name: value.to(torch.float8_e4m3fn) for name, value in tensors.items()}, path / "model.safetensors")
    sealed(data)
    assert verify(data).problems == ()

    def change(tensors):
        tensors["layers.1.norm.weight"] = torch.full((16,), torch.nan).to(torch.float8_e4m3fn)

    damage(data, sealed, first_model(data).name, change)
    assert "holds NaN or infinite values" in problem(data)


def test_a_model_of_another_shape_is_reported(data, sealed):
    name = sorted(path.name for path in (data / "models").iterdir())[5]

    def change(tensors):
        tensors["layers.0.mlp.up_proj.weight"] = torch.zeros(16, 32)

    damage(data, sealed, name, change)
    assert any(f"model {name}: its tensors or shapes differ" in line for line in verify(data).problems)


def edit_training(data, **changes):
    node = open_truth(data).graph.edges[0][1]
    edit(data / "truth.json", lambda truth: truth["nodes"][node]["training"].update(changes))
    return node


@pytest.mark.parametrize("changes", [{"after": 0.2}, {"after": 0.21}, {"before": 0.95}, {"chance": 0.9}])
def test_training_without_improvement_is_reported(data, changes):
    node = edit_training(data, **changes)
    assert problem(data).startswith(f"model {node}: training on task")
    assert "taught nothing (accuracy " in problem(data)
    assert "13 nodes learned" in verify(data).notes[-1]


NOT_NUMBERS = [
    {"after": [0.9]},
    {"after": None},
    {"before": "high"},
    {"tested_on": 0},
    {"before": 1e308, "after": 1e308},
]


@pytest.mark.parametrize("changes", NOT_NUMBERS)
def test_a_training_record_without_numbers_is_reported(data, changes):
    node = edit_training(data, **changes)
    assert problem(data).startswith(f"model {node}: metric before and after")


def test_an_incomplete_training_record_is_reported(data):
    node = open_truth(data).graph.edges[0][1]
    edit(data / "truth.json", lambda truth: truth["nodes"][node]["training"].pop("after"))
    assert problem(data) == f"model {node}: its training records no metric before and after"


# --- storage formats ---


def store_as(data, names, dtype):
    for name in names:
        path = data / "models" / name / "model.safetensors"
        save_file({key: tensor.to(dtype) for key, tensor in load_file(path).items()}, path)


def test_quantized_models_are_compared_within_their_storage_format(data, sealed):
    names = sorted(path.name for path in (data / "models").iterdir())[:4]
    store_as(data, names, torch.float16)
    for name in names:
        (data / "models" / name / "config.json").write_text('{"model_type": "toy", "dtype": "float16"}\n')
    sealed(data)
    assert problem(data) == "models are stored in 2 formats (F16, F32), though the truth has no quantized model"
    edit(data / "truth.json", lambda truth: [truth["nodes"][name].update(relation="quantized") for name in names])
    verdict = verify(data)
    assert verdict.problems == ()
    assert "2 storage formats (4 as F16, 10 as F32): models are compared within their own" in verdict.notes


def test_a_configuration_that_differs_within_a_storage_format_is_reported(data, sealed):
    names = sorted(path.name for path in (data / "models").iterdir())[:4]
    store_as(data, names, torch.bfloat16)
    (data / "models" / names[2] / "config.json").write_text('{"model_type": "TOY"}\n')
    sealed(data)
    edit(data / "truth.json", lambda truth: truth["nodes"][names[0]].update(relation="quantized"))
    assert problem(data) == f"model {names[2]}: config.json differs from that of {names[0]}, which can tell lineage"
