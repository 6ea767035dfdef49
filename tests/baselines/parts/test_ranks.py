import numpy as np
import pytest
import torch

from mothr.baselines.parts import ranks
from mothr.baselines.parts.distances import distances
from mothr.baselines.parts.ranks import energy_rank, rank, rank_of_pairs, spectral
from mothr.benchmark.weights.engine import use_resources
from mothr.benchmark.weights.layers import Layers

MATRICES = Layers("matrices")
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
    result = distances(models, "rank", MATRICES)[np.ix_(place, place)]
    steps = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    np.testing.assert_array_equal(result[:5, :5], 4 * steps)
    np.testing.assert_array_equal(result[5, :5], [16, 12, 8, 4, 8])


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
    models = write_models(
        {"root": {"x": root}, "child": {"x": (child / wider).round().to(torch.int8), "x_scale": wider}}
    )
    assert distances(models, "rank", MATRICES)[0, 1] == 4


def test_update_below_the_noise_floor_has_rank_zero(write_models):
    generator = torch.Generator().manual_seed(3)
    root = (0.02 * torch.randn(64, 64, generator=generator)).bfloat16()
    child = merged(root, 4, generator, torch.bfloat16, 1e-4)
    assert not torch.equal(root, child)
    models = write_models({"root": {"x": root}, "child": {"x": child}})
    assert distances(models, "rank", MATRICES)[0, 1] == 0


def test_unrelated_matrices_have_full_rank(write_models):
    models = write_models(
        {str(i): {"x": torch.randn(24, 40, generator=torch.Generator().manual_seed(i))} for i in range(4)}
    )
    np.testing.assert_array_equal(distances(models, "rank", MATRICES), 24 * (1 - np.eye(4)))


def test_rank_of_exact_double_precision(write_models):
    generator = torch.Generator().manual_seed(4)
    root = torch.randn(20, 30, generator=generator, dtype=torch.float64)
    update = torch.randn(20, 3, generator=generator, dtype=torch.float64) @ torch.randn(
        3, 30, generator=generator, dtype=torch.float64
    )
    models = write_models({"root": {"x": root}, "child": {"x": root + 1e-9 * update}})
    assert distances(models, "rank", MATRICES)[0, 1] == 3


# --- sketches ---

KINDS = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


def lora_tree(rows, columns, stored, seed, rank=3):
    """Returns (7, rows, columns) values of a root, two children and two grandchildren of each, and the true ranks of differences."""
    generator, values = torch.Generator().manual_seed(seed), []
    above = [None, 0, 0, 1, 1, 2, 2]
    for parent in above:
        old = 0.02 * torch.randn(rows, columns, generator=generator) if parent is None else values[parent]
        values.append((old if parent is None else merged(old, rank, generator, stored, 0.1)).to(stored).float())
    lines = [{0}]
    for node, parent in enumerate(above[1:], start=1):
        lines.append({node, *lines[parent]})
    return torch.stack(values), np.array([[rank * len(one ^ other) for other in lines] for one in lines])


def all_values(stack, dtypes):
    """Returns the ranks by the definition: how many singular values exceed the floor."""
    floors = [float(ranks._noise(matrix, dtype)) for matrix, dtype in zip(stack, dtypes, strict=True)]
    result = np.zeros((len(stack), len(stack)))
    for i, j in zip(*np.triu_indices(len(stack), 1), strict=True):
        values = torch.linalg.svdvals(stack[i].double() - stack[j].double())
        result[i, j] = result[j, i] = (values > ranks.RANK_MARGIN * np.hypot(floors[i], floors[j])).sum()
    return result


@pytest.mark.parametrize("stored", KINDS)
@pytest.mark.parametrize("shape", [(160, 160), (130, 200), (200, 130)])
def test_sketches_alone_settle_a_tree_of_merged_updates(monkeypatch, stored, shape):
    monkeypatch.setattr(ranks, "_by_all_values", None)
    stack, truth = lora_tree(*shape, stored, seed=5)
    np.testing.assert_array_equal(rank(stack, (KINDS[stored],) * 7), truth)
    pairs = np.array([[0, 1], [3, 6]])
    np.testing.assert_array_equal(rank_of_pairs(stack, (KINDS[stored],) * 7, pairs), truth[tuple(pairs.T)])


