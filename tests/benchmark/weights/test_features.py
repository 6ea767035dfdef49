"""Features of all tensors: values, the cache, pairs, missing tensors, and rules of combination."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from mothr.benchmark.errors import MothrError, MothrWarning
from mothr.benchmark.weights.combine import combine_distances, combine_pairs, combine_statistics
from mothr.benchmark.weights.features import compute, compute_pairs
from mothr.benchmark.weights.layers import Layers
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


def test_values_are_in_the_order_of_the_ids(write_models):
    models = three(write_models)
    results = compute(models, [MEAN, GAP], ALL)
    expected = np.array([{"a": 1.0, "b": 2.0, "c": 4.0}[name] for name in models.ids])
    positions, values = results["mean"][("x", (2, 3))]
    assert positions == (0, 1, 2)
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_array_equal(results["gap"][("y", (4,))][1], 10 * np.abs(expected[:, None] - expected[None, :]))


def test_a_second_call_reads_no_weights(write_models):
    models = three(write_models)
    first = compute(models, [MEAN, GAP], ALL)
    erase(models)
    second = compute(models, [GAP, MEAN], ALL)
    for name in ("mean", "gap"):
        for key in first[name]:
            np.testing.assert_array_equal(first[name][key][1], second[name][key][1])
    with pytest.raises(MothrError):
        compute(models, [MEAN], ALL, cache=None)


def test_functions_are_given_the_stored_dtypes(write_models):
    seen = []
    models = write_models({"a": {"x": full(1, 2).half()}, "b": {"x": full(2, 2)}})
    compute(
        models,
        [Feature("spy", 1, "statistic", lambda stack, dtypes: seen.append((stack.dtype, dtypes)) or np.zeros(2))],
        ALL,
    )
    assert seen == [(torch.float32, tuple({"a": "F16", "b": "F32"}[name] for name in models.ids))]


def test_models_with_equal_tensors_share_a_row_and_have_the_same_results(write_models):
    models = write_models({"a": {"x": full(1, 2)}, "b": {"x": full(3, 2)}, "same": {"x": full(1, 2)}})
    a, b, same = (models.ids.index(name) for name in ("a", "b", "same"))
    seen = []

    def noisy(stack, dtypes, pairs=None):
        """Returns different numbers for equal rows, as some decompositions do."""
        seen.append(len(stack))
        if pairs is not None:
            return pairs[:, 0] + 10.0 * pairs[:, 1]
        return np.arange(len(stack)) + 10.0 * np.arange(len(stack))[:, None]

    [(_, values)] = compute(models, [Feature("noisy", 1, "pair", noisy)], ALL, cache=None)["noisy"].values()
    np.testing.assert_array_equal(values[[a, b, a], [b, a, same]], values[[same, b, a], [b, same, a]])
    pairs = np.array([(a, b), (same, b), (a, same)])
    [scores] = compute_pairs(models, Feature("noisy", 1, "pair", noisy, noisy), ALL, pairs, cache=None).values()
    assert scores[0] == scores[1]
    assert seen == [2, 2]


@pytest.mark.parametrize(
    "damage", [lambda content: b"", lambda content: content[:-20], lambda content: b"\0" * len(content)]
)
def test_a_damaged_entry_is_computed_again(write_models, tmp_path, damage):
    models = three(write_models)
    expected = compute(models, [MEAN], ALL, cache=tmp_path)["mean"]
    for entry in tmp_path.iterdir():
        entry.write_bytes(damage(entry.read_bytes()))
    again = compute(models, [MEAN], ALL, cache=tmp_path)["mean"]
    erase(models)
    for results in (again, compute(models, [MEAN], ALL, cache=tmp_path)["mean"]):
        for key, (_, values) in expected.items():
            np.testing.assert_array_equal(results[key][1], values)


def test_changed_bytes_in_an_entry_are_detected(write_models, tmp_path):
    models = three(write_models)
    compute(models, [MEAN], Layers("re:x"), cache=tmp_path)
    [entry] = tmp_path.iterdir()
    content = entry.read_bytes()
    value = np.float64(2.0).tobytes()
    assert value in content
    entry.write_bytes(content.replace(value, np.float64(3.0).tobytes()))
    _, values = compute(models, [MEAN], Layers("re:x"), cache=tmp_path)["mean"][("x", (2, 3))]
    assert sorted(values) == [1.0, 2.0, 4.0]


def entries(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def test_the_cache_key_depends_on_weights_name_and_version(write_models, tmp_path):
    compute(write_models({"a": {"x": full(1, 2)}}), [MEAN], ALL, cache=tmp_path)
    assert len(entries(tmp_path)) == 1
    compute(write_models({"b": {"x": full(1, 2)}}), [MEAN], ALL, cache=tmp_path)  # the name of a model has no effect
    assert len(entries(tmp_path)) == 1
    for count, feature in enumerate(
        (Feature("mean", 2, "statistic", MEAN.function), Feature("man", 1, "statistic", MEAN.function)), 2
    ):
        compute(write_models({"a": {"x": full(1, 2)}}), [feature], ALL, cache=tmp_path)
        assert len(entries(tmp_path)) == count
    changed = compute(write_models({"a": {"x": full(2, 2)}}), [MEAN], ALL, cache=tmp_path)
    assert len(entries(tmp_path)) == 4
    assert changed["mean"][("x", (2,))][1] == [2.0]


def test_a_cache_that_cannot_be_written_gives_a_warning_and_the_result(write_models, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(MothrWarning, match="MOTHR_CACHE"):
        results = compute(three(write_models), [MEAN], Layers("re:x"), cache=tmp_path / "file")
    assert sorted(results["mean"][("x", (2, 3))][1]) == [1.0, 2.0, 4.0]


def test_wrong_shapes_and_repeated_names_are_refused(write_models):
    models = three(write_models)
    with pytest.raises(ValueError, match="shape"):
        compute(models, [Feature("bad", 1, "distance", MEAN.function)], ALL)
    with pytest.raises(ValueError, match="same name"):
        compute(models, [MEAN, Feature("mean", 2, "statistic", MEAN.function)], ALL)


def test_requested_pairs(write_models):
    models = write_models(
        {
            "a": {"x": full(1, 3)},
            "b": {"x": full(2, 3), "y": full(5, 2)},
            "c": {"x": full(4, 3), "y": full(7, 2)},
            "d": {"z": full(0, 1)},
        }
    )
    index = {name: position for position, name in enumerate(models.ids)}
    pairs = np.array([(index[u], index[v]) for u, v in ("ab", "ba", "bc", "cc", "cd")])
    with pytest.warns(MothrWarning):
        results = compute_pairs(models, PRODUCT, ALL, pairs)
    np.testing.assert_array_equal(results["x", (3,)], [1 - 4, 2 - 2, 2 - 8, 4 - 8, np.nan])
    np.testing.assert_array_equal(results["y", (2,)], [np.nan, np.nan, 5 - 14, 7 - 14, np.nan])
    assert np.isnan(results["z", (1,)]).all()


def ragged(write_models):
    """Returns models where a and b share x, b and c share y, d shares nothing, and x of c has another shape."""
    models = write_models(
        {
            "a": {"x": full(1, 4)},
            "b": {"x": full(3, 4), "y": full(1, 2)},
            "c": {"x": full(9, 6), "y": full(5, 2)},
            "d": {"z": full(0, 1)},
        }
    )
    return models, [models.ids.index(name) for name in "abcd"]


def test_pairs_are_compared_on_their_common_tensors(write_models):
    models, order = ragged(write_models)
    with pytest.warns(MothrWarning, match="[1-4] of 4 models lack .* 0 to 1 of 4; 4 pairs share none") as caught:
        per_tensor = compute(models, [GAP], ALL)["gap"]
    assert len(caught) == 1
    inf = np.inf
    for how in ("mean", "sum", "max", "quadratic"):
        results = combine_distances(per_tensor, 4, how)[np.ix_(order, order)] / (
            2 if how == "sum" else 1
        )  # b holds two tensors
        np.testing.assert_allclose(results, [[0, 2, inf, inf], [2, 0, 4, inf], [inf, 4, 0, inf], [inf, inf, inf, 0]])


def test_the_warning_names_the_model_that_lacks_the_most(write_models):
    usual = {"a": torch.zeros(4, 4), "b": torch.zeros(4, 4)}
    odd = {"a": torch.zeros(4, 4), "b": torch.zeros(5, 4)}
    models = write_models({"first": usual, "second": usual, "odd": odd, "bare": {"a": torch.zeros(4, 4)}})
    with pytest.warns(MothrWarning, match="1 of 4 models lack .*: bare; bare lacks 2"):
        compute(models, [GAP], ALL)


def test_no_warning_if_no_tensor_is_missing(write_models):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compute(three(write_models), [GAP], ALL)


def test_combined_distances_computed_by_hand():
    first, second = np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[0.0, 3.0], [3.0, 0.0]])
    per_tensor = {("x", (1,)): ((0, 1), first), ("y", (3,)): ((0, 1), second)}
    for how, expected in {"mean": 2.0, "sum": 4.0, "max": 3.0, "quadratic": np.sqrt((1 + 3 * 9) / 4)}.items():
        results = combine_distances(per_tensor, 2, how)
        assert results[0, 1] == results[1, 0] == pytest.approx(expected)
        assert results[0, 0] == results[1, 1] == 0
    with pytest.raises(MothrError, match="did you mean mean"):
        combine_distances(per_tensor, 2, "meen")


def test_the_rule_sum_does_not_favour_pairs_with_fewer_common_tensors():
    ones = 1 - np.eye(3)
    per_tensor = {("x", (1,)): ((0, 1, 2), ones), ("y", (1,)): ((0, 1), ones[:2, :2])}
    np.testing.assert_allclose(combine_distances(per_tensor, 3, "sum"), 2 * ones)


def test_among_restricts_and_scaled_max_depends_on_it():
    signed = np.array([[0.0, 1.0, 8.0], [2.0, 0.0, 4.0], [3.0, 2.0, 0.0]])
    per_tensor = {("x", (1,)): ((0, 1, 2), signed), ("same", (1,)): ((0, 1, 2), np.zeros((3, 3)))}
    everything = combine_distances(per_tensor, 3, "scaled-max")
    np.testing.assert_allclose(everything, np.where(np.eye(3), 0, (signed + 8) / 16))
    np.testing.assert_allclose(combine_distances(per_tensor, 3, "scaled-max", [0, 1]), [[0, 3 / 4], [1, 0]])
    np.testing.assert_array_equal(combine_distances(per_tensor, 3, "max", [2, 0]), [[0, 3], [8, 0]])


def test_undefined_statistics_are_left_out():
    per_tensor = {
        ("x", (1,)): ((0, 1, 2), np.array([1.0, 2.0, np.nan])),
        ("y", (3,)): ((0, 1), np.array([5.0, 9.0])),
        ("z", (6,)): ((2,), np.array([np.nan])),
    }
    np.testing.assert_allclose(combine_statistics(per_tensor, 3, "elements"), [(1 + 15) / 4, (2 + 27) / 4, np.nan])
    np.testing.assert_allclose(combine_statistics(per_tensor, 3, "sum"), [6, 11, np.nan])
    np.testing.assert_allclose(combine_pairs(per_tensor, 3, "elements"), [[0, -13 / 4, 0], [13 / 4, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(combine_pairs(per_tensor, 3, "vote"), [[0, -1, 0], [1, 0, 0], [0, 0, 0]])
    with pytest.raises(MothrError, match="elements"):
        combine_pairs(per_tensor, 3, "elemnts")
