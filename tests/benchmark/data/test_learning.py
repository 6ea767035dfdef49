"""Tests of whether a training record says that the model learned."""

import math

import pytest

from mothr.benchmark.data.learning import has_figures, learned

RECORD = {"before": 0.5, "after": 0.6, "chance": 0.5, "tested_on": 10_000}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"after": 0.5}, False),
        ({"after": 0.505}, False),  # within two standard errors of chance, 0.01
        ({"before": 0.7}, False),
        ({"after": 0.5, "test_loss_before": 1.0, "test_loss_after": 0.99}, True),
        ({"after": 0.5, "test_loss_before": 1.0, "test_loss_after": 1.0}, False),
        ({"before": 0.7, "continued": True}, True),
        ({"after": 0.505, "continued": True}, False),
    ],
)
def test_learned(changes, expected):
    assert learned({**RECORD, **changes}) is expected


@pytest.mark.parametrize("changes", [{"after": math.nan}, {"chance": "x"}, {"tested_on": 0}, {"before": None}])
def test_a_record_without_its_figures_is_told(changes):
    assert has_figures(RECORD)
    assert not has_figures({**RECORD, **changes})
    assert not has_figures({})
