"""Statistics of triples on weights that were drawn: grandparent, parent, child and sibling."""

import numpy as np
import pytest

from mothr.baselines.linea.fitted.candidates import Candidates
from mothr.baselines.linea.fitted.triples import NAMES, TripleSums

G, S, CHILD, SIBLING = range(4)


def squared(rows):
    return ((rows[:, None] - rows) ** 2).sum(axis=2)


def family(rng, elements=20_000, size=1.0):
    """Returns the weights of g, s = g + u, a child of s and a sibling of s; all updates have the length of u."""
    g, *updates = rng.standard_normal((4, elements))
    s = g + size * updates[0]
    return np.stack([g, s, s + size * updates[1], g + size * updates[2]])


@pytest.fixture
def statistics():
    """Returns a function that gives {name: value} of the triple G -> S -> c for the models in some matrices."""

    def of(matrices, c):
        candidates = Candidates.nearest(squared(matrices[0]), 3)
        sums = TripleSums(candidates)
        for rows in matrices:
            sums.add_matrix(squared(rows), rows.shape[1])
        place = candidates.slots[c, S]
        other = candidates.slots[S, G]
        return {name: values[c, place, other] for name, values in sums.statistics().items()}

    return of


@pytest.fixture
def matrices():
    rng = np.random.default_rng(0)
    return [family(rng, size=size) for size in (0.1, 0.2, 0.4)]


def test_a_child_has_the_update_of_its_parent(statistics, matrices):
    values = statistics(matrices, CHILD)
    assert values["update.mean"] == pytest.approx(0.5, abs=0.02)
    assert values["update.kept"] == pytest.approx(0.5, abs=0.02)
    for kind in ("precise", "median"):
        assert values[f"update.{kind}_not_above"] == pytest.approx(0, abs=0.02)
        assert values[f"update.{kind}_not_below"] == pytest.approx(0, abs=0.02)
        assert values[f"update.{kind}_not_zero"] == pytest.approx(1, abs=0.02)


def test_a_sibling_lacks_the_update_and_reverts_half_of_its_way(statistics, matrices):
    values = statistics(matrices, SIBLING)
    assert values["update.mean"] == pytest.approx(-0.5, abs=0.02)
    assert values["update.kept"] == pytest.approx(0, abs=0.02)
    assert values["update.median_not_below"] == pytest.approx(-1, abs=0.02)
    assert values["update.median_not_zero"] == pytest.approx(0, abs=0.02)


def test_a_sibling_that_went_further_in_the_same_direction_is_above(statistics):
    g, s, _, sibling = family(np.random.default_rng(1))
    values = statistics([np.stack([g, s, sibling + 3 * (s - g), sibling])], CHILD)
    assert values["update.precise_not_above"] == pytest.approx(-2, abs=0.05)


def test_a_model_between_two_others_reverts_its_whole_way(statistics, matrices):
    between = [
        np.stack([rows[G], rows[CHILD], rows[S], rows[SIBLING]]) for rows in matrices
    ]  # G -> CHILD -> S is alleged
    assert statistics(between, CHILD)["update.kept"] == pytest.approx(-0.5, abs=0.02)


def test_one_odd_matrix_does_not_move_the_median(statistics, matrices):
    odd = matrices[0].copy()
    odd[CHILD] = odd[G]
    assert statistics([*matrices, odd], CHILD)["update.median_not_below"] == pytest.approx(0, abs=0.02)


def test_without_a_matrix_that_differs_nothing_is_known(statistics):
    values = statistics([np.ones((4, 10))], CHILD)
    assert set(values) == set(NAMES)
    assert set(values.values()) == {0.0}


def test_a_matrix_that_a_model_lacks_does_not_count(matrices):
    candidates = Candidates.nearest(squared(matrices[0]), 3)
    held, lacking = TripleSums(candidates), TripleSums(candidates)
    for sums in (held, lacking):
        sums.add_matrix(squared(matrices[0]), 20_000)
    partial = squared(matrices[1])
    partial[CHILD], partial[:, CHILD] = np.nan, np.nan
    lacking.add_matrix(partial, 20_000)
    place = candidates.slots[CHILD, S], candidates.slots[S, G]
    for name in NAMES:
        assert lacking.statistics()[name][CHILD][place] == pytest.approx(held.statistics()[name][CHILD][place])
