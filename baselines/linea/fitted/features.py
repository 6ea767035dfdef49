"""Features: the statistics in the form that a weighted sum needs, each bounded, so that no statistic decides alone.

A statistic x of pairs gives one feature max(1, r) tanh(x / r) for each scale r, and one of triples tanh(x / r). A weighted sum of
these is a monotone function of x if the weights are not negative. The features of triples are means over the parents g that the
candidate s may have.
"""

import numpy as np

from mothr.baselines.linea.fitted.measure import Evidence
from mothr.benchmark.weights.combine import Array

PAIR_SCALES = (0.03, 0.1, 0.3, 1.0, 3.0)
"""Scales of the statistics of pairs. Each is about three times the one before, over the range in which they differ."""
TRIPLE_SCALES = (0.05, 0.1, 0.3, 1.0, 3.0)
"""Scales of the statistics of triples."""
SIBLING_STATISTICS = ("update.mean", "update.kept")
"""Statistics of triples that also tell whether another child of the candidate is the better parent."""
ROOT_PROBABILITY = "candidate.is_root"
"""Feature of a candidate: the probability that it is a root."""

LEAST_CONDITION = 1e-3
"""Least probability of a condition. Below it, the condition contradicts the first distribution, which then tells little."""

Features = dict[str, Array]
"""Features by name: (n, k) for candidates, (n,) for roots."""


def pair_features(evidence: Evidence) -> Features:
    """Returns the features of each candidate, (n, k), from the statistics of pairs."""
    return {
        f"{name}/{scale:g}": _bounded(values, scale) for name, values in evidence.pairs.items() for scale in PAIR_SCALES
    }


def root_features(evidence: Evidence) -> Features:
    """Returns the features of each model as a root, (n,)."""
    n = len(evidence.candidates.parents)
    independence, nearest = evidence.pairs["direction.independence_z"], evidence.pairs["side.mean"]
    # Statistics of direction change their sign with the order of a pair: minus that of an edge into a model is that out of it.
    outward = {f"independence_z/{scale:g}": -np.tanh(independence / scale).mean(axis=1) for scale in (0.3, 3.0)}
    return {
        "constant": np.ones(n),
        **outward,
        "side.difference": -evidence.pairs["side.difference"].mean(axis=1),
        "side.least": nearest.min(axis=1),
        "central": evidence.central,
    }


def expected_features(evidence: Evidence, edges: Array, roots: Array) -> Features:
    """Returns the features of each candidate, (n, k), from the statistics of triples.

    The parent g of a candidate s is not known. So a feature of g -> s -> c is averaged over g, by the probability of g -> s
    under the condition that s is no child of c. The features ``siblings`` tell against s as the parent of c: they average over
    the children b of s how well s -> b -> c explains c.

    Args:
        evidence: The statistics.
        edges: Probability of each edge, (n, n) at [parent, child].
        roots: Probability of each root, (n,).
    """
    candidates = evidence.candidates
    of_candidate = candidates.of_pairs(edges)  # [c, i]: of s -> c
    of_grandparent = of_candidate[candidates.parents]  # [c, i, j]: of g -> s
    reverse = candidates.of_pairs(edges.T)  # [c, i]: of c -> s
    allowed = candidates.is_triple * of_grandparent
    conditional = allowed / np.maximum(1 - reverse, LEAST_CONDITION)[:, :, None]
    # s -> b -> c is the triple with g = s: its value belongs to the candidate g of c.
    c = np.broadcast_to(candidates.children[:, :, None], candidates.grandparents.shape)
    slot = candidates.slots[c, candidates.grandparents]
    counted = candidates.is_triple & (slot >= 0)
    features: Features = {}
    for name, values in evidence.triples.items():
        for scale in TRIPLE_SCALES:
            bounded = np.tanh(values / scale)
            features[f"{name}/{scale:g}"] = (conditional * bounded).sum(axis=2)
            if name in SIBLING_STATISTICS:
                against = np.zeros(of_candidate.shape)
                weight = of_grandparent * np.maximum(0, bounded)
                np.add.at(against, (c[counted], slot[counted]), weight[counted])
                features[f"siblings.{name}/{scale:g}"] = -against
    return features | {ROOT_PROBABILITY: roots[candidates.parents]}


def _bounded(values: Array, scale: float) -> Array:
    bounded: Array = max(1.0, scale) * np.tanh(values / scale)
    return bounded
