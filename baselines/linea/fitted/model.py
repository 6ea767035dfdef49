"""The fitted model: from the statistics of the models of one tree to a probability distribution over rooted forests.

The score of an edge s -> c is a weighted sum of its features, and so is the score of a root. There are two rounds. The first
one uses statistics of pairs. Its distribution says which parent each candidate may have. The second round adds statistics
of triples, averaged over these parents. ``mothr fit-linea`` fits the weights and writes ``model.toml``.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from mothr.baselines.linea.fitted.distribution import ForestDistribution
from mothr.baselines.linea.fitted.features import Features, expected_features, pair_features, root_features
from mothr.baselines.linea.fitted.measure import Evidence
from mothr.benchmark.weights.combine import Array

FILE = Path(__file__).with_name("model.toml")


@dataclass(frozen=True)
class Weights:
    """The weights of one round; a feature without a weight is not used."""

    edges: Mapping[str, float]
    """Weight of each feature of an edge."""
    roots: Mapping[str, float]
    """Weight of each feature of a root."""

    def distribution(self, evidence: Evidence, edges: Features, roots: Features) -> ForestDistribution:
        """Returns the distribution over forests for features of candidates, (n, k) each, and of roots, (n,) each."""
        return distribution_of(evidence, _weighted(edges, self.edges), _weighted(roots, self.roots))


@dataclass(frozen=True)
class ForestModel:
    """A fitted model of two rounds."""

    fitted_on: tuple[str, ...]
    """Names of the splits that the weights were fitted on."""
    first: Weights
    """The round that uses statistics of pairs."""
    second: Weights
    """The round that uses statistics of triples, too."""

    @classmethod
    def read(cls, path: Path) -> "ForestModel":
        """Returns the model in the file ``path``, which ``mothr fit-linea`` has written."""
        value = tomllib.loads(path.read_text(encoding="utf-8"))
        return cls(tuple(value["fitted_on"]), Weights(**value["first"]), Weights(**value["second"]))

    def distribution(self, evidence: Evidence) -> ForestDistribution:
        """Returns the distribution over the rooted forests of the models that ``evidence`` was measured on."""
        pairs, roots = pair_features(evidence), root_features(evidence)
        edge_probability, root_probability = self.first.distribution(evidence, pairs, roots).probabilities
        expected = expected_features(evidence, edge_probability, root_probability)
        return self.second.distribution(evidence, pairs | expected, roots)


def distribution_of(evidence: Evidence, edges: Array, roots: Array) -> ForestDistribution:
    """Returns the distribution over forests for scores of candidates, (n, k), and of roots, (n,). Other edges are impossible."""
    matrix = evidence.candidates.matrix(edges, -np.inf)
    allowed = np.isfinite(matrix)
    distribution = ForestDistribution.from_scores(np.where(allowed, matrix, edges.min(initial=0.0)), roots)
    return distribution.restricted(allowed, np.ones(len(roots), dtype=bool))


def _weighted(features: Features, weights: Mapping[str, float]) -> Array:
    """Returns the weighted sum of the features that have a weight."""
    total: Array = np.sum([weight * features[name] for name, weight in weights.items()], axis=0)
    return total + np.zeros_like(next(iter(features.values())))


@cache
def fitted() -> ForestModel:
    """Returns the model that is part of this package."""
    return ForestModel.read(FILE)
