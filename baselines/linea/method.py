"""Linea, this project's own method: told nothing, it joins related models, spans them, and roots each tree by evidence.

1. Two models are related if their weights still point the same way. Weights of independent origin are orthogonal but for
   chance, so this needs no number of trees: a tree is what a chain of related pairs holds together. A copy whose neurons were
   reordered is related to what holds the same numbers.
2. What was made without training is told by its weights and set aside: bit-identical twins, copies in fewer bits or with zeros,
   reordered ones, and merges. Left in, they would be mistaken for parents: a merge lies between its own.
3. Updates of different models are nearly orthogonal, so a sibling is farther than the parent both came from, and the
   minimum spanning tree of the distances is the undirected Model Tree.
4. In a tree of known shape the root decides all directions. The evidence of every edge is summed for each candidate, which
   outvotes single edges that point the wrong way; the sums of those that come close give the probabilities. Where the weights'
   distribution says little, it counts that an update adds its energy.
5. A child has its parent's update, in every tensor, and most surely its small components; and its way from the parent is its own, not
   spent on undoing that update. What fails in either is a sibling or a nephew: of a model that was trained on the same data, so that they
   lie nearer to each other than to their parent, or of one whose parent is missing. The model above is taken instead, or
   another child of that, whose update it has. Likewise, who has the update of a nearer sibling comes below it.
6. What was set aside hangs below its sources, and its own descendants below it.

How a model was made follows: a merge has several sources, a copy in fewer bits is quantized, and all else was fine-tuned. Where no parent
is likelier than not, none is named.
"""

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from mothr.baselines.linea.copies import copies, reordered
from mothr.baselines.linea.growth import growth
from mothr.baselines.linea.inheritance import lacking
from mothr.baselines.linea.mixtures import mixtures
from mothr.baselines.methods.nulls import check_undirected
from mothr.baselines.parts.arborescence import orient, spanning_tree
from mothr.baselines.parts.directions import find_direction, kind_of, pair_scores
from mothr.baselines.parts.distances import distances, pair_distances, replace_infinite
from mothr.baselines.parts.trees import Pair, check_related, parts, related_trees, root_evidence, shared
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import Edge, ModelGraph, NodeId
from mothr.benchmark.prediction import Prediction, Relation
from mothr.benchmark.side_information import MethodKind, Need
from mothr.benchmark.weights.checkpoint import ModelSet
from mothr.benchmark.weights.combine import Array
from mothr.benchmark.weights.features import MothrWarning
from mothr.benchmark.weights.layers import Layers

Parents = dict[NodeId, tuple[NodeId, ...]]
TIE = 1e-6
"""Share of the smallest other distance that those of models which only their vectors tell apart may reach, as when biases alone
were trained."""
FEW = 4096
"""So many weights give evidence that is trusted by half, since chance moves that of few; chosen, not fitted."""
LACKED, UNDONE = 0.11, 0.25
"""Share of tensors that lack the parent's update, and share of the way from the parent that undoes it, above which it is no parent; see

:func:`mothr.baselines.linea.inheritance.lacking`. The second is one half or more of siblings, a third of nephews,
whatever they learned alike."""
BESIDE = 8
"""Most siblings of the parent that a model which lacks its update is tried below: the nearest ones."""
NEARER, SIDEWAYS = 0.98, 0.2
"""A model that came from one that was set aside is nearer to it than to its sources, by squared distance, and its update is orthogonal
to the way from there to each of them: the cosine is no more than this."""
RULED_OUT, ROOTS = 5.0, 8
"""Log-odds against a root at which it is no longer looked at, and the most roots that are."""
KNOWN = 0.99
"""Probability of an edge that the weights prove, as far as weights can."""
UNSURE = 0.2
"""Width of the step from certain to impossible, as a share of the limit :data:`LACKED` or :data:`UNDONE`."""
UNLIKELY = 0.5
"""Probability up to which an edge is not named."""


