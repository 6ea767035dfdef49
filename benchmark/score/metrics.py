"""The table of metrics, and the functions that score a prediction against the truth.

A metric is a pure function of two Model Graphs or of two predictions. It ranges over the nodes of the truth;
see :mod:`mothr.benchmark.score.edges` for the conventions. To add a metric, write one function and add one
entry to ``METRICS``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.score.confidence import adjacency_ap, aurc, brier, direction_auroc, ece
from mothr.benchmark.score.edges import (
    ancestor_f1,
    direction_accuracy,
    edge_accuracy,
    edge_f1,
    edge_precision,
    edge_recall,
    false_parent_rate,
    parent_hops,
    root_accuracy,
    root_precision,
    root_recall,
    shd,
    undirected_f1,
)
from mothr.benchmark.score.motifs import motif_accuracy
from mothr.benchmark.score.partitions import adjusted_mutual_information, adjusted_rand, tree_count_error
from mothr.benchmark.score.relations import relation_f1

GraphOrPrediction = ModelGraph | Prediction
"""A graph stands for a prediction without confidence, abstentions and relations. The truth is given in the same way."""
SIMULATED = "depends on the truth; 'mothr score' simulates it, and the null methods show it"
"""The chance level of metrics for which no single number is known."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: a column of the board."""

    name: str
    """The name in result files."""
    function: Callable[[Any, Any], float | None]
    """(truth, predicted) -> value, None if undefined. ``inputs`` defines the type of both arguments."""
    low: float
    """The smallest possible value."""
    high: float
    """The largest possible value; infinite if it grows with the graph."""
    better: Literal["higher", "lower"]
    """Which direction is better."""
    chance: float | str
    """The score of random predictions, or why it is not one number; see :mod:`mothr.benchmark.score.chance`."""
    answers: str
    """The question that the metric answers."""
    per_tree: bool = True
    """Whether the metric is also defined for a single Model Tree."""
    inputs: Literal["graphs", "predictions"] = "graphs"
    """Whether the function takes two graphs, or two predictions with confidence, abstentions and relations."""

    def value(self, truth: Prediction, predicted: Prediction) -> float | None:
        """Returns the metric of ``predicted``; None if it is undefined."""
        if self.inputs == "graphs":
            return self.function(truth.graph, predicted.graph)
        return self.function(truth, predicted)


def _table(*metrics: Metric) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


