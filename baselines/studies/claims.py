"""The claims of the MoTHer paper, each tested again on whatever data sets are given, with intervals over Model Trees.

Horwitz, Shul, Hoshen: Unsupervised Model Tree Heritage Recovery, ICLR 2025, arXiv 2405.18432. A claim that the given data sets
cannot test is skipped, and what it needs is said. Claims about weights are measured here, those about what methods answer in
:mod:`mothr.baselines.studies.robustness`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import shortest_path
from scipy.stats import spearmanr

from mothr.baselines.methods.nulls import check_undirected
from mothr.baselines.methods.oracles import OracleSpanningTree
from mothr.baselines.parts.directions import find_direction, statistic
from mothr.baselines.parts.distances import distances
from mothr.baselines.studies import robustness
from mothr.baselines.studies.regimes import Known, Value, over_trees
from mothr.benchmark.errors import MothrError, unknown_name
from mothr.benchmark.graph import NodeId
from mothr.benchmark.records import results
from mothr.benchmark.run import evaluate
from mothr.benchmark.weights.combine import Array
from mothr.benchmark.weights.layers import Layers

LAYER_KINDS = ("matrices", "query", "key", "value", "output", "fused", "mlp", "embedding", "conv")
"""Tensors whose outliers are followed through training, apart: presets of :class:`mothr.benchmark.weights.layers.Layers`."""
LORA_LAYERS = "value"
"""Tensors on which the distances of LoRA models are compared, as published."""
ALL = "all"
"""The series that all others are part of."""


@dataclass(frozen=True)
class Plan:
    """What all claims are tested with.

    Raises:
        MothrError: an unknown name, an asymmetric distance, or a seed count below 1.
    """

    layers: str = "body"
    """Tensors that distances and direction scores look at."""
    distance: str = "rms"
    """Distance between two models; a symmetric one."""
    directions: tuple[str, ...] = ("kurtosis", "abs_kurtosis", "norm", "residual_independence")
    """Direction scores that get a curve of their own; where scores are compared, all are."""
    setting: results.Setting = "known-trees"
    """What methods are told."""
    seeds: int = 3
    """Tosses of a coin, and draws of a sub-set of models."""

    def __post_init__(self) -> None:
        check_undirected(self.distance, self.layers)
        for name in self.directions:
            find_direction(name)
        if self.seeds < 1 or not self.directions:
            raise MothrError(
                f"seeds is {self.seeds} and there are {len(self.directions)} direction scores; give at least one of each"
            )


@dataclass(frozen=True)
class Measure:
    """How a measured number is drawn, and what it can be."""

    y: str
    """What it is, with its unit."""
    x: str = ""
    """What it is drawn against; empty where that needs no saying."""
    low: float = 0.0
    """The smallest value there can be."""
    high: float = 1.0
    """The largest."""
    scale: Literal["linear", "log", "symlog"] = "linear"
    """Scale of x."""
    chance: float | None = None
    """Where it says nothing."""


_RIGHT = "edge accuracy"
MEASURES = {
    "distance": Measure("distance, in mean edges of the tree", "edges between two models", high=np.inf),
    "distance_spearman": Measure("Spearman ρ, distance and edges between", low=-1, chance=0),
    "kurtosis": Measure("summed excess kurtosis", "optimizer steps", low=-np.inf, high=np.inf),
    "kurtosis_trend": Measure("Spearman ρ, kurtosis and steps", low=-1, chance=0),
    "skeleton_accuracy": Measure("edge accuracy, root given"),
    "skeleton_by_rank": Measure("edge accuracy, root given", "rank of the LoRA update", scale="log"),
    "lora_spearman": Measure("Spearman ρ, distance and edges between", low=-1, chance=0),
    "triples_solved": Measure("share of triples solved"),
    "motif_accuracy": Measure("motif accuracy"),
    "adjusted_rand": Measure("adjusted Rand index", "models kept, %", low=-0.5, chance=0),
    "accuracy_by_share": Measure(_RIGHT, "models kept, %"),
    "accuracy_by_score": Measure(_RIGHT),
    "accuracy_by_sibling": Measure(_RIGHT, "nearest sibling, in\ndistances to the parent"),
    "accuracy_by_lambda": Measure(_RIGHT, "weight λ of the direction", scale="symlog"),
    "accuracy_by_rank": Measure(_RIGHT, "rank of the LoRA update", scale="log"),
    "accuracy_by_depth": Measure(_RIGHT, "depth of the child"),
    "accuracy_by_steps": Measure(_RIGHT, "optimizer steps", scale="log"),
    "accuracy_by_precision": Measure(_RIGHT, "copy stored as"),
    "accuracy_by_pruning": Measure(_RIGHT, "share of weights set to 0"),
    "accuracy_by_noise": Measure(_RIGHT, "noise, in spreads of the weights", scale="log"),
    "depth": Measure("kurtosis, in standard deviations", "edges below the root", low=-np.inf, high=np.inf),
    "depth_spearman": Measure("Spearman ρ, kurtosis and depth", low=-1, chance=0),
}
"""Everything that is measured, by the name it has in tables."""


@dataclass(frozen=True)
class Claim:
    """One claim, and how it is tested."""

    title: str
    """What its figure shows."""
    needs: str
    """Which data it needs, ending the sentence "needs ...". """
    measure: Callable[[Known, Plan], Sequence[Value]]
    """Returns what a data set says of it; nothing where it says nothing."""
    over: str = "Model Trees"
    """What its intervals are over."""
    columns: int = 3
    """Panels side by side."""
    apart: bool = False
    """Whether each family gets a figure of its own."""
    varying: bool = False
    """Whether a measure that has one x alone, and so no curve, is left out."""


def _correlation(first: Sequence[float] | Array, second: Array) -> float | None:
    """Returns Spearman's rank correlation; None for fewer than three pairs or a constant side.

    Measured numbers that differ by less than a millionth of the largest are equal: that is what rounding of weights leaves.
    """
    measured = np.asarray(second)
    measured = np.round(measured / max(np.abs(measured).max(initial=0), np.finfo(float).tiny), 6)
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(measured) == 0:
        return None
    return float(spearmanr(first, measured).statistic)


def _tree_positions(known: Known) -> Iterator[tuple[int, list[NodeId], list[int]]]:
    """Yields each tree's number, its nodes and their positions."""
    for tree, nodes in enumerate(known.graph.trees):
        named = sorted(nodes)
        yield tree, named, [known.place[node] for node in named]


