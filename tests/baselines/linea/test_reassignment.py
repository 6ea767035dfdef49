"""Tests of the moves to parents whose updates models have."""

import numpy as np
import pytest
import torch

from mothr.baselines.linea import Linea
from mothr.baselines.linea.reassignment import reassign
from mothr.baselines.parts.distances import distances
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.weights.layers import Layers


def predict(models, **fields):
    return Linea(**fields)(models, np.random.default_rng(0))


def test_siblings_trained_on_the_same_data_are_not_children_of_the_one_that_moved_least(
    grown_tree, write_models, child
):
    held, order, truth = grown_tree
    root = held[order[0]]
    step = {name: value - root[name] for name, value in child(root, 20, 0.01).items()}
    shares = dict(zip(step, np.linspace(0.4, 1.4, len(step)).tolist(), strict=True))
    weak = {name: value + step[name] for name, value in root.items()}
    most = {name: value + shares[name] * step[name] for name, value in root.items()}
    far = {f"far{number}": child(most, 30 + number, 0.01) for number in range(4)}
    models = write_models({**held, "weak": weak, **far})
    nearest = distances(models, Linea.distance, Layers.parse(Linea.layers))[models.ids.index("far0")].argsort()[1]
    assert models.ids[nearest] == "weak"
    assert predict(models).graph == ModelGraph({**truth.parents, **dict.fromkeys(["weak", *far], (order[0],))})


def test_a_model_nearest_to_its_parents_sibling_stays_below_its_parent(write_models):
    generator = torch.Generator().manual_seed(0)
    names = [f"layers.{layer}.mlp.fc1.weight" for layer in range(4)]

    def draw(size, rank=64):
        scale = size / rank**0.5
        return {
            name: scale * torch.randn(64, rank, generator=generator) @ torch.randn(rank, 64, generator=generator)
            for name in names
        }

    def add(*parts):
        return {name: sum(share * part[name] for share, part in parts) for name in names}

    root = {name: torch.randn(64, 64, generator=generator) ** 3 for name in names}
    parent_learned, uncle_learned = draw(0.2, 3), draw(0.2, 3)
    parent, uncle = (add((1, root), (1, learned), (1, draw(0.12))) for learned in (parent_learned, uncle_learned))
    turned = add(
        (1, parent), (-0.5, parent_learned), (0.9, uncle_learned), (1, draw(0.12))
    )  # it took back what the parent was taught
    held = {
        "5": root,
        "2": parent,
        "7": uncle,
        "1": turned,
        "4": add((1, parent), (1, draw(0.05))),
        "3": add((1, uncle), (1, draw(0.05))),
    }
    models = write_models(held)
    far = distances(models, Linea.distance, Layers.parse(Linea.layers))
    assert models.ids[far[models.ids.index("1")].argsort()[1]] == "7"
    result = predict(models)
    assert result.graph == ModelGraph({"5": (), "2": ("5",), "7": ("5",), "1": ("2",), "4": ("2",), "3": ("7",)})
    assert result.confidence["2", "1"] > 0.9


@pytest.mark.parametrize("own", [0.05, 0.1])
def test_siblings_nearer_to_each_other_than_to_their_parent_stay_siblings(write_models, own):
    generator = torch.Generator().manual_seed(0)
    names = [f"layers.{layer}.mlp.fc1.weight" for layer in range(16)]

    def draw(size):
        return {name: size * torch.randn(48, 48, generator=generator) for name in names}

    def add(*parts):
        return {name: sum(part[name] for part in parts) for name in names}

    held = {"5": {name: torch.randn(48, 48, generator=generator) ** 3 for name in names}}
    truth = {"5": ()}
    for parent, family in (("5", "264"), ("2", "071"), ("4", "389")):
        learned_alike = draw(0.2)
        for node in family:
            held[node] = add(held[parent], learned_alike, draw(own))
            truth[node] = (parent,)
    models = write_models(held)
    far = distances(models, Linea.distance, Layers.parse(Linea.layers))
    assert all(models.ids[far[models.ids.index(node)].argsort()[1]] not in truth[node] for node in truth)
    result = predict(models)
    assert result.graph == ModelGraph(truth)
    assert min(result.confidence.values()) > 0.9


@pytest.mark.parametrize("seed", range(20))
def test_from_any_tree_with_the_true_root_every_model_moves_to_its_parent(seed):
    rng = np.random.default_rng(seed)
    truth = {node: int(rng.integers(node)) for node in range(1, 14)}
    start = [
        (int(order[rng.integers(place)]), int(order[place]))
        for order in [[0, *(1 + rng.permutation(13))]]
        for place in range(1, 14)
    ]

    def ancestors(node):
        return [node, *ancestors(truth[node])] if node else [0]

    def lacks(triples):
        return [0.0 if parent in ancestors(child) else 2.0 for child, parent, _ in triples]

    far = np.array([[len({*ancestors(one)} ^ {*ancestors(other)}) ** 0.5 for other in range(14)] for one in range(14)])
    parents, violations = reassign(start, far, lacks, max_siblings=8)
    assert parents == truth
    assert set(violations.values()) == {0.0}
