"""The metric of motifs, compared with a simple computation on every triple of nodes."""

from itertools import combinations

import numpy as np
import pytest

from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.score import motifs as metrics_motifs
from mothr.benchmark.score.motifs import MOTIFS, motif_accuracy


def drawn(rng, nodes, most):
    """Returns a random graph of ``nodes``. Each node has up to ``most`` parents."""
    order = rng.permutation(nodes).tolist()
    counts = [rng.integers(min(most, index) + 1) for index in range(len(order))]
    return ModelGraph({node: tuple(rng.choice(order[:index], counts[index], replace=False).tolist()) if index else ()
                       for index, node in enumerate(order)})  # fmt: skip


def naive_motif(model, triple):
    """Returns the directed edges among three nodes; if there are none, the pairs that share a parent."""
    edges = {(parent, child) for parent, child in model.edges if parent in triple and child in triple}
    if edges:
        return edges
    return {
        frozenset(pair) for pair in combinations(triple, 2) if set(model.parents[pair[0]]) & set(model.parents[pair[1]])
    }


def naive_class(model, triple):
    """Returns the name of the motif of three nodes."""
    edges = [edge for edge in model.edges if set(edge) <= set(triple)]
    parents, children = {parent for parent, _ in edges}, {child for _, child in edges}
    if not edges:
        return "siblings" if naive_motif(model, triple) else "unrelated"
    if len(edges) == 2:
        return {1: "parent with two children"}.get(
            len(parents), "merge of two" if len(children) == 1 else "grandparent-parent-child"
        )
    return "shortcut" if len(edges) == 3 else "parent-child and an unrelated model"


@pytest.mark.parametrize("seed", range(100))
def test_the_metric_agrees_with_the_simple_computation(seed):
    rng = np.random.default_rng(seed)
    nodes = [f"n{index:02}" for index in range(rng.integers(0, 12))]
    truth, predicted = (drawn(rng, nodes, rng.choice([1, 3])) for _ in range(2))
    correct = {motif: [] for motif in MOTIFS}
    for triple in combinations(truth.nodes, 3):
        correct[naive_class(truth, triple)].append(naive_motif(truth, triple) == naive_motif(predicted, triple))
    shares = [sum(values) / len(values) for values in correct.values() if values]
    assert motif_accuracy(truth, predicted) == (pytest.approx(sum(shares) / len(shares)) if shares else None)


def test_triples_node_by_node_give_the_same_value(monkeypatch):
    rng = np.random.default_rng(0)
    nodes = [f"n{index:02}" for index in range(30)]
    truth, predicted = drawn(rng, nodes, 2), drawn(rng, nodes, 2)
    together = motif_accuracy(truth, predicted)
    monkeypatch.setattr(metrics_motifs, "MAX_CACHED_NODES", 0)
    assert motif_accuracy(truth, predicted) == together
    assert 0 < together < 1


def test_two_models_with_a_parent_outside_the_triple_are_siblings():
    predicted = ModelGraph({"p": (), "a": ("p",), "b": ("p",), "c": ()})
    assert motif_accuracy(ModelGraph(dict.fromkeys("abc", ())), predicted) == 0
