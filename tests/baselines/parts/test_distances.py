import math

import numpy as np
import pytest
import torch

from mothr.baselines.parts.distances import (
    DISTANCES,
    catalogue,
    distances,
    energies,
    find_distance,
    pair_distances,
    replace_infinite,
)
from mothr.benchmark.errors import MothrError
from mothr.benchmark.weights.combine import combine_distances
from mothr.benchmark.weights.engine import use_resources
from mothr.benchmark.weights.features import compute
from mothr.benchmark.weights.layers import Layers

ALL, MATRICES = Layers("all"), Layers("matrices")


def random_models(write_models, count=5, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shared = {
        "x": torch.randn(6, 4, generator=generator),
        "y": torch.randn(3, 5, generator=generator),
        "b": torch.ones(7),
    }
    contents = {
        f"m{i}": {
            name: (value + 0.1 * i * torch.randn(value.shape, generator=generator)).to(dtype)
            for name, value in shared.items()
        }
        for i in range(count)
    }
    return write_models(contents)


def arrays(models):
    return [
        {name: models.checkpoints[i].read(name).double().numpy() for name in ("b", "x", "y")}
        for i in range(len(models))
    ]


def loops(models, one, combine):
    """Returns the distances by plain loops: ``one`` of two arrays, ``combine`` of the list over tensors."""
    weights = arrays(models)
    return np.array(
        [[combine([one(u[name], v[name]) for name in u]) if u is not v else 0.0 for v in weights] for u in weights]
    )


def cosine(u, v):
    return 1 - (u * v).sum() / math.sqrt((u * u).sum() * (v * v).sum())


def relative(u, v):
    return math.sqrt(((u - v) ** 2).sum()) / ((math.sqrt((u * u).sum()) + math.sqrt((v * v).sum())) / 2)


@pytest.mark.parametrize(
    ("name", "one", "combine"),
    [
        ("rms", lambda u, v: math.sqrt(((u - v) ** 2).mean()), np.mean),
        ("mean_abs", lambda u, v: np.abs(u - v).mean(), np.sum),
        ("max_abs", lambda u, v: np.abs(u - v).max(), np.max),
        ("cosine", cosine, np.mean),
        ("relative", relative, np.mean),
        ("frobenius", lambda u, v: ((u - v) ** 2).sum(), lambda sums: math.sqrt(sum(sums) / (7 + 24 + 15))),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_equals_plain_loops(write_models, name, one, combine, dtype):
    models = random_models(write_models, dtype=dtype)
    np.testing.assert_allclose(distances(models, name, ALL), loops(models, one, combine), rtol=1e-9, atol=1e-14)


def test_signed_max_equals_the_formula_of_v1(write_models):
    models = random_models(write_models)
    weights = arrays(models)
    n = len(weights)
    expected = np.zeros((n, n))
    for name in ("b", "x", "y"):
        pairs = {(i, j): weights[i][name] - weights[j][name] for i in range(n) for j in range(n) if i != j}
        low, high = min(d.min() for d in pairs.values()), max(d.max() for d in pairs.values())
        for (i, j), difference in pairs.items():
            expected[i, j] = max(expected[i, j], ((difference - low) / (high - low)).max())
    result = distances(models, "signed_max", ALL)
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    assert not np.allclose(result, result.T)


def test_signed_max_is_scaled_by_the_compared_models(write_models):
    models = random_models(write_models)
    among = [0, 2, 3]
    result = distances(models, "signed_max", ALL, among=among)
    assert result.shape == (3, 3)
    assert result.max() == 1
    assert not np.allclose(result, distances(models, "signed_max", ALL)[np.ix_(among, among)])


@pytest.mark.parametrize("name", DISTANCES)
def test_duplicates_are_at_zero_and_other_ids_change_nothing(write_models, name):
    generator = torch.Generator().manual_seed(0)
    weights = {key: {"x": torch.randn(12, 12, generator=generator)} for key in "abc"}
    models = write_models(weights | {"copy": weights["a"]})
    result = distances(models, name, ALL)
    first, second = models.ids.index("a"), models.ids.index("copy")
    if find_distance(name).feature.kind == "distance":
        assert result[first, second] == 0
        np.testing.assert_array_equal(result, result.T)
        assert (result[first, [models.ids.index(key) for key in "bc"]] > 0).all()
    swapped = models.relabel({"a": "c", "b": "copy", "c": "a", "copy": "b"})
    again = distances(swapped, name, ALL)
    order = [swapped.ids.index({"a": "c", "b": "copy", "c": "a", "copy": "b"}[key]) for key in models.ids]
    np.testing.assert_allclose(again[np.ix_(order, order)], result, atol=1e-12)


def test_distances_of_near_duplicates_far_from_other_models_keep_their_digits(write_models):
    base = torch.randn(50, 50, generator=torch.Generator().manual_seed(0))
    near = base.clone()
    near[3, 4] = torch.nextafter(near[3, 4], torch.tensor(9.0))
    models = write_models({"a": {"x": base}, "near": {"x": near}, "far": {"x": 1000 + 100 * base}})
    result = distances(models, "rms", ALL)[models.ids.index("a"), models.ids.index("near")]
    assert result == pytest.approx(float(near[3, 4].double() - base[3, 4].double()) / 50, rel=1e-9)


def test_zero_tensors(write_models):
    models = write_models({"a": {"x": torch.zeros(3, 3)}, "b": {"x": torch.zeros(3, 3)}, "c": {"x": torch.ones(3, 3)}})
    c = models.ids.index("c")
    for name, expected in {"cosine": 1.0, "relative": 2.0, "rank": 1.0}.items():
        result = distances(models, name, ALL)
        others = [i for i in range(3) if i != c]
        np.testing.assert_allclose(result[c, others], expected)
        assert result[others[0], others[1]] == 0


# --- the rest ---


def test_one_pass_serves_several_distances(write_models):
    models = random_models(write_models)
    chosen = [DISTANCES[name] for name in ("rms", "cosine")]
    result = compute(models, [item.feature for item in chosen], ALL)
    for name, item in zip(("rms", "cosine"), chosen, strict=True):
        np.testing.assert_array_equal(
            combine_distances(result[name], len(models), item.combine), distances(models, name, ALL)
        )


def test_one_model_alone(write_models):
    models = write_models({"a": {"x": torch.eye(3)}})
    for name in DISTANCES:
        np.testing.assert_array_equal(distances(models, name, ALL), [[0]])


def test_replace_infinite():
    np.testing.assert_array_equal(replace_infinite(np.array([[0, 3.0], [np.inf, 0]])), [[0, 3], [6, 0]])
    np.testing.assert_array_equal(replace_infinite(np.array([[0, np.inf], [np.inf, 0]])), [[0, 1], [1, 0]])


def test_unknown_distance_suggests():
    with pytest.raises(MothrError, match="did you mean cosine"):
        find_distance("cosin")


def test_catalogue_has_a_row_each():
    rows = catalogue()
    assert [row["name"] for row in rows] == list(DISTANCES)
    assert all(row.keys() == {"name", "description", "combine", "source"} and all(row.values()) for row in rows)


# --- odd input ---


def of(write_models, *values, name="x"):
    return write_models({f"m{place}": {name: value} for place, value in enumerate(values)})


@pytest.mark.parametrize("name", DISTANCES)
def test_identical_models_are_at_zero(write_models, name):
    weights = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(distances(of(write_models, weights, weights, weights), name, ALL), np.zeros((3, 3)))


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize("values", [(0.0, 1.0), (2.0, 3.0), (-1.0, 1.0)])
def test_constant_tensors_have_distances(write_models, name, values):
    result = distances(of(write_models, *(torch.full((4, 4), value) for value in values)), name, ALL)
    assert np.isfinite(result).all()
    assert (np.diag(result) == 0).all()
    blind = (
        {"cosine", "aligned"}
        if min(values) > 0
        else {"sorted_weights", "singular_values", "norm_profile"}
        if values[0] < 0
        else set()
    )
    if name not in blind:  # a cosine does not see size, and what no reordering alters may not see a sign
        assert result[0, 1] > 0 or result[1, 0] > 0


@pytest.mark.parametrize(
    "name", sorted(DISTANCES.keys() - {"rank"})
)  # its noise floor is that of how numbers are stored
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8])
def test_integers_count_as_the_numbers_they_are(write_models, name, dtype):
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randint(0, 100, (8, 8), generator=generator).to(dtype) for _ in range(3)]
    models, floats = of(write_models, *weights), of(write_models, *(value.float() for value in weights))
    order = [floats.ids.index(id) for id in models.ids]
    np.testing.assert_allclose(
        distances(models, name, ALL), distances(floats, name, ALL)[np.ix_(order, order)], rtol=1e-6
    )


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_an_error(write_models, name, bad):
    weights = torch.ones(4, 4)
    weights[2, 3] = bad
    with pytest.raises(MothrError, match=r"m1\.safetensors: tensor 'x' holds NaN or infinite values"):
        distances(of(write_models, torch.ones(4, 4), weights), name, ALL)


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.filterwarnings("ignore::mothr.benchmark.errors.MothrWarning")
def test_models_that_share_no_tensor_are_infinitely_far_apart(write_models, name):
    generator = torch.Generator().manual_seed(0)
    x, y, z = (torch.randn(5, 5, generator=generator) for _ in range(3))
    models = write_models({"a": {"x": x}, "b": {"x": y}, "c": {"other": z}})
    result = distances(models, name, ALL)
    c = models.ids.index("c")
    others = [i for i in range(3) if i != c]
    assert np.isinf(result[c, others]).all()
    assert np.isfinite(result[np.ix_(others, others)]).all()


