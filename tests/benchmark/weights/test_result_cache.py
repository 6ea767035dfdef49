"""The result cache: results in memory within a block, and remembered results."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mothr.benchmark.errors import MothrError
from mothr.benchmark.weights.features import compute, compute_pairs
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.model_set import ModelSet
from mothr.benchmark.weights.result_cache import in_memory, remember
from mothr.benchmark.weights.streaming import Feature

ALL = Layers("all")


def mean_difference(stack, dtypes):
    means = stack.double().flatten(1).mean(dim=1).numpy()
    return np.abs(means[:, None] - means[None, :])


def product_on_pairs(stack, dtypes, pairs):
    means = stack.double().flatten(1).mean(dim=1).numpy()
    return means[pairs[:, 0]] - 2 * means[pairs[:, 1]]


MEAN = Feature("mean", 1, "statistic", lambda stack, dtypes: stack.double().flatten(1).mean(dim=1).numpy())
GAP = Feature("gap", 1, "distance", mean_difference)
PRODUCT = Feature("product", 1, "pair", mean_difference, product_on_pairs)


def full(value, *shape):
    return torch.full(shape, float(value))


def three(write_models):
    return write_models(
        {name: {"x": full(value, 2, 3), "y": full(10 * value, 4)} for name, value in zip("abc", (1, 2, 4), strict=True)}
    )


def erase(models):
    for checkpoint in models.checkpoints:
        for info in checkpoint.tensors.values():
            info.file.unlink(missing_ok=True)


def entries(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def test_in_memory_reads_nothing_twice_and_stores_nothing_afterwards(write_models, tmp_path):
    models = three(write_models)
    pairs = np.array([[0, 1], [2, 1]])
    with in_memory():
        first = (
            compute(models, [MEAN, GAP], ALL, cache=tmp_path),
            compute_pairs(models, PRODUCT, ALL, pairs, cache=tmp_path),
        )
        erase(models)
        for entry in tmp_path.iterdir():
            entry.unlink()
        again = (
            compute(models, [GAP, MEAN], ALL, cache=tmp_path),
            compute_pairs(models, PRODUCT, ALL, pairs, cache=tmp_path),
        )
        assert again[0]["gap"][("x", (2, 3))][1] is first[0]["gap"][("x", (2, 3))][1]
        for key in first[1]:
            np.testing.assert_array_equal(first[1][key], again[1][key])
        assert entries(tmp_path) == set()
        with pytest.raises(MothrError):
            compute_pairs(models, PRODUCT, ALL, pairs[::-1], cache=tmp_path)  # the same models, but other pairs
        with pytest.raises(MothrError):
            compute(models, [MEAN], ALL, cache=None)  # nothing is stored
    with pytest.raises(MothrError):
        compute(models, [MEAN], ALL, cache=tmp_path)


def test_results_in_memory_are_read_only(write_models):
    models = three(write_models)
    with in_memory():
        _, values = compute(models, [MEAN], ALL)["mean"][("x", (2, 3))]
        with pytest.raises(ValueError, match="read-only"):
            values += 1


def test_remember_computes_once_for_the_same_weights_in_memory(write_models, tmp_path):
    models = three(write_models)
    calls = []

    def result():
        calls.append(True)
        return np.zeros(3)

    def calls_after(models, key, **options):
        remember(models, key, result, **options)
        return len(calls)

    assert [calls_after(models, "one"), calls_after(models, "one")] == [1, 2]
    with in_memory():
        assert [
            calls_after(models, "one"),
            calls_after(models, "one"),
            calls_after(models, "two"),
            calls_after(models, "two"),
        ] == [3, 3, 4, 4]
        assert calls_after(models.relabel({node: f"new {node}" for node in models.ids}), "one") == 4
        assert calls_after(ModelSet(models.checkpoints[1:]), "one") == 5
        assert calls_after(models, "one", cache=None) == 6  # nothing is stored
        with pytest.raises(ValueError, match="read-only"):
            remember(models, "one", result)[0] = 1
    assert calls_after(models, "one") == 7


def test_memory_is_bounded(write_models, tmp_path):
    models = three(write_models)
    with in_memory(size=3 * 3 * 8 + 7):  # room for one of the two (3, 3) arrays
        compute(models, [GAP], ALL, cache=tmp_path)
        erase(models)
        for entry in tmp_path.iterdir():
            entry.unlink()
        assert compute(models, [GAP], Layers("re:x"), cache=tmp_path)["gap"][("x", (2, 3))][1].shape == (3, 3)
        with pytest.raises(MothrError):
            compute(models, [GAP], Layers("re:y"), cache=tmp_path)
