"""Claims that are measured on predictions: 6 (clustering), 7 (robustness) and the curves.

When models are missing, the truth is that of the remaining models: the parent of each is its nearest remaining ancestor.
"""

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.sparse.csgraph import connected_components
from sklearn.metrics import adjusted_rand_score
from tqdm import tqdm

from mothr.baselines.parts.clustering import largest_gap, ward
from mothr.baselines.parts.distances import distances
from mothr.baselines.studies import ablation
from mothr.baselines.studies.claims.runs import (
    COMPARED_METHOD,
    compared_name,
    compared_requests,
    published_records,
    records,
    warn_if_failed,
)
from mothr.baselines.studies.claims.settings import ClaimSettings
from mothr.baselines.studies.datasets import TRANSFORM_SETTINGS, OpenedDataset
from mothr.baselines.studies.measurements import Measurement
from mothr.benchmark.errors import MothrWarning
from mothr.benchmark.graph import Edge
from mothr.benchmark.records.record import RunRecord
from mothr.benchmark.weights.layers import Layers

SIBLING_CLASSES = (
    (0.5, "below 0.5"), (0.9, "0.5 to 0.9"), (1.2, "0.9 to 1.2"), (1.6, "1.2 to 1.6"), (np.inf, "above 1.6"),
)  # fmt: skip
"""(upper limit, name) of each class of children, by d(child, nearest sibling) / d(child, parent)."""
PRECISIONS = ("float16", "bfloat16", "int8", "int4")
"""Order of the precisions in a figure."""
EdgeValue = Callable[[Edge], float | str | None]
"""Returns the value by which an edge is grouped; None if the edge belongs to no group."""


def edge_accuracy(record: RunRecord, edges: Sequence[Edge]) -> float:
    """Returns the share of ``edges`` that the record's prediction contains; 0 for a failed run."""
    predicted = record.parents or {}
    return float(np.mean([parent in predicted.get(child, ()) for parent, child in edges]))


def model_subsets(data: OpenedDataset, settings: ClaimSettings) -> Iterator[tuple[float, int, list[int]]]:
    """Yields random subsets of at least two models, at each share of ``settings.kept_shares``.

    Yields:
        The share, the number of the draw, and the sorted positions of the models in the subset.
    """
    n = len(data.models)
    for share in settings.kept_shares:
        for draw in range(1 if share == 1 else settings.seeds):
            remaining_indices = sorted(np.random.default_rng(draw).permutation(n)[: round(share * n)].tolist())
            if len(remaining_indices) >= 2:
                yield share, draw, remaining_indices


def clustering(data: OpenedDataset, settings: ClaimSettings) -> list[Measurement]:
    """Claim 6: returns the adjusted Rand index of clusterings of random subsets of the models, against the Model Trees."""
    if len(data.graph.trees) < 2:
        return []
    layers, measurements = Layers.parse(settings.layers), []
    labels = np.array([data.tree_of[node] for node in data.models.ids])
    mean_abs, cosine = (distances(data.models, name, layers) for name in ("mean_abs", "cosine"))
    threshold = settings.relatedness_threshold
    for share, draw, remaining_indices in model_subsets(data, settings):
        subset, true = np.ix_(remaining_indices, remaining_indices), labels[remaining_indices]
        clusterings = {
            "Ward, number of trees told": ward(mean_abs[subset], len(set(true.tolist()))),
            "Ward, largest gap": largest_gap(mean_abs[subset]),
            f"cosine above {threshold:g}": connected_components(cosine[subset] < 1 - threshold, directed=False)[1],
        }
        for name, predicted in clusterings.items():
            score = float(adjusted_rand_score(true, predicted))
            measurement = data.measurement(0, "adjusted_rand", score, series=name, x=100 * share)
            measurements.append(measurement._replace(tree=-1, origin=f"{data.truth.split}, draw {draw}"))
    return measurements


def robustness(data: OpenedDataset, settings: ClaimSettings) -> list[Measurement]:
    """Claim 7: returns the edge accuracy with models missing, by direction score, and by the distance of the nearest sibling."""
    return (
        _with_models_missing(data, settings)
        + _by_direction_score(data, settings)
        + _by_sibling_distance(data, settings)
    )


def _with_models_missing(data: OpenedDataset, settings: ClaimSettings) -> list[Measurement]:
    measurements, methods = [], compared_requests(settings)
    runs = [(*subset, name) for subset in model_subsets(data, settings) for name in methods]
    for share, draw, remaining_indices, name in tqdm(
        runs, desc=f"{data.truth.split}, models missing", unit="run", file=sys.stderr
    ):
        remaining = data.subset(remaining_indices)
        if not remaining.graph.edges:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MothrWarning)  # the runs on all models have shown these warnings
            [record] = remaining.run([replace(methods[name], seed=draw)])
        warn_if_failed(record)
        by_tree: dict[int, list[Edge]] = {}
        for edge in remaining.graph.edges:
            by_tree.setdefault(data.tree_of[edge[1]], []).append(edge)
        for tree, edges in by_tree.items():
            accuracy = edge_accuracy(record, edges)
            measurements.append(
                data.measurement(tree, "accuracy_by_share", accuracy, series=name, x=100 * share, items=len(edges))
            )
    return measurements


