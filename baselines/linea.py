"""Linea, this project's own method: told nothing, it joins related models, spans them, and roots each tree by evidence.

1. Two models are related if their weights still point the same way. Weights of independent origin are orthogonal but for
   chance, so this needs no number of trees: a tree is what a chain of related pairs holds together. A copy whose neurons were
   reordered is related to what holds the same numbers.
2. What was made without training is told by its weights and set aside: bit-identical twins, copies in fewer bits or with zeros,
   reordered ones, and merges. Left in, they would be mistaken for parents: a merge lies between its own.
3. Updates of different models are nearly orthogonal, so a sibling is farther than the parent both came from, and the
   minimum spanning tree of the distances is the undirected Model Tree.
4. In a tree of known shape the root decides all directions. The evidence of every edge is summed for each candidate, which
   outvotes single edges that point the wrong way; the same sums give the probability of each direction.
5. A parent lies on the way from its own parent to its child, where updates are orthogonal. What does not is the sibling of a model
   whose parent is missing, and the nearest ancestor above it is taken instead.
6. What was set aside hangs below its sources, and its own descendants below it.
"""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from mothr.baselines.arborescence import orient, spanning_tree
from mothr.baselines.copies import copies, reordered
from mothr.baselines.directions import find_direction, pair_scores
from mothr.baselines.distances import distances, replace_infinite
from mothr.baselines.mixtures import mixtures
from mothr.baselines.nulls import check_undirected
from mothr.baselines.trees import check_related, parts, related_trees, root_evidence
from mothr.benchmark.errors import MothrError
from mothr.benchmark.features import Array, MothrWarning
from mothr.benchmark.graph import Edge, ModelGraph, NodeId
from mothr.benchmark.layers import Layers
from mothr.benchmark.method import Need, Prediction
from mothr.benchmark.weights import ModelSet

Parents = dict[NodeId, tuple[NodeId, ...]]
OFF_THE_WAY = 0.25
"""Cosine of the angle at a parent, between its child and its own parent, above which it is no parent: 0 if updates are orthogonal,
1/2 and more at a sibling whose parent is missing."""
NEARER, SIDEWAYS = 0.98, 0.2
"""A model that came from one that was set aside is nearer to it than to its sources, by squared distance, and its update is orthogonal
to the way from there to each of them: the cosine is no more than this."""
KNOWN = 0.99
"""Probability of an edge that the weights prove, as far as weights can."""


