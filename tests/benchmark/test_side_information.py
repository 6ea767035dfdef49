"""SideInformation: the names of its parts, JSON, and renaming."""

import json

from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.side_information import SideInformation

FULL = SideInformation(
    trees={"a": 0, "b": 0}, metadata={"a": {"name": "n"}}, truth=ModelGraph({"a": (), "b": ("a",)}), tree_count=1
)


def test_names_are_those_of_the_parts_that_are_present():
    assert list(SideInformation().names()) == []
    assert list(SideInformation(truth=FULL.truth, trees={"a": 0, "b": 0}).names()) == ["trees", "truth"]
    assert list(SideInformation(tree_count=1, metadata={}).names()) == ["metadata", "tree_count"]


def test_relabel_renames_every_part():
    renamed = FULL.relabel({"a": "x", "b": "y"})
    assert renamed.trees == {"x": 0, "y": 0}
    assert renamed.metadata == {"x": {"name": "n"}}
    assert renamed.truth == ModelGraph({"x": (), "y": ("x",)})
    assert renamed.tree_count == 1
    assert SideInformation().relabel({}) == SideInformation()


def test_side_information_survives_writing_and_reading():
    for given in (FULL, SideInformation()):
        assert SideInformation.from_json(json.loads(json.dumps(given.to_json()))) == given
