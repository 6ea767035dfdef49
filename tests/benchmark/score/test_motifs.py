"""The metric of motifs: against looking at every triple."""

from itertools import combinations

import numpy as np
import pytest

from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.score import motifs as metrics_motifs
from mothr.benchmark.score.motifs import MOTIFS, motif_accuracy


def drawn(rng, nodes, most):
    """Returns a graph of ``nodes`` in which each has up to ``most`` parents."""
    order = rng.permutation(nodes).tolist()
    counts = [rng.integers(min(most, place) + 1) for place in range(len(order))]
    return ModelGraph({node: tuple(rng.choice(order[:place], counts[place], replace=False).tolist()) if place else ()
                       for place, node in enumerate(order)})  # fmt: skip


def naive_motif(model, triple):
    """Returns what a person sees in the induced graph of three nodes, roles included."""
    edges = {(parent, child) for parent, child in model.edges if parent in triple and child in triple}
    if edges:
        return edges
    return {
        frozenset(pair) for pair in combinations(triple, 2) if set(model.parents[pair[0]]) & set(model.parents[pair[1]])
    }


def naive_class(model, triple):
    edges = [edge for edge in model.edges if set(edge) <= set(triple)]
    parents, children = {parent for parent, _ in edges}, {child for _, child in edges}
    if not edges:
        return "siblings" if naive_motif(model, triple) else "unrelated"
    if len(edges) == 2:
        return {1: "parent with two children"}.get(
            len(parents), "merge of two" if len(children) == 1 else "grandparent-parent-child"
        )
    return "shortcut" if len(edges) == 3 else "parent-child and a stranger"


@pytest.mark.parametrize("seed", range(100))
def test_motifs_agree_with_looking_at_every_triple(seed):
    rng = np.random.default_rng(seed)
    nodes = [f"n{place:02}" for place in range(rng.integers(0, 12))]
    truth, predicted = (drawn(rng, nodes, rng.choice([1, 3])) for _ in range(2))
    right = {motif: [] for motif in MOTIFS}
    for triple in combinations(truth.nodes, 3):
        right[naive_class(truth, triple)].append(naive_motif(truth, triple) == naive_motif(predicted, triple))
    shares = [sum(found) / len(found) for found in right.values() if found]
    assert motif_accuracy(truth, predicted) == (pytest.approx(sum(shares) / len(shares)) if shares else None)


def test_node_by_node_is_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    nodes = [f"n{place:02}" for place in range(30)]
    truth, predicted = drawn(rng, nodes, 2), drawn(rng, nodes, 2)
    together = motif_accuracy(truth, predicted)
    monkeypatch.setattr(metrics_motifs, "SMALL", 0)
    assert motif_accuracy(truth, predicted) == together
    assert 0 < together < 1


def test_models_below_one_stranger_are_siblings():
    predicted = ModelGraph({"stranger": (), "a": ("stranger",), "b": ("stranger",), "c": ()})
    assert motif_accuracy(ModelGraph(dict.fromkeys("abc", ())), predicted) == 0