@dataclass(frozen=True)
class Linea:
    """Related models are spanned by a minimum spanning tree, rooted where the direction evidence of all edges agrees best."""

    version: ClassVar[str] = "2"

    tuned_on: ClassVar[tuple[str, ...]] = (
        "vthr-ft-dev", "vthr-lora-f-dev", "llama-ft-dev", "vit-merge-dev", "vit-quantized-dev", "vit-missing-dev",
    )  # fmt: skip

    layers: str = "body"
    """Tensors that everything looks at; see :class:`mothr.benchmark.layers.Layers`."""
    distance: str = "relative"
    """Length of an edge, a name of ``mothr list distances``."""
    direction: str = "residual_independence"
    """Direction score, a name of ``mothr list directions``."""
    related: float = 0.1
    """Cosine of two models' weights, mean over tensors, above which they are of one tree."""
    sharpness: float = 200.0
    """Log-odds of a direction for each unit of evidence; it moves confidence, not the answer."""
    made: bool = True
    """Whether models that were made without training are looked for; without, each is taken for a fine-tuned one."""

    def __post_init__(self) -> None:
        check_undirected(self.distance, self.layers)
        find_direction(self.direction)
        check_related(self.related)
        if not 0 <= self.sharpness < np.inf:
            raise MothrError(f"sharpness is {self.sharpness}; it must be a finite number >= 0")

    @property
    def needs(self) -> frozenset[Need]:
        """What it must be told beside the weights: nothing, save the truth for the direction ``oracle``."""
        return frozenset({"truth"}) if self.direction == "oracle" else frozenset()

    def __call__(self, models: ModelSet, rng: np.random.Generator) -> Prediction:
        """Returns a forest with the probability of each edge; ``rng`` is for the direction ``random`` alone."""
        layers = Layers.parse(self.layers)
        labels = related_trees(models, layers, self.related)
        parents: Parents = {}
        confidence: dict[Edge, float] = {}
        with warnings.catch_warnings():
            if models.told.trees is None:  # what models lack was said of all of them at once
                warnings.simplefilter("ignore", MothrWarning)
            orders = reordered(models, layers) if self.made else []
            if self.made:
                warnings.simplefilter("ignore", MothrWarning)
            if models.told.trees is None:
                labels = _joined(labels, orders)
            for part in parts(labels):
                inside = [tuple(models.ids[at] for at in group) for group in orders if set(group) <= set(part.tolist())]
                self._tree(_among(models, part), inside, layers, rng, parents, confidence)
        trees = {node: int(label) for node, label in zip(models.ids, labels, strict=True)}
        return Prediction(ModelGraph({node: parents[node] for node in models.ids}), confidence, trees)

    def _tree(
        self, models: ModelSet, orders: Iterable[tuple[NodeId, ...]], layers: Layers, rng: np.random.Generator, parents: Parents,
        confidence: dict[Edge, float],
    ) -> None:
        """Adds the models of one tree to ``parents`` and its edges to ``confidence``."""
        twins = _twins(models) if self.made else {}
        models = _without(models, twins)
        aside: Parents = {}
        if self.made:
            aside = _out_of_order(models, orders, self.distance, layers)
            for find in (_copies, mixtures):
                rest = _without(models, aside)
                aside |= {rest.ids[node]: tuple(rest.ids[at] for at in sources) for node, sources in find(rest, layers).items()}
        confidence |= {(source, node): KNOWN for node, sources in aside.items() for source in sources}
        below = self._below(models, aside, layers, rng)
        confidence |= dict.fromkeys(((parent, node) for node, (parent,) in below.items()), KNOWN)
        core = _without(models, aside | below)
        parents |= dict.fromkeys(core.ids, ()) | aside | below
        for (parent, child), probability in self._spanned(core, layers, rng):
            parents[core.ids[child]] = (core.ids[parent],)
            confidence[core.ids[parent], core.ids[child]] = probability
        for twin, first in twins.items():  # of a leaf and its twin nobody can say which was first; of a root's twin, that it came later
            parents[twin] = parents[first] or (first,)
            confidence |= {(parent, twin): confidence.get((parent, first), KNOWN) for parent in parents[twin]}

    def _spanned(self, models: ModelSet, layers: Layers, rng: np.random.Generator) -> list[tuple[tuple[int, int], float]]:
        """Returns the (parent, child) edges of the models' best rooted spanning tree, with the probability of each one's direction."""
        span = spanning_tree(replace_infinite(distances(models, self.distance, layers)))
        if not span:
            return []
        says = pair_scores(models, self.direction, np.array(span, dtype=np.intp), layers, rng)
        total = root_evidence(span, dict(zip(span, says.tolist(), strict=True)))
        weight = softmax(self.sharpness * np.array(list(total.values())))
        below = dict(zip(total, weight.tolist(), strict=True))
        tree = orient(span, max(total, key=total.__getitem__))
        for parent, child in reversed(tree):
            below[parent] += below[child]
        squared, above = distances(models, "frobenius", layers) ** 2, dict[int, int]()
        for parent, child in tree:  # from the root down
            while parent in above and _cosine(squared, child, parent, above[parent]) > OFF_THE_WAY:
                parent = above[parent]
            above[child] = parent
        return [((parent, child), 1 - min(1.0, below[child])) for child, parent in above.items()]

    def _below(self, models: ModelSet, aside: Parents, layers: Layers, rng: np.random.Generator) -> Parents:
        """Returns {model: (its parent,)} of the descendants of what was set aside.

        A child hangs on it in the minimum spanning tree of all models, away from its sources, and the edge points outward; below the
        child is what hangs on that when all that was set aside is taken off.
        """
        found: Parents = {}
        if not aside:
            return found
        far = replace_infinite(distances(models, self.distance, layers))
        squared = distances(models, "frobenius", layers) ** 2
        place, ids = {node: at for at, node in enumerate(models.ids)}, models.ids
        ways = [(ids[one], ids[other]) for pair in spanning_tree(far) for one, other in (pair, pair[::-1])]
        ends = [
            (made, node) for made, node in ways if made in aside and node not in aside and node not in aside[made]
            and all(_is_beyond(squared, place[source], place[made], place[node]) for source in aside[made])
        ]
        pairs = np.array([(place[made], place[node]) for made, node in ends], dtype=np.intp).reshape(-1, 2)
        says = pair_scores(models, self.direction, pairs, layers, rng) if ends else []
        for (made, node), evidence in zip(ends, says, strict=True):
            kept = [at for at, other in enumerate(ids) if other not in aside or other == made]
            span = [(kept[one], kept[other]) for one, other in spanning_tree(far[np.ix_(kept, kept)])]
            side = orient([edge for edge in span if place[made] not in edge], place[node])
            descent = {node: (made,)} | {ids[child]: (ids[parent],) for parent, child in side}
            if evidence > 0 and not descent.keys() & _above(made, aside | found):
                found |= descent
        return found