@dataclass(frozen=True)
class Linea:
    """Related models are spanned by a minimum spanning tree, rooted where the direction evidence of all edges agrees best."""

    version: ClassVar[str] = "8"

    tuned_on: ClassVar[tuple[str, ...]] = (
        "dinov2-ft-dev", "llama-ft-dev", "llama-missing-dev", "llama-siblings-dev", "sd-ft-dev", "smollm2-ft-dev", "vit-continued-dev",
        "vit-duplicates-dev", "vit-merge-dev", "vit-missing-dev", "vit-mixed-dev", "vit-noised-dev", "vit-permuted-dev", "vit-pruned-dev",
        "vit-quantized-dev", "vit-regimes-dev", "vit-trajectory-dev", "vthr-ft-dev", "vthr-lora-f-dev", "vthr-lora-v-dev",
    )  # fmt: skip

    layers: str = "body"
    """Tensors that everything looks at; see :class:`mothr.benchmark.weights.layers.Layers`."""
    distance: str = "relative"
    """Length of an edge, a name of ``mothr list distances``."""
    direction: str = "residual_independence"
    """Direction score, a name of ``mothr list directions``."""
    growth: float = 0.003
    """Evidence that a model which is larger by the energy of the way to it is the child; see 
    :func:`mothr.baselines.linea.growth.growth`."""
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
        for name in ("sharpness", "growth"):
            if not 0 <= getattr(self, name) < np.inf:
                raise MothrError(f"{name} is {getattr(self, name)}; it must be a finite number >= 0")

    @property
    def kind(self) -> MethodKind:
        """The kind of method: ``null`` with the direction ``random``, ``oracle`` with the direction ``oracle``."""
        return kind_of(self.direction)

    @property
    def needs(self) -> frozenset[Need]:
        """What it must be told beside the weights: nothing, save the truth for the direction ``oracle``."""
        return frozenset({"truth"}) if self.direction == "oracle" else frozenset()

    def __call__(self, models: ModelSet, rng: np.random.Generator) -> Prediction:
        """Returns a forest with the probability of each edge; ``rng`` is for the direction ``random`` alone."""
        layers = Layers.parse(self.layers)
        labels = related_trees(models, layers, self.related)
        found = _Found()
        with warnings.catch_warnings():
            if models.given.trees is None:  # what models lack was said of all of them at once
                warnings.simplefilter("ignore", MothrWarning)
            orders = reordered(models, layers) if self.made else []
            if self.made:
                warnings.simplefilter("ignore", MothrWarning)
            if models.given.trees is None:
                labels = _joined(labels, orders)
            for part in parts(labels):
                inside = [tuple(models.ids[at] for at in group) for group in orders if set(group) <= set(part.tolist())]
                self._tree(_among(models, part), inside, layers, rng, found)
        trees = {node: int(label) for node, label in zip(models.ids, labels, strict=True)}
        return found.prediction(models.ids, trees)

    def _tree(
        self,
        models: ModelSet,
        orders: Iterable[tuple[NodeId, ...]],
        layers: Layers,
        rng: np.random.Generator,
        found: "_Found",
    ) -> None:
        """Adds the models of one tree to ``found``."""
        twins = _twins(models) if self.made else {}
        models = _without(models, twins)
        layers = shared(models, layers)
        aside: Parents = {}
        if self.made:
            aside = _out_of_order(models, orders, self.distance, layers)
            rest = _without(models, aside)
            copied = {
                rest.ids[node]: (rest.ids[copy.source], copy.rounded) for node, copy in copies(rest, layers).items()
            }
            found.quantized |= {node for node, (_, rounded) in copied.items() if rounded}
            aside |= {node: (source,) for node, (source, _) in copied.items()}
            rest = _without(models, aside)
            aside |= {
                rest.ids[node]: tuple(rest.ids[at] for at in sources)
                for node, sources in mixtures(rest, layers).items()
            }
        below = self._below(models, aside, layers, rng)
        core = _without(models, aside | below)
        found.parents |= dict.fromkeys(core.ids, ())
        found.add(aside | below)
        for (parent, child), probability in self._spanned(core, layers, rng):
            found.add({core.ids[child]: (core.ids[parent],)}, probability)
        for (
            twin,
            first,
        ) in (
            twins.items()
        ):  # of a leaf and its twin nobody can say which was first; of a root's twin, that it came later
            parents = found.parents[first] or (first,)
            found.add({twin: parents}, found.confidence.get((parents[0], first), KNOWN))
            found.quantized |= {twin} if first in found.quantized else set()

    def _spanned(self, models: ModelSet, layers: Layers, rng: np.random.Generator) -> list[tuple[Pair, float]]:
        """Returns the (parent, child) edges of the models' best rooted tree, with the probability of each one.

        Where several roots are nearly as good, the tree that each gives is judged whole, after models were moved to the parents whose
        updates they have; the probability of an edge is that of the trees that have it, and none between models that nothing tells apart.
        """
        far = self._far(models, layers)
        span = spanning_tree(far)
        if not span:
            return []
        says = self._evidence(models, span, layers, rng)
        total = root_evidence(span, says)
        likely = sorted(total, key=lambda node: -total[node])[:ROOTS]
        likely = [node for node in likely if self.sharpness * (total[likely[0]] - total[node]) <= RULED_OUT]
        lacks = _Lacks(models, layers)
        trees = [_heirs(orient(span, root), far, lacks) for root in likely]
        new = {(parent, child) for above, _ in trees for child, parent in above.items()} - says.keys()
        says |= self._evidence(models, sorted({(min(pair), max(pair)) for pair in new}), layers, rng)
        sums = np.array([sum(says[parent, child] for child, parent in above.items()) for above, _ in trees])
        sure = Counter[Pair]()
        for (above, lacked), weight in zip(trees, softmax(self.sharpness * sums).tolist(), strict=True):
            sure.update(
                {
                    (parent, child): weight * _inherits(lacked[child])
                    for child, parent in above.items()
                    if far[parent, child] > 0
                }
            )
        best, _ = trees[int(sums.argmax())]
        return [((parent, child), min(1.0, sure[parent, child])) for child, parent in best.items()]

    def _far(self, models: ModelSet, layers: Layers) -> Array:
        """Returns the (n, n) distances; those of models that ``layers`` cannot tell apart are of the rest, and next to nothing."""
        far = replace_infinite(distances(models, self.distance, layers))
        if (far == 0).sum() > len(models):
            rest = replace_infinite(distances(models, self.distance, _rest(models, layers)))
            far += rest * (TIE * far[far > 0].min(initial=1.0) / max(1.0, float(rest.max())))
        return far

    def _evidence(
        self, models: ModelSet, pairs: Sequence[Pair], layers: Layers, rng: np.random.Generator
    ) -> dict[Pair, float]:
        """Returns the evidence that the first of each pair is the parent of the second, and of its reverse."""
        found: dict[Pair, float] = {}
        same = (
            pair_distances(models, self.distance, np.array(pairs, dtype=np.intp), layers) == 0
            if pairs
            else np.zeros(0, dtype=bool)
        )
        for tied in set(same.tolist()):
            where = _rest(models, layers) if tied else layers
            asked = [pair for pair, ties in zip(pairs, same.tolist(), strict=True) if ties == tied]
            says = pair_scores(models, self.direction, np.array(asked, dtype=np.intp), where, rng)
            elements = where.elements(models)
            says = says * elements / (elements + FEW) + self.growth * growth(
                models, np.array(asked, dtype=np.intp), where
            )
            found |= dict(zip(asked, says.tolist(), strict=True))
        return found | {(child, parent): -value for (parent, child), value in found.items()}

    def _below(self, models: ModelSet, aside: Parents, layers: Layers, rng: np.random.Generator) -> Parents:
        """Returns {model: (its parent,)} of the descendants of what was set aside.

        A child hangs on it in the minimum spanning tree of all models, away from its sources, and the edge points outward; below the
        child is what hangs on that when all that was set aside is taken off.
        """
        found: Parents = {}
        if not aside:
            return found
        far = self._far(models, layers)
        squared = distances(models, "frobenius", layers) ** 2
        place, ids = {node: at for at, node in enumerate(models.ids)}, models.ids
        ways = [(ids[one], ids[other]) for pair in spanning_tree(far) for one, other in (pair, pair[::-1])]
        ends = [
            (made, node)
            for made, node in ways
            if made in aside
            and node not in aside
            and node not in aside[made]
            and all(_is_beyond(squared, place[source], place[made], place[node]) for source in aside[made])
        ]
        pairs = np.array([(place[made], place[node]) for made, node in ends], dtype=np.intp).reshape(-1, 2)
        says = pair_scores(models, self.direction, pairs, layers, rng) if ends else np.empty(0)
        for (made, node), evidence in zip(ends, says, strict=True):
            kept = [at for at, other in enumerate(ids) if other not in aside or other == made]
            span = [(kept[one], kept[other]) for one, other in spanning_tree(far[np.ix_(kept, kept)])]
            side = orient([edge for edge in span if place[made] not in edge], place[node])
            descent = {node: (made,)} | {ids[child]: (ids[parent],) for parent, child in side}
            if evidence > 0 and not descent.keys() & _above(made, aside | found):
                found |= descent
        return found


