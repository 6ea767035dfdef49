"""8-bit integers with scales are one tensor with the values integers x scales."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mothr.benchmark.errors import MothrError
from mothr.benchmark.weights.discovery import open_folder

GENERATOR = torch.Generator().manual_seed(0)


def scaled(matrix):
    """Returns ``matrix`` as 8-bit integers, the scale of each channel, and integers x scales."""
    scale = matrix.abs().flatten(1).amax(dim=1).reshape(-1, *[1] * (matrix.ndim - 1)) / 127
    integers = (matrix / scale).round().to(torch.int8)
    return integers, scale, integers * scale


@pytest.mark.parametrize("shape", [(6, 6), (4, 3, 2, 2)])
def test_integers_with_scales_are_one_tensor(write_models, shape):
    contents = {"w": torch.randn(shape, generator=GENERATOR), "b": torch.randn(4, generator=GENERATOR)}
    integers, scale, values = scaled(contents["w"])
    models = write_models({"float": contents, "int8": {"w": integers, "w_scale": scale, "b": contents["b"]}})
    assert models.shapes == {("b", (4,)): (0, 1), ("w", shape): (0, 1)}
    quantized = models.checkpoints[models.ids.index("int8")]
    assert quantized.tensors["w"].dtype == "I8"
    for read in (quantized.read("w"), quantized.read_all()["w"], models.stack("w", (models.ids.index("int8"),))[0]):
        assert read.dtype == torch.float32
        assert torch.equal(read, values)
    assert list(quantized.read_all()) == ["b", "w"]


@pytest.mark.parametrize(
    ("shape", "stored"),
    [
        ((6, 1), torch.float32),
        ((6,), torch.float32),
        ((6, 1), torch.bfloat16),
        ((1,), torch.float32),
        ((), torch.float16),
    ],
)
def test_scales_belong_to_channels_or_to_the_whole_matrix(write_models, shape, stored):
    integers = torch.arange(-18, 18, dtype=torch.int8).reshape(6, 6)
    scale = torch.rand(shape, generator=GENERATOR).to(stored)
    models = write_models({"a": {"w": integers, "w_scale": scale}})
    expected = integers.double().numpy() * scale.double().numpy().reshape(-1, 1)
    np.testing.assert_allclose(models.stack("w", (0,))[0].numpy(), expected, rtol=1e-6)


def test_scales_can_be_in_another_shard_and_have_a_prefix(tmp_path):
    contents = {f"layer.{index}.weight": torch.randn(4, 4, generator=GENERATOR) for index in range(6)}
    folder = tmp_path / "models"
    for name, prefix in (("base", ""), ("tuned", "vit.")):
        (folder / name).mkdir(parents=True)
        split = {name: scaled(value) for name, value in contents.items()}
        save_file(
            {f"{prefix}{key}": integers for key, (integers, _, _) in split.items()}, folder / name / "a.safetensors"
        )
        save_file(
            {f"{prefix}{key}_scale": scale for key, (_, scale, _) in split.items()}, folder / name / "b.safetensors"
        )
    models = open_folder(folder)
    assert set(models.shapes.values()) == {(0, 1)}
    assert {name for name, _ in models.shapes} == contents.keys()
    assert len({checkpoint.digest for checkpoint in models.checkpoints}) == 1


def test_digests_depend_on_integers_and_scales(write_models):
    integers, scale, values = scaled(torch.randn(4, 4, generator=GENERATOR))
    changed = integers.clone()
    changed[0, 0] += 1 if integers[0, 0] < 127 else -1
    models = write_models({
        "quantized": {"w": integers, "w_scale": scale}, "scale": {"w": integers, "w_scale": 2 * scale}, "plain": {"w": integers},
        "integers": {"w": changed, "w_scale": scale}, "flat": {"w": integers, "w_scale": scale.flatten()}, "float": {"w": values},
    })  # fmt: skip
    assert len({checkpoint.digests["w"] for checkpoint in models.checkpoints}) == 6
    renamed = models.relabel({name: name[::-1] for name in models.ids})
    assert [checkpoint.digest for checkpoint in renamed.checkpoints] == [
        checkpoint.digest for checkpoint in models.checkpoints
    ]
    assert torch.equal(renamed.stack("w", range(6)), models.stack("w", range(6)))


def test_only_8_bit_integers_use_a_tensor_named_scale(write_models):
    contents = {
        "a": torch.ones(4, 4),
        "a_scale": torch.ones(4, 1),
        "b": torch.ones(4, 4, dtype=torch.int8),
        "c_scale": torch.ones(4),
    }
    models = write_models({"m": contents})
    assert {name for name, _ in models.shapes} == {"a", "a_scale", "b", "c_scale"}
    assert torch.equal(models.checkpoints[0].read("b"), contents["b"])


@pytest.mark.parametrize(
    ("beside", "expected"),
    [
        (
            {"w_scale": torch.ones(4, 2)},
            r"w_scale \(F32, \(4, 2\)\) beside 8-bit integers of shape \(4, 8\) is not one float for the tensor",
        ),
        ({"w_scale": torch.ones(8)}, r"\(F32, \(8,\)\) .* or for each channel; .*store this model dequantized"),
        ({"w_scale": torch.ones(1, 8)}, r"\(F32, \(1, 8\)\) .* or for each channel"),
        ({"w_scale": torch.ones(4, 1, dtype=torch.int32)}, r"\(I32, \(4, 1\)\) .* is not one float"),
        ({"w_scale": torch.ones(4, 1), "w_zero_point": torch.ones(4, 1, dtype=torch.int8)}, "has a zero point"),
    ],
)
def test_unsupported_scales_are_refused(write_models, beside, expected):
    with pytest.raises(MothrError, match=rf"m\.safetensors: .*{expected}"):
        write_models({"m": {"w": torch.ones(4, 8, dtype=torch.int8), **beside}})


def test_the_error_for_a_scale_that_is_not_finite_names_the_tensor(write_models):
    models = write_models(
        {"m": {"w": torch.ones(2, 2, dtype=torch.int8), "w_scale": torch.tensor([1.0, float("nan")])}}
    )
    with pytest.raises(MothrError, match=r"m\.safetensors: tensor 'w' holds NaN or infinite values"):
        models.stack("w", (0,))
