"""Features of one tensor within a memory budget, and executors."""

import pickle
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import numpy as np
import pytest
import torch

from mothr.benchmark.errors import MothrError
from mothr.benchmark.weights import checkpoint as weights
from mothr.benchmark.weights.engine import use_resources
from mothr.benchmark.weights.features import compute, compute_pairs, stream
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.streaming import Feature, Slices

ALL = Layers("all")
SMALL = 30_000
"""A budget in bytes that holds less than half of the models below."""


def sums(rows, pairs=None):
    totals = rows.double().sum(dim=1).numpy()
    return (totals[:, None] - totals[None, :] if pairs is None else totals[pairs[:, 0]] - totals[pairs[:, 1]],)


def absolute(state, elements):
    return np.abs(state[0]) / elements


def gap(stack, dtypes):
    return absolute(sums(stack.flatten(1)), stack[0].numel())


def lead(stack, dtypes):
    return sums(stack.flatten(1).square())[0] + np.diag(np.full(len(stack), 7.0))


def gap_on_pairs(stack, dtypes, pairs):
    return gap(stack, dtypes)[pairs[:, 0], pairs[:, 1]]


def mean(stack, dtypes):
    return stack.flatten(1).double().mean(dim=1).numpy()


FEATURES = [
    Feature("sliced", 1, "distance", gap, slices=Slices(sums, np.add, absolute)),
    Feature("mean", 1, "statistic", mean),
    Feature("gap", 1, "distance", gap),
    Feature("costly", 1, "distance", gap, gap_on_pairs),
    Feature("lead", 1, "pair", lead),
]


