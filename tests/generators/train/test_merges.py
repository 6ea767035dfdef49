import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mothr.benchmark.errors import MothrError
from mothr.generators.train.merges import merged

quick = settings(max_examples=40, deadline=None)
shapes = st.sampled_from([(5, 3), (4, 4), (1, 7), (3, 2, 2, 2)])
storages = st.sampled_from([torch.float32, torch.bfloat16, torch.float64])


def normal(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def model(seed):
    return {"matrix": normal((6, 4), seed), "vector": normal((6,), seed + 1000), "positions": torch.arange(3)}


@quick
@given(
    parts=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    shape=shapes,
    stored=storages,
    seed=st.integers(0, 999),
    data=st.data(),
)
def test_any_merge_of_equal_models_is_that_model(parts, shape, stored, seed, data):
    count = len(parts)
    method = data.draw(st.sampled_from(["linear", "ties"] + ["slerp"] * (count == 2)))
    mixing = [part / sum(parts) for part in parts]
    weights = {"w": normal(shape, seed).to(stored)}
    base = {"w": normal(shape, seed + 1).to(stored)}
    result = merged([weights] * count, method, mixing, base, 1.0)
    torch.testing.assert_close(result["w"], weights["w"], rtol=1e-6 if stored != torch.bfloat16 else 0.01, atol=1e-7)


def test_linear_is_the_weighted_mean():
    models = [model(seed) for seed in range(3)]
    first, second, third = (weights["matrix"] for weights in models)
    result = merged(models, "linear", (0.5, 0.3, 0.2))
    torch.testing.assert_close(result["matrix"], 0.5 * first + 0.3 * second + 0.2 * third)


@quick
@given(shape=shapes, stored=storages, seed=st.integers(0, 999))
def test_slerp_starts_at_one_model_and_ends_at_the_other(shape, stored, seed):
    first, second = ({"w": normal(shape, seed + offset).to(stored)} for offset in (0, 1))
    for mixing, end in (((1, 0), first), ((0, 1), second)):
        result = merged([first, second], "slerp", mixing)["w"]
        assert result.dtype == stored
        assert torch.equal(result, end["w"])


@quick
@given(share=st.floats(0.05, 0.95), angle=st.floats(0.01, 3.1), seed=st.integers(0, 999))
def test_slerp_follows_the_arc_at_constant_speed(share, angle, seed):
    first, across = torch.linalg.qr(normal((12, 2), seed).double()).Q.T
    second = math.cos(angle) * first + math.sin(angle) * across
    result = merged([{"w": 3 * first}, {"w": 3 * second}], "slerp", (1 - share, share))["w"]
    torch.testing.assert_close(
        result, 3 * (math.cos(share * angle) * first + math.sin(share * angle) * across), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("factor", [0.0, 1.0, 2.0, -1.0, 1 + 1e-7])
def test_slerp_of_parallel_opposite_and_zero_tensors_is_linear(factor):
    first = {"w": normal((5, 5), 0)}
    result = merged([first, {"w": factor * first["w"]}], "slerp", (0.25, 0.75))
    torch.testing.assert_close(result["w"], (0.25 + 0.75 * factor) * first["w"])


@quick
@given(shape=shapes, seed=st.integers(0, 999))
def test_ties_of_one_whole_task_vector_is_its_model(shape, seed):
    weights, base = {"w": normal(shape, seed)}, {"w": normal(shape, seed + 1)}
    torch.testing.assert_close(merged([weights], "ties", (1,), base, 1.0)["w"], weights["w"])


def test_ties_trims_elects_signs_and_takes_the_mean_of_those_that_agree():
    base = {"a": torch.full((4,), 10.0), "b": torch.full((1, 1), -1.0)}
    vectors = ([4.0, -2.0, 1.0, 0.1, 3.0], [2.0, 6.0, -0.5, 5.0, -3.5])
    models = [{"a": base["a"] + torch.tensor(v[:4]), "b": base["b"] + v[4]} for v in vectors]
    # The 3 largest of each are kept, over both tensors: 4, -2, 3 and 6, 5, -3.5. Summed: 4, 4, 0, 5, -0.5.
    result = merged(models, "ties", (0.5, 0.5), base, 0.6)
    torch.testing.assert_close(result["a"], torch.tensor([14.0, 16.0, 10.0, 15.0]))
    torch.testing.assert_close(result["b"], torch.tensor([[-4.5]]))
    # With weights 0.6 and 0.4 the last entry's sign turns: 0.6 * 3 > 0.4 * 3.5.
    weighted = merged(models, "ties", (0.6, 0.4), base, 1.0)
    torch.testing.assert_close(weighted["b"], torch.tensor([[2.0]]))
    torch.testing.assert_close(weighted["a"], torch.tensor([10 + 3.2, 16.0, 11.0, 10 + (0.6 * 0.1 + 0.4 * 5)]))


@quick
@given(density=st.floats(0.01, 1), seed=st.integers(0, 999))
def test_ties_moves_no_more_than_the_trimmed_share(density, seed):
    weights, base = {"w": normal((10, 10), seed)}, {"w": torch.zeros(10, 10)}
    result = merged([weights], "ties", (1,), base, density)["w"]
    assert int((result != 0).sum()) == round(100 * density)
    left = weights["w"][result == 0].abs()
    assert not left.numel() or not (result != 0).any() or left.max() <= result[result != 0].abs().min()


@pytest.mark.parametrize("method", ["linear", "slerp", "ties"])
@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ({"w": torch.ones(2, 3)}, r"tensor 'w' has shape \(3, 2\) in one model and has shape \(2, 3\) in another"),
        (
            {"w": torch.ones(3, 2), "v": torch.ones(1)},
            r"tensor 'v' is absent in one model and has shape \(1,\) in another",
        ),
        (
            {},
            r"tensor 'w' has shape \(3, 2\) in one model and is absent in another; merge models of one architecture only",
        ),
    ],
)
def test_models_of_different_architectures_are_an_error(method, second, expected):
    first = {"w": torch.ones(3, 2)}
    with pytest.raises(MothrError, match=expected):
        merged([first, second], method, (0.5, 0.5), first, 1.0)
    if method == "ties":
        with pytest.raises(MothrError, match=expected):
            merged([first, first], method, (0.5, 0.5), second, 1.0)


@pytest.mark.parametrize(
    ("method", "count", "mixing", "expected"),
    [
        ("linear", 2, (1,), "given 1 mixing weights for 2 models"),
        ("linear", 0, (), "given 0 mixing weights for 0 models"),
        ("linear", 2, (0.5, 0.6), "must be 0 or more and sum to 1; divide them by their sum"),
        ("linear", 2, (1.5, -0.5), "must be 0 or more"),
        ("linear", 2, (math.nan, 0.5), "must be 0 or more"),
        ("slerp", 3, (0.5, 0.25, 0.25), "slerp is defined between 2 models, not 3"),
        ("ties", 2, (0.5, 0.5), "ties needs the models' common ancestor"),
    ],
)
def test_inconsistent_arguments_of_a_merge_are_an_error(method, count, mixing, expected):
    with pytest.raises(MothrError, match=expected):
        merged([model(0)] * count, method, mixing)