def _is_beyond(squared: Array, source: int, made: int, node: int) -> bool:
    """Returns whether ``node`` may be a child of ``made``, which was made from ``source``, by squared Frobenius distances (n, n)."""
    return bool(squared[made, node] < NEARER * squared[source, node] and abs(_cosine(squared, source, made, node)) <= SIDEWAYS)


def _cosine(squared: Array, one: int, at: int, other: int) -> float:
    """Returns the cosine of the angle at ``at`` between two models, by squared Frobenius distances (n, n); 0 where it is undefined."""
    product = squared[one, at] * squared[at, other]
    return float((squared[one, at] + squared[at, other] - squared[one, other]) / (2 * np.sqrt(product))) if 0 < product < np.inf else 0.0


def _joined(labels: NDArray[np.int64], groups: Iterable[tuple[int, ...]]) -> NDArray[np.int64]:
    """Returns the labels (n,), numbered from 0, with the trees that share a group made one."""
    for first, *others in groups:
        labels = np.where(np.isin(labels, labels[others]), labels[first], labels)
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def _among(models: ModelSet, positions: Iterable[int]) -> ModelSet:
    return ModelSet(tuple(models.checkpoints[at] for at in positions), models.told)


def _without(models: ModelSet, nodes: Iterable[NodeId]) -> ModelSet:
    left_out = set(nodes)
    return _among(models, [at for at, node in enumerate(models.ids) if node not in left_out])


def _twins(models: ModelSet) -> dict[NodeId, NodeId]:
    """Returns {model: the first of those that are the same bit for bit}, the first ones left out."""
    first: dict[str, NodeId] = {}
    return {one.id: kept for one in models.checkpoints if (kept := first.setdefault(one.digest, one.id)) != one.id}


def _out_of_order(models: ModelSet, orders: Iterable[tuple[NodeId, ...]], distance: str, layers: Layers) -> Parents:
    """Returns {reordered copy: (its source,)}: of models with the same numbers, the source is the one nearest to any other model."""
    found: Parents = {}
    place = {node: at for at, node in enumerate(models.ids)}
    for group in orders:
        here = [place[node] for node in group if node in place]
        far = distances(models, distance, layers)
        others = [at for at in range(len(models)) if at not in here]
        source, *rest = sorted(here, key=lambda at: (far[at, others].min(initial=np.inf), at))
        found |= {models.ids[at]: (models.ids[source],) for at in rest}
    return found


def _copies(models: ModelSet, layers: Layers) -> Mapping[int, tuple[int, ...]]:
    return {node: (source,) for node, source in copies(models, layers).items()}


def _above(node: NodeId, parents: Parents) -> set[NodeId]:
    """Returns the ancestors of ``node`` that ``parents`` tell."""
    found, waiting = set[NodeId](), [node]
    while waiting:
        new = set(parents.get(waiting.pop(), ())) - found
        found |= new
        waiting += new
    return found
