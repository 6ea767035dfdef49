"""Distance and direction evidence of all pairs of the models of a tree, on the tensors that all its models share."""

import json
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import squareform

from mothr.baselines.parts.directions import pair_scores
from mothr.baselines.parts.distances import pair_distances
from mothr.baselines.parts.trees import shared_layers
from mothr.baselines.studies.pair_evidence import split_pair_evidence, tree_pair_evidence
from mothr.benchmark.board.pairs import read
from mothr.benchmark.data.dataset import open_models, open_truth
from mothr.benchmark.errors import MothrError, MothrWarning
from mothr.benchmark.run.forests import grow
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.model_set import ModelSet

COMMAND = "pairs"

BODY = Layers("body")
SHAPES = {"layers.0.self_attn.q_proj.weight": (24, 24), "layers.0.mlp.up_proj.weight": (40, 24), "head.weight": (5, 24)}
PARENTS = (None, 0, 0, 1, None, 4, None)
"""Trees of four models, of two, and of one."""


@pytest.fixture
def folder(tmp_path, write_dataset):
    """A data set of three trees."""
    weights = grow(np.random.default_rng(3), PARENTS, SHAPES)
    nodes = [(held, [] if parent is None else [parent], {}) for held, parent in zip(weights, PARENTS, strict=True)]
    write_dataset(tmp_path / "toy", nodes)
    return tmp_path / "toy"


def pair_positions(models, ids):
    """Returns the positions in ``models`` of the pairs of ``ids``: (0, 1), (0, 2), ..., (1, 2), ..."""
    position = [models.ids.index(node) for node in ids]
    return np.array([(position[i], position[j]) for i in range(len(ids)) for j in range(i + 1, len(ids))])


def test_values_are_rounded_distances_and_direction_scores(grown):
    models, _ = grown()
    result = tree_pair_evidence(models)
    assert result.ids == sorted(models.ids)
    pairs = pair_positions(models, result.ids)
    assert result.distances == [float(f"{value:.4g}") for value in pair_distances(models, "relative", pairs, BODY)]
    assert result.evidence == pytest.approx(pair_scores(models, "residual_independence", pairs, BODY), abs=0.5001e-4)
    assert {round(value, 4) for value in result.evidence} == set(result.evidence)
    assert len(set(result.evidence)) > len(result.evidence) / 2


def test_the_parent_is_near_and_evidence_is_positive_for_parent_and_child(grown):
    models, truth = grown()
    result = tree_pair_evidence(models)
    distances = squareform(result.distances)
    evidence = np.zeros_like(distances)
    evidence[np.triu_indices(len(distances), 1)] = result.evidence
    evidence -= evidence.T
    edges = [(result.ids.index(parent), result.ids.index(child)) for parent, child in truth.edges]
    assert (
        sum(distances[parent, child] <= min(np.delete(distances[child], child)) for parent, child in edges)
        > len(edges) / 2
    )
    assert all(evidence[parent, child] > 0 for parent, child in edges)


def test_other_ids_change_only_the_order(grown):
    models, _ = grown()
    names = dict(zip(sorted(models.ids), reversed([f"{number:02d}" for number in range(len(models))]), strict=True))
    old, new = tree_pair_evidence(models), tree_pair_evidence(models.relabel(names))
    assert new.ids == sorted(names.values())
    for name in ("distances", "evidence"):
        sign = -1 if name == "evidence" else 1  # the order of each pair is reversed
        assert sorted(sign * value for value in getattr(new, name)) == sorted(getattr(old, name))
    pairs = list(combinations(old.ids, 2))
    reversed_pairs = {
        (names[second], names[first]): -value for (first, second), value in zip(pairs, old.evidence, strict=True)
    }
    assert new.evidence == [reversed_pairs[pair] for pair in combinations(new.ids, 2)]


def test_all_pairs_of_a_tree_are_compared_on_the_same_tensors(grown, contents, write_models):
    models, _ = grown()
    held = contents(models)
    for sign, node in zip((1, -1), sorted(held), strict=False):  # opposite tensors, which the other models lack
        held[node]["layers.7.mlp.up_proj.weight"] = sign * torch.eye(24)
    more = write_models(held)
    assert tree_pair_evidence(more) == tree_pair_evidence(models)
    layers = shared_layers(more, BODY)
    pairs = pair_positions(more, sorted(held))[:1]
    with pytest.warns(MothrWarning, match="lack some"):
        assert pair_distances(more, "relative", pairs, BODY) > 1.01 * pair_distances(more, "relative", pairs, layers)


def test_models_that_share_no_tensor_have_no_distance_and_no_evidence(write_models):
    models = write_models({"a": {"one.weight": torch.eye(8)}, "b": {"other.weight": torch.eye(8)}})
    with pytest.warns(MothrWarning, match="share none"):
        result = tree_pair_evidence(models)
    assert (result.distances, result.evidence) == ([None], [0.0])


def test_the_trees_are_those_of_the_truth_in_its_order(folder, capsys):
    truth, models = open_truth(folder), open_models(folder)
    result = split_pair_evidence(folder)
    assert (result.split, result.version) == ("toy", 1)
    assert [tree.ids for tree in result.trees] == [sorted(tree) for tree in truth.graph.trees]
    assert sorted(len(tree.distances) for tree in result.trees) == [0, 1, 6]
    for tree in result.trees:
        assert tree == tree_pair_evidence(
            ModelSet(tuple(checkpoint for checkpoint in models.checkpoints if checkpoint.id in tree.ids))
        )
    assert capsys.readouterr().out == ""


def test_the_command_writes_a_file_beside_the_results_that_can_be_read(folder, tmp_path, call):
    split_folder = tmp_path / "results" / "toy-v1"
    value = json.loads(call(folder, "--results", tmp_path / "results", "--json").stdout)
    assert value == {
        "file": str(split_folder / "pairs.json"), "trees": 3, "pairs": 7, "distance": "relative", "direction": "residual_independence",
        "layers": "body",
    }  # fmt: skip
    assert read(split_folder, open_truth(split_folder).graph) == split_pair_evidence(folder)
    before = (split_folder / "pairs.json").read_bytes()
    assert "7 pairs of 3 trees" in call(folder, "--results", tmp_path / "results").stdout
    assert (split_folder / "pairs.json").read_bytes() == before
    assert sorted(path.name for path in split_folder.iterdir()) == ["manifest.json", "pairs.json", "truth.json"]


def test_the_command_refuses_results_of_other_weights_and_hidden_truths(folder, tmp_path, call):
    split_folder = tmp_path / "results" / "toy-v1"
    split_folder.mkdir(parents=True)
    (split_folder / "manifest.json").write_text("{}\n")
    with pytest.raises(
        MothrError, match=r"toy-v1.manifest\.json: belongs to other weights than .*toy; .* choose another folder"
    ):
        call(folder, "--results", tmp_path / "results")
    assert [path.name for path in split_folder.iterdir()] == ["manifest.json"]
    (folder / "truth.json").unlink()
    with pytest.raises(MothrError, match=r"truth\.json: no truth here"):
        call(folder, "--results", tmp_path / "other")
    assert not (tmp_path / "other").exists()
