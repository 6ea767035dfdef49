"""Metrics of confidence and of relations: values computed by hand, and properties of all predictions."""

import math
from itertools import combinations, pairwise, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.score.confidence import adjacency_ap, aurc, brier, direction_auroc, ece
from mothr.benchmark.score.metrics import METRICS, per_tree, score
from mothr.benchmark.score.relations import relation_f1

ALL = [name for name, metric in METRICS.items() if metric.inputs == "predictions"]
CONFIDENCE_METRICS = [adjacency_ap, aurc, brier, direction_auroc, ece]
KINDS = ["finetune", "adapter", "merge", "quantized"]


def predict(confidence=None, *, relations=None, abstained=(), **parents):
    """Returns the prediction with ``node="its parents, one letter each"`` and confidence ``{"parent child": p}``."""
    graph = ModelGraph({node: tuple(named) for node, named in parents.items()})
    confidence = None if confidence is None else {tuple(edge): p for edge, p in confidence.items()}
    return Prediction(graph, confidence, abstained=frozenset(abstained), relations=relations)


def scored(truth, predicted):
    """Returns the metrics that take whole predictions."""
    return {name: METRICS[name].value(truth, predicted) for name in ALL}


TREE = predict(a="", b="a", c="a", d="b", e="b")


@st.composite
def predictions(draw, nodes=None):
    """Draws a Model Graph with probabilities (some left out, many equal), relations and abstentions."""
    size = draw(st.integers(0, 7)) if nodes is None else len(nodes)
    names = draw(st.permutations([f"n{index}" for index in range(size)] if nodes is None else nodes))
    parents = {
        node: tuple(
            draw(st.sets(st.sampled_from(names[:index]), max_size=draw(st.sampled_from([1, 1, 3])))) if index else ()
        )
        for index, node in enumerate(names)
    }
    graph = ModelGraph(parents)
    probabilities = draw(
        st.lists(
            st.sampled_from([None, 0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0]),
            min_size=len(graph.edges),
            max_size=len(graph.edges),
        )
    )
    kinds = draw(st.lists(st.sampled_from([None, *KINDS]), min_size=size, max_size=size))
    return Prediction(
        graph,
        {edge: p for edge, p in zip(graph.edges, probabilities, strict=True) if p is not None},
        abstained=frozenset(node for node in names if not parents[node] and draw(st.booleans())),
        relations={node: kind for node, kind in zip(graph.nodes, kinds, strict=True) if kind and parents[node]},
    )


@st.composite
def pairs(draw):
    """Draws a truth and a prediction of the same nodes."""
    truth = draw(predictions())
    return truth, draw(predictions(nodes=truth.graph.nodes))


# Properties of all predictions


@given(predictions())
@settings(max_examples=25, deadline=None)
def test_the_truth_with_confidence_one_is_perfect(truth):
    certain = Prediction(truth.graph, dict.fromkeys(truth.graph.edges, 1.0), relations=truth.relations)
    for row in (score(certain, certain), *per_tree(certain, certain)):
        for name in ALL:
            assert row[name] in (None, 1.0 if METRICS[name].better == "higher" else 0.0), name
        defined = bool(truth.graph.edges) if "tree" not in row else row["brier"] is not None
        assert all((row[metric.__name__] is not None) == defined for metric in CONFIDENCE_METRICS)