def _paths(known: Known, nodes: Sequence[NodeId]) -> tuple[Array, list[list[frozenset[str]]]]:
    """Returns the edges between any two of a tree's nodes, (n, n), and the kinds of edges on one shortest way between them."""
    place = {node: position for position, node in enumerate(nodes)}
    edges = [(place[parent], place[child]) for child in nodes for parent in known.graph.parents[child]]
    kind = {frozenset(edge): known.kind(nodes[edge[1]]) for edge in edges}
    tails, heads = zip(*edges, strict=True) if edges else ((), ())
    adjacent = coo_array((np.ones(len(edges)), (tails, heads)), shape=(len(nodes), len(nodes))).tocsr()
    hops, before = shortest_path(adjacent, directed=False, unweighted=True, return_predecessors=True)
    kinds = [[frozenset[str]()] * len(nodes) for _ in nodes]
    for start in range(len(nodes)):
        for end in np.argsort(hops[start], kind="stable").tolist()[1:]:
            last = int(before[start, end])
            kinds[start][end] = kinds[start][last] | {kind[frozenset((last, end))]}
    return hops, kinds


def distance_and_hops(known: Known, plan: Plan) -> list[Value]:
    """Returns, per tree and kind of the edges between two models, their distance by hops and the rank correlation of the two.

    Distances are in units of the tree's mean distance between parent and child. Ways over edges of several kinds are apart.
    """
    far, found = distances(known.models, plan.distance, Layers.parse(plan.layers)), []
    for tree, nodes, positions in _tree_positions(known):
        hops, kinds = _paths(known, nodes)
        between = far[np.ix_(positions, positions)]
        edge = between[hops == 1]
        pairs = [(i, j) for i in range(len(nodes)) for j in range(i) if np.isfinite(between[i, j])]
        if not pairs or not edge[np.isfinite(edge)].mean() > 0:
            continue
        unit = edge[np.isfinite(edge)].mean()
        series: dict[str, list[tuple[float, float]]] = {}
        for i, j in pairs:
            name = next(iter(kinds[i][j])) if len(kinds[i][j]) == 1 else "several kinds"
            series.setdefault(name, []).append((float(hops[i, j]), between[i, j] / unit))
        for name, points in sorted(series.items()):
            x, y = np.array(points).T
            for hop in np.unique(x).tolist():
                at = y[x == hop]
                found.append(known.value(tree, "distance", at.mean(), series=name, x=hop, items=len(at)))
            rho = _correlation(x, y)
            if rho is not None:
                found.append(known.value(tree, "distance_spearman", rho, series=name, x=name, items=len(points)))
    return found


