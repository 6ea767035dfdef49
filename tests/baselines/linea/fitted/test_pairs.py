"""Statistics of pairs: nearness, and the direction of an edge."""

import numpy as np
import pytest

from mothr.baselines.linea.fitted.candidates import Candidates
from mothr.baselines.linea.fitted.pairs import FARTHEST, Matrix, PairSums


def matrix(rows, independence=None, lost=None):
    """Returns the measurements of a matrix with the weights ``rows``, (n, elements)."""
    n = len(rows)
    squared = ((rows[:, None] - rows) ** 2).sum(axis=2)
    nothing = np.zeros((n, n))
    return Matrix(
        elements=rows.shape[1],
        squared=squared,
        norms=(rows**2).sum(axis=1),
        independence=nothing if independence is None else independence,
        lost=nothing if lost is None else lost,
    )


def statistics(*matrices):
    """Returns {name: (n, n) at [s, c]} of models that hold all matrices."""
    candidates = Candidates.nearest(matrices[0].squared, 24)
    sums = PairSums(candidates)
    for each in matrices:
        sums.add_tensor(each.squared)
        sums.add_matrix(each)
    return {name: candidates.matrix(values, np.nan) for name, values in sums.statistics().items()}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def chain(rng):
    """Two matrices of three models in a line, 0 -> 1 -> 2, with independent updates."""
    return [matrix(np.cumsum(rng.standard_normal((3, 5000)) * [[1], [0.3], [0.4]], axis=0)) for _ in range(2)]


def test_only_the_nearest_candidate_is_nearer_than_the_others(chain):
    near = statistics(*chain)["near.distance"]
    assert near[1, 0] > 0 > near[2, 0]
    assert near[1, 0] == pytest.approx(-near[2, 0])
    assert near[1, 0] == pytest.approx(np.log(0.25 / 0.09), abs=0.1)
    assert statistics(*chain)["near.nearest"][1, 2] == 1


def test_two_models_have_no_other_candidate(rng):
    result = statistics(matrix(rng.standard_normal((2, 100))))
    assert result["near.distance"][0, 1] == FARTHEST
    assert result["near.equal"][0, 1] == 0


def test_equal_tensors_count_for_the_candidate_that_has_them(rng):
    rows = rng.standard_normal((3, 100))
    result = statistics(matrix(np.stack([rows[0], rows[0], rows[2]])), matrix(rows))
    assert result["near.equal"][0, 1] == 0.5
    assert result["near.equal"][2, 1] == -0.5


def test_directions_change_their_sign_with_the_order_of_the_pair(chain, rng):
    scores = rng.standard_normal((3, 3))
    result = statistics(
        *(matrix(np.ones((3, 4)) * [[1], [2], [3]], scores - scores.T, np.abs(scores)) for _ in range(2)), *chain
    )
    for name, values in result.items():
        if name.startswith("direction."):
            off = ~np.eye(3, dtype=bool)
            np.testing.assert_allclose(values[off], -values.T[off], atol=1e-12, err_msg=name)
            assert np.any(values[off] != 0), name


def test_a_child_with_an_independent_update_is_larger_than_its_parent(chain):
    growth = statistics(*chain)["direction.growth"]
    assert growth[0, 1] == pytest.approx(1, abs=0.3)
    assert growth[1, 2] == pytest.approx(1, abs=0.3)


def test_one_common_decay_explains_the_edge_from_parent_to_child(rng):
    matrices = []
    for size in (0.05, 0.2, 0.5):
        parent, other = rng.standard_normal((2, 5000))
        matrices.append(matrix(np.stack([parent, 0.7 * parent + size * rng.standard_normal(5000), other])))
    result = statistics(*matrices)
    assert result["direction.growth"][0, 1] < 0  # decay hides the growth
    assert result["direction.decay"][0, 1] > 1


def test_the_score_of_many_weights_counts_more_than_that_of_few(rng):
    large, small = rng.standard_normal((3, 4000)), rng.standard_normal((3, 40))
    scores = np.array([[0, 0.1, 0], [-0.1, 0, 0], [0, 0, 0]])
    result = statistics(matrix(large, scores), matrix(small, -scores))
    assert result["direction.independence"][0, 1] > 0
    assert result["direction.independence_z"][0, 1] > 0
    assert result["direction.independence_sign"][0, 1] == 0


def test_a_model_that_lost_its_small_weights_is_the_child(rng):
    lost = np.zeros((3, 3))
    lost[0, 1] = 1.0
    assert statistics(matrix(rng.standard_normal((3, 100)), lost=lost))["direction.small_weights_lost"][0, 1] == 1
