"""Metrics of what a method says about its own edges: can 0.93 be trusted?

The event is one predicted edge whose child is a node of ``truth``: it has happened if that very edge is true, direction
included. Its probability p is the method's confidence in it; where a method gives probabilities and leaves out this one, it
counts as :data:`UNSAID`, so that leaving out what one is not sure of gains nothing. All are None where a method gives no
probability at all or nothing is left to score, and none depends on the order of models or edges. In a Model Graph that is no
tree each edge of a merge is an event of its own.

A model that is abstained on has no parents in the graph and so no events; if parents are named all the same, they are passed
over here. So an answer that abstains is judged on what it does say: read these beside ``edge_recall``, which falls.
"""

import math
from itertools import groupby

import numpy as np
from scipy.stats import rankdata

from mothr.benchmark.graph import NodeId
from mothr.benchmark.prediction import Prediction

UNSAID = 0.5
"""The probability of an edge whose confidence is left out."""
BIN = 5
"""How many edges a bin of the calibration error has at the least, where there are as many and none tie."""
MOST_BINS = 10
"""The most bins it has."""
DIGITS = 12
"""Decimals to which p and 1 - p are compared, so that 1 - 0.7 ties with 0.3."""
Event = tuple[float, bool]
"""The probability of a predicted edge, and whether it is true."""


def _claims(truth: Prediction, predicted: Prediction) -> list[tuple[NodeId, NodeId, float]]:
    """Returns (parent, child, probability) of each scored edge; empty where a method gives no probability."""
    sure = predicted.confidence
    if not sure:
        return []
    answered = [child for child in truth.graph.nodes if child not in predicted.abstained]
    edges = [(parent, child) for child in answered for parent in predicted.graph.parents[child]]
    return [(*edge, sure.get(edge, UNSAID)) for edge in edges]


def _events(truth: Prediction, predicted: Prediction) -> list[Event]:
    """Returns the probability of each scored edge and whether it is true, the surest first."""
    claims = _claims(truth, predicted)
    return sorted(((p, parent in truth.graph.parents[child]) for parent, child, p in claims), reverse=True)


def _tied(events: list[Event]) -> list[tuple[int, int]]:
    """Returns (how many events, how many of them happened) for each probability, the largest first."""
    groups = [[happened for _, happened in group] for _, group in groupby(events, key=lambda event: event[0])]
    return [(len(group), sum(group)) for group in groups]


def brier(truth: Prediction, predicted: Prediction) -> float | None:
    """Returns the mean of (p - 1)^2 over the right and p^2 over the wrong predicted edges (Brier 1950); None without one."""
    events = _events(truth, predicted)
    return math.fsum((p - happened) ** 2 for p, happened in events) / len(events) if events else None


def ece(truth: Prediction, predicted: Prediction) -> float | None:
    """Returns the expected calibration error (Naeini et al. 2015): sum over bins of m/n |share that is true - mean p|.

    Bins hold equal numbers of edges (as in Nixon et al. 2019), since most probabilities lie near 1: n edges make
    n / :data:`BIN` bins, rounded down, one at the least and :data:`MOST_BINS` at the most: 20 edges make four bins of 5. Equal
    probabilities share the bin of their middle rank. None without a predicted edge. A constant that equals the share of right
    edges scores 0, so read it beside ``brier``.
    """
    events = _events(truth, predicted)
    n, before = len(events), 0
    bins = min(MOST_BINS, max(1, n // BIN))
    gaps: dict[int, list[float]] = {}
    for size, _ in _tied(events):
        middle = (2 * before + size) * bins // (2 * n)
        gaps.setdefault(middle, []).extend(happened - p for p, happened in events[before : before + size])
        before += size
    return math.fsum(abs(math.fsum(group)) for group in gaps.values()) / n if n else None


def aurc(truth: Prediction, predicted: Prediction) -> float | None:
    """Returns the area under the risk-coverage curve: mean over k of the share of wrong edges among the k surest.

    The curve is that of Geifman and El-Yaniv (2017, arXiv 1705.08500), its area that of Geifman et al. (2019, arXiv 1805.08206)
    with the 0/1 loss of each predicted edge. Of equal probabilities the mean over all their orders is taken. What is abstained
    on is not covered at any point: the curve ends where the answers do, and its area is the mean over what is covered. None
    without a predicted edge. Confidence that says nothing scores the share of wrong edges, 1 - ``edge_precision``.
    """
    events = _events(truth, predicted)
    before = wrong = 0
    risks: list[float] = []
    for size, happened in _tied(events):
        share = (size - happened) / size
        risks += [(wrong + share * taken) / (before + taken) for taken in range(1, size + 1)]
        before, wrong = before + size, wrong + size - happened
    return math.fsum(risks) / len(risks) if risks else None


def direction_auroc(truth: Prediction, predicted: Prediction) -> float | None:
    """Returns the area under the ROC curve of telling the two directions of related models apart (Mann-Whitney; ties half).

    Over the pairs that are adjacent in truth and prediction, both directions are candidates: the predicted one is scored p, the
    other 1 - p, and the true one is to be found. None without such a pair.
    """
    right: list[float] = []
    for parent, child, p in _claims(truth, predicted):
        if parent in truth.graph.parents[child]:
            right.append(p)
        elif child in truth.graph.parents.get(parent, ()):
            right.append(1 - p)
    m = len(right)
    if not m:
        return None
    ranks = rankdata(
        np.round([*right, *(1 - p for p in right)], DIGITS)
    )  # of a true and a false candidate for each pair
    return float((ranks[:m].sum() - m * (m + 1) / 2) / m**2)


def adjacency_ap(truth: Prediction, predicted: Prediction) -> float | None:
    """Returns the average precision of finding the adjacent pairs among all unordered pairs of models.

    Pairs are ranked by the confidence of the predicted edge between them, those without one last. Of equal ranks the mean over
    all their orders is taken (McSherry and Najork 2008, section 3). The pairs are those of nodes of ``truth``, and those of a
    child in it with a predicted parent outside it. None where ``truth`` has no edge.
    """
    nodes, adjacent = truth.graph.parents, {frozenset(edge) for edge in truth.graph.edges}
    claims = _claims(truth, predicted)
    if not adjacent or not predicted.confidence:
        return None
    groups = _tied(sorted(((p, frozenset((parent, child)) in adjacent) for parent, child, p in claims), reverse=True))
    pairs = math.comb(len(nodes), 2) + sum(parent not in nodes for parent, _, _ in claims)
    groups.append((pairs - len(claims), len(adjacent) - sum(found for _, found in groups)))
    before = hits = 0
    terms: list[float] = []
    for size, found in groups:
        if found:
            place = np.arange(
                size
            )  # of a pair within its group; the pairs before it there hold so many hits on average:
            among = place * ((found - 1) / max(size - 1, 1))
            terms += (found / size * (hits + 1 + among) / (before + 1 + place)).tolist()
        before, hits = before + size, hits + found
    return math.fsum(terms) / len(adjacent)