def _trainings(known: Known) -> Iterator[tuple[int, list[NodeId], list[float]]]:
    """Yields the tree, the checkpoints of each training of which several were kept, its start first, and their steps."""
    kept: dict[tuple[int, int], list[NodeId]] = {}
    for node, made in known.truth.nodes.items():
        training = made.training or {}
        if "seed" in training and "steps" in training and len(made.parents) == 1:
            kept.setdefault((known.trees[node], training["seed"]), []).append(node)
    for (tree, _), nodes in kept.items():
        steps = {node: float((known.truth.nodes[node].training or {})["steps"]) for node in nodes}
        chain = sorted(nodes, key=lambda node: steps[node])
        chain.insert(0, known.graph.parents[chain[0]][0])
        if len(chain) > 2 and all(known.graph.parents[after] == (before,) for before, after in pairwise(chain)):
            yield tree, chain, [0.0, *(steps[node] for node in chain[1:])]


def outliers_in_training(known: Known, plan: Plan) -> list[Value]:
    """Returns the excess kurtosis, summed over the matrices of each kind of layers, along each training with checkpoints.

    ``series`` is how the tree's root began; ``kurtosis_trend`` is the rank correlation of kurtosis and steps.
    """
    trainings = list(_trainings(known))
    if not trainings:
        return []
    values: dict[str, Array] = {}
    for layers in LAYER_KINDS:
        try:
            values[layers] = statistic(known.models, "kurtosis", Layers(layers), how="sum")
        except MothrError:  # this family has no such layers
            continue
    found = []
    for layers, of_model in values.items():
        for tree, chain, steps in trainings:
            kind, init = known.kind(chain[-1]), known.inits[tree] or "unrecorded"
            stage = "root training" if kind == "pretraining" else f"fine-tuning ({kind})"
            along = of_model[[known.place[node] for node in chain]]
            if np.isnan(along).any():
                continue
            found += [
                known.value(tree, "kurtosis", y, panel=f"{stage}: {layers}", series=init, x=x)
                for x, y in zip(steps, along, strict=True)
            ]
            rho = _correlation(steps, along)
            if layers == "matrices" and rho is not None:
                found += [
                    known.value(tree, "kurtosis_trend", rho, panel="matrices", series=name, x=stage)
                    for name in (init, ALL)
                ]
    return found


def rank_against_rms(known: Known, plan: Plan) -> list[Value]:
    """Returns, for each tree with LoRA edges, how well rank and RMS distance span it and agree with hops, on the same layers."""
    lora = [tree for tree, edges in enumerate(known.edges) if any(known.kind(child) == "lora" for _, child in edges)]
    found = []
    for name in ("rank", "rms") if lora else ():
        far = distances(known.models, name, Layers(LORA_LAYERS))
        method = OracleSpanningTree(name, LORA_LAYERS)
        record = evaluate.run(
            method, "oracle-mst-root", known.folder, "known-trees", models=known.models, truth=known.truth
        )
        for tree, nodes, positions in _tree_positions(known):
            if tree not in lora:
                continue
            below, about = known.edges[tree], known.kinds(tree)
            right = {edge: edge[0] in (record.parents or {}).get(edge[1], ()) for edge in below}
            share = float(np.mean(list(right.values())))
            found.append(known.value(tree, "skeleton_accuracy", share, series=about, x=name, items=len(below)))
            hops, _ = _paths(known, nodes)
            pairs = np.triu_indices(len(nodes), 1)
            rho = _correlation(hops[pairs], far[np.ix_(positions, positions)][pairs])
            if rho is not None:
                found.append(known.value(tree, "lora_spearman", rho, series=about, x=name, items=len(pairs[0])))
            ranks = {edge: known.made(edge)["rank"] for edge in below}
            for rank in sorted(set(ranks.values()) - {None}):
                of = [right[edge] for edge in below if ranks[edge] == rank]
                found.append(
                    known.value(tree, "skeleton_by_rank", float(np.mean(of)), series=name, x=float(rank), items=len(of))
                )
    return found


