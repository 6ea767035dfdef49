"""What methods answer when data get harder: models missing, other direction scores, other ranks, precisions and noise.

Every answer is a record of :func:`mothr.benchmark.run.evaluate.run`, most of them those of an ablation; a data set's are made once
and looked at by several claims. A set of models of which some are left out is judged by what is true of those left: each hangs
from its nearest ancestor among them.
"""

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse.csgraph import connected_components
from sklearn.metrics import adjusted_rand_score
from tqdm import tqdm

from mothr.baselines.methods.mother import MOTHER_V2
from mothr.baselines.parts.arborescence import arborescence
from mothr.baselines.parts.clustering import largest_gap, ward
from mothr.baselines.parts.directions import DIRECTIONS, pair_scores
from mothr.baselines.parts.distances import distances, replace_infinite
from mothr.baselines.studies import ablation
from mothr.baselines.studies.regimes import SETTINGS, Known, Value
from mothr.benchmark.data import dataset
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import Edge, NodeId
from mothr.benchmark.records.results import RunRecord
from mothr.benchmark.run import evaluate
from mothr.benchmark.run.method import Method, find_method
from mothr.benchmark.side_information import SideInformation
from mothr.benchmark.weights.checkpoint import ModelSet
from mothr.benchmark.weights.combine import Array
from mothr.benchmark.weights.features import MothrWarning
from mothr.benchmark.weights.layers import Layers

if TYPE_CHECKING:
    from mothr.baselines.studies.claims import Plan

LAMBDAS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Weights of the direction against the distance."""
LAMBDA = MOTHER_V2.lambda_
"""The published one, used wherever the weight is not what varies."""
SHARES = (1.0, 0.75, 0.5, 0.25, 0.1)
"""Shares of the models that are kept."""
TRIPLES = 200
"""Most triples of one kind that are drawn from one tree."""
RELATED = 0.1
"""Cosine above which two models are of one tree, as in Linea."""
PRECISIONS = ("float16", "bfloat16", "int8", "int4")
"""The order in which copies are listed."""
OWN = "linea"
"""The method that is run beside MoTHer, by its registered name."""
NEAR = ((0.5, "below 0.5"), (0.9, "0.5 to 0.9"), (1.2, "0.9 to 1.2"), (1.6, "1.2 to 1.6"), (np.inf, "above 1.6"))
"""Distance of the nearest sibling over that of the parent, below which a child is in this class."""


def _grid(plan: "Plan", **values: object) -> ablation.Grid:
    base = replace(MOTHER_V2, distance_layers=plan.layers)
    return ablation.Grid(base=base, distances=(plan.distance,), layers=(plan.layers,), **values)  # type: ignore[arg-type]


@cache
def records(known: Known, plan: "Plan") -> tuple[RunRecord, ...]:
    """Returns the runs of MoTHer with every direction score and with every weight, the bounds', and those of Linea."""
    others = tuple(weight for weight in LAMBDAS if weight != LAMBDA)
    found = ablation.run(_grid(plan, weights=(LAMBDA,)), known.folder, plan.setting, plan.seeds)
    found += ablation.run(
        _grid(plan, directions=plan.directions, weights=others), known.folder, plan.setting, plan.seeds
    )
    found.append(
        evaluate.run(find_method(OWN), OWN, known.folder, plan.setting, models=known.models, truth=known.truth)
    )
    for record in found:
        _say_failed(record)
    return tuple(found)


def _say_failed(record: RunRecord) -> None:
    if record.status != "ok":
        warnings.warn(
            f"{record.split}: {name_of(record)} failed and counts as zero: {record.error}", MothrWarning, stacklevel=3
        )


def name_of(record: RunRecord) -> str:
    """Returns the direction score that MoTHer was run with, or the method's own name."""
    return str(record.parameters["direction"]) if record.method == ablation.METHOD else record.method


def _published(known: Known, plan: "Plan") -> list[RunRecord]:
    """Returns the records but for those with another weight than the published one."""
    return [record for record in records(known, plan) if record.parameters.get("lambda_", LAMBDA) == LAMBDA]


def _right(record: RunRecord, edges: Sequence[Edge]) -> float:
    """Returns the share of ``edges`` that were answered; 0 for a failed run."""
    answered = record.parents or {}
    return float(np.mean([parent in answered.get(child, ()) for parent, child in edges]))


# --- small graphs ---


def _triples(known: Known, nodes: Sequence[NodeId]) -> dict[str, list[tuple[NodeId, NodeId, NodeId]]]:
    """Returns the triples of a tree with just two edges among them: (grandparent, parent, child) and (parent, child, child)."""
    graph = known.graph
    chains = [
        (above, parent, child) for child in nodes for parent in graph.parents[child] for above in graph.parents[parent]
        if above not in graph.parents[child]
    ]  # fmt: skip
    forks = [
        (parent, *pair) for parent in nodes for pair in combinations(graph.children(parent), 2)
        if pair[0] not in graph.parents[pair[1]] and pair[1] not in graph.parents[pair[0]]
    ]  # fmt: skip
    return {"grandparent, parent, child": chains, "parent and two children": forks}


