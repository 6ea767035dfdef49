import numpy as np
import pytest
import torch

from mothr.baselines.methods.neural_phylogeny import NeuralPhylogeny
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.run.method import needs
from mothr.benchmark.side_information import SideInformation

FAMILIES = (None, 0, 0, 0, None, 4, 4, 4)
GENERATIONS = (None, 0, 0, 1, 1, None, 5, 5, 6, 6)


def predict(models, **fields):
    return NeuralPhylogeny(**fields)(models, np.random.default_rng(0))


def test_parents_and_their_children_are_found(grown):
    models, truth = grown(FAMILIES)
    assert needs(NeuralPhylogeny()) == frozenset()
    result = predict(models)
    assert result.graph == truth
    assert {frozenset(node for node in models.ids if result.trees[node] == label) for label in (0, 1)} == set(
        truth.trees
    )


def test_several_generations_are_put_below_their_root_and_found_by_the_nearest(grown):
    models, truth = grown(GENERATIONS)
    result = predict(models).graph
    assert set(result.roots) == set(truth.roots)
    assert set(result.trees) == set(truth.trees)
    assert all(result.parents[node][0] in truth.roots for node in truth.nodes if node not in truth.roots)
    assert predict(models, shape="nearest").graph == truth


def test_given_trees_are_kept(grown):
    models, truth = grown(GENERATIONS)
    trees = {node: index % 3 for index, node in enumerate(sorted(models.ids))}
    result = predict(models.with_given(SideInformation(trees=trees))).graph
    assert len(result.roots) == 3
    assert all(trees[parent] == trees[child] for parent, child in result.edges)
    right = {node: label for label, tree in enumerate(truth.trees) for node in tree}
    assert predict(models.with_given(SideInformation(trees=right)), shape="nearest").graph == truth


def test_a_child_that_lost_weight_is_taken_for_the_parent(grown, contents, write_models):
    models, truth = grown((None, 0))
    held = contents(models)
    [root] = truth.roots
    models = write_models({"root": held[root], "child": {name: 0.5 * value for name, value in held[root].items()}})
    assert predict(models).graph == ModelGraph({"child": (), "root": ("child",)})


@pytest.mark.parametrize("shape", ["star", "nearest"])
def test_predictions_are_valid_and_do_not_depend_on_names(grown, contents, write_models, shape):
    models, _ = grown(GENERATIONS, seed=1)
    held = next(iter(contents(models).values()))
    assert predict(write_models({"a": held}), shape=shape).graph == ModelGraph({"a": ()})
    assert len(predict(write_models(dict.fromkeys("abc", held)), shape=shape).graph.roots) == 1
    with pytest.warns(UserWarning, match="share none"):
        apart = predict(write_models({"a": {"x": torch.eye(4)}, "b": {"y": torch.eye(4)}}), shape=shape).graph
    assert apart.nodes == ("a", "b")
    names = {node: f"{(7 * index) % 10:02}" for index, node in enumerate(models.ids)}
    assert predict(models.relabel(names), shape=shape) == predict(models, shape=shape).relabel(names)


def test_a_field_that_cannot_be_is_refused():
    with pytest.raises(MothrError, match="unknown shape 'sta'; did you mean star"):
        NeuralPhylogeny(shape="sta")
    with pytest.raises(MothrError, match="not symmetric"):
        NeuralPhylogeny(distance="signed_max")
