"""What lies between the models of a tree: the numbers that methods see, on the tensors that all its models hold."""

import json

import numpy as np
import pytest
import torch
from scipy.spatial.distance import squareform

from mothr.baselines.parts.directions import pair_scores
from mothr.baselines.parts.distances import pair_distances
from mothr.baselines.parts.trees import shared
from mothr.baselines.studies.pair_evidence import split_pair_evidence, tree_pair_evidence
from mothr.benchmark.board.pairs import read
from mothr.benchmark.data.dataset import open_models, open_truth
from mothr.benchmark.errors import MothrError
from mothr.benchmark.run.forests import grow
from mothr.benchmark.weights.checkpoint import ModelSet
from mothr.benchmark.weights.features import MothrWarning
from mothr.benchmark.weights.layers import Layers

COMMAND = "pairs"

BODY = Layers("body")
SHAPES = {"layers.0.self_attn.q_proj.weight": (24, 24), "layers.0.mlp.up_proj.weight": (40, 24), "head.weight": (5, 24)}
PARENTS = (None, 0, 0, 1, None, 4, None)
"""Trees of four models, of two, and of one."""


@pytest.fixture
def folder(tmp_path, write_dataset):
    """A data set of three trees."""
    weights = grow(np.random.default_rng(3), PARENTS, SHAPES)
    nodes = [(held, [] if above is None else [above], {}) for held, above in zip(weights, PARENTS, strict=True)]
    write_dataset(tmp_path / "toy", nodes)
    return tmp_path / "toy"


def asked(models, ids):
    """Returns the positions in ``models`` of the pairs of ``ids``: first with second, first with third, ..."""
    place = [models.ids.index(node) for node in ids]
    return np.array([(place[i], place[j]) for i in range(len(ids)) for j in range(i + 1, len(ids))])


def test_numbers_are_those_of_distance_and_direction_score_rounded(grown):
    models, _ = grown()
    found = tree_pair_evidence(models)
    assert found.ids == sorted(models.ids)
    pairs = asked(models, found.ids)
    assert found.distances == [float(f"{value:.4g}") for value in pair_distances(models, "relative", pairs, BODY)]
    assert found.evidence == pytest.approx(pair_scores(models, "residual_independence", pairs, BODY), abs=0.5001e-4)
    assert {round(value, 4) for value in found.evidence} == set(found.evidence)
    assert len(set(found.evidence)) > len(found.evidence) / 2


def test_the_parent_is_near_and_evidence_points_to_the_child(grown):
    models, truth = grown()
    found = tree_pair_evidence(models)
    far = squareform(found.distances)
    says = np.zeros_like(far)
    says[np.triu_indices(len(far), 1)] = found.evidence
    says -= says.T
    edges = [(found.ids.index(parent), found.ids.index(child)) for parent, child in truth.edges]
    assert sum(far[parent, child] <= min(np.delete(far[child], child)) for parent, child in edges) > len(edges) / 2
    assert all(says[parent, child] > 0 for parent, child in edges)


def test_other_names_change_the_order_and_nothing_else(grown):
    models, _ = grown()
    names = dict(zip(sorted(models.ids), reversed([f"{number:02d}" for number in range(len(models))]), strict=True))
    old, new = tree_pair_evidence(models), tree_pair_evidence(models.relabel(names))
    assert new.ids == sorted(names.values())
    for name in ("distances", "evidence"):
        sign = -1 if name == "evidence" else 1  # the order of each pair is turned round
        assert sorted(sign * value for value in getattr(new, name)) == sorted(getattr(old, name))
    pairs = [(one, other) for at, one in enumerate(old.ids) for other in old.ids[at + 1 :]]
    turned = {(names[other], names[one]): -value for (one, other), value in zip(pairs, old.evidence, strict=True)}
    assert new.evidence == [turned[one, other] for at, one in enumerate(new.ids) for other in new.ids[at + 1 :]]


def test_all_pairs_of_a_tree_are_compared_on_the_same_tensors(grown, contents, write_models):
    models, _ = grown()
    held = contents(models)
    for sign, node in zip(
        (1, -1), sorted(held), strict=False
    ):  # as far from each other as can be, and the other models lack it
        held[node]["layers.7.mlp.up_proj.weight"] = sign * torch.eye(24)
    more = write_models(held)
    assert tree_pair_evidence(more) == tree_pair_evidence(models)
    layers = shared(more, BODY)
    pairs = asked(more, sorted(held))[:1]
    with pytest.warns(MothrWarning, match="lack some"):
        assert pair_distances(more, "relative", pairs, BODY) > 1.01 * pair_distances(more, "relative", pairs, layers)


def test_models_that_share_no_tensor_have_no_distance_and_no_evidence(write_models):
    models = write_models({"a": {"one.weight": torch.eye(8)}, "b": {"other.weight": torch.eye(8)}})
    with pytest.warns(MothrWarning, match="share none"):
        found = tree_pair_evidence(models)
    assert (found.distances, found.evidence) == ([None], [0.0])


def test_every_true_tree_is_there_in_its_order(folder, capsys):
    truth, models = open_truth(folder), open_models(folder)
    found = split_pair_evidence(folder)
    assert (found.split, found.version) == ("toy", 1)
    assert [tree.ids for tree in found.trees] == [sorted(tree) for tree in truth.graph.trees]
    assert sorted(len(tree.distances) for tree in found.trees) == [0, 1, 6]
    for tree in found.trees:
        assert tree == tree_pair_evidence(ModelSet(tuple(one for one in models.checkpoints if one.id in tree.ids)))
    assert capsys.readouterr().out == ""


def test_the_command_writes_what_can_be_read_beside_the_results(folder, tmp_path, call):
    place = tmp_path / "results" / "toy-v1"
    value = json.loads(call(folder, "--results", tmp_path / "results", "--json").stdout)
    assert value == {
        "file": str(place / "pairs.json"), "trees": 3, "pairs": 7, "distance": "relative", "direction": "residual_independence",
        "layers": "body",
    }  # fmt: skip
    assert read(place, open_truth(place).graph) == split_pair_evidence(folder)
    before = (place / "pairs.json").read_bytes()
    assert "7 pairs of 3 trees" in call(folder, "--results", tmp_path / "results").stdout
    assert (place / "pairs.json").read_bytes() == before
    assert sorted(path.name for path in place.iterdir()) == ["manifest.json", "pairs.json", "truth.json"]


def test_the_command_refuses_results_of_other_weights_and_hidden_truths(folder, tmp_path, call):
    place = tmp_path / "results" / "toy-v1"
    place.mkdir(parents=True)
    (place / "manifest.json").write_text("{}\n")
    with pytest.raises(
        MothrError, match=r"toy-v1.manifest\.json: belongs to other weights than .*toy; .* choose another folder"
    ):
        call(folder, "--results", tmp_path / "results")
    assert [path.name for path in place.iterdir()] == ["manifest.json"]
    (folder / "truth.json").unlink()
    with pytest.raises(MothrError, match=r"truth\.json: no truth here"):
        call(folder, "--results", tmp_path / "other")
    assert not (tmp_path / "other").exists()