def motifs(known: Known, plan: "Plan") -> list[Value]:
    """Returns the share of triples whose two edges MoTHer finds given the three models alone, by direction score.

    Each triple is one tree, solved as MoTHer solves a tree: the minimum directed spanning tree of distance and direction.
    ``motif_accuracy`` is that of the answers about whole trees, strangers included.
    """
    rng, drawn = np.random.default_rng(0), list[tuple[int, str, list[tuple[list[int], list[int]]]]]()
    for tree, nodes in enumerate(known.graph.trees):
        for motif, triples in _triples(known, sorted(nodes)).items():
            chosen = rng.permutation(len(triples))[:TRIPLES].tolist()
            if chosen:
                drawn.append((tree, motif, [_in_order(known, triples[at]) for at in chosen]))
    if not drawn:
        return []
    layers, found = Layers.parse(plan.layers), []
    models = known.models.with_given(SideInformation(truth=known.graph))
    far = replace_infinite(distances(models, plan.distance, layers))
    pairs = np.array(
        sorted({pair for *_, triples in drawn for triple, _ in triples for pair in combinations(triple, 2)})
    )
    for name in tqdm(DIRECTIONS, desc=f"{known.truth.split}, triples", unit="score", file=sys.stderr):
        says = np.zeros_like(far)
        try:
            says[pairs[:, 0], pairs[:, 1]] = pair_scores(models, name, pairs, layers, rng)
        except MothrError as error:
            if "undefined" not in str(error):
                raise
            continue
        says -= says.T
        for tree, motif, ordered in drawn:
            solved = [
                _solve(far[np.ix_(triple, triple)], says[np.ix_(triple, triple)]) == parents
                for triple, parents in ordered
            ]
            about = known.kinds(tree)
            found.append(
                known.value(
                    tree, "triples_solved", float(np.mean(solved)), panel=motif, series=about, x=name, items=len(solved)
                )
            )
    for record in _published(known, plan):
        for tree, scores in record.tree_scores().items():
            score = scores["motif_accuracy"]
            if score is not None:
                about = known.kinds(tree)
                found.append(
                    known.value(tree, "motif_accuracy", score, panel="whole trees", series=about, x=name_of(record))
                )
    return found


def _in_order(known: Known, triple: Sequence[NodeId]) -> tuple[list[int], list[int]]:
    """Returns the sorted positions of three models, so that ties say nothing, and the place among them of each one's parent or -1."""
    nodes = sorted(triple, key=lambda node: known.place[node])
    above = [[nodes.index(parent) for parent in known.graph.parents[node] if parent in triple] for node in nodes]
    return [known.place[node] for node in nodes], [parents[0] if parents else -1 for parents in above]


def _solve(far: Array, says: Array) -> list[int]:
    """Returns the parent of each of a few models, -1 for the root, by MoTHer's rule."""
    parents: list[int] = arborescence(far + LAMBDA * far.mean() * (says < 0)).tolist()
    return parents


# --- clustering ---


def clusters(known: Known, plan: "Plan") -> list[Value]:
    """Returns the adjusted Rand index of clusterings of drawn sub-sets of all models; two models of one tree belong together."""
    if len(known.graph.trees) < 2:
        return []
    layers, found = Layers.parse(plan.layers), []
    labels = np.array([known.trees[node] for node in known.models.ids])
    far, angle = (distances(known.models, name, layers) for name in ("mean_abs", "cosine"))
    for share, draw, kept in _draws(known, plan):
        true, between = labels[kept], far[np.ix_(kept, kept)]
        related = angle[np.ix_(kept, kept)] < 1 - RELATED
        answers = {
            "Ward, number of trees told": ward(between, len(set(true.tolist()))), "Ward, largest gap": largest_gap(between),
            f"cosine above {RELATED:g}": connected_components(related, directed=False)[1],
        }  # fmt: skip
        for name, answer in answers.items():
            score = float(adjusted_rand_score(true, answer))
            value = known.value(0, "adjusted_rand", score, series=name, x=100 * share)
            found.append(value._replace(tree=-1, origin=f"{known.truth.split}, draw {draw}"))
    return found


def _draws(known: Known, plan: "Plan") -> Iterator[tuple[float, int, list[int]]]:
    """Yields a share, the number of the draw, and the sorted positions of the models that it keeps, at least two."""
    n = len(known.models)
    for share in SHARES:
        for draw in range(1 if share == 1 else plan.seeds):
            kept = sorted(np.random.default_rng(draw).permutation(n)[: round(share * n)].tolist())
            if len(kept) >= 2:
                yield share, draw, kept


# --- robustness ---


def robust(known: Known, plan: "Plan") -> list[Value]:
    """Returns the edge accuracy with models missing, by direction score, and by how near the nearest sibling is."""
    return _with_models_missing(known, plan) + _by_score(known, plan) + _by_sibling(known, plan)


