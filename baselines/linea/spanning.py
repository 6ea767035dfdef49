"""The undirected tree of models that belong together, its direction evidence, and the roots that the evidence allows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mothr.baselines.linea.norm_growth import NormGrowth, norm_growth
from mothr.baselines.parts.checks import check_at_least
from mothr.baselines.parts.directions import pair_scores
from mothr.baselines.parts.distances import finite_distances, pair_distances
from mothr.baselines.parts.trees import Pair, root_evidence, shared_layers
from mothr.benchmark.weights.combine import Array
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.model_set import ModelSet

TIE = 1e-6
"""Largest distance between models that are equal in the chosen layers, as a fraction of the smallest other distance.

Such models differ in vectors only, as if biases alone were trained. Their order by distance is kept. Every value far below
1 gives the same tree: it only has to make these distances smaller than all others."""


@dataclass(frozen=True, slots=True)
class Root:
    """How the root of a tree is chosen."""

    half_weight_elements: int = 4096
    """Number of weights at which the direction score counts by half: it is multiplied by n / (n + this). Chance moves the
    score of few weights."""
    max_log_odds: float = 5.0
    """A root is a candidate if the log-odds against it, compared with the best root, are at most this."""
    max_candidates: int = 8
    """Most candidate roots whose trees are compared."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "half_weight_elements", "max_log_odds")
        check_at_least(self, 1, "max_candidates")

    def candidates(self, span: Sequence[Pair], evidence: Mapping[Pair, float], sharpness: float) -> list[int]:
        """Returns the candidate roots of the undirected tree ``span``, the best first.

        Args:
            span: The edges of one tree.
            evidence: For each edge (i, j) the evidence for i -> j.
            sharpness: Log-odds for each unit of evidence.
        """
        total = root_evidence(span, evidence)
        best_first = sorted(total, key=lambda node: -total[node])[: self.max_candidates]
        best = total[best_first[0]]
        return [node for node in best_first if sharpness * (best - total[node]) <= self.max_log_odds]


@dataclass(frozen=True)
class DirectionEvidence:
    """Direction evidence of pairs of models of one tree: the direction score and norm growth."""

    models: ModelSet
    """The models."""
    layers: Layers
    """The tensors that are compared."""
    distance: str
    """Distance that says which models are equal in these tensors."""
    direction: str
    """Direction score, a name of ``mothr list directions``."""
    root: Root
    """Weight of the score by the number of weights."""
    growth: NormGrowth
    """Weight of norm growth."""
    rng: np.random.Generator
    """The generator of the direction ``random``."""

    def __call__(self, pairs: Sequence[Pair]) -> dict[Pair, float]:
        """Returns {(i, j): evidence for i -> j} of the given pairs and of their reverses, which have the opposite sign.

        Pairs that are equal in the chosen layers are compared on the other tensors.
        """
        if not pairs:
            return {}
        equal = pair_distances(self.models, self.distance, np.array(pairs, dtype=np.intp), self.layers) == 0
        evidence: dict[Pair, float] = {}
        for is_equal in set(equal.tolist()):
            layers = other_layers(self.models, self.layers) if is_equal else self.layers
            requested = [pair for pair, flag in zip(pairs, equal.tolist(), strict=True) if flag == is_equal]
            scores = self._scores(np.array(requested, dtype=np.intp), layers)
            evidence |= dict(zip(requested, scores.tolist(), strict=True))
        return evidence | {(second, first): -value for (first, second), value in evidence.items()}

    def _scores(self, pairs: NDArray[np.intp], layers: Layers) -> Array:
        """Returns the evidence of (m, 2) pairs, (m,): score n / (n + half_weight_elements) + weight * norm growth."""
        scores = pair_scores(self.models, self.direction, pairs, layers, self.rng)
        elements = layers.elements(self.models)
        growth = norm_growth(self.models, pairs, layers, self.growth.max_ratio)
        return scores * elements / (elements + self.root.half_weight_elements) + self.growth.weight * growth


def distances_with_ties_broken(models: ModelSet, distance: str, layers: Layers) -> Array:
    """Returns the finite (n, n) distances. Models that are equal in ``layers`` get a tiny distance by their other tensors."""
    lengths = finite_distances(models, distance, layers)
    if (lengths == 0).sum() > len(models):
        others = finite_distances(models, distance, other_layers(models, layers))
        lengths += others * (TIE * lengths[lengths > 0].min(initial=1.0) / max(1.0, float(others.max())))
    return lengths


def other_layers(models: ModelSet, layers: Layers) -> Layers:
    """Returns the tensors that ``layers`` leaves out, without heads; ``layers`` itself if it leaves out none."""
    left_out = {name for name, _ in models.shapes} - {name for name, _ in layers.select_from(models)}
    others = Layers("backbone", among=frozenset(left_out))
    return shared_layers(models, others) if any(others.holds(*key) for key in models.shapes) else layers
