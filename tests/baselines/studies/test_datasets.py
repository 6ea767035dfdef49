"""A data set that is open for a study: how far a child went, over how far its parent went."""

import numpy as np
import pytest

from mothr.baselines.studies.datasets import OpenedDataset

BODY, SECOND, HEAD = "layers.0.mlp.up_proj.weight", "layers.1.mlp.up_proj.weight", "classifier.weight"


def weights(value, head=0.0, side=4, second=None):
    tensors = {BODY: np.full((3, side), value), HEAD: np.full((2, 4), head)}
    return tensors if second is None else {**tensors, SECOND: np.full((2, 2), second)}


@pytest.fixture
def ways_of(tmp_path, write_dataset):
    """A function that writes {name: (weights, names of the parents)} as a data set and returns its ways by names."""

    def ways(models):
        names = list(models)
        ids = write_dataset(
            tmp_path / "data", [(w, [names.index(p) for p in above], {}) for w, above in models.values()]
        )
        name_of = dict(zip(ids, names, strict=True))
        found = OpenedDataset.open(tmp_path / "data").ways
        return {(name_of[parent], name_of[child]): way for (parent, child), way in found.items()}

    return ways


def test_the_way_of_a_chain_is_measured_on_the_body(ways_of):
    found = ways_of({
        "a": (weights(1.0), []), "p": (weights(3.0, 9.0), ["a"]), "c": (weights(2.5, 70.0), ["p"]), "d": (weights(2.5, 3.0), ["c"]),
    })  # fmt: skip
    assert found == {("p", "c"): pytest.approx(0.25), ("c", "d"): 0.0}


def test_tensors_of_different_shapes_are_left_out_and_a_standing_parent_has_no_way(ways_of):
    found = ways_of({
        "a": (weights(0.0, second=0.0), []), "p": (weights(1.0, second=2.0), ["a"]), "wide": (weights(5.0, side=7, second=3.0), ["p"]),
        "alone": (weights(5.0, side=9), ["p"]), "copy": (weights(0.0), ["a"]), "child": (weights(4.0), ["copy"]),
    })  # fmt: skip
    assert found == {("p", "wide"): pytest.approx(0.5)}


def test_a_merge_has_a_way_from_each_parent_and_its_children_have_none(ways_of):
    found = ways_of({
        "a": (weights(0.0), []), "p": (weights(1.0), ["a"]), "q": (weights(2.0), ["a"]), "merge": (weights(1.5), ["p", "q"]),
        "child": (weights(9.0), ["merge"]),
    })  # fmt: skip
    assert found == {("p", "merge"): pytest.approx(0.5), ("q", "merge"): pytest.approx(0.25)}


def test_the_kinds_of_a_tree_are_named_unless_they_were_drawn(tmp_path, write_dataset):
    child = {"relation": "finetune", "subtype": "full"}
    tree = [(weights(1.0), [], {}), (weights(2.0), [0], child), (weights(3.0), [0], {**child, "subtype": "lora"})]
    write_dataset(tmp_path / "named", tree)
    write_dataset(tmp_path / "drawn", [*tree[:2], (*tree[2][:2], {**tree[2][2], "drawn": {"training.steps": 20}})])
    write_dataset(tmp_path / "one-kind", [tree[0], (*tree[1][:2], {**child, "drawn": {"training.steps": 20}})])
    kinds = [OpenedDataset.open(tmp_path / name).kinds(0) for name in ("named", "drawn", "one-kind")]
    assert kinds == ["full and lora", "drawn kinds", "full"]