# One line a metric: formatting would spread each over ten lines.
# fmt: off
METRICS: dict[str, Metric] = _table(
    Metric("edge_precision", edge_precision, 0, 1, "higher", SIMULATED, "How many of the predicted parents are correct?"),
    Metric("edge_recall", edge_recall, 0, 1, "higher", SIMULATED, "How many of the true parents are predicted?"),
    Metric("edge_f1", edge_f1, 0, 1, "higher", SIMULATED, "Who is my parent?"),
    Metric("edge_accuracy", edge_accuracy, 0, 1, "higher", SIMULATED, "Who is my parent, as MoTHer counts it (= recall)?"),
    Metric("ancestor_f1", ancestor_f1, 0, 1, "higher", SIMULATED, "Which models do I descend from, and so whose licence?"),
    Metric("root_accuracy", root_accuracy, 0, 1, "higher", SIMULATED, "Which root do I descend from?"),
    Metric("root_precision", root_precision, 0, 1, "higher", SIMULATED, "How many of the predicted roots are roots?"),
    Metric("root_recall", root_recall, 0, 1, "higher", SIMULATED, "How many of the roots are predicted as roots?"),
    Metric("direction_accuracy", direction_accuracy, 0, 1, "higher", 0.5, "Which of two related models is the parent?"),
    Metric("undirected_f1", undirected_f1, 0, 1, "higher", SIMULATED, "Which models are directly related?"),
    Metric("motif_accuracy", motif_accuracy, 0, 1, "higher", SIMULATED, "Are the subgraphs of three models correct?"),
    Metric("shd", shd, 0, math.inf, "lower", SIMULATED, "How many edges must be added, removed or reversed?"),
    Metric("parent_hops", parent_hops, 0, math.inf, "lower", SIMULATED, "How far is the predicted parent from the true one?"),
    Metric("adjusted_rand", adjusted_rand, -0.5, 1, "higher", 0.0, "Is the partition into trees correct, by pairs?", False),
    Metric(
        "adjusted_mutual_information", adjusted_mutual_information, -1, 1, "higher", 0.0,
        "Is the partition into trees correct, by mutual information?", False,
    ),
    Metric("tree_count_error", tree_count_error, 0, math.inf, "lower", SIMULATED, "Is the number of trees correct?", False),
    Metric("false_parent_rate", false_parent_rate, 0, 1, "lower", SIMULATED, "How often does a root get a parent?"),
    Metric("relation_f1", relation_f1, 0, 1, "higher", SIMULATED, "Are the predicted relations correct?", inputs="predictions"),
    Metric(
        "direction_auroc", direction_auroc, 0, 1, "higher", 0.5,
        "Does the confidence separate parent from child?", inputs="predictions",
    ),
    Metric(
        "adjacency_ap", adjacency_ap, 0, 1, "higher", SIMULATED,
        "Are the pairs of highest confidence directly related?", inputs="predictions",
    ),
    Metric("brier", brier, 0, 1, "lower", 0.25, "How far are the probabilities from the truth?", inputs="predictions"),
    Metric("ece", ece, 0, 1, "lower", SIMULATED, "Are 93 of 100 edges with confidence 0.93 correct?", inputs="predictions"),
    Metric("aurc", aurc, 0, 1, "lower", SIMULATED, "Are the edges of highest confidence correct?", inputs="predictions"),
)
# fmt: on


def catalogue() -> list[dict[str, str]]:
    """Returns one row of text for each metric, for ``mothr list metrics``."""
    return [
        {
            "name": metric.name,
            "range": f"[{metric.low:g}, {metric.high:g}{']' if math.isfinite(metric.high) else ')'}",
            "better": metric.better,
            "chance": metric.chance if isinstance(metric.chance, str) else f"{metric.chance:g}",
            "answers": metric.answers,
        }
        for metric in METRICS.values()
    ]


def score(truth: GraphOrPrediction, predicted: GraphOrPrediction) -> dict[str, float | None]:
    """Returns the value of every metric; None if a metric is undefined.

    Raises:
        MothrError: A node of ``truth`` is missing from ``predicted``.
    """
    truth, predicted = _as_prediction(truth), _as_prediction(predicted)
    _check_nodes(truth.graph, predicted.graph)
    return {name: metric.value(truth, predicted) for name, metric in METRICS.items()}


def per_tree(truth: GraphOrPrediction, predicted: GraphOrPrediction) -> list[dict[str, float | None]]:
    """Returns one row for each true Model Tree: its position in ``truth.trees`` as ``tree``, and its metrics.

    Raises:
        MothrError: A node of ``truth`` is missing from ``predicted``.
    """
    truth, predicted = _as_prediction(truth), _as_prediction(predicted)
    _check_nodes(truth.graph, predicted.graph)
    rows = []
    for position, tree in enumerate(truth.graph.tree_graphs):
        relations = {node: kind for node, kind in (truth.relations or {}).items() if node in tree.parents}
        tree_truth = Prediction(tree, relations=relations)
        values = {name: metric.value(tree_truth, predicted) for name, metric in METRICS.items() if metric.per_tree}
        rows.append({"tree": position, **values})
    return rows


def _as_prediction(value: GraphOrPrediction) -> Prediction:
    return Prediction(value) if isinstance(value, ModelGraph) else value


def _check_nodes(truth: ModelGraph, predicted: ModelGraph) -> None:
    missing = [node for node in truth.nodes if node not in predicted.parents]
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise MothrError(
            f"the prediction lacks {len(missing)} of the {len(truth.nodes)} models: {shown}; name every model"
        )