@given(pairs(), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_names_have_no_effect_and_values_are_in_range(both, generator):
    truth, predicted = both
    names = [f"m{index}" for index in range(len(truth.graph.nodes))]
    generator.shuffle(names)
    new = dict(zip(truth.graph.nodes, names, strict=True))
    before, after = scored(truth, predicted), scored(truth.relabel(new), predicted.relabel(new))
    for name in ALL:
        assert after[name] == (None if before[name] is None else pytest.approx(before[name], abs=1e-12)), name
        assert before[name] is None or 0 <= before[name] <= 1 + 1e-12, name


@given(pairs())
@settings(max_examples=15, deadline=None)
def test_metrics_are_undefined_without_confidence_and_relations(both):
    truth, predicted = both
    bare = score(truth, Prediction(predicted.graph))
    assert all(bare[name] is None for name in ALL)
    whole = score(truth, predicted)
    assert all(
        bare[name] == whole[name] for name in METRICS if name not in ALL
    )  # metrics of graphs do not depend on the other parts


@given(pairs())
@settings(max_examples=50, deadline=None)
def test_orders_of_ties_are_averaged(both):
    """AURC agrees with its definition, averaged over all orders of equal probabilities."""
    truth, predicted = both
    if not predicted.confidence or len(predicted.graph.edges) > 5:
        return
    confidence = {edge: predicted.confidence.get(edge, 0.5) for edge in predicted.graph.edges}
    orders = [
        order
        for order in permutations(confidence)
        if all(confidence[edge] >= confidence[following] for edge, following in pairwise(order))
    ]
    wrong = [[edge not in truth.graph.edges for edge in order] for order in orders]
    areas = [sum(sum(row[:k]) / k for k in range(1, len(row) + 1)) / len(row) for row in wrong]
    assert aurc(truth, predicted) == pytest.approx(sum(areas) / len(areas))


@given(pairs())
@settings(max_examples=50, deadline=None)
def test_distinct_scores_agree_with_sklearn(both):
    truth, predicted = both
    confidence = {edge: (index + 1) / 100 for index, edge in enumerate(predicted.graph.edges)}
    predicted = Prediction(predicted.graph, confidence)
    if not truth.graph.edges or not confidence:
        return
    by_pair = {frozenset(edge): p for edge, p in confidence.items()}
    every = [frozenset(pair) for pair in combinations(truth.graph.nodes, 2)]
    adjacent = [pair in {frozenset(edge) for edge in truth.graph.edges} for pair in every]
    # If all adjacent pairs are predicted, ties have no effect.
    if {pair for pair, true in zip(every, adjacent, strict=True) if true} <= by_pair.keys():
        assert adjacency_ap(truth, predicted) == pytest.approx(
            average_precision_score(adjacent, [by_pair.get(pair, 0) for pair in every])
        )
    candidates = [
        (pair in truth.graph.edges, confidence.get(pair, 1 - confidence.get(pair[::-1], 0)))
        for edge in truth.graph.edges if frozenset(edge) in by_pair for pair in (edge, edge[::-1])
    ]  # fmt: skip
    expected = roc_auc_score(*zip(*candidates, strict=True)) if candidates else None
    assert direction_auroc(truth, predicted) == (None if expected is None else pytest.approx(expected))


# Values computed by hand


def test_brier_with_a_probability_left_out():
    predicted = predict(
        {"ab": 0.9, "ac": 0.6, "ae": 0.2}, a="", b="a", c="a", d="b", e="a"
    )  # the parent of e is wrong; the confidence of d is left out
    assert brier(TREE, predicted) == pytest.approx((0.1**2 + 0.4**2 + 0.5**2 + 0.2**2) / 4)


def test_calibration_error_of_twenty_edges_has_four_bins():
    nodes = [f"{index:02}" for index in range(20)]
    truth = Prediction(ModelGraph({"root": (), **dict.fromkeys(nodes, ("root",))}))
    wrong = {nodes[index]: (nodes[0],) for index in (1, 2, 3, 9)}
    graph = ModelGraph({**truth.graph.parents, **wrong})
    confidence = {(parent, child): (int(child) + 1) / 100 + 0.5 for parent, child in graph.edges}
    # Bins of five in order of confidence: right 2, 4, 5, 5 of 5; mean confidence 0.53, 0.58, 0.63, 0.68.
    expected = (abs(2 / 5 - 0.53) + abs(4 / 5 - 0.58) + (1 - 0.63) + (1 - 0.68)) / 4
    assert ece(truth, Prediction(graph, confidence)) == pytest.approx(expected)
    constant = dict.fromkeys(confidence, 16 / 20)  # all are equal, so there is one bin
    assert ece(truth, Prediction(graph, constant)) == pytest.approx(0)
    assert ece(truth, Prediction(graph, dict.fromkeys(confidence, 0.5))) == pytest.approx(0.3)


def test_risk_and_coverage():
    wrong_last = predict({"ab": 0.9, "ac": 0.8, "bd": 0.7, "ae": 0.1}, a="", b="a", c="a", d="b", e="a")
    assert aurc(TREE, wrong_last) == pytest.approx((0 + 0 + 0 + 1 / 4) / 4)
    wrong_first = predict({"ab": 0.1, "ac": 0.8, "bd": 0.7, "ae": 0.9}, a="", b="a", c="a", d="b", e="a")
    assert aurc(TREE, wrong_first) == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    constant = predict(dict.fromkeys(("ab", "ac", "bd", "ae"), 0.9), a="", b="a", c="a", d="b", e="a")
    assert aurc(TREE, constant) == pytest.approx(1 / 4)  # the share of wrong edges


def test_an_abstention_is_not_covered_and_lowers_recall_only():
    abstaining = predict({"ab": 0.9, "ac": 0.8, "bd": 0.7}, abstained="e", a="", b="a", c="a", d="b", e="")
    result = score(TREE, abstaining)
    assert (result["aurc"], result["edge_precision"], result["edge_recall"], result["false_parent_rate"]) == (
        0.0,
        1.0,
        3 / 4,
        0.0,
    )
    assert result["root_precision"] == 1 / 2
    named = predict({"ab": 0.9, "ac": 0.8, "bd": 0.7, "ae": 0.1}, abstained="e", a="", b="a", c="a", d="b", e="a")
    for metric in CONFIDENCE_METRICS:
        if metric is not adjacency_ap:  # it ranks one more pair without a predicted edge
            assert metric(TREE, named) == metric(TREE, abstaining)
    assert score(TREE, named)["edge_precision"] == 3 / 4  # metrics of graphs ignore abstentions


def test_directions():
    reversed_ = predict({"ba": 0.6, "ac": 0.8, "bd": 0.55, "be": 0.9}, b="", a="b", c="a", d="b", e="b")
    # True directions score 0.4, 0.8, 0.55, 0.9, false directions 0.6, 0.2, 0.45, 0.1. Of 16 comparisons, 0.4 loses two and 0.55 one.
    assert direction_auroc(TREE, reversed_) == pytest.approx(13 / 16)
    assert direction_auroc(TREE, predict(dict.fromkeys(("ba", "ac"), 0.5), b="", a="b", c="a", d="", e="")) == 0.5
    tied = predict(
        {"ab": 0.7, "ca": 0.7}, c="", a="c", b="a", d="", e=""
    )  # true: 0.7 and 0.3; false: 0.3 and 0.7. One comparison is won, two are ties, one is lost.
    assert direction_auroc(TREE, tied) == pytest.approx(0.5)
    assert direction_auroc(TREE, predict({"cd": 0.7}, a="", b="", c="", d="c", e="")) is None


def test_adjacent_pairs():
    result = predict(
        {"ab": 0.9, "cd": 0.8, "db": 0.7}, a="", b="ad", c="", d="c", e=""
    )  # the edge of b and d has the reverse direction; the pair still counts
    # Ten pairs, four of them adjacent: at ranks 1 and 3, and two more among the seven pairs without a predicted edge.
    orders = [1 + 2 / 3 + 3 / (3 + third) + 4 / (3 + fourth) for third, fourth in combinations(range(1, 8), 2)]
    assert adjacency_ap(TREE, result) == pytest.approx(sum(orders) / len(orders) / 4)


def test_trees_are_scored_separately_and_edges_from_other_trees_are_wrong():
    truth = predict(a="", b="a", x="", y="x")
    first, second = per_tree(truth, predict({"ab": 1.0, "by": 0.8}, a="", b="a", x="", y="b"))
    assert (first["brier"], first["aurc"], first["adjacency_ap"], first["direction_auroc"]) == (0.0, 0.0, 1.0, 1.0)
    assert second["brier"] == pytest.approx(0.64)
    assert second["aurc"] == 1.0
    assert second["adjacency_ap"] == pytest.approx(1 / 2)  # first the pair of b and y, then the pair of x and y
    assert second["direction_auroc"] is None


def test_relations():
    truth = predict(
        relations={"b": "finetune", "c": "adapter", "d": "finetune", "e": "merge"}, a="", b="a", c="a", d="b", e="bc"
    )
    predicted = predict(
        relations={"a": "finetune", "b": "finetune", "c": "finetune", "e": "merge"}, d="", a="d", b="a", c="a", e="bc"
    )
    # finetune: true b, d; predicted a, b, c. adapter: true c, never predicted. merge: correct. quantized: does not occur.
    assert relation_f1(truth, predicted) == pytest.approx((2 * 1 / 5 + 0 + 1) / 3)
    assert relation_f1(truth, predict(relations={"b": "quantized"}, a="", b="a", c="", d="", e="")) == 0.0
    assert relation_f1(truth, predict(relations={}, a="", b="a", c="", d="", e="")) is None
    assert relation_f1(TREE, predicted) is None  # the truth has no relations
    partly = predict(relations={"b": "adapter"}, a="", b="a", c="a")
    assert (
        relation_f1(partly, predict(relations={"b": "adapter", "c": "merge"}, a="", b="a", c="a")) == 1.0
    )  # the relation of c is unknown


def test_several_parents_are_several_events():
    truth = predict(a="", b="", m="ab")
    assert brier(truth, predict({"am": 0.9, "bm": 0.6}, a="", b="", m="ab")) == pytest.approx((0.01 + 0.16) / 2)
    assert aurc(truth, predict({"am": 0.9}, a="", b="", m="a")) == 0.0


def test_nothing_to_score():
    empty = Prediction(ModelGraph({}), {}, relations={})
    assert all(score(empty, empty)[name] is None for name in ALL)
    alone = predict(a="", b="")
    result = score(alone, predict({"ab": 0.8}, a="", b="a"))
    assert (result["brier"], result["aurc"], result["adjacency_ap"]) == (pytest.approx(0.64), 1.0, None)
    assert not math.isnan(result["ece"])
