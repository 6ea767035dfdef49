"""Claims that are measured on the weights: 1 (distance), 2 and 3 (outliers in training), 4 (LoRA) and 8 (depth)."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import shortest_path
from scipy.stats import spearmanr

from mothr.baselines.parts.directions import statistic
from mothr.baselines.parts.distances import distances
from mothr.baselines.studies.claims.settings import ClaimSettings
from mothr.baselines.studies.datasets import OpenedDataset
from mothr.baselines.studies.measurements import Measurement
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import NodeId
from mothr.benchmark.run.outcome import RunRequest
from mothr.benchmark.weights.combine import Array
from mothr.benchmark.weights.layers import Layers

LAYER_KINDS = ("matrices", "query", "key", "value", "output", "fused", "mlp", "embedding", "conv")
"""Groups of tensors whose outliers are followed through training: presets of :class:`mothr.benchmark.weights.layers.Layers`."""
LORA_LAYERS = "value"
"""Tensors on which the distances of LoRA models are compared, as published."""
ALL_INITIALISATIONS = "all"
"""Name of the series that holds every training, whatever its initialisation."""


def _spearman(x: Sequence[float] | Array, measured: Array) -> float | None:
    """Returns Spearman's rank correlation; None if there are fewer than three pairs or one side is constant.

    Measured values that differ by less than one millionth of the largest are equal: the rounding of weights causes
    differences of that size.
    """
    values = np.asarray(measured)
    values = np.round(values / max(np.abs(values).max(initial=0), np.finfo(float).tiny), 6)
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(values) == 0:
        return None
    return float(spearmanr(x, values).statistic)


def _trees(data: OpenedDataset) -> Iterator[tuple[int, list[NodeId], list[int]]]:
    """Yields the index of each tree, its sorted nodes, and their positions in ``data.models``."""
    for tree, nodes in enumerate(data.graph.trees):
        ordered = sorted(nodes)
        yield tree, ordered, [data.position[node] for node in ordered]


def _shortest_paths(data: OpenedDataset, nodes: Sequence[NodeId]) -> tuple[Array, list[list[frozenset[str]]]]:
    """Returns, for all pairs of the n nodes of one tree, the number of edges between them and the kinds of these edges.

    Returns:
        The number of edges on a shortest undirected path, (n, n), and the set of kinds of the edges on one such path.
    """
    index = {node: position for position, node in enumerate(nodes)}
    edges = [(index[parent], index[child]) for child in nodes for parent in data.graph.parents[child]]
    kind_of = {frozenset(edge): data.kind(nodes[edge[1]]) for edge in edges}
    parents, children = zip(*edges, strict=True) if edges else ((), ())
    adjacency = coo_array((np.ones(len(edges)), (parents, children)), shape=(len(nodes), len(nodes))).tocsr()
    hops, predecessors = shortest_path(adjacency, directed=False, unweighted=True, return_predecessors=True)
    kinds = [[frozenset[str]()] * len(nodes) for _ in nodes]
    for start in range(len(nodes)):
        for end in np.argsort(hops[start], kind="stable").tolist()[1:]:
            previous = int(predecessors[start, end])
            kinds[start][end] = kinds[start][previous] | {kind_of[frozenset((previous, end))]}
    return hops, kinds


def distance_by_hops(data: OpenedDataset, settings: ClaimSettings) -> list[Measurement]:
    """Claim 1: returns the mean distance of two models by the number of edges between them, and their rank correlation.

    Distances are divided by the mean distance between parent and child in the tree. Each kind of edges is a series. Pairs
    whose path has edges of several kinds are the series "several kinds".
    """
    matrix, measurements = distances(data.models, settings.distance, Layers.parse(settings.layers)), []
    for tree, nodes, positions in _trees(data):
        hops, kinds = _shortest_paths(data, nodes)
        tree_matrix = matrix[np.ix_(positions, positions)]
        edge_lengths = tree_matrix[hops == 1]
        pairs = [(i, j) for i in range(len(nodes)) for j in range(i) if np.isfinite(tree_matrix[i, j])]
        if not pairs or not edge_lengths[np.isfinite(edge_lengths)].mean() > 0:
            continue
        unit = edge_lengths[np.isfinite(edge_lengths)].mean()
        series: dict[str, list[tuple[float, float]]] = {}
        for i, j in pairs:
            name = next(iter(kinds[i][j])) if len(kinds[i][j]) == 1 else "several kinds"
            series.setdefault(name, []).append((float(hops[i, j]), tree_matrix[i, j] / unit))
        for name, points in sorted(series.items()):
            x, y = np.array(points).T
            for hop in np.unique(x).tolist():
                values = y[x == hop]
                measurements.append(
                    data.measurement(tree, "distance", values.mean(), series=name, x=hop, items=len(values))
                )
            rho = _spearman(x, y)
            if rho is not None:
                measurements.append(
                    data.measurement(tree, "distance_spearman", rho, series=name, x=name, items=len(points))
                )
    return measurements


def _saved_trainings(data: OpenedDataset) -> Iterator[tuple[int, list[NodeId], list[float]]]:
    """Yields each training of which several checkpoints were saved.

    Yields:
        The index of the tree, the checkpoints from the start of the training on, and the optimizer steps of each.
    """
    checkpoints: dict[tuple[int, int], list[NodeId]] = {}
    for node, record in data.truth.nodes.items():
        training = record.training or {}
        if "seed" in training and "steps" in training and len(record.parents) == 1:
            checkpoints.setdefault((data.tree_of[node], training["seed"]), []).append(node)
    for (tree, _), nodes in checkpoints.items():
        steps = {node: float((data.truth.nodes[node].training or {})["steps"]) for node in nodes}
        chain = sorted(nodes, key=lambda node: steps[node])
        chain.insert(0, data.graph.parents[chain[0]][0])
        if len(chain) > 2 and all(data.graph.parents[child] == (parent,) for parent, child in pairwise(chain)):
            yield tree, chain, [0.0, *(steps[node] for node in chain[1:])]


def outliers_in_training(data: OpenedDataset, settings: ClaimSettings) -> list[Measurement]:
    """Claims 2 and 3: returns the excess kurtosis, summed over the tensors of each layer kind, along each saved training.

    The series is the initialisation of the tree's root. ``kurtosis_trend`` is the rank correlation of kurtosis and steps.
    """
    trainings = list(_saved_trainings(data))
    if not trainings:
        return []
    measurements = []
    for layers, kurtosis in _kurtosis_by_layers(data).items():
        for tree, chain, steps in trainings:
            kind, init = data.kind(chain[-1]), data.initialisations[tree] or "unrecorded"
            stage = "root training" if kind == "pretraining" else f"fine-tuning ({kind})"
            along = kurtosis[[data.position[node] for node in chain]]
            if np.isnan(along).any():
                continue
            measurements += [
                data.measurement(tree, "kurtosis", value, panel=f"{stage}: {layers}", series=init, x=step)
                for step, value in zip(steps, along, strict=True)
            ]
            rho = _spearman(steps, along)
            if layers == "matrices" and rho is not None:
                measurements += [
                    data.measurement(tree, "kurtosis_trend", rho, panel="matrices", series=name, x=stage)
                    for name in (init, ALL_INITIALISATIONS)
                ]
    return measurements


def _kurtosis_by_layers(data: OpenedDataset) -> dict[str, Array]:
    """Returns the summed excess kurtosis of each model, (n,), for each of :data:`LAYER_KINDS` that the family has."""
    kurtosis: dict[str, Array] = {}
    for layers in LAYER_KINDS:
        try:
            kurtosis[layers] = statistic(data.models, "kurtosis", Layers(layers), how="sum")
        except MothrError:  # this family has no such layers
            continue
    return kurtosis


def lora_rank_and_rms(data: OpenedDataset, settings: ClaimSettings) -> list[Measurement]:
    """Claim 4: returns, for the distances ``rank`` and ``rms`` on trees with LoRA edges, how well they recover the tree.

    ``skeleton_accuracy`` is the edge accuracy of the minimum spanning tree, directed away from the true root.
    ``skeleton_by_rank`` is the same for the edges of each LoRA rank. ``lora_spearman`` is the rank correlation of distance
    and number of edges between two models. Both distances use the tensors :data:`LORA_LAYERS`.
    """
    lora_trees = [
        tree for tree, edges in enumerate(data.edges) if any(data.kind(child) == "lora" for _, child in edges)
    ]
    measurements = []
    for name in ("rank", "rms") if lora_trees else ():
        matrix = distances(data.models, name, Layers(LORA_LAYERS))
        oracle = RunRequest("oracle-mst-root", {"distance": name, "layers": LORA_LAYERS}, "known-trees")
        [record] = data.run([oracle])
        for tree, nodes, positions in _trees(data):
            if tree not in lora_trees:
                continue
            edges, kinds = data.edges[tree], data.kinds(tree)
            correct = {edge: edge[0] in (record.parents or {}).get(edge[1], ()) for edge in edges}
            accuracy = float(np.mean(list(correct.values())))
            measurements.append(
                data.measurement(tree, "skeleton_accuracy", accuracy, series=kinds, x=name, items=len(edges))
            )
            hops, _ = _shortest_paths(data, nodes)
            pairs = np.triu_indices(len(nodes), 1)
            rho = _spearman(hops[pairs], matrix[np.ix_(positions, positions)][pairs])
            if rho is not None:
                measurements.append(
                    data.measurement(tree, "lora_spearman", rho, series=kinds, x=name, items=len(pairs[0]))
                )
            ranks = {edge: data.edge_fields(edge)["rank"] for edge in edges}
            for rank in sorted(set(ranks.values()) - {None}):
                values = [correct[edge] for edge in edges if ranks[edge] == rank]
                accuracy = float(np.mean(values))
                measurements.append(
                    data.measurement(tree, "skeleton_by_rank", accuracy, series=name, x=float(rank), items=len(values))
                )
    return measurements


def outliers_by_depth(data: OpenedDataset, settings: ClaimSettings) -> list[Measurement]:
    """Claim 8: returns the kurtosis of each tree's models by depth, and the rank correlation of kurtosis and depth.

    Kurtosis is standardised within the tree: the tree's mean is subtracted, and the result is divided by the tree's
    standard deviation.
    """
    kurtosis_of, measurements = statistic(data.models, "kurtosis", Layers.parse(settings.layers)), []
    for tree, nodes, positions in _trees(data):
        depth = np.array([data.graph.depth(node) for node in nodes], dtype=float)
        kurtosis = kurtosis_of[positions]
        rho = None if np.isnan(kurtosis).any() else _spearman(depth, kurtosis)
        if rho is None:
            continue
        kinds, standardised = data.kinds(tree), (kurtosis - kurtosis.mean()) / kurtosis.std()
        for level in np.unique(depth).tolist():
            values = standardised[depth == level]
            measurements.append(
                data.measurement(tree, "depth", values.mean(), series=kinds, x=level, items=len(values))
            )
        measurements.append(data.measurement(tree, "depth_spearman", rho, series=kinds, x=kinds, items=len(nodes)))
    return measurements
