import math

import numpy as np
import pytest
import torch
from scipy import stats

from mothr.baselines.parts.directions import DIRECTIONS, catalogue, evidence, find_direction, pair_scores, statistic
from mothr.baselines.parts.statistics import initialised
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.side_information import SideInformation
from mothr.benchmark.weights.layers import Layers

ALL, MATRICES = Layers("all"), Layers("matrices")
SCORES = [name for name in DIRECTIONS if name not in ("random", "oracle")]
STATISTICS = [name for name in SCORES if DIRECTIONS[name].parent != "pair"]


def random_models(write_models, count=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    contents = {}
    for i in range(count):
        contents[f"m{i}"] = {
            "x": torch.randn(8, 6, generator=generator) ** 3 + i,
            "y": torch.randn(4, 4, generator=generator),
        }
    return write_models(contents)


def weights(models, name):
    return [models.checkpoints[i].read(name).double().numpy() for i in range(len(models))]


def svd(w):
    return np.linalg.svd(w, compute_uv=False)


def spectrum_entropy(w):
    shares = svd(w) / svd(w).sum()
    return math.exp(-sum(share * math.log(share) for share in shares))


def negentropy(w):
    z = (w - w.mean()) / w.std()
    odd, even = np.mean(z * np.exp(-(z**2) / 2)), np.mean(np.exp(-(z**2) / 2))
    return 36 / (8 * math.sqrt(3) - 9) * odd**2 + 24 / (16 * math.sqrt(3) - 27) * (even - math.sqrt(1 / 2)) ** 2


DEFINITIONS = {
    "kurtosis": lambda w: stats.kurtosis(w, axis=None),
    "abs_kurtosis": lambda w: abs(stats.kurtosis(w, axis=None)),
    "negentropy": negentropy,
    "norm": lambda w: (w**2).sum(),
    "distance_to_init": lambda w: ((w - initialised(w.shape).numpy()) ** 2).sum(),
    "effective_rank": spectrum_entropy,
    "stable_rank": lambda w: (w**2).sum() / svd(w)[0] ** 2,
    "spectral_norm": lambda w: svd(w)[0],
    "max_abs": lambda w: abs(w).max(),
    "l1_over_l2": lambda w: abs(w).sum() / math.sqrt(w.size * (w**2).sum()),
    "std": lambda w: w.std(),
    "outliers": lambda w: (abs(w - w.mean()) > 3 * w.std()).mean(),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_equal_their_definitions(write_models, name):
    models = random_models(write_models)
    x, y = ([DEFINITIONS[name](w) for w in weights(models, key)] for key in "xy")
    np.testing.assert_allclose(statistic(models, name, ALL, how="sum"), np.add(x, y), rtol=1e-9)
    elements = (48 * np.array(x) + 16 * np.array(y)) / 64
    np.testing.assert_allclose(statistic(models, name, ALL, how="elements"), elements, rtol=1e-9)
    sign = 1 if DIRECTIONS[name].parent == "higher" else -1
    expected = sign * (elements[:, None] - elements[None, :])
    np.testing.assert_allclose(evidence(models, name, ALL, how="elements"), expected, rtol=1e-9, atol=1e-12)


def test_norm_ratio_equals_its_definition(write_models):
    models = random_models(write_models)
    result = evidence(models, "norm_ratio", Layers("re:x"))
    x = weights(models, "x")
    for u in range(4):
        for v in set(range(4)) - {u}:
            assert result[u, v] == pytest.approx(
                ((x[v] ** 2).sum() - (x[u] ** 2).sum()) / ((x[v] - x[u]) ** 2).sum(), rel=1e-9
            )


def residual_independence(u, v):
    x, y = ((w - w.mean()) / w.std() for w in (u.ravel(), v.ravel()))
    r = np.corrcoef(x, y)[0, 1]
    e_y, e_x = y - r * x, x - r * y
    s = e_y.std()

    def f(e, z):
        return abs(np.corrcoef(np.tanh(e / s), z)[0, 1]) + abs(np.corrcoef(e, np.tanh(z))[0, 1])

    return f(e_x, y) - f(e_y, x)


def test_residual_independence_equals_its_definition(write_models):
    models = random_models(write_models)
    result = evidence(models, "residual_independence", Layers("re:x"))
    x = weights(models, "x")
    for u in range(4):
        for v in set(range(4)) - {u}:
            assert result[u, v] == pytest.approx(residual_independence(x[u], x[v]), rel=1e-8)


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("how", ["elements", "sum", "vote"])
def test_evidence_is_antisymmetric_and_agrees_with_given_pairs(write_models, name, how):
    models = random_models(write_models)
    result = evidence(models, name, ALL, how=how)
    np.testing.assert_array_equal(result, -result.T)
    pairs = np.array([(0, 1), (3, 1), (2, 2), (1, 0)])
    np.testing.assert_allclose(
        pair_scores(models, name, pairs, ALL, how=how), result[pairs[:, 0], pairs[:, 1]], atol=1e-12
    )
    if how == "vote" and name != "learned":  # which has its own way
        assert set(np.unique(result)) <= {-1, 0, 1}


@pytest.mark.parametrize("name", SCORES)
def test_evidence_does_not_depend_on_ids(write_models, name):
    models = random_models(write_models)
    names = {"m0": "z", "m1": "m0", "m2": "y", "m3": "m1"}
    swapped = models.relabel(names)
    order = [swapped.ids.index(names[node]) for node in models.ids]
    np.testing.assert_allclose(
        evidence(swapped, name, ALL)[np.ix_(order, order)], evidence(models, name, ALL), atol=1e-12
    )


def parent_and_child(write_models, noise):
    """A heavy-tailed parent and a child that is the parent plus an update independent of it."""
    generator = torch.Generator().manual_seed(5)
    parent = {f"layers.{i}.x": torch.randn(64, 64, generator=generator) ** 3 for i in range(4)}
    child = {name: value + noise(value, generator) for name, value in parent.items()}
    models = write_models({"parent": parent, "child": child})
    return models, models.ids.index("parent"), models.ids.index("child")


@pytest.mark.parametrize(
    "name",
    [
        "kurtosis",
        "abs_kurtosis",
        "negentropy",
        "norm",
        "norm_ratio",
        "effective_rank",
        "std",
        "l1_over_l2",
        "residual_independence",
    ],
)
def test_independent_update_of_heavy_tails_points_from_parent_to_child(write_models, name):
    models, parent, child = parent_and_child(
        write_models, lambda value, generator: torch.randn(value.shape, generator=generator)
    )
    assert evidence(models, name, MATRICES)[parent, child] > 0
    assert pair_scores(models, name, np.array([(parent, child), (child, parent)]), MATRICES)[0] > 0


def test_residual_independence_survives_weight_decay_where_the_norm_does_not(write_models):
    models, parent, child = parent_and_child(
        write_models, lambda value, generator: 0.4 * torch.randn(value.shape, generator=generator) - 0.1 * value
    )
    assert evidence(models, "residual_independence", MATRICES)[parent, child] > 0
    assert evidence(models, "norm", MATRICES)[parent, child] < 0
    assert evidence(models, "norm_ratio", MATRICES)[parent, child] < 0


def test_norm_ratio_is_near_one_for_an_independent_update(write_models):
    models, parent, child = parent_and_child(
        write_models, lambda value, generator: torch.randn(value.shape, generator=generator)
    )
    assert evidence(models, "norm_ratio", MATRICES)[parent, child] == pytest.approx(1, abs=0.2)


def test_stage_turns_round_only_what_depends_on_it(write_models):
    models = random_models(write_models)
    for name in SCORES:
        first, second = (evidence(models, name, ALL, stage=stage) for stage in ("specialisation", "generalisation"))
        np.testing.assert_array_equal(second, -first if name in ("kurtosis", "outliers", "l1_over_l2") else first)


def test_constant_tensors_are_left_out(write_models):
    generator = torch.Generator().manual_seed(0)
    heavy, light = torch.randn(30, 30, generator=generator) ** 3, torch.randn(30, 30, generator=generator)
    ones = torch.ones(2000)
    models = write_models({"heavy": {"x": heavy, "norm": ones}, "light": {"x": light, "norm": 0.1 * ones}})
    for name in ("kurtosis", "negentropy", "outliers"):
        result = evidence(models, name, ALL)
        np.testing.assert_allclose(result, evidence(models, name, Layers("re:x")), rtol=1e-12)
        assert result[models.ids.index("heavy"), models.ids.index("light")] > 0
        with pytest.raises(MothrError, match=f"{name}' is undefined for all 1 tensors of layers 'norm'"):
            evidence(models, name, Layers("norm"))


def test_equal_models_have_no_direction(write_models):
    generator = torch.Generator().manual_seed(0)
    same = {"x": torch.randn(9, 9, generator=generator)}
    models = write_models({"a": same, "b": same, "twice": {"x": 2 * same["x"]}})
    a, b, twice = (models.ids.index(name) for name in ("a", "b", "twice"))
    for name in SCORES:
        assert evidence(models, name, ALL)[a, b] == 0
    assert evidence(models, "residual_independence", ALL)[a, twice] == 0


def test_models_with_other_tensors_are_compared_on_what_both_hold(write_models):
    heavy, light = torch.linspace(-1, 1, 64).reshape(8, 8) ** 7, torch.linspace(-1, 1, 64).reshape(8, 8)
    models = write_models({"a": {"x": heavy}, "b": {"x": light, "y": heavy}, "c": {"y": light}, "d": {"z": light}})
    a, b, c, d = (models.ids.index(name) for name in "abcd")
    with pytest.warns(UserWarning, match="lack"):
        result = evidence(models, "kurtosis", ALL)
    assert result[a, b] > 0
    assert result[b, c] > 0
    assert result[a, c] == 0
    np.testing.assert_array_equal(result[d], 0)


def test_random_is_a_fair_coin_for_each_pair(write_models):
    models = random_models(write_models, count=12)
    tosses = [evidence(models, "random", ALL, np.random.default_rng(seed)) for seed in range(60)]
    for result in tosses:
        np.testing.assert_array_equal(result, -result.T)
        assert set(np.unique(result[~np.eye(12, dtype=bool)])) <= {-1, 1}
    assert abs(np.mean([result[np.triu_indices(12, 1)].mean() for result in tosses])) < 0.06  # 3.8 standard errors
    np.testing.assert_array_equal(tosses[3], evidence(models, "random", ALL, np.random.default_rng(3)))
    with pytest.raises(MothrError, match="pass rng"):
        evidence(models, "random", ALL)


def test_oracle_is_the_truth(write_models):
    models = random_models(write_models)
    truth = ModelGraph({"m0": (), "m1": ("m0",), "m2": ("m1",), "m3": ("m0",)})
    place = [models.ids.index(f"m{i}") for i in range(4)]
    result = evidence(models.with_given(SideInformation(truth=truth)), "oracle", ALL)[np.ix_(place, place)]
    np.testing.assert_array_equal(result, [[0, 1, 1, 1], [-1, 0, 1, 0], [-1, -1, 0, 0], [-1, 0, 0, 0]])
    with pytest.raises(MothrError, match="needs the truth"):
        evidence(models, "oracle", ALL)


def test_one_model_alone(write_models):
    models = write_models({"a": {"x": torch.eye(4)}})
    for name in SCORES:
        np.testing.assert_array_equal(evidence(models, name, ALL), [[0]])


def test_vectors_and_higher_shapes_have_a_spectrum(write_models):
    models = write_models(
        {"a": {"v": torch.arange(5.0), "p": torch.eye(4).reshape(1, 4, 4), "c": torch.eye(6).reshape(6, 3, 2, 1)}}
    )
    np.testing.assert_allclose(statistic(models, "effective_rank", ALL), [1 + 4 + 6])


def test_wrong_names(write_models):
    models = random_models(write_models)
    with pytest.raises(MothrError, match="did you mean kurtosis"):
        find_direction("kurtossis")
    with pytest.raises(MothrError, match="way to combine"):
        evidence(models, "norm", ALL, how="most")
    with pytest.raises(MothrError, match="has no value for one"):
        statistic(models, "norm_ratio", ALL)


def test_catalogue_has_a_row_each():
    rows = catalogue()
    assert [row["name"] for row in rows] == list(DIRECTIONS)
    assert all(
        row.keys() == {"name", "description", "parent", "combine", "source"} and all(row.values()) for row in rows
    )