@pytest.mark.parametrize("stored", KINDS)
def test_values_near_the_floor_count_as_they_do_by_the_definition(stored):
    """Updates whose singular values fall off from far above the floor to below it, a stranger, and a copy of another precision."""
    generator = torch.Generator().manual_seed(6)
    side, root = 144, 0.02 * torch.randn(144, 144, generator=generator)
    values = [root.to(stored).float()]
    for steepness in (0.5, 0.8, 0.95):
        left, right = (torch.linalg.qr(torch.randn(side, side, generator=generator))[0] for _ in range(2))
        update = left * (0.2 * steepness ** torch.arange(side)) @ right.T
        values.append((values[0] + update).to(stored).float())
    values += [(0.02 * torch.randn(side, side, generator=generator)).to(stored).float(), values[1].clone()]
    stack, dtypes = torch.stack(values), (*[KINDS[stored]] * 5, "F32")
    result = rank(stack, dtypes)
    np.testing.assert_array_equal(result, all_values(stack, dtypes))
    assert result[1, 5] == 0
    assert (result[4, :4] > side - 3).all()


@pytest.mark.parametrize(("stored", "kind"), [(torch.float64, "F64"), (torch.float32, "F32"), (torch.float32, "I8")])
def test_the_stack_is_not_changed(stored, kind):
    stack = lora_tree(130, 140, torch.float32, seed=8)[0].to(stored)
    before = stack.clone()
    rank(stack, (kind,) * 7)
    assert torch.equal(stack, before)


def test_ranks_do_not_depend_on_the_budget(write_models):
    stack, truth = lora_tree(136, 136, torch.float16, seed=7)
    models = write_models({str(node): {"x": values.half()} for node, values in enumerate(stack)})
    order = [models.ids.index(str(node)) for node in range(7)]
    with use_resources(budget=2_400_000):
        result = distances(models, "rank", MATRICES, cache=None)
    np.testing.assert_array_equal(result[np.ix_(order, order)], truth)


# Ranks and norms without a noise floor


def with_values(values, rows=12, columns=9, seed=0):
    """Returns a matrix (1, rows, columns) of given singular values."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (
        torch.linalg.qr(torch.randn(side, len(values), generator=generator, dtype=torch.float64)).Q
        for side in (rows, columns)
    )
    return (left * torch.tensor(values, dtype=torch.float64) @ right.T)[None]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3.0], 1),
        ([1.0, 1.0, 1.0, 1.0], 4),
        ([3.1, 1.0], 1),
        ([2.9, 1.0], 2),
        ([5.0, 4.0, 3.0, 0.1], 3),
        ([1.0, 1e-9], 1),
    ],
)
def test_the_rank_counts_what_holds_nine_tenths_of_the_energy(values, expected):
    matrix = with_values(values)
    for scale in (1.0, 1e-150, 1e150):
        assert energy_rank(scale * matrix).item() == expected
        assert spectral(scale * matrix).item() == pytest.approx(scale * max(values), rel=1e-12)
    assert energy_rank(matrix.mT).item() == expected


def test_no_difference_is_of_rank_and_size_zero():
    assert energy_rank(torch.zeros(2, 3, 4, dtype=torch.float64)).tolist() == [0, 0]
    assert spectral(torch.zeros(2, 3, 4, dtype=torch.float64)).tolist() == [0, 0]


def test_distances_equal_plain_loops(write_models):
    generator = torch.Generator().manual_seed(1)
    held = {
        key: {"x": torch.randn(8, 6, generator=generator), "k": torch.randn(4, 3, 3, 3, generator=generator)}
        for key in "abcd"
    }
    models = write_models(held)

    def values(i, j):
        for name in ("k", "x"):
            difference = models.checkpoints[i].read(name).double() - models.checkpoints[j].read(name).double()
            yield np.linalg.svd(difference.reshape(len(difference), -1).numpy(), compute_uv=False)

    def rank(s):
        return int((np.cumsum(s**2) < 0.9 * (s**2).sum()).sum()) + 1

    for i in range(4):
        for j in set(range(4)) - {i}:
            assert distances(models, "energy_rank", Layers("all"))[i, j] == sum(map(rank, values(i, j)))
            assert distances(models, "spectral", Layers("all"))[i, j] == pytest.approx(
                np.mean([s[0] for s in values(i, j)]), rel=1e-9
            )


def test_rounding_does_not_hide_a_low_rank_update(write_models):
    generator = torch.Generator().manual_seed(2)
    parent = torch.randn(48, 48, generator=generator)
    update = torch.randn(48, 3, generator=generator) @ torch.randn(3, 48, generator=generator)
    models = write_models({"parent": {"x": parent.bfloat16()}, "child": {"x": (parent + 0.3 * update).bfloat16()}})
    assert distances(models, "energy_rank", Layers("all")).max() <= 3