def _methods(plan: "Plan") -> dict[str, tuple[Method, str]]:
    """Returns the methods that get a curve, by the name of the curve, with their registered names."""
    found = {method.direction: method for method in _grid(plan, directions=plan.directions).methods}
    return {name: (found[name], ablation.METHOD) for name in plan.directions} | {OWN: (find_method(OWN), OWN)}


def _with_models_missing(known: Known, plan: "Plan") -> list[Value]:
    found, methods = [], _methods(plan)
    runs = [(*drawn, name) for drawn in _draws(known, plan) for name in methods]
    for share, draw, kept, name in tqdm(runs, desc=f"{known.truth.split}, models missing", unit="run", file=sys.stderr):
        models = ModelSet(tuple(known.models.checkpoints[position] for position in kept))
        graph = known.graph.restricted(models.ids)
        if not graph.edges:
            continue
        left = {node: dataset.TruthNode(parents=parents) for node, parents in graph.parents.items()}
        truth = dataset.Truth(split=known.truth.split, version=known.truth.version, nodes=left)
        method, registered = methods[name]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MothrWarning)  # said of all models already
            record = evaluate.run(method, registered, known.folder, plan.setting, draw, models=models, truth=truth)
        _say_failed(record)
        by_tree: dict[int, list[Edge]] = {}
        for edge in graph.edges:
            by_tree.setdefault(known.trees[edge[1]], []).append(edge)
        for tree, edges in by_tree.items():
            found.append(
                known.value(
                    tree, "accuracy_by_share", _right(record, edges), series=name, x=100 * share, items=len(edges)
                )
            )
    return found


def _by_score(known: Known, plan: "Plan") -> list[Value]:
    return [
        known.value(tree, "accuracy_by_score", _right(record, edges), series=known.kinds(tree), x=name_of(record), items=len(edges))
        for record in _published(known, plan) for tree, edges in enumerate(known.edges) if edges
    ]  # fmt: skip


def _by_sibling(known: Known, plan: "Plan") -> list[Value]:
    far = distances(known.models, plan.distance, Layers.parse(plan.layers))

    def nearness(edge: Edge) -> str | None:
        parent, child = known.place[edge[0]], known.place[edge[1]]
        siblings = [known.place[node] for node in known.graph.children(edge[0]) if node != edge[1]]
        if not siblings or not 0 < far[parent, child] < np.inf:
            return None
        ratio = far[child, siblings].min() / far[parent, child]
        return next(text for limit, text in NEAR if ratio <= limit)

    order = [text for _, text in NEAR]
    found = list(_grouped(known, plan, "accuracy_by_sibling", nearness))
    return sorted(found, key=lambda value: order.index(str(value.x)))


# --- curves ---


def _grouped(known: Known, plan: "Plan", measure: str, key: Callable[[Edge], float | str | None]) -> Iterator[Value]:
    """Yields, per tree, shown method and value of ``key``, the share of edges found; edges without a value are left out."""
    shown = [
        record for record in _published(known, plan) if name_of(record) in (*plan.directions, *ablation.BOUNDS, OWN)
    ]
    for tree, edges in enumerate(known.edges):
        groups: dict[float | str, list[Edge]] = {}
        for edge in edges:
            x = key(edge)
            if x is not None:
                groups.setdefault(x, []).append(edge)
        for x, some in groups.items():
            for record in shown:
                yield known.value(tree, measure, _right(record, some), series=name_of(record), x=x, items=len(some))


def curves(known: Known, plan: "Plan") -> list[Value]:
    """Returns the share of edges found against the weight of the direction, and against how the child was made."""
    found = []
    for record in records(known, plan):
        name = name_of(record)
        if record.method == ablation.METHOD and name in (*plan.directions, *ablation.BOUNDS):
            weight = float(record.parameters["lambda_"])
            found += [
                known.value(tree, "accuracy_by_lambda", _right(record, edges), series=name, x=weight, items=len(edges))
                for tree, edges in enumerate(known.edges) if edges
            ]  # fmt: skip

    def trained(field: str) -> Callable[[Edge], float | None]:
        def key(edge: Edge) -> float | None:
            value = known.training(edge).get(field)
            return None if value is None else float(value)

        return key

    def copied(kind: str) -> Callable[[Edge], float | str | None]:
        def key(edge: Edge) -> float | str | None:
            return (
                (known.truth.nodes[edge[1]].transform or {}).get(SETTINGS[kind])
                if known.kind(edge[1]) == kind
                else None
            )

        return key

    against: Mapping[str, Callable[[Edge], float | str | None]] = {
        "rank": trained("rank"), "steps": trained("steps"), "depth": lambda edge: float(known.graph.depth(edge[1])),
        "precision": copied("quantized"), "pruning": copied("pruned"), "noise": copied("noised"),
    }  # fmt: skip
    for name, key in against.items():
        of = list(_grouped(known, plan, f"accuracy_by_{name}", key))
        found += sorted(of, key=lambda value: PRECISIONS.index(value.x) if value.x in PRECISIONS else 0)
    return found