@dataclass
class _Found:
    """What is found, tree by tree."""

    parents: Parents = field(default_factory=dict)
    confidence: dict[Edge, float] = field(default_factory=dict)
    quantized: set[NodeId] = field(default_factory=set)

    def add(self, parents: Parents, probability: float = KNOWN) -> None:
        """Adds the edges to the models of ``parents``, each with the same probability."""
        self.parents |= parents
        self.confidence |= {(parent, node): probability for node, above in parents.items() for parent in above}

    def prediction(self, ids: Sequence[NodeId], trees: Mapping[NodeId, int]) -> Prediction:
        """Returns the answer about the models ``ids``, in this order, of which some are abstained on."""
        named = {
            node: above for node in ids if (above := self.parents[node]) and self.confidence[above[0], node] > UNLIKELY
        }
        doubtful = frozenset(node for node in ids if self.parents[node] and node not in named)
        relations = {node: _relation(len(above), node in self.quantized) for node, above in named.items()}
        confidence = {edge: value for edge, value in self.confidence.items() if edge[1] in named}
        return Prediction(
            ModelGraph({node: named.get(node, ()) for node in ids}), confidence, trees, doubtful, relations
        )


def _relation(parents: int, rounded: bool) -> Relation:
    return "merge" if parents > 1 else "quantized" if rounded else "finetune"


