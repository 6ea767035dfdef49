"""The null methods: legal answers in both settings, and at chance where chance is known."""

from collections import Counter

import numpy as np
import pytest
import torch

from mothr.baselines.methods.nulls import MOTHER_RANDOM_DIRECTION, Metadata, NullSpanningTree, NullStar, RandomTree
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.run.registry import find_method
from mothr.benchmark.score.edges import edge_accuracy, undirected_f1
from mothr.benchmark.side_information import SideInformation

SHAPE = (None, 0, 0, 1, 1, 2, 2)
NULLS = [RandomTree(), NullStar(), NullSpanningTree(), MOTHER_RANDOM_DIRECTION, Metadata()]


@pytest.fixture
def forest(write_models):
    """Returns (models without side information, truth) of two trees of seven models, far apart."""
    generator = torch.Generator().manual_seed(0)
    contents, parents = {}, {}
    for tree in "ab":
        for node, above in enumerate(SHAPE):
            size = 1.0 if above is None else 0.01
            old = 0 if above is None else contents[f"{tree}{above}"]["attention.output.dense.weight"]
            contents[f"{tree}{node}"] = {
                "attention.output.dense.weight": old + size * torch.randn(24, 24, generator=generator)
            }
            parents[f"{tree}{node}"] = () if above is None else (f"{tree}{above}",)
    return write_models(contents), ModelGraph(parents)


def flat_metadata(models):
    """Returns metadata that say nothing: random names, one size, one time."""
    names = np.random.default_rng(1).permutation(1000)
    return {
        node: {"name": f"{name:012x}", "bytes": 100, "mtime": 0.0, "files": ["model.safetensors"], "config": "{}"}
        for node, name in zip(models.ids, names, strict=False)
    }


def given(models, truth, partition=True):
    trees = {node: label for label, tree in enumerate(truth.trees) for node in tree} if partition else None
    return models.with_given(SideInformation(trees=trees, metadata=flat_metadata(models)))


@pytest.mark.parametrize("method", NULLS)
def test_known_trees_gives_one_root_a_part(forest, method):
    models, truth = forest
    result = method(given(models, truth), np.random.default_rng(0)).graph
    assert result.trees == truth.trees
    assert len(result.roots) == 2
    assert max(len(parents) for parents in result.parents.values()) == 1


@pytest.mark.parametrize("method", [RandomTree(), NullStar(), NullSpanningTree(), Metadata()])
def test_open_gives_one_tree(forest, method):
    models, truth = forest
    result = method(given(models, truth, partition=False), np.random.default_rng(0)).graph
    assert len(result.trees) == len(result.roots) == 1
    assert result.nodes == truth.nodes


@pytest.mark.parametrize("method", NULLS)
def test_the_prediction_does_not_depend_on_names(forest, method):
    models, truth = forest
    new = {node: f"{(5 * index) % 14:02}" for index, node in enumerate(models.ids)}
    before = method(given(models, truth), np.random.default_rng(3))
    after = method(given(models, truth).relabel(new), np.random.default_rng(3))
    assert after == before.relabel(new)


@pytest.mark.parametrize("method", NULLS)
def test_only_the_generator_changes_the_prediction(forest, method):
    models, truth = forest
    result = [method(given(models, truth), np.random.default_rng(seed)).graph for seed in (0, 0, 1, 2, 3, 4)]
    assert result[0] == result[1]
    if not isinstance(method, Metadata):  # names order these models, so little is left to the coin
        assert any(other != result[0] for other in result[2:])


def test_roots_are_drawn_evenly(forest):
    models, _ = forest
    for method in (NullStar(), RandomTree()):
        counts = Counter(method(models, np.random.default_rng(seed)).graph.roots[0] for seed in range(1400))
        assert len(counts) == 14
        assert max(abs(count - 100) for count in counts.values()) < 5 * np.sqrt(100)


def test_random_trees_name_each_parent_by_chance(forest):
    models, truth = forest
    result = [
        edge_accuracy(truth, RandomTree()(given(models, truth), np.random.default_rng(seed)).graph)
        for seed in range(400)
    ]
    # A node's parent is one of the 6 others, save where it is the root (1 of 7): 1/7 for each of the pairs.
    assert np.mean(result) == pytest.approx(1 / 7, abs=0.02)


def test_spanning_tree_finds_the_skeleton_and_guesses_the_root(forest):
    models, truth = forest
    graphs = [NullSpanningTree()(given(models, truth), np.random.default_rng(seed)).graph for seed in range(200)]
    assert all(undirected_f1(truth, result) == 1.0 for result in graphs)
    # As many edges are wrong as the drawn root is deep: (2 * 1 + 4 * 2) / 7 of 6.
    assert np.mean([edge_accuracy(truth, result) for result in graphs]) == pytest.approx(1 - 10 / 7 / 6, abs=0.04)


def test_spanning_tree_takes_any_symmetric_distance():
    assert find_method("null-mst-random-root", {"distance": "frobenius", "layers": "all"}).distance == "frobenius"
    with pytest.raises(MothrError, match="not symmetric"):
        NullSpanningTree(distance="signed_max")
    with pytest.raises(MothrError, match="unknown distance 'rsm'; did you mean rms"):
        NullSpanningTree(distance="rsm")
    with pytest.raises(MothrError, match="layers"):
        NullSpanningTree(layers="matrixes")


def test_metadata_is_at_chance_where_nothing_leaks(forest):
    models, truth = forest
    result = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        names = rng.permutation(1000)
        flat = {
            node: value | {"name": f"{names[index]:012x}"}
            for index, (node, value) in enumerate(flat_metadata(models).items())
        }
        guess = Metadata()(models.with_given(SideInformation(given(models, truth).given.trees, metadata=flat)), rng)
        result.append(edge_accuracy(truth, guess.graph))
    assert np.mean(result) == pytest.approx(1 / 7, abs=0.025)


@pytest.mark.parametrize("leak", ["time and name", "configuration"])
def test_metadata_reads_what_leaks(forest, leak):
    models, truth = forest
    metadata = {}
    for node in truth.nodes:
        path = [node]
        while truth.parents[path[0]]:
            path.insert(0, truth.parents[path[0]][0])
        if leak == "time and name":  # as on the Hub: base, base-task, base-task-other
            metadata[node] = {
                "name": "-".join(path),
                "bytes": 100,
                "mtime": float(len(path)),
                "files": [],
                "config": "",
            }
        else:
            config = f'{{"_name_or_path": "hub/model-{path[-2]}"}}' if len(path) > 1 else "{}"
            metadata[node] = {"name": f"model-{node}", "bytes": 100, "mtime": 0.0, "files": [], "config": config}
    result = Metadata()(models.with_given(SideInformation(metadata=metadata)), np.random.default_rng(0)).graph
    assert edge_accuracy(truth, result) == 1.0


def test_metadata_must_be_given(forest):
    with pytest.raises(MothrError, match="none were given"):
        Metadata()(forest[0], np.random.default_rng(0))


def test_one_model(write_models):
    models = write_models({"a": {"weight": torch.ones(4, 4)}})
    for method in (RandomTree(), NullStar(), NullSpanningTree()):
        assert method(models, np.random.default_rng(0)).graph == ModelGraph({"a": ()})


def test_identical_models_are_no_trouble(write_models):
    models = write_models({name: {"weight": torch.ones(4, 4)} for name in "abcd"})
    result = NullSpanningTree()(models, np.random.default_rng(0)).graph
    assert len(result.roots) == 1
    assert len(result.trees) == 1