def _by_direction_score(data: OpenedDataset, settings: ClaimSettings) -> list[Measurement]:
    measurements = []
    for record in published_records(data, settings):
        for tree, edges in enumerate(data.edges):
            if edges:
                accuracy, name = edge_accuracy(record, edges), compared_name(record)
                measurements.append(
                    data.measurement(
                        tree, "accuracy_by_score", accuracy, series=data.kinds(tree), x=name, items=len(edges)
                    )
                )
    return measurements


def _by_sibling_distance(data: OpenedDataset, settings: ClaimSettings) -> list[Measurement]:
    matrix = distances(data.models, settings.distance, Layers.parse(settings.layers))

    def sibling_class(edge: Edge) -> str | None:
        parent, child = data.position[edge[0]], data.position[edge[1]]
        siblings = [data.position[node] for node in data.graph.children(edge[0]) if node != edge[1]]
        if not siblings or not 0 < matrix[parent, child] < np.inf:
            return None
        ratio = matrix[child, siblings].min() / matrix[parent, child]
        return next(name for limit, name in SIBLING_CLASSES if ratio <= limit)

    order = [name for _, name in SIBLING_CLASSES]
    measurements = _grouped_accuracy(data, settings, "accuracy_by_sibling", sibling_class)
    return sorted(measurements, key=lambda measurement: order.index(str(measurement.x)))


def _grouped_accuracy(
    data: OpenedDataset, settings: ClaimSettings, measure: str, edge_value: EdgeValue
) -> Iterator[Measurement]:
    """Yields the edge accuracy of each compared method on the edges of each tree that share ``edge_value``."""
    names = (*settings.directions, *ablation.BOUNDS, COMPARED_METHOD)
    compared = [record for record in published_records(data, settings) if compared_name(record) in names]
    for tree, tree_edges in enumerate(data.edges):
        groups: dict[float | str, list[Edge]] = {}
        for edge in tree_edges:
            x = edge_value(edge)
            if x is not None:
                groups.setdefault(x, []).append(edge)
        for x, edges in groups.items():
            for record in compared:
                accuracy, name = edge_accuracy(record, edges), compared_name(record)
                yield data.measurement(tree, measure, accuracy, series=name, x=x, items=len(edges))


def curves(data: OpenedDataset, settings: ClaimSettings) -> list[Measurement]:
    """Returns the edge accuracy against the weight of the direction, and against how the child was made."""
    measurements = _by_lambda(data, settings)
    edge_values: Mapping[str, EdgeValue] = {
        "rank": lambda edge: _training_value(data, edge, "rank"),
        "steps": lambda edge: _training_value(data, edge, "steps"),
        "depth": lambda edge: float(data.graph.depth(edge[1])),
        "precision": lambda edge: _transform_value(data, edge, "quantized"),
        "pruning": lambda edge: _transform_value(data, edge, "pruned"),
        "noise": lambda edge: _transform_value(data, edge, "noised"),
    }
    for name, edge_value in edge_values.items():
        curve = list(_grouped_accuracy(data, settings, f"accuracy_by_{name}", edge_value))
        measurements += sorted(curve, key=lambda point: PRECISIONS.index(point.x) if point.x in PRECISIONS else 0)
    return measurements


def _by_lambda(data: OpenedDataset, settings: ClaimSettings) -> list[Measurement]:
    measurements = []
    for record in records(data, settings):
        name = compared_name(record)
        if record.method != ablation.METHOD or name not in (*settings.directions, *ablation.BOUNDS):
            continue
        weight = float(record.parameters["lambda_"])
        for tree, edges in enumerate(data.edges):
            if edges:
                accuracy = edge_accuracy(record, edges)
                measurements.append(
                    data.measurement(tree, "accuracy_by_lambda", accuracy, series=name, x=weight, items=len(edges))
                )
    return measurements


def _training_value(data: OpenedDataset, edge: Edge, field: str) -> float | None:
    value = data.training(edge).get(field)
    return None if value is None else float(value)


def _transform_value(data: OpenedDataset, edge: Edge, kind: str) -> float | str | None:
    """Returns the strength of the transform that made the child of ``edge``; None if the child is of another kind."""
    if data.kind(edge[1]) != kind:
        return None
    value: float | str | None = (data.truth.nodes[edge[1]].transform or {}).get(TRANSFORM_SETTINGS[kind])
    return value