def _heirs(tree: Sequence[Pair], far: Array, lacks: "_Lacks") -> tuple[dict[int, int], dict[int, float]]:
    """Returns {child: parent} of the (parent, child) pairs ``tree``, and how much of the parent's update each child lacks.

    Whoever lacks too much of it is moved to the model above, or to the nearest other child of that whose update it has. So is who has the
    update of a model that is nearer than its parent, be it a sibling or another child of the model above, as comes about when that one was
    moved there itself. It goes on until none moves, and none moves before its own parent is settled. ``far`` are the (n, n) distances.
    """
    above = {child: parent for parent, child in tree}
    left = set[Pair]()  # a parent that was left is not gone back to
    while True:
        triples = {child: (child, parent, above[parent]) for child, parent in above.items() if parent in above}
        lacked = dict.fromkeys(above, 0.0) | dict(zip(triples, lacks(triples.values()), strict=True))
        moving = {child for child, share in lacked.items() if share > 1}
        stay: dict[int, list[int]] = {}
        for child, parent in above.items():
            stay.setdefault(parent, []).extend([] if child in moving else [child])
        tried = []
        for child, parent in above.items():
            if parent in moving:
                continue
            tops = [*([above[parent]] if parent in above else []), *([] if child in moving else [parent])]
            reach = np.inf if child in moving else far[child, parent]
            beside = [
                (child, other, top)
                for top in tops
                for other in stay[top]
                if other not in (child, parent) and (other, child) not in left and far[child, other] < reach
            ]
            tried += sorted(beside, key=lambda triple: far[triple[:2]])[:BESIDE]
        heirs: dict[int, int] = {}
        for (child, other, _), share in zip(tried, lacks(tried), strict=True):
            if share <= 1:
                heirs.setdefault(child, other)
        moves: dict[int, int] = {}
        for child in sorted(heirs.keys() | {child for child in moving if above[child] not in moving}):
            other = heirs[child] if child in heirs else above[above[child]]
            if other not in moves and child not in moves.values():  # none moves along with whom it moves to
                moves[child] = other
        if not moves:
            return above, lacked
        left |= {(above[child], child) for child in moves}
        above |= moves