def outliers_and_depth(known: Known, plan: Plan) -> list[Value]:
    """Returns the kurtosis of each tree's models by depth, in standard deviations from the tree's mean, and their correlation."""
    of_model, found = statistic(known.models, "kurtosis", Layers.parse(plan.layers)), []
    for tree, nodes, positions in _tree_positions(known):
        depth, kurtosis = np.array([known.graph.depth(node) for node in nodes], dtype=float), of_model[positions]
        rho = None if np.isnan(kurtosis).any() else _correlation(depth, kurtosis)
        if rho is None:
            continue
        about, scaled = known.kinds(tree), (kurtosis - kurtosis.mean()) / kurtosis.std()
        for level in np.unique(depth).tolist():
            at = scaled[depth == level]
            found.append(known.value(tree, "depth", at.mean(), series=about, x=level, items=len(at)))
        found.append(known.value(tree, "depth_spearman", rho, series=about, x=about, items=len(nodes)))
    return found


CLAIMS: Mapping[str, Claim] = {
    "1-distance": Claim(
        "Distance between two models against the edges between them",
        "a tree of three models or more with different numbers of edges between them, such as vthr-ft", distance_and_hops,
    ),
    "2-3-outliers": Claim(
        "Outliers along training, by layers and initialisation",
        "checkpoints that were kept during training, such as vit-trajectory has", outliers_in_training, columns=4, apart=True,
    ),
    "4-lora": Claim(
        "Rank against RMS distance on models fine-tuned with LoRA", "edges of the subtype lora, such as vthr-lora-v has", rank_against_rms
    ),
    "5-motifs": Claim(
        "Graphs of three models, solved by distance and direction alone",
        "a model with a grandparent or a sibling, such as vthr-ft has", robustness.motifs, apart=True,
    ),
    "6-clustering": Claim(
        "Model Trees told apart by distance, with some models kept", "two Model Trees or more in one data set, such as vthr-ft has",
        robustness.clusters, over="drawn sub-sets of models (trees share one clustering)",
    ),
    "7-robustness": Claim(
        "Edges found with models missing, by every direction score, and near siblings",
        "a model with a parent, such as vthr-ft has", robustness.robust, columns=2, apart=True,
    ),
    "8-depth": Claim(
        "Outliers against depth in the tree", "a tree of three models or more and different kurtosis, such as vthr-ft has",
        outliers_and_depth,
    ),
    "curves": Claim(
        "Edges found, against how models were made and how directions are weighed", "a model with a parent, such as vthr-ft has",
        robustness.curves, apart=True, varying=True,
    ),
}  # fmt: skip
"""The claims by the names of their files; the last gathers what the paper does not speak of."""
BY = ("measure", "panel", "series", "x", "family")
"""Columns that name a point."""


def find_claims(names: Sequence[str]) -> dict[str, Claim]:
    """Returns the claims of these names, or raises MothrError with the nearest ones."""
    for name in names:
        if name not in CLAIMS:
            raise unknown_name("claim", name, CLAIMS)
    return {name: CLAIMS[name] for name in CLAIMS if name in names}


def values(claim: Claim, known: Sequence[Known], plan: Plan) -> pd.DataFrame:
    """Returns a row for each :class:`mothr.baselines.studies.regimes.Value` that the data sets give; none where they cannot test it."""
    found = pd.DataFrame([value for one in known for value in claim.measure(one, plan)], columns=Value._fields)
    if claim.varying:
        found = found[found.groupby("measure").x.transform("nunique") > 1]
    return found.reset_index(drop=True)


def points(found: pd.DataFrame) -> pd.DataFrame:
    """Returns the mean over trees with its t-interval for each point, as :func:`mothr.baselines.studies.regimes.over_trees` does."""
    parts = []
    for name, part in found.groupby("measure", sort=False):
        measure = MEASURES[str(name)]
        parts.append(over_trees(part, BY, measure.low, measure.high))
    return pd.concat(parts, ignore_index=True)
