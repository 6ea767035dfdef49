"""Sides of an edge."""

import numpy as np

from mothr.baselines.linea.fitted.candidates import Candidates
from mothr.baselines.linea.fitted.sides import sides
from mothr.baselines.linea.fitted.triples import TripleSums


def of_path():
    """Returns the statistics, (n, n) at [s, c], of four models in a path 0 - 1 - 2 - 3 with independent steps of one length."""
    rows = np.cumsum(np.random.default_rng(0).standard_normal((4, 20_000)), axis=0)
    squared = ((rows[:, None] - rows) ** 2).sum(axis=2)
    candidates = Candidates.nearest(squared, 3)
    sums = TripleSums(candidates)
    sums.add_matrix(squared, rows.shape[1])
    return {
        name: candidates.matrix(values, np.nan)
        for name, values in sides(candidates, sums.statistics()["update.kept"]).items()
    }


def test_all_models_are_behind_the_neighbour_of_a_leaf():
    mean = of_path()["side.mean"]
    assert np.isclose(mean[1, 0], 0.5, atol=0.02)
    assert np.isclose(mean[0, 1], -0.5, atol=0.02)


def test_an_edge_in_the_middle_has_a_model_on_either_side():
    result = of_path()
    assert np.isclose(result["side.mean"][1, 2], 0, atol=0.02)
    assert np.isclose(result["side.difference"][1, 2], 0, atol=0.04)
    assert np.isclose(result["side.difference"][1, 0], 1, atol=0.04)


def test_the_nearest_third_model_is_behind_the_candidate():
    nearest = of_path()["side.nearest"]
    assert np.isclose(nearest[1, 0], 0.5, atol=0.02)


def test_two_models_have_no_third():
    candidates = Candidates.nearest(np.ones((2, 2)), 3)
    assert all((values == 0).all() for values in sides(candidates, np.zeros((2, 1, 1))).values())
