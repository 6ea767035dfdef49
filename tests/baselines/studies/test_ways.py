"""How far a child went, over how far its parent went."""

import pytest
import torch

from mothr.baselines.studies.ways import ways
from mothr.benchmark.graph import ModelGraph

BODY, HEAD = "layers.0.mlp.up_proj.weight", "classifier.weight"


def weights(value, head=0.0, side=4):
    return {BODY: torch.full((3, side), value), HEAD: torch.full((2, 4), head)}


def test_the_way_of_a_chain_is_measured_on_the_body(write_models):
    models = write_models({"a": weights(1.0), "p": weights(3.0, 9.0), "c": weights(2.5, 70.0), "d": weights(2.5, 3.0)})
    graph = ModelGraph({"a": (), "p": ("a",), "c": ("p",), "d": ("c",)})
    assert ways(models, graph) == {("p", "c"): pytest.approx(0.25), ("c", "d"): 0.0}


def test_tensors_of_different_shapes_are_left_out_and_a_standing_parent_has_no_way(write_models):
    models = write_models(
        {
            "a": {**weights(0.0), "layers.1.mlp.up_proj.weight": torch.zeros(2, 2)},
            "p": {**weights(1.0), "layers.1.mlp.up_proj.weight": torch.full((2, 2), 2.0)},
            "wide": {**weights(5.0, side=7), "layers.1.mlp.up_proj.weight": torch.full((2, 2), 3.0)},
            "alone": weights(5.0, side=9),
            "copy": weights(0.0),
            "child": weights(4.0),
        }
    )
    graph = ModelGraph({"a": (), "p": ("a",), "wide": ("p",), "alone": ("p",), "copy": ("a",), "child": ("copy",)})
    assert ways(models, graph) == {("p", "wide"): pytest.approx(0.5)}


def test_a_merge_has_a_way_from_each_parent_and_its_children_have_none(write_models):
    values = {"a": 0.0, "p": 1.0, "q": 2.0, "merge": 1.5, "child": 9.0}
    models = write_models({name: weights(value) for name, value in values.items()})
    graph = ModelGraph({"a": (), "p": ("a",), "q": ("a",), "merge": ("p", "q"), "child": ("merge",)})
    assert ways(models, graph) == {("p", "merge"): pytest.approx(0.5), ("q", "merge"): pytest.approx(0.25)}
