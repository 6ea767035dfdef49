import numpy as np
import pytest
import torch

from mothr.baselines.methods.tensorlock import TensorLock
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.score.edges import direction_accuracy, undirected_f1
from mothr.benchmark.side_information import SideInformation

FOREST = (None, 0, 0, 1, 1, 2, None, 6, 6)


def predict(models, **fields):
    return TensorLock(**fields)(models, np.random.default_rng(0))


@pytest.fixture
def trained(grown, contents, write_models):
    """A forest whose roots have few large singular values, as trained weights do, so that updates add directions."""
    models, truth = grown(FOREST)
    held = contents(models)
    for tree in truth.trees:
        [root] = set(tree) & set(truth.roots)
        for name, weights in held[root].items():
            change = weights * (0.8 ** torch.arange(weights.shape[1]) - 1)
            for node in tree:
                held[node] = held[node] | {name: held[node][name] + change}
    return write_models(held), truth


def test_it_recovers_a_forest_whose_updates_raise_the_rank(trained):
    models, truth = trained
    assert predict(models).graph == truth
    result = predict(
        models.with_given(
            SideInformation(trees={node: label for label, tree in enumerate(truth.trees) for node in tree})
        )
    )
    assert result.graph == truth
    assert result == TensorLock()(models.with_given(SideInformation(trees=result.trees)), np.random.default_rng(5))


def test_it_turns_round_where_updates_lower_the_rank(write_models):
    parent = torch.randn(30, 30, generator=torch.Generator().manual_seed(0))
    left, values, right = torch.linalg.svd(parent)
    models = write_models({"parent": {"w.weight": parent}, "child": {"w.weight": left * values * (values > 3) @ right}})
    assert predict(models).graph == ModelGraph({"child": (), "parent": ("child",)})


def test_low_rank_updates_of_weights_that_have_all_directions_turn_directions_round(grown):
    models, truth = grown(FOREST, 1)
    result = predict(models).graph
    assert direction_accuracy(truth, result) < 0.3
    assert undirected_f1(truth, result) > 0.4


def test_predictions_are_valid_and_do_not_depend_on_names(grown, contents, write_models):
    models, _ = grown(FOREST, seed=1)
    held = next(iter(contents(models).values()))
    assert predict(write_models({"a": held})).graph == ModelGraph({"a": ()})
    assert len(predict(write_models(dict.fromkeys("abc", held))).graph.roots) == 1
    assert predict(write_models({"a": {"x": torch.zeros(4, 4)}, "b": {"x": torch.eye(4)}})).graph.nodes == ("a", "b")
    names = {node: f"{(5 * index) % 9:02}" for index, node in enumerate(models.ids)}
    assert predict(models.relabel(names)) == predict(models).relabel(names)


def test_a_field_that_cannot_be_is_refused():
    with pytest.raises(MothrError, match="unknown distance 'rsm'; did you mean rms"):
        TensorLock(distance="rsm")
    with pytest.raises(MothrError, match=r"relatedness_threshold is 0\.0"):
        TensorLock(relatedness_threshold=0.0)
