import math

import numpy as np
import pytest
import torch

from mothr.baselines.distances import DISTANCES, catalogue, distances, find_distance, replace_infinite
from mothr.benchmark.errors import MothrError
from mothr.benchmark.features import combine_distances, compute
from mothr.benchmark.layers import Layers

ALL, MATRICES = Layers("all"), Layers("matrices")


def random_models(write_models, count=5, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shared = {"x": torch.randn(6, 4, generator=generator), "y": torch.randn(3, 5, generator=generator), "b": torch.ones(7)}
    contents = {
        f"m{i}": {name: (value + 0.1 * i * torch.randn(value.shape, generator=generator)).to(dtype) for name, value in shared.items()}
        for i in range(count)
    }
    return write_models(contents)


def arrays(models):
    return [{name: models.checkpoints[i].read(name).double().numpy() for name in ("b", "x", "y")} for i in range(len(models))]


def loops(models, one, combine):
    """Returns the distances by plain loops: ``one`` of two arrays, ``combine`` of the list over tensors."""
    weights = arrays(models)
    return np.array([[combine([one(u[name], v[name]) for name in u]) if u is not v else 0.0 for v in weights] for u in weights])


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
    found = distances(models, "signed_max", ALL)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert not np.allclose(found, found.T)


def test_signed_max_is_scaled_by_the_models_asked_about(write_models):
    models = random_models(write_models)
    among = [0, 2, 3]
    found = distances(models, "signed_max", ALL, among=among)
    assert found.shape == (3, 3)
    assert found.max() == 1
    assert not np.allclose(found, distances(models, "signed_max", ALL)[np.ix_(among, among)])


@pytest.mark.parametrize("name", DISTANCES)
def test_duplicates_are_at_zero_and_other_ids_change_nothing(write_models, name):
    generator = torch.Generator().manual_seed(0)
    weights = {key: {"x": torch.randn(12, 12, generator=generator)} for key in "abc"}
    models = write_models(weights | {"copy": weights["a"]})
    found = distances(models, name, ALL)
    first, second = models.ids.index("a"), models.ids.index("copy")
    if find_distance(name).feature.kind == "distance":
        assert found[first, second] == 0
        np.testing.assert_array_equal(found, found.T)
        assert (found[first, [models.ids.index(key) for key in "bc"]] > 0).all()
    swapped = models.relabel({"a": "c", "b": "copy", "c": "a", "copy": "b"})
    again = distances(swapped, name, ALL)
    order = [swapped.ids.index({"a": "c", "b": "copy", "c": "a", "copy": "b"}[key]) for key in models.ids]
    np.testing.assert_allclose(again[np.ix_(order, order)], found, atol=1e-12)


def test_near_duplicates_far_from_the_others_keep_their_digits(write_models):
    base = torch.randn(50, 50, generator=torch.Generator().manual_seed(0))
    near = base.clone()
    near[3, 4] = torch.nextafter(near[3, 4], torch.tensor(9.0))
    models = write_models({"a": {"x": base}, "near": {"x": near}, "far": {"x": 1000 + 100 * base}})
    found = distances(models, "rms", ALL)[models.ids.index("a"), models.ids.index("near")]
    assert found == pytest.approx(float(near[3, 4].double() - base[3, 4].double()) / 50, rel=1e-9)


def test_zero_tensors(write_models):
    models = write_models({"a": {"x": torch.zeros(3, 3)}, "b": {"x": torch.zeros(3, 3)}, "c": {"x": torch.ones(3, 3)}})
    c = models.ids.index("c")
    for name, expected in {"cosine": 1.0, "relative": 2.0, "rank": 1.0}.items():
        found = distances(models, name, ALL)
        others = [i for i in range(3) if i != c]
        np.testing.assert_allclose(found[c, others], expected)
        assert found[others[0], others[1]] == 0


# --- rank ---

STORED = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def merged(weights, rank, generator, stored, scale):
    """Returns ``weights`` plus an update of the given rank and size relative to them, rounded to how it is stored."""
    left, right = (torch.randn(side, rank, generator=generator) for side in weights.shape)
    update = left @ right.T
    return (weights.float() + update * (scale * weights.float().norm() / update.norm())).to(stored)


def heavy_tailed(rows, columns, generator):
    weights = torch.randn(rows, columns, generator=generator) * torch.randn(rows, columns, generator=generator).exp()
    weights[:, 1] *= 8  # an outlier channel, as large language models have
    return 0.02 * weights


@pytest.mark.parametrize("stored", STORED.values(), ids=STORED)
@pytest.mark.parametrize("kept_as_float32", [False, True])
@pytest.mark.parametrize(("side", "rank"), [(64, 2), (64, 4), (64, 8), (64, 16), (384, 16)])
def test_rank_of_merged_updates(write_models, stored, kept_as_float32, side, rank):
    generator = torch.Generator().manual_seed(side + rank)
    for root in (0.02 * torch.randn(side, side, generator=generator), heavy_tailed(side, side, generator)):
        root = root.to(stored)
        child = merged(root, rank, generator, stored, 0.2)
        kept = torch.float32 if kept_as_float32 else stored
        models = write_models({"root": {"x": root.to(kept)}, "child": {"x": child.to(kept)}})
        assert distances(models, "rank", MATRICES)[0, 1] == rank
        default = np.linalg.matrix_rank((child.float() - root.float()).numpy())
        assert default > side / 2 or stored == torch.float32  # what the tolerance of its own is there for


@pytest.mark.parametrize("stored", STORED.values(), ids=STORED)
def test_ranks_add_up_along_chains_of_merges(write_models, stored):
    generator = torch.Generator().manual_seed(1)
    chain = [(0.02 * torch.randn(64, 64, generator=generator)).to(stored)]
    for _ in range(4):
        chain.append(merged(chain[-1], 4, generator, stored, 0.3))
    sibling = merged(chain[3], 4, generator, stored, 0.3)
    models = write_models({str(i): {"x": weights} for i, weights in enumerate([*chain, sibling])})
    place = [models.ids.index(str(i)) for i in range(6)]
    found = distances(models, "rank", MATRICES)[np.ix_(place, place)]
    steps = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    np.testing.assert_array_equal(found[:5, :5], 4 * steps)
    np.testing.assert_array_equal(found[5, :5], [16, 12, 8, 4, 8])


def test_rank_of_an_update_rounded_to_eight_bits(write_models):
    generator = torch.Generator().manual_seed(2)
    root = 0.02 * torch.randn(64, 64, generator=generator)
    child = merged(root, 4, generator, torch.float32, 0.5)
    for scale in (child.abs().amax(dim=1, keepdim=True) / 127, child.abs().amax() / 127):
        steps = (child / scale).round()
        for stored in ({"x": steps * scale}, {"x": steps.to(torch.int8), "x_scale": scale}):
            models = write_models({"root": {"x": root}, "child": stored})
            assert distances(models, "rank", MATRICES)[0, 1] == 4
    wider = child.abs().amax() / 110  # the largest integer is 110, not 127
    models = write_models({"root": {"x": root}, "child": {"x": (child / wider).round().to(torch.int8), "x_scale": wider}})
    assert distances(models, "rank", MATRICES)[0, 1] == 4


def test_update_below_the_noise_floor_has_rank_zero(write_models):
    generator = torch.Generator().manual_seed(3)
    root = (0.02 * torch.randn(64, 64, generator=generator)).bfloat16()
    child = merged(root, 4, generator, torch.bfloat16, 1e-4)
    assert not torch.equal(root, child)
    models = write_models({"root": {"x": root}, "child": {"x": child}})
    assert distances(models, "rank", MATRICES)[0, 1] == 0


def test_unrelated_matrices_have_full_rank(write_models):
    models = write_models({str(i): {"x": torch.randn(24, 40, generator=torch.Generator().manual_seed(i))} for i in range(4)})
    np.testing.assert_array_equal(distances(models, "rank", MATRICES), 24 * (1 - np.eye(4)))


def test_rank_of_exact_double_precision(write_models):
    generator = torch.Generator().manual_seed(4)
    root = torch.randn(20, 30, generator=generator, dtype=torch.float64)
    update = torch.randn(20, 3, generator=generator, dtype=torch.float64) @ torch.randn(3, 30, generator=generator, dtype=torch.float64)
    models = write_models({"root": {"x": root}, "child": {"x": root + 1e-9 * update}})
    assert distances(models, "rank", MATRICES)[0, 1] == 3


# --- the rest ---


def test_one_pass_serves_several_distances(write_models):
    models = random_models(write_models)
    chosen = [DISTANCES[name] for name in ("rms", "cosine")]
    found = compute(models, [item.feature for item in chosen], ALL)
    for name, item in zip(("rms", "cosine"), chosen, strict=True):
        np.testing.assert_array_equal(combine_distances(found[name], len(models), item.combine), distances(models, name, ALL))


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
