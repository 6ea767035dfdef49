"""Metrics of the confidence of a method in its predicted edges.

An event is one predicted edge whose child is a node of the truth. It happens (y = 1) if this edge with this
direction is true, else y = 0. The probability p of the event is the confidence of the method in the edge. If a
method gives confidences but leaves out this one, p is :data:`DEFAULT_PROBABILITY`. So leaving out the doubtful
edges gives no advantage. In a graph with merges, each edge of a merge is an event of its own.

All metrics here are None if the method gives no confidence at all, or if there is nothing to score. None of
them depends on the order of models or edges.

A model that the method abstains on has no events; if parents are named for it, they are ignored here. So a
prediction with abstentions is judged only by the edges that it names. Read these metrics together with
``edge_recall``, which then falls.
"""

import math
from itertools import groupby

import numpy as np
from scipy.stats import rankdata

from mothr.benchmark.graph import NodeId
from mothr.benchmark.prediction import Prediction

DEFAULT_PROBABILITY = 0.5
"""The probability of an edge whose confidence is left out."""
MIN_BIN_SIZE = 5
"""The smallest number of events in a bin of the calibration error, if there are enough distinct probabilities."""
MAX_BINS = 10
"""The largest number of bins of the calibration error."""
COMPARED_DECIMALS = 12
"""Number of decimals to which p and 1 - p are compared, so that 1 - 0.7 equals 0.3."""
Event = tuple[float, bool]
"""The probability p of a predicted edge, and whether it is true (y)."""


def brier(truth: Prediction, predicted: Prediction) -> float | None:
    """Returns the Brier score (Brier 1950): the mean of (p - y)^2 over all events.

    Range [0, 1], lower is better. The constant p = 0.5 gives 0.25, which is the chance level. None without an
    event.
    """
    events = _events(truth, predicted)
    return math.fsum((p - happened) ** 2 for p, happened in events) / len(events) if events else None


