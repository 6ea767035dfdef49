"""Claim 5: subgraphs of three models, solved by distance and direction score alone."""

import sys
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from tqdm import tqdm

from mothr.baselines.methods.mother import MOTHER_V2
from mothr.baselines.parts.arborescence import arborescence
from mothr.baselines.parts.directions import DIRECTIONS
from mothr.baselines.parts.distances import distances, replace_infinite
from mothr.baselines.studies.claims.runs import compared_name, published_records
from mothr.baselines.studies.claims.settings import ClaimSettings
from mothr.baselines.studies.datasets import OpenedDataset, defined_pair_scores
from mothr.baselines.studies.measurements import Measurement
from mothr.benchmark.graph import NodeId
from mothr.benchmark.side_information import SideInformation
from mothr.benchmark.weights.combine import Array
from mothr.benchmark.weights.layers import Layers

TripleWithParents = tuple[list[int], list[int]]
"""Positions of three models in the data set, sorted, and the index in the triple of each one's parent; -1 for none."""


def triples_solved(data: OpenedDataset, settings: ClaimSettings) -> list[Measurement]:
    """Returns the share of triples of each tree whose two edges MoTHer recovers from the three models alone.

    Each triple is solved as one tree: the minimum directed spanning tree of distance and direction. ``motif_accuracy`` is the
    metric of that name on predictions of whole trees.
    """
    rng = np.random.default_rng(0)
    drawn = _drawn_triples(data, settings.max_triples, rng)
    if not drawn:
        return []
    return _solved(data, settings, drawn, rng) + _motif_accuracy(data, settings)


def _drawn_triples(
    data: OpenedDataset, most: int, rng: np.random.Generator
) -> list[tuple[int, str, list[TripleWithParents]]]:
    """Returns (tree, kind of triple, triples), with at most ``most`` triples of each kind drawn from each tree."""
    drawn = []
    for tree, nodes in enumerate(data.graph.trees):
        for kind, triples in connected_triples(data, sorted(nodes)).items():
            chosen = rng.permutation(len(triples))[:most].tolist()
            if chosen:
                drawn.append((tree, kind, [in_model_order(data, triples[index]) for index in chosen]))
    return drawn


def connected_triples(data: OpenedDataset, nodes: Sequence[NodeId]) -> dict[str, list[tuple[NodeId, NodeId, NodeId]]]:
    """Returns the triples of a tree that have exactly two edges, by kind: chains, and a parent with two children."""
    parents = data.graph.parents
    chains = [
        (grandparent, parent, child)
        for child in nodes
        for parent in parents[child]
        for grandparent in parents[parent]
        if grandparent not in parents[child]
    ]
    forks = [
        (parent, *children)
        for parent in nodes
        for children in combinations(data.graph.children(parent), 2)
        if children[0] not in parents[children[1]] and children[1] not in parents[children[0]]
    ]
    return {"grandparent, parent, child": chains, "parent and two children": forks}


def in_model_order(data: OpenedDataset, triple: Sequence[NodeId]) -> TripleWithParents:
    """Returns the triple in the order of the data set's models, so that ties are not broken in favour of the truth."""
    nodes = sorted(triple, key=lambda node: data.position[node])
    parents = [[nodes.index(parent) for parent in data.graph.parents[node] if parent in triple] for node in nodes]
    return [data.position[node] for node in nodes], [indices[0] if indices else -1 for indices in parents]


def _solved(
    data: OpenedDataset,
    settings: ClaimSettings,
    drawn: Sequence[tuple[int, str, Sequence[TripleWithParents]]],
    rng: np.random.Generator,
) -> list[Measurement]:
    """Returns the share of solved triples for each tree, kind of triple and direction score that is defined."""
    layers, measurements = Layers.parse(settings.layers), []
    models = data.models.with_given(SideInformation(truth=data.graph))
    matrix = replace_infinite(distances(models, settings.distance, layers))
    pairs = np.array(
        sorted({pair for *_, triples in drawn for triple, _ in triples for pair in combinations(triple, 2)})
    )
    for name in tqdm(DIRECTIONS, desc=f"{data.truth.split}, triples", unit="score", file=sys.stderr):
        scores = defined_pair_scores(models, name, pairs, layers, rng)
        if scores is None:
            continue
        evidence = np.zeros_like(matrix)
        evidence[pairs[:, 0], pairs[:, 1]] = scores
        evidence -= evidence.T
        for tree, kind, triples in drawn:
            solved = [
                solve(matrix[np.ix_(triple, triple)], evidence[np.ix_(triple, triple)]) == parents
                for triple, parents in triples
            ]
            share = float(np.mean(solved))
            measurements.append(
                data.measurement(
                    tree, "triples_solved", share, panel=kind, series=data.kinds(tree), x=name, items=len(solved)
                )
            )
    return measurements


def solve(distance: Array, evidence: Array) -> list[int]:
    """Returns the parent of each model, -1 for the root, by MoTHer's rule with the published weight of the direction.

    Args:
        distance: Distances between the models, (n, n).
        evidence: Direction evidence, (n, n), antisymmetric; positive at [i, j] if i is the likelier parent of j.
    """
    cost = distance + MOTHER_V2.lambda_ * distance.mean() * (evidence < 0)
    parents: list[int] = arborescence(cost).tolist()
    return parents


def _motif_accuracy(data: OpenedDataset, settings: ClaimSettings) -> list[Measurement]:
    """Returns the motif accuracy of each method's prediction on each whole tree."""
    measurements = []
    for record in published_records(data, settings):
        for tree, scores in enumerate(record.per_tree):
            accuracy = scores["motif_accuracy"]
            if accuracy is not None:
                kinds, name = data.kinds(tree), compared_name(record)
                measurements.append(
                    data.measurement(tree, "motif_accuracy", accuracy, panel="whole trees", series=kinds, x=name)
                )
    return measurements
