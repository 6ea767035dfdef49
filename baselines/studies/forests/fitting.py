"""Fits the weights of Linea's model by maximum likelihood with an L2 penalty.

The loss of a tree is -log P(the forest has the true parents), under the distribution of
:class:`mothr.baselines.linea.fitted.distribution.ForestDistribution`. Its gradient is the expected sum of each feature over all forests,
less that over the forests with the true parents. A weight of an edge feature is not negative, since every statistic is larger
the more it speaks for the edge. The weights of roots, and of ``candidate.is_root``, may have either sign.

The second round needs the edge probabilities of the first. On the trees that the first round was fitted on, these are too good.
So each tree gets them from a fit on other trees.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import tomli_w
from numpy.typing import NDArray
from scipy.optimize import minimize

from mothr.baselines.linea.fitted.distribution import ForestDistribution
from mothr.baselines.linea.fitted.features import ROOT_PROBABILITY, Features, expected_features
from mothr.baselines.linea.fitted.model import ForestModel, Weights, distribution_of
from mothr.baselines.studies.forests.examples import Example, folds
from mothr.benchmark.errors import MothrError
from mothr.benchmark.storage import write_text
from mothr.benchmark.weights.combine import Array

FOLDS = 4
"""Number of parts that the trees are divided into."""
PENALTIES = (0.3, 1.0, 3.0, 10.0)
"""L2 penalties to choose from."""
LEAST_PROBABILITY = 1e-9
"""A smaller probability of a true parent counts as this one, so that the mean log loss is finite."""
ROOT_PENALTY = 0.1
"""L2 penalty of the weights of roots, which are few."""
LEAST_WEIGHT = 1e-3
"""A smaller weight is left out of the file: a feature is at most 3, so it changes no odds by more than 0.3 %."""


def fit(found: Sequence[Example], penalty: float) -> ForestModel:
    """Returns the model fitted on ``found``.

    Args:
        found: Examples of at least two trees.
        penalty: L2 penalty of the weights of edges: 1 / (2 variance) of a Gaussian prior.

    Raises:
        MothrError: There are fewer than two trees.
    """
    if len({(item.split, item.tree) for item in found}) < 2:
        raise MothrError("the examples have fewer than two trees; name data sets with more trees")
    first = _fit_round(found, [item.pair_features for item in found], penalty)
    second_features: dict[int, Features] = {}
    for inside, outside in folds(found, FOLDS):
        weights = _fit_round(inside, [item.pair_features for item in inside], penalty, first)
        second_features |= {id(item): expected(item, weights) for item in outside}
    second = _fit_round(found, [item.pair_features | second_features[id(item)] for item in found], penalty, first)
    return ForestModel(tuple(sorted({item.split for item in found})), first, second)


def expected(item: Example, first: Weights) -> Features:
    """Returns the features of triples of an example, for the weights of the first round."""
    distribution = first.distribution(item.evidence, item.pair_features, item.root_features)
    return expected_features(item.evidence, *distribution.probabilities)


def _fit_round(
    found: Sequence[Example], features: Sequence[Features], penalty: float, start: Weights | None = None
) -> Weights:
    """Returns the weights of one round, given the features of each example; ``start`` has weights to begin with."""
    edge_names, root_names = list(features[0]), list(found[0].root_features)
    stacked = [
        (
            np.stack([values[name] for name in edge_names], axis=-1),
            np.stack([item.root_features[name] for name in root_names], axis=-1),
            item.evidence.candidates.matrix(item.edges.astype(np.float64), 0.0) > 0,
        )
        for item, values in zip(found, features, strict=True)
    ]
    penalties = np.array([penalty] * len(edge_names) + [ROOT_PENALTY] * len(root_names))

    def loss(weights: Array) -> tuple[float, Array]:
        of_edges, of_roots = weights[: len(edge_names)], weights[len(edge_names) :]
        total, gradient = float(penalties @ weights**2), 2 * penalties * weights
        for item, (edges, roots, allowed) in zip(found, stacked, strict=True):
            everything = distribution_of(item.evidence, edges @ of_edges, roots @ of_roots)
            right = everything.restricted(allowed, item.roots)
            total += everything.log_normaliser - right.log_normaliser
            edge_excess, root_excess = _excess(item, everything, right)
            gradient[: len(edge_names)] += np.einsum("ck,ckf->f", edge_excess, edges)
            gradient[len(edge_names) :] += root_excess @ roots
        return total, gradient

    bounds = [(None if name == ROOT_PROBABILITY else 0.0, None) for name in edge_names] + [(None, None)] * len(
        root_names
    )
    initial = {} if start is None else {**start.edges, **start.roots}
    begin = np.array([initial.get(name, 0.0) for name in [*edge_names, *root_names]])
    result = minimize(loss, begin, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500})
    weights = dict(zip([*edge_names, *root_names], result.x.tolist(), strict=True))
    return Weights({name: weights[name] for name in edge_names}, {name: weights[name] for name in root_names})


def _excess(item: Example, everything: ForestDistribution, right: ForestDistribution) -> tuple[Array, Array]:
    """Returns how much likelier an edge, (n, k), and a root, (n,), is among all forests than among the right ones."""
    (edges, roots), (right_edges, right_roots) = everything.probabilities, right.probabilities
    return item.evidence.candidates.of_pairs(edges - right_edges), roots - right_roots


def losses_left_out(found: Sequence[Example], penalties: Sequence[float]) -> dict[float, float]:
    """Returns {penalty: log loss}, each tree by a fit that left it out; see :func:`log_loss`."""
    losses = {}
    for penalty in penalties:
        parts = [(log_loss(fit(inside, penalty), outside), outside) for inside, outside in folds(found, FOLDS)]
        weights = [sum(_known(item).sum() for item in outside) for _, outside in parts]
        losses[penalty] = float(np.average([loss for loss, _ in parts], weights=weights))
    return losses


def _known(item: Example) -> NDArray[np.bool_]:
    """Returns whether the truth about each model of an example is known, (n,)."""
    known: NDArray[np.bool_] = ~(item.edges.all(axis=1) & item.roots)
    return known


def log_loss(model: ForestModel, found: Sequence[Example]) -> float:
    """Returns the mean over models of -log P(true parent), in nats. Models of which no truth is known are left out."""
    losses = []
    for item in found:
        edges, roots = model.distribution(item.evidence).probabilities
        right = (item.evidence.candidates.of_pairs(edges) * item.edges).sum(axis=1) + roots * item.roots
        losses += np.log(np.maximum(right[_known(item)], LEAST_PROBABILITY)).tolist()
    return -float(np.mean(losses))


def write(model: ForestModel, penalty: float, loss: float, path: Path) -> None:
    """Writes the model to ``path``, whole or not at all. Weights are rounded to four digits, and those near 0 are left out.

    Args:
        model: The model.
        penalty: The penalty that it was fitted with.
        loss: The log loss on trees left out.
        path: The file.

    Raises:
        MothrError: The file cannot be written.
    """
    about = {"fitted_on": list(model.fitted_on), "penalty": penalty, "log_loss_left_out": round(loss, 4)}
    value = about | {
        name: {
            part: {key: round(weight, 4) for key, weight in weights.items() if abs(weight) >= LEAST_WEIGHT}
            for part, weights in asdict(round_).items()
        }
        for name, round_ in (("first", model.first), ("second", model.second))
    }
    write_text(path, f"# Made by `mothr fit-linea`; see model.py for what it means.\n{tomli_w.dumps(value)}")
