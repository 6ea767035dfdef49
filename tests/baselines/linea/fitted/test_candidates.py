"""Candidate parents as arrays of fixed width."""

import numpy as np
import pytest

from mothr.baselines.linea.fitted.candidates import Candidates


@pytest.fixture
def line():
    """Five models on a line at 0, 1, 3, 7 and 15, three candidates each."""
    places = np.array([0.0, 1, 3, 7, 15])
    return Candidates.nearest(np.abs(places[:, None] - places), 3)


def test_candidates_are_the_nearest_others_in_order(line):
    assert line.parents.tolist() == [[1, 2, 3], [0, 2, 3], [1, 0, 3], [2, 1, 0], [3, 2, 1]]


def test_all_others_are_candidates_if_there_are_few():
    assert Candidates.nearest(np.ones((3, 3)), 24).parents.tolist() == [[1, 2], [0, 2], [0, 1]]


def test_candidates_of_candidates_and_whether_they_are_three_models(line):
    assert line.grandparents[4, 0].tolist() == [2, 1, 0]  # the candidates of 3
    assert line.is_triple[4, 0].tolist() == [True, True, True]
    assert line.is_triple[0, 0].tolist() == [False, True, True]  # 0 is a candidate of its candidate 1


def test_values_go_to_a_matrix_and_back(line):
    values = np.arange(15.0).reshape(5, 3)
    matrix = line.matrix(values, -1.0)
    assert matrix[line.parents[3, 1], 3] == values[3, 1]
    assert (matrix == -1).sum() == 25 - 15
    assert np.array_equal(line.of_pairs(matrix), values)


def test_a_slot_is_the_place_among_the_candidates(line):
    assert line.slots[3, 1] == 1
    assert line.slots[0, 4] == -1
