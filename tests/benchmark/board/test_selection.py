"""Which rows of a board have the parameters that a method has without any setting."""

import json

import pytest

from mothr.benchmark.board.tracks.selection import is_plain
from mothr.benchmark.run.plan import Planned
from mothr.benchmark.run.registry import method_names


@pytest.mark.parametrize("name", method_names())
def test_every_method_is_plain_with_the_parameters_that_its_record_has_without_any_setting(name):
    parameters = Planned(name).configuration()[2]
    assert is_plain(name, parameters)
    assert not is_plain(name, json.dumps({**json.loads(parameters), "unknown": 1}))
