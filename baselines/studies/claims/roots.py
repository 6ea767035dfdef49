"""The question how MoTHer's kurtosis depends on the root: its own kurtosis, its initialisation, and the weights that are left."""

from collections.abc import Sequence

import numpy as np

from mothr.baselines.studies.claims.published import runs_by_tree
from mothr.baselines.studies.claims.recovery import edge_accuracy
from mothr.baselines.studies.claims.settings import ClaimSettings
from mothr.baselines.studies.datasets import OpenedDataset, defined_pair_scores
from mothr.baselines.studies.measurements import Measurement
from mothr.baselines.studies.roots import INITIAL_SHARE_LIMITS, KURTOSIS_LIMITS, interval_name
from mothr.benchmark.weights.layers import Layers

UNRECORDED = "unrecorded"
"""Name of an initialisation that the truth does not record."""
EDGE_BY_EDGE, WHOLE_TREES = "each edge alone", "whole trees, as published"
"""Panels: a score decides each true edge, or MoTHer as published solves the tree."""


def by_root(data: OpenedDataset, settings: ClaimSettings) -> list[Measurement]:
    """Returns the accuracy of direction scores by the root, for each tree whose root is in the data set.

    ``root_kurtosis`` is the root's own kurtosis. ``direction_by_root`` is the share of true edges that a score directs
    right, each edge alone, on the settings' layers. ``accuracy_by_root`` is the edge accuracy of MoTHer as published with
    this score, and of Linea, on the same trees. ``accuracy_by_init`` and ``accuracy_by_share_left`` are the same by the
    root's initialisation, and by the share of its initial weights that weight decay has left.
    """
    classes = {
        tree: interval_name(fields["root_kurtosis"], KURTOSIS_LIMITS)
        for tree, fields in enumerate(data.root_fields)
        if fields["root_kurtosis"] is not None and data.edges[tree]
    }
    if not classes:
        return []
    measurements = []
    for tree in classes:
        fields = data.root_fields[tree]
        init = fields["init"] or UNRECORDED
        measurements.append(
            data.measurement(tree, "root_kurtosis", fields["root_kurtosis"], series=data.kinds(tree), x=init)
        )
    for tree, name, share in _directed_right(data, settings):
        if tree in classes:
            items = len(data.edges[tree])
            measurements.append(
                data.measurement(
                    tree, "direction_by_root", share, panel=EDGE_BY_EDGE, series=name, x=classes[tree], items=items
                )
            )
    return measurements + _of_whole_trees(data, settings, classes)


def _directed_right(data: OpenedDataset, settings: ClaimSettings) -> list[tuple[int, str, float]]:
    """Returns (tree, score, share of the tree's edges on which the score is right); an undecided edge counts one half."""
    pairs = np.array([[data.position[node] for node in edge] for edges in data.edges for edge in edges])
    ends = np.cumsum([len(edges) for edges in data.edges])
    shares = []
    for name in settings.directions:
        scores = defined_pair_scores(data.models, name, pairs, Layers.parse(settings.layers))
        if scores is None:
            continue
        right = np.split((np.sign(scores) + 1) / 2, ends[:-1])
        shares += [(tree, name, float(values.mean())) for tree, values in enumerate(right) if len(values)]
    return shares


def _of_whole_trees(data: OpenedDataset, settings: ClaimSettings, classes: dict[int, str]) -> list[Measurement]:
    measurements = []
    for tree, run in runs_by_tree(data, settings):
        if tree not in classes:
            continue
        accuracy, fields = edge_accuracy(run.record, data.edges[tree]), data.root_fields[tree]
        groups = {"accuracy_by_root": classes[tree], "accuracy_by_init": fields["init"] or UNRECORDED}
        if fields["root_initial_share"] is not None:
            groups["accuracy_by_share_left"] = interval_name(fields["root_initial_share"], INITIAL_SHARE_LIMITS)
        items = len(data.edges[tree])
        measurements += [
            data.measurement(tree, measure, accuracy, panel=WHOLE_TREES, series=run.series, x=group, items=items)
            for measure, group in groups.items()
        ]
    return measurements


def ties(data: OpenedDataset, settings: ClaimSettings) -> Sequence[Measurement]:
    """Returns how many rootings of MoTHer's tree cost the least, and the edge accuracy averaged over them.

    ``optimal_rootings`` is their number in each tree, ``tied`` says whether there are several, and ``accuracy_with_ties``
    is the edge accuracy of the prediction, and its mean over all optimal rootings.
    """
    measurements = []
    for tree, run in runs_by_tree(data, settings):
        if run.ties is None:
            continue
        tied, items = run.ties[tree], len(data.edges[tree])
        values = [
            ("optimal_rootings", data.kinds(tree), float(tied.rootings), 1),
            ("tied", data.kinds(tree), float(tied.rootings > 1), 1),
            ("accuracy_with_ties", "as predicted", edge_accuracy(run.record, data.edges[tree]), items),
        ]
        if tied.edge_accuracy is not None:
            values.append(("accuracy_with_ties", "mean over optimal rootings", tied.edge_accuracy, items))
        measurements += [
            data.measurement(tree, measure, value, series=series, x=run.series, items=count)
            for measure, series, value, count in values
        ]
    return measurements
