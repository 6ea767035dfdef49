"""Fitting the model of forests."""

import json

import numpy as np
import pytest

from mothr.baselines.linea.fitted.model import ForestModel
from mothr.baselines.studies.forests import fitting
from mothr.benchmark.errors import MothrError
from mothr.benchmark.run.forests import grow

COMMAND = "fit_linea"
TREES = 4


def test_a_fit_on_some_trees_finds_the_edges_of_others(found):
    model = fitting.fit(found[:TREES], penalty=1.0)
    assert model.fitted_on == ("one-dev",)
    assert fitting.log_loss(model, found[TREES:]) < 0.3
    for example in found[TREES:]:
        parents = model.distribution(example.evidence).best_forest()
        named = [() if parent < 0 else (example.ids[parent],) for parent in parents]
        assert sum(a == b for a, b in zip(named, example.parents, strict=True)) >= 6


def test_no_weight_of_an_edge_is_negative_and_a_larger_penalty_makes_them_smaller(found):
    small, large = (fitting.fit(found, penalty) for penalty in (0.3, 10.0))
    for model in (small, large):
        assert all(weight >= 0 for name, weight in model.second.edges.items() if name != "candidate.is_root")
    assert sum(large.first.edges.values()) < sum(small.first.edges.values())


def test_the_gradient_is_that_of_the_loss(found):
    """A fit ends where the loss is least: any small change of a weight that is free makes it larger."""
    model = fitting.fit(found, penalty=1.0)

    def loss(name, change):
        weights = dict(model.first.edges)
        weights[name] = max(0.0, weights[name] + change)
        total = sum(weight**2 for weight in weights.values())
        for example in found:
            edges = np.sum([weight * example.pair_features[key] for key, weight in weights.items()], axis=0)
            roots = np.sum([weight * example.root_features[key] for key, weight in model.first.roots.items()], axis=0)
            distribution = fitting.distribution_of(example.evidence, edges, roots)
            right = distribution.restricted(
                example.evidence.candidates.matrix(example.edges.astype(float), 0.0) > 0, example.roots
            )
            total += distribution.log_normaliser - right.log_normaliser
        return total

    for name in ("near.distance/1", "direction.independence_z/1", "direction.growth/1"):
        assert loss(name, 0.05) > loss(name, 0.0) - 1e-4
        assert loss(name, -0.05) > loss(name, 0.0) - 1e-4


def test_the_written_model_is_read_again_and_gives_the_same_forests(found, tmp_path):
    model = fitting.fit(found, penalty=1.0)
    fitting.write(model, 1.0, 0.1234, tmp_path / "model.toml")
    again = ForestModel.read(tmp_path / "model.toml")
    assert again.fitted_on == ("one-dev", "two-dev")
    for example in found:
        before, after = (each.distribution(example.evidence).probabilities[0] for each in (model, again))
        np.testing.assert_allclose(before, after, atol=0.05)


def test_one_tree_is_too_few(found):
    with pytest.raises(MothrError, match="fewer than two trees"):
        fitting.fit(found[:1], penalty=1.0)


def test_the_loss_of_trees_left_out_is_known_for_each_penalty(found):
    losses = fitting.losses_left_out(found, (0.3, 100.0))
    assert losses[0.3] < losses[100.0]


def test_the_command_writes_a_model(folders, tmp_path, call):
    out = tmp_path / "model.toml"
    done = call(*folders, "--out", out, "--penalty", "1", "--json")
    assert json.loads(done.stdout)["trees"] == 2 * TREES
    assert ForestModel.read(out).fitted_on == ("one-dev", "two-dev")


def test_a_test_split_is_refused(tmp_path, call, write_dataset):
    weights = grow(np.random.default_rng(0), (None,), {"layers.0.mlp.up_proj.weight": (16, 16)})
    write_dataset(tmp_path / "one", [(weights[0], [], {"tree": 0})])
    with pytest.raises(MothrError, match="one is not a dev split"):
        call(tmp_path / "one", "--out", tmp_path / "model.toml")
