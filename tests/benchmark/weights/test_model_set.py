"""ModelSet: order, renaming, and stacks of one tensor of all models."""

import pytest
import torch
from safetensors.torch import save_file

from mothr.benchmark.errors import MothrError
from mothr.benchmark.weights.discovery import open_folder
from mothr.benchmark.weights.model_set import ModelSet

GENERATOR = torch.Generator().manual_seed(0)


def tensors(**shapes):
    return {name.replace("_", "."): torch.randn(shape, generator=GENERATOR) for name, shape in shapes.items()}


def one_file(tmp_path, name="models/a.safetensors"):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors(w=(8, 8), b=(8,)), path)
    return path


def test_the_order_depends_on_the_weights_not_on_the_names(write_models):
    weights = [tensors(w=(4, 4)) for _ in range(6)]
    orders = []
    for names in ("abcdef", "fedcba", "cafdeb"):
        models = write_models(dict(zip(names, weights, strict=True)))
        orders.append([names.index(node) for node in models.ids])
    assert orders[0] == orders[1] == orders[2]
    assert sorted(orders[0]) == list(range(6))


def test_renaming_preserves_the_order_and_reads_no_file(write_models):
    models = write_models({name: tensors(w=(4, 4)) for name in "abc"})
    for path in {info.file for checkpoint in models.checkpoints for info in checkpoint.tensors.values()}:
        path.unlink()
    renamed = models.relabel({"a": "z", "b": "y", "c": "x"})
    assert renamed.ids == tuple({"a": "z", "b": "y", "c": "x"}[node] for node in models.ids)


def test_repr_hides_the_folder_of_the_models(tmp_path):
    path = one_file(tmp_path)
    models = open_folder(path.parent)
    for value in (models, models.checkpoints[0], models.checkpoints[0].tensors["w"]):
        assert str(path.parent) not in repr(value)


def test_one_model_two_models_and_copies_are_valid_sets(write_models):
    same = tensors(w=(4, 4))
    assert len(write_models({"a": same})) == 1
    assert len(write_models({"a": same, "b": tensors(w=(4, 4))})) == 2
    copies = write_models(dict.fromkeys("abc", same))
    assert copies.ids == ("a", "b", "c")
    assert len({checkpoint.digest for checkpoint in copies.checkpoints}) == 1
    with pytest.raises(MothrError, match="no models: at least one"):
        ModelSet(())


def test_stacks_hold_each_tensor_once_in_the_order_of_the_models(write_models):
    contents = {name: tensors(w=(4, 4), b=(4,)) for name in "abcd"}
    models = write_models(contents)
    seen = {}
    for name, positions, stack in models.stacks():
        assert stack.dtype == torch.float32
        seen[name] = [models.ids[position] for position in positions]
        for node, part in zip(seen[name], stack, strict=True):
            assert torch.equal(part, contents[node][name])
    assert seen == {"b": list(models.ids), "w": list(models.ids)}


def test_tensors_are_grouped_by_name_and_shape(write_models):
    models = write_models({"a": tensors(w=(4, 4), b=(4,)), "b": tensors(w=(4, 4)), "c": tensors(w=(2, 8), b=(4,))})
    holders = {key: {models.ids[position] for position in positions} for key, positions in models.shapes.items()}
    assert holders == {("b", (4,)): {"a", "c"}, ("w", (4, 4)): {"a", "b"}, ("w", (2, 8)): {"c"}}


@pytest.mark.parametrize(
    "stored", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int8, torch.int64, torch.bool]
)
def test_every_number_format_is_read_as_float32_with_the_same_values(write_models, stored):
    value = torch.arange(-4, 4).to(torch.float32).to(stored)
    models = write_models({"a": {"w": value}, "b": {"w": value.clone()}})
    stack = models.stack("w", (0, 1))
    assert stack.dtype == torch.float32
    assert torch.equal(stack[1], value.to(torch.float32))


def test_float64_stays_float64_also_beside_float32(write_models):
    precise = torch.tensor([1.0 + 1e-12], dtype=torch.float64)
    models = write_models({"a": {"w": precise}, "b": {"w": torch.ones(1)}})
    stack = models.stack("w", (0, 1))
    assert stack.dtype == torch.float64
    assert set(stack.flatten().tolist()) == {1.0, 1.0 + 1e-12}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_the_error_for_a_value_that_is_not_finite_names_file_and_tensor(write_models, bad, stored):
    damaged = torch.zeros(4, 4, dtype=stored)
    damaged[1, 2] = bad
    models = write_models({"a": {"w": torch.ones(4, 4, dtype=stored)}, "b": {"w": damaged}})
    with pytest.raises(MothrError, match=r"b\.safetensors: tensor 'w' holds NaN or infinite values; remove this model"):
        list(models.stacks())


def test_the_old_name_of_the_side_information_says_the_new_one(write_models):
    models = write_models({"a": {"x": torch.ones(2)}})
    with pytest.raises(AttributeError, match=r"ModelSet\.told is called ModelSet\.given now"):
        _ = models.told