def several(write_models, count=9, shape=(16, 12), dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return write_models({f"m{i}": {"x": torch.randn(shape, generator=generator).to(dtype)} for i in range(count)})


class Counting:
    """Counts the bytes that are read from files."""

    def __init__(self, monkeypatch):
        self.bytes, real = 0, weights._read_stored

        def stored(info, part=None):
            tensor = real(info, part)
            self.bytes += tensor.numel() * tensor.element_size()
            return tensor

        monkeypatch.setattr(weights, "_read_stored", stored)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_results_do_not_depend_on_the_budget(write_models, feature):
    models = several(write_models)
    [(key, (positions, whole))] = stream(models, feature, ALL, cache=None)
    pairs = np.array([[0, 8], [3, 1], [4, 4], [8, 0], [7, 2], [1, 3]])
    on_pairs = None if feature.kind == "statistic" else compute_pairs(models, feature, ALL, pairs, cache=None)[key]
    with use_resources(budget=SMALL):
        [(_, (again, result))] = stream(models, feature, ALL, cache=None)
        assert again == positions
        np.testing.assert_allclose(result, whole, rtol=1e-6, atol=1e-9)
        if on_pairs is not None:
            np.testing.assert_allclose(on_pairs, whole[tuple(pairs.T)], rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(
                compute_pairs(models, feature, ALL, pairs, cache=None)[key], on_pairs, rtol=1e-6, atol=1e-9
            )


@pytest.mark.parametrize("budget", [1 << 30, SMALL])
def test_each_byte_is_read_once_for_all_features(write_models, monkeypatch, budget):
    models = several(write_models)
    size = 9 * 16 * 12 * 4
    assert models.ids  # the digests are computed before the counting begins
    counted = Counting(monkeypatch)
    second = Feature("second", 1, "distance", gap, slices=Slices(sums, np.add, absolute))
    with use_resources(budget=budget):
        compute(models, [FEATURES[0], second] + (FEATURES[1:] if budget > SMALL else []), ALL, cache=None)
        assert counted.bytes == size
        compute(models, FEATURES[1:2], ALL, cache=None)
        assert counted.bytes == 2 * size


@pytest.mark.parametrize("feature", [*FEATURES[:3], FEATURES[4]], ids=lambda feature: feature.name)
def test_no_stack_is_larger_than_the_budget(write_models, feature):
    models, seen = several(write_models), []

    def recorded(rows, *rest):
        seen.append(rows.numel() * rows.element_size())
        return (feature.function if feature.slices is None else sums)(rows, *rest)

    slices = None if feature.slices is None else Slices(recorded, np.add, absolute)
    with use_resources(budget=SMALL):
        compute(models, [Feature(feature.name, 1, feature.kind, recorded, slices=slices)], ALL, cache=None)
    assert len(seen) > 1
    assert max(seen) <= SMALL


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_the_error_for_a_small_budget_names_both_sizes(write_models, feature):
    models = several(write_models)
    with (
        use_resources(budget=3_000),
        pytest.raises(MothrError, match=r"tensor 'x' .* takes at least \d+ bytes .* budget leaves -?\d+; raise"),
    ):
        compute(models, [feature], ALL, cache=None)


@pytest.mark.parametrize("shape", [(40,), (1, 40), (6, 5, 3), (1, 1, 40), (7, 1)])
def test_tensors_of_any_shape_are_computed_in_slices(write_models, shape):
    models = several(write_models, shape=shape)
    for _, (_, whole) in stream(models, FEATURES[0], ALL, cache=None):
        with use_resources(budget=12_000):
            for _, (_, result) in stream(models, FEATURES[0], ALL, cache=None):
                np.testing.assert_allclose(result, whole, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int8])
def test_slices_of_every_number_format_equal_those_of_the_whole(write_models, dtype):
    models = several(write_models, dtype=dtype)
    for axis, length in enumerate((16, 12)):
        infos = [checkpoint.tensors["x"] for checkpoint in models.checkpoints]
        parts = []
        for start in range(0, length, 5):
            shape = list(infos[0].shape)
            shape[axis] = min(5, length - start)
            parts.append(
                weights.read_into(
                    weights.empty_stack(9, tuple(shape), [info.dtype for info in infos]), infos, axis, start
                )
            )
        assert torch.equal(torch.cat(parts, dim=axis + 1), models.stack("x", range(9)))


@pytest.mark.parametrize("scale", [torch.rand(6, 1), torch.rand(6), torch.rand(1)])
def test_slices_of_scaled_integers_have_the_scales_of_their_channels(write_models, scale):
    steps = torch.arange(-30, 30).reshape(6, 10).to(torch.int8)
    models = write_models({"a": {"x": steps, "x_scale": scale}})
    [info] = [models.checkpoints[0].tensors["x"]]
    whole = models.stack("x", [0])
    assert torch.equal(weights.read_into(weights.empty_stack(1, (2, 10), ["I8"]), [info], 0, 3), whole[:, 3:5])
    assert torch.equal(weights.read_into(weights.empty_stack(1, (6, 4), ["I8"]), [info], 1, 6), whole[:, :, 6:])


def test_nan_in_a_slice_is_an_error(write_models):
    bad = torch.zeros(16, 12)
    bad[15, 3] = torch.nan
    models = write_models({"a": {"x": torch.zeros(16, 12)}, "b": {"x": bad}, "c": {"x": torch.ones(16, 12)}})
    for budget in (1 << 30, 12_000):
        with (
            use_resources(budget=budget),
            pytest.raises(MothrError, match=r"b\.safetensors: tensor 'x' holds NaN or infinite"),
        ):
            compute(models, FEATURES[:1], ALL, cache=None)


def test_finite_weights_whose_sum_overflows_are_accepted(write_models):
    models = write_models({"a": {"x": torch.full((9,), 3e38)}, "b": {"x": torch.zeros(9)}})
    assert compute(models, FEATURES[1:2], ALL, cache=None)


class Pickling(Executor):
    """Calls a function at once on pickled copies of function and arguments, as another process does."""

    def submit(self, function, /, *arguments):
        future = Future()
        function, arguments = pickle.loads(pickle.dumps((function, arguments)))
        future.set_result(pickle.loads(pickle.dumps(function(*arguments))))
        return future


@pytest.mark.parametrize("executor", [ThreadPoolExecutor(2), Pickling()], ids=["threads", "pickled"])
def test_an_executor_gives_the_same_results_in_the_same_order_and_stores_them(
    write_models, monkeypatch, tmp_path, executor
):
    generator = torch.Generator().manual_seed(1)
    models = write_models(
        {f"m{i}": {f"t{j}": torch.randn(4, 5, generator=generator) for j in range(5)} for i in range(4)}
    )
    alone = compute(models, FEATURES[:3], ALL, cache=None)
    with use_resources(executor=executor, workers=2):
        result = compute(models, FEATURES[:3], ALL, cache=tmp_path)
        counted = Counting(monkeypatch)
        again = compute(models, FEATURES[:3], ALL, cache=tmp_path)
    assert counted.bytes == 0
    for name, per_tensor in alone.items():
        assert list(per_tensor) == list(result[name]) == list(again[name])
        for key, (_, values) in per_tensor.items():
            np.testing.assert_array_equal(result[name][key][1], values)
            np.testing.assert_array_equal(again[name][key][1], values)


def test_an_error_in_a_worker_is_raised_in_the_caller(write_models):
    models = write_models({"a": {"x": torch.full((3,), torch.inf)}, "b": {"x": torch.zeros(3)}})
    with (
        ThreadPoolExecutor(2) as executor,
        use_resources(executor=executor, workers=2),
        pytest.raises(MothrError, match="NaN or infinite"),
    ):
        compute(models, FEATURES[:1], ALL, cache=None)


def test_parameters_are_part_of_the_key(write_models, tmp_path):
    models = several(write_models)
    for count, parameters in enumerate(((), (("margin", 1.0),), (("margin", 2.0),), (("margin", 2.0),)), start=1):
        compute(models, [Feature("mean", 1, "statistic", mean, parameters=parameters)], ALL, cache=tmp_path)
        assert len(list(tmp_path.iterdir())) == min(count, 3)


def test_one_model_and_identical_models(write_models):
    single, same = (
        write_models({"a": {"x": torch.ones(3, 4)}}),
        write_models({name: {"x": torch.ones(3, 4)} for name in "abc"}),
    )
    for feature in FEATURES:
        [(_, (_, alone))] = stream(single, feature, ALL, cache=None)
        [(_, (_, values))] = stream(same, feature, ALL, cache=None)
        assert (values == alone.flat[0]).all()
        if feature.kind != "statistic":
            result = compute_pairs(same, feature, ALL, np.array([[0, 1], [2, 2]]), cache=None)["x", (3, 4)]
            np.testing.assert_array_equal(result, values[0, :2])


def test_pairs_of_a_statistic_are_refused(write_models):
    with pytest.raises(ValueError, match="a statistic of one model"):
        compute_pairs(several(write_models), FEATURES[1], ALL, np.array([[0, 1]]))