@dataclass(frozen=True)
class _Lacks:
    """How much of the update of an alleged parent a model lacks; each answer is kept, since trees of different roots ask the same.

    It is a share of what a child may lack: above 1 there is no inheritance.
    """

    models: ModelSet
    layers: Layers
    known: dict[tuple[int, int, int], float] = field(default_factory=dict)

    def __call__(self, triples: Iterable[tuple[int, int, int]]) -> list[float]:
        """Returns the share for each (child, parent, model above the parent)."""
        asked = list(triples)
        new = sorted(set(asked) - self.known.keys())
        if new:
            share, undone = lacking(self.models, np.array(new, dtype=np.intp), self.layers)
            self.known.update(zip(new, np.maximum(share / LACKED, undone / UNDONE).tolist(), strict=True))
        return [self.known[triple] for triple in asked]


def _rest(models: ModelSet, layers: Layers) -> Layers:
    """Returns the tensors, heads aside, that ``layers`` leaves out; those of ``layers`` if it leaves out none."""
    left = {name for name, _ in models.shapes} - {name for name, _ in layers.select_from(models)}
    rest = Layers("backbone", among=frozenset(left))
    return shared(models, rest) if any(rest.holds(name, shape) for name, shape in models.shapes) else layers


def _inherits(lacked: float) -> float:
    """Returns the probability that a model which lacks so much of its parent's update, as a share of the limit, is its child."""
    return float(expit((1 - lacked) / UNSURE))


def _is_beyond(squared: Array, source: int, made: int, node: int) -> bool:
    """Returns whether ``node`` may be a child of ``made``, which was made from ``source``, by squared Frobenius distances (n, n)."""
    return bool(
        squared[made, node] < NEARER * squared[source, node] and abs(_cosine(squared, source, made, node)) <= SIDEWAYS
    )


def _cosine(squared: Array, one: int, at: int, other: int) -> float:
    """Returns the cosine of the angle at ``at`` between two models, by squared Frobenius distances (n, n); 0 where it is undefined."""
    product = squared[one, at] * squared[at, other]
    return (
        float((squared[one, at] + squared[at, other] - squared[one, other]) / (2 * np.sqrt(product)))
        if 0 < product < np.inf
        else 0.0
    )


def _joined(labels: NDArray[np.int64], groups: Iterable[tuple[int, ...]]) -> NDArray[np.int64]:
    """Returns the labels (n,), numbered from 0, with the trees that share a group made one."""
    for first, *others in groups:
        labels = np.where(np.isin(labels, labels[others]), labels[first], labels)
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def _among(models: ModelSet, positions: Iterable[int]) -> ModelSet:
    return ModelSet(tuple(models.checkpoints[at] for at in positions), models.given)


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


def _above(node: NodeId, parents: Parents) -> set[NodeId]:
    """Returns the ancestors of ``node`` that ``parents`` tell."""
    found, waiting = set[NodeId](), [node]
    while waiting:
        new = set(parents.get(waiting.pop(), ())) - found
        found |= new
        waiting += new
    return found
