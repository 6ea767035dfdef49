import numpy as np
import pytest
import torch

from mothr.baselines.methods.model_atlas import ModelAtlas, is_quantised
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.run.method import needs
from mothr.benchmark.score.edges import edge_accuracy, undirected_f1
from mothr.benchmark.side_information import SideInformation

FOREST = (None, 0, 0, 1, 1, 2, None, 6, 6)


def dated(models, times, **given):
    """Returns ``models`` with the time of each as metadata."""
    return models.with_given(
        SideInformation(metadata={node: {"name": node, "mtime": float(times[node])} for node in models.ids}, **given)
    )


def predict(models, seed=0, **fields):
    return ModelAtlas(**fields)(models, np.random.default_rng(seed))


def depths(truth):
    return {node: len(truth.ancestors(node)) for node in truth.nodes}


@pytest.mark.parametrize("rank", [None, 2])
def test_true_times_give_the_true_forest(grown, rank):
    models, truth = grown(FOREST, rank)
    assert needs(ModelAtlas()) == {"metadata"}
    assert predict(dated(models, depths(truth))).graph == truth
    trees = {node: label for label, tree in enumerate(truth.trees) for node in tree}
    assert predict(dated(models, depths(truth), trees=trees)).graph == truth


def test_times_turned_round_turn_directions_round(grown):
    models, truth = grown((None, 0, 1))
    times = {node: -depth for node, depth in depths(truth).items()}
    assert set(predict(dated(models, times)).graph.edges) == {edge[::-1] for edge in truth.edges}


def test_without_different_times_roots_are_drawn_evenly_and_nothing_else_is_read(grown):
    models, truth = grown((None, 0, 1, 2))
    same = dated(models, dict.fromkeys(models.ids, 7))
    result = [predict(same, seed).graph for seed in range(60)]
    drawn = [sum(one.roots == (node,) for one in result) for node in models.ids]
    assert min(drawn) > 4  # 15 expected
    assert predict(same, 3) == predict(same, 3)
    assert np.mean([edge_accuracy(truth, one) for one in result]) < 0.6
    assert np.mean([undirected_f1(truth, one) for one in result]) < 1
    leaky = {node: {"name": "x" * (1 + depth), "bytes": depth, "mtime": 7.0} for node, depth in depths(truth).items()}
    assert predict(models.with_given(SideInformation(metadata=leaky)), 3).graph == predict(same, 3).graph


def test_without_metadata_it_raises_an_error(grown):
    with pytest.raises(
        MothrError, match="model-atlas orders models by file times, and none were given; use 'mothr run'"
    ):
        predict(grown((None, 0))[0])


def test_copies_are_joined_to_the_first_and_children_come_from_it(write_models):
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(20, 20, generator=generator)
    child = root + 0.1 * torch.randn(20, 20, generator=generator)
    models = write_models({"root": {"w.weight": root}, "copy": {"w.weight": root}, "child": {"w.weight": child}})
    times = {"root": 1, "copy": 2, "child": 3}
    assert predict(dated(models, times)).graph == ModelGraph({"root": (), "copy": ("root",), "child": ("root",)})
    times = {"root": 2, "copy": 1, "child": 3}
    assert predict(dated(models, times)).graph == ModelGraph({"copy": (), "root": ("copy",), "child": ("copy",)})


def test_quantised_models_are_leaves_however_early(write_models):
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(20, 20, generator=generator)
    child = root + 0.01 * torch.randn(20, 20, generator=generator)
    scale = root.abs().amax() / 127
    eight = {"w.weight": (root / scale).round().to(torch.int8), "w.weight_scale": scale.reshape(1)}
    models = write_models(
        {"root": {"w.weight": root}, "eight": eight, "child": {"w.weight": child}, "half": {"w.weight": child.half()}}
    )
    coarse = [model.id for model in models.checkpoints if is_quantised(model)]
    assert coarse == ["eight"]
    result = predict(dated(models, {"eight": 0, "root": 1, "child": 2, "half": 3})).graph
    assert result == ModelGraph({"root": (), "eight": ("root",), "child": ("root",), "half": ("child",)})
    alone = write_models({"a": eight, "b": eight})
    assert predict(dated(alone, {"a": 1, "b": 0})).graph == ModelGraph({"b": (), "a": ("b",)})


def test_the_prediction_does_not_depend_on_names(grown):
    models, truth = grown(FOREST, seed=2)
    names = {node: f"{(5 * index) % 9:02}" for index, node in enumerate(models.ids)}
    for times in (depths(truth), dict.fromkeys(truth.nodes, 0)):
        dated_models = dated(models, times)
        assert predict(dated_models.relabel(names)) == predict(dated_models).relabel(names)


def test_a_field_that_cannot_be_is_refused():
    with pytest.raises(MothrError, match="not symmetric"):
        ModelAtlas(distance="signed_max")