@pytest.mark.parametrize("name", DISTANCES)
def test_a_small_budget_changes_no_distance(write_models, name):
    models = random_models(write_models, 7)
    with use_resources(budget=6_000):
        result = distances(models, name, ALL, cache=None)
    np.testing.assert_allclose(result, distances(models, name, ALL, cache=None), rtol=1e-9, atol=1e-12)


def test_groups_much_nearer_than_their_centres_keep_their_digits():
    generator = torch.Generator().manual_seed(0)
    rows = torch.cat(
        [torch.randn(1, 3000, generator=generator) + 1e-5 * torch.randn(4, 3000, generator=generator) for _ in range(3)]
    )
    exact = (rows[:, None].double() - rows.double()).square().sum(dim=2)
    np.testing.assert_allclose(energies(rows)[0], exact.numpy(), rtol=1e-8)


def test_distances_of_given_pairs(write_models):
    models = random_models(write_models, 6)
    pairs = np.array([[0, 5], [5, 0], [2, 3], [4, 4]])
    for name in DISTANCES:
        if name == "signed_max":
            with pytest.raises(MothrError, match="scaled-max"):
                pair_distances(models, name, pairs, ALL)
        else:
            result = distances(models, name, ALL)[tuple(pairs.T)]
            np.testing.assert_allclose(pair_distances(models, name, pairs, ALL), result, rtol=1e-9, atol=1e-12)