def ece(truth: Prediction, predicted: Prediction) -> float | None:
    """Returns the expected calibration error (Naeini et al. 2015): the sum over bins b of n_b/n |mean y - mean p|.

    n is the number of events, and n_b the number of events in bin b. Bins hold equal numbers of events (as in
    Nixon et al. 2019), since most probabilities are near 1. There are max(1, min(MAX_BINS, floor(n /
    MIN_BIN_SIZE))) bins: 20 events make four bins of 5. Events of equal probability share the bin of their
    middle rank.

    Range [0, 1], lower is better. The chance level depends on the truth. None without an event. A constant
    probability that equals the share of correct edges scores 0, so read this metric together with ``brier``.
    """
    events = _events(truth, predicted)
    n, before = len(events), 0
    bins = min(MAX_BINS, max(1, n // MIN_BIN_SIZE))
    gaps: dict[int, list[float]] = {}
    for size, _ in _ties(events):
        middle = (2 * before + size) * bins // (2 * n)
        gaps.setdefault(middle, []).extend(happened - p for p, happened in events[before : before + size])
        before += size
    return math.fsum(abs(math.fsum(gap)) for gap in gaps.values()) / n if n else None


def aurc(truth: Prediction, predicted: Prediction) -> float | None:
    """Returns the area under the risk-coverage curve: the mean over k of the share of wrong edges among the first k.

    The n events are sorted by decreasing p, and k = 1..n. Among equal probabilities, the mean over all orders
    is taken. The curve is that of Geifman and El-Yaniv (2017, arXiv 1705.08500). Its area is that of Geifman et
    al. (2019, arXiv 1805.08206), with the 0/1 loss of each predicted edge. Models that the method abstains on
    are not covered at any k.

    Range [0, 1], lower is better. Confidence without information scores the share of wrong edges, 1 -
    ``edge_precision``. So the chance level depends on the truth. None without an event.
    """
    events = _events(truth, predicted)
    before = wrong = 0
    risks: list[float] = []
    for size, happened in _ties(events):
        wrong_share = (size - happened) / size
        risks += [(wrong + wrong_share * count) / (before + count) for count in range(1, size + 1)]
        before, wrong = before + size, wrong + size - happened
    return math.fsum(risks) / len(risks) if risks else None


def direction_auroc(truth: Prediction, predicted: Prediction) -> float | None:
    """Returns the area under the ROC curve that separates the true direction of an edge from the false direction.

    The m pairs that are adjacent in truth and prediction give two candidates each: the predicted direction has
    the score p, the reverse direction 1 - p. The area is the probability that a true candidate scores higher
    than a false candidate; ties count half. This is the Mann-Whitney statistic U / m^2.

    Range [0, 1], higher is better, chance level 0.5. None if no pair is adjacent in both graphs.
    """
    true_scores: list[float] = []
    for parent, child, p in _scored_edges(truth, predicted):
        if parent in truth.graph.parents[child]:
            true_scores.append(p)
        elif child in truth.graph.parents.get(parent, ()):
            true_scores.append(1 - p)
    m = len(true_scores)
    if not m:
        return None
    ranks = rankdata(np.round([*true_scores, *(1 - p for p in true_scores)], COMPARED_DECIMALS))
    return float((ranks[:m].sum() - m * (m + 1) / 2) / m**2)


def adjacency_ap(truth: Prediction, predicted: Prediction) -> float | None:
    """Returns the average precision of ranking all unordered pairs of models: are adjacent pairs ranked first?

    A pair is ranked by the confidence in the predicted edge between its models. Pairs without a predicted edge
    come last. The value is the mean of the precision at the rank of each truly adjacent pair. Among equal
    ranks, the mean over all orders is taken (McSherry and Najork 2008, section 3). The ranked pairs are those
    of nodes of the truth, and those of a child in the truth with a predicted parent outside it.

    Range [0, 1], higher is better. The chance level depends on the truth. None if the truth has no edge.
    """
    nodes, adjacent = truth.graph.parents, {frozenset(edge) for edge in truth.graph.edges}
    scored = _scored_edges(truth, predicted)
    if not adjacent or not predicted.confidence:
        return None
    ties = _ties(sorted(((p, frozenset((parent, child)) in adjacent) for parent, child, p in scored), reverse=True))
    pairs = math.comb(len(nodes), 2) + sum(parent not in nodes for parent, _, _ in scored)
    ties.append((pairs - len(scored), len(adjacent) - sum(hits for _, hits in ties)))
    before = hits_before = 0
    terms: list[float] = []
    for size, hits in ties:
        if hits:
            position = np.arange(size)  # of a pair within its tie
            expected_hits = position * ((hits - 1) / max(size - 1, 1))  # among the pairs before it in the tie
            terms += (hits / size * (hits_before + 1 + expected_hits) / (before + 1 + position)).tolist()
        before, hits_before = before + size, hits_before + hits
    return math.fsum(terms) / len(adjacent)


def _scored_edges(truth: Prediction, predicted: Prediction) -> list[tuple[NodeId, NodeId, float]]:
    """Returns (parent, child, p) of each event; an empty list if the method gives no confidence."""
    confidence = predicted.confidence
    if not confidence:
        return []
    children = [child for child in truth.graph.nodes if child not in predicted.abstained]
    edges = [(parent, child) for child in children for parent in predicted.graph.parents[child]]
    return [(*edge, confidence.get(edge, DEFAULT_PROBABILITY)) for edge in edges]


def _events(truth: Prediction, predicted: Prediction) -> list[Event]:
    """Returns (p, y) of each event, sorted by decreasing p."""
    scored = _scored_edges(truth, predicted)
    return sorted(((p, parent in truth.graph.parents[child]) for parent, child, p in scored), reverse=True)


def _ties(events: list[Event]) -> list[tuple[int, int]]:
    """Returns (number of events, number of them with y = 1) for each distinct p, by decreasing p."""
    groups = [[happened for _, happened in group] for _, group in groupby(events, key=lambda event: event[0])]
    return [(len(group), sum(group)) for group in groups]
