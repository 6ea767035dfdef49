"""Rootings of MoTHer that tie: how many trees of least cost there are, and the edge accuracy averaged over them.

MoTHer charges the same for every edge against the direction score. So two roots can cost the same, and which of them is
predicted depends on the order of the models. The mean over all optimal rootings does not.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mothr.baselines.methods.mother import MoTHer
from mothr.baselines.studies.datasets import OpenedDataset
from mothr.benchmark.errors import MothrWarning
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.records.record import RunRecord
from mothr.benchmark.run.execute import Source
from mothr.benchmark.run.in_process import predict_as_named
from mothr.benchmark.run.method import about
from mothr.benchmark.weights.model_set import ModelSet


@dataclass(frozen=True, slots=True)
class TreeTies:
    """The optimal rootings of one true Model Tree."""

    rootings: int
    """Number of predictions of least cost that differ in a root: the product over the predicted trees that share a model with
    the true tree. 1 means that nothing ties."""
    edge_accuracy: float | None
    """Share of the true edges that a prediction contains, mean over these predictions; None if the tree has no edge."""


def tree_ties(method: MoTHer, models: ModelSet, truth: ModelGraph, seed: int = 0) -> list[TreeTies]:
    """Returns the ties of each of ``truth.trees``.

    Args:
        method: The method.
        models: The models, with the side information that the method needs.
        truth: The true Model Graph of these models; it is only used to score.
        seed: Number of the run, from which the coins of the direction ``random`` follow, as in the run itself.

    Raises:
        MothrError: The method fails on these models.
    """
    parts = _rootings(method, models, seed)
    rootings_of = {node: rootings for rootings in parts for node in rootings[0].nodes}
    ties = []
    for tree in truth.tree_graphs:
        overlapping = {id(rootings_of[node]): rootings_of[node] for node in tree.nodes}
        shares = [
            np.mean([parent in rooting.parents[child] for rooting in rootings_of[child]])
            for parent, child in tree.edges
        ]
        count = math.prod(len(rootings) for rootings in overlapping.values())
        ties.append(TreeTies(count, float(np.mean(shares)) if shares else None))
    return ties


def record_ties(record: RunRecord, data: OpenedDataset) -> list[TreeTies] | None:
    """Returns the ties of each tree for a run of MoTHer on a data set; None if the run failed.

    Args:
        record: Record of a run of :class:`mothr.baselines.methods.mother.MoTHer` with any parameters.
        data: The data set of the run.
    """
    if record.status != "ok":
        return None
    method = MoTHer(**record.parameters)
    source = Source(data.folder, data.truth, data.models)
    given = source.given(record.method, about(method, record.method), record.setting)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MothrWarning)  # the run itself has shown these warnings
        return tree_ties(method, data.models.with_given(given), data.graph, record.seed)


def _rootings(method: MoTHer, models: ModelSet, seed: int) -> Sequence[Sequence[ModelGraph]]:
    """Returns the optimal rootings of each predicted tree, with the random generator that a run with this seed has."""
    parts: list[list[ModelGraph]] = []

    def first_rooting(models: ModelSet, rng: np.random.Generator) -> Prediction:
        parts.extend(method.rootings(models, rng))
        return Prediction(ModelGraph({node: of for part in parts for node, of in part[0].parents.items()}))

    predict_as_named(first_rooting, models, seed)
    return parts
