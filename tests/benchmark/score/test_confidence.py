"""Metrics of confidence and of relations: hand-computed numbers, and what holds for every answer."""

import math
from itertools import combinations, pairwise, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.score.confidence import adjacency_ap, aurc, brier, direction_auroc, ece
from mothr.benchmark.score.metrics import METRICS, per_tree, relation_f1, score

ALL = [name for name, metric in METRICS.items() if metric.of == "predictions"]
SURE = [adjacency_ap, aurc, brier, direction_auroc, ece]
KINDS = ["finetune", "adapter", "merge", "quantized"]


def answer(sure=None, *, relations=None, abstained=(), **parents):
    """Returns the prediction of ``node="its parents, one letter each"`` with confidence ``{"parent child": p}``."""
    graph = ModelGraph({node: tuple(named) for node, named in parents.items()})
    confidence = None if sure is None else {tuple(edge): p for edge, p in sure.items()}
    return Prediction(graph, confidence, abstained=frozenset(abstained), relations=relations)


def scored(truth, predicted):
    """Returns the metrics of whole predictions alone."""
    return {name: METRICS[name].value(truth, predicted) for name in ALL}


TREE = answer(a="", b="a", c="a", d="b", e="b")


@st.composite
def answers(draw, nodes=None):
    """Draws any Model Graph with probabilities (some left out, many tied), relations and abstentions."""
    size = draw(st.integers(0, 7)) if nodes is None else len(nodes)
    names = draw(st.permutations([f"n{place}" for place in range(size)] if nodes is None else nodes))
    parents = {
        node: tuple(
            draw(st.sets(st.sampled_from(names[:place]), max_size=draw(st.sampled_from([1, 1, 3])))) if place else ()
        )
        for place, node in enumerate(names)
    }
    graph = ModelGraph(parents)
    said = draw(
        st.lists(
            st.sampled_from([None, 0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0]),
            min_size=len(graph.edges),
            max_size=len(graph.edges),
        )
    )
    kinds = draw(st.lists(st.sampled_from([None, *KINDS]), min_size=size, max_size=size))
    return Prediction(
        graph,
        {edge: p for edge, p in zip(graph.edges, said, strict=True) if p is not None},
        abstained=frozenset(node for node in names if not parents[node] and draw(st.booleans())),
        relations={node: kind for node, kind in zip(graph.nodes, kinds, strict=True) if kind and parents[node]},
    )


@st.composite
def pairs(draw):
    """Draws a truth and an answer about the same nodes."""
    truth = draw(answers())
    return truth, draw(answers(nodes=truth.graph.nodes))


# What holds for every answer


@given(answers())
@settings(max_examples=25, deadline=None)
def test_the_truth_said_with_certainty_is_perfect(truth):
    certain = Prediction(truth.graph, dict.fromkeys(truth.graph.edges, 1.0), relations=truth.relations)
    for row in (score(certain, certain), *per_tree(certain, certain)):
        for name in ALL:
            assert row[name] in (None, 1.0 if METRICS[name].better == "higher" else 0.0), name
        defined = bool(truth.graph.edges) if "tree" not in row else row["brier"] is not None
        assert all((row[metric.__name__] is not None) == defined for metric in SURE)


@given(pairs(), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_names_play_no_part_and_values_are_in_range(both, generator):
    truth, predicted = both
    names = [f"m{place}" for place in range(len(truth.graph.nodes))]
    generator.shuffle(names)
    new = dict(zip(truth.graph.nodes, names, strict=True))
    before, after = scored(truth, predicted), scored(truth.relabel(new), predicted.relabel(new))
    for name in ALL:
        assert after[name] == (None if before[name] is None else pytest.approx(before[name], abs=1e-12)), name
        assert before[name] is None or 0 <= before[name] <= 1 + 1e-12, name


@given(pairs())
@settings(max_examples=15, deadline=None)
def test_who_gives_no_probability_or_relation_has_no_score(both):
    truth, predicted = both
    bare = score(truth, Prediction(predicted.graph))
    assert all(bare[name] is None for name in ALL)
    whole = score(truth, predicted)
    assert all(
        bare[name] == whole[name] for name in METRICS if name not in ALL
    )  # metrics of graphs do not look at the rest


@given(pairs())
@settings(max_examples=50, deadline=None)
def test_orders_of_ties_are_averaged(both):
    """AURC against its definition, over every order of what ties."""
    truth, predicted = both
    if not predicted.confidence or len(predicted.graph.edges) > 5:
        return
    sure = {edge: predicted.confidence.get(edge, 0.5) for edge in predicted.graph.edges}
    orders = [order for order in permutations(sure) if all(sure[one] >= sure[other] for one, other in pairwise(order))]
    wrong = [[edge not in truth.graph.edges for edge in order] for order in orders]
    areas = [sum(sum(row[:k]) / k for k in range(1, len(row) + 1)) / len(row) for row in wrong]
    assert aurc(truth, predicted) == pytest.approx(sum(areas) / len(areas))


@given(pairs())
@settings(max_examples=50, deadline=None)
def test_distinct_scores_agree_with_sklearn(both):
    truth, predicted = both
    sure = {edge: (place + 1) / 100 for place, edge in enumerate(predicted.graph.edges)}
    predicted = Prediction(predicted.graph, sure)
    if not truth.graph.edges or not sure:
        return
    near = {frozenset(edge): p for edge, p in sure.items()}
    every = [frozenset(pair) for pair in combinations(truth.graph.nodes, 2)]
    adjacent = [pair in {frozenset(edge) for edge in truth.graph.edges} for pair in every]
    if {pair for pair, true in zip(every, adjacent, strict=True) if true} <= near.keys():  # no tie then that matters
        assert adjacency_ap(truth, predicted) == pytest.approx(
            average_precision_score(adjacent, [near.get(pair, 0) for pair in every])
        )
    candidates = [
        (way in truth.graph.edges, sure.get(way, 1 - sure.get(way[::-1], 0)))
        for edge in truth.graph.edges if frozenset(edge) in near for way in (edge, edge[::-1])
    ]  # fmt: skip
    expected = roc_auc_score(*zip(*candidates, strict=True)) if candidates else None
    assert direction_auroc(truth, predicted) == (None if expected is None else pytest.approx(expected))


# By hand


def test_brier_and_a_probability_left_out():
    predicted = answer(
        {"ab": 0.9, "ac": 0.6, "ae": 0.2}, a="", b="a", c="a", d="b", e="a"
    )  # e's parent is wrong; d's is unsaid
    assert brier(TREE, predicted) == pytest.approx((0.1**2 + 0.4**2 + 0.5**2 + 0.2**2) / 4)


def test_calibration_error_of_twenty_edges_has_four_bins():
    nodes = [f"{place:02}" for place in range(20)]
    truth = Prediction(ModelGraph({"root": (), **dict.fromkeys(nodes, ("root",))}))
    wrong = {nodes[place]: (nodes[0],) for place in (1, 2, 3, 9)}
    graph = ModelGraph({**truth.graph.parents, **wrong})
    sure = {(parent, child): (int(child) + 1) / 100 + 0.5 for parent, child in graph.edges}
    # Bins of five in order of confidence: right 2, 4, 5, 5 of 5; mean confidence 0.53, 0.58, 0.63, 0.68.
    expected = (abs(2 / 5 - 0.53) + abs(4 / 5 - 0.58) + (1 - 0.63) + (1 - 0.68)) / 4
    assert ece(truth, Prediction(graph, sure)) == pytest.approx(expected)
    assert ece(truth, Prediction(graph, dict.fromkeys(sure, 16 / 20))) == pytest.approx(0)  # all tie, in one bin
    assert ece(truth, Prediction(graph, dict.fromkeys(sure, 0.5))) == pytest.approx(0.3)


def test_risk_and_coverage():
    wrong_last = answer({"ab": 0.9, "ac": 0.8, "bd": 0.7, "ae": 0.1}, a="", b="a", c="a", d="b", e="a")
    assert aurc(TREE, wrong_last) == pytest.approx((0 + 0 + 0 + 1 / 4) / 4)
    wrong_first = answer({"ab": 0.1, "ac": 0.8, "bd": 0.7, "ae": 0.9}, a="", b="a", c="a", d="b", e="a")
    assert aurc(TREE, wrong_first) == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    says_nothing = answer(dict.fromkeys(("ab", "ac", "bd", "ae"), 0.9), a="", b="a", c="a", d="b", e="a")
    assert aurc(TREE, says_nothing) == pytest.approx(1 / 4)  # the share of wrong edges


def test_an_abstention_is_not_covered_and_costs_recall_alone():
    silent = answer({"ab": 0.9, "ac": 0.8, "bd": 0.7}, abstained="e", a="", b="a", c="a", d="b", e="")
    found = score(TREE, silent)
    assert (found["aurc"], found["edge_precision"], found["edge_recall"], found["false_parent_rate"]) == (
        0.0,
        1.0,
        3 / 4,
        0.0,
    )
    assert found["root_precision"] == 1 / 2
    named = answer({"ab": 0.9, "ac": 0.8, "bd": 0.7, "ae": 0.1}, abstained="e", a="", b="a", c="a", d="b", e="a")
    for metric in SURE:
        if metric is not adjacency_ap:  # where a pair more is among the unsaid
            assert metric(TREE, named) == metric(TREE, silent)
    assert score(TREE, named)["edge_precision"] == 3 / 4  # a graph's metrics take the graph as it is


def test_directions():
    turned = answer({"ba": 0.6, "ac": 0.8, "bd": 0.55, "be": 0.9}, b="", a="b", c="a", d="b", e="b")
    # True directions score 0.4, 0.8, 0.55, 0.9, the others 0.6, 0.2, 0.45, 0.1: of 16 comparisons 0.4 loses two and 0.55 one.
    assert direction_auroc(TREE, turned) == pytest.approx(13 / 16)
    assert direction_auroc(TREE, answer(dict.fromkeys(("ba", "ac"), 0.5), b="", a="b", c="a", d="", e="")) == 0.5
    tied = answer(
        {"ab": 0.7, "ca": 0.7}, c="", a="c", b="a", d="", e=""
    )  # 0.7 and 1 - 0.7; 0.3 and 0.7: one won, two tied, one lost
    assert direction_auroc(TREE, tied) == pytest.approx(0.5)
    assert direction_auroc(TREE, answer({"cd": 0.7}, a="", b="", c="", d="c", e="")) is None


def test_adjacent_pairs():
    found = answer(
        {"ab": 0.9, "cd": 0.8, "db": 0.7}, a="", b="ad", c="", d="c", e=""
    )  # d over b is turned round: the pair counts
    # Ten pairs, four adjacent: hits at ranks 1 and 3, and two more among the seven that nobody named, in any order.
    orders = [1 + 2 / 3 + 3 / (3 + one) + 4 / (3 + other) for one, other in combinations(range(1, 8), 2)]
    assert adjacency_ap(TREE, found) == pytest.approx(sum(orders) / len(orders) / 4)


def test_each_tree_is_scored_by_itself_and_edges_from_elsewhere_are_wrong():
    truth = answer(a="", b="a", x="", y="x")
    first, second = per_tree(truth, answer({"ab": 1.0, "by": 0.8}, a="", b="a", x="", y="b"))
    assert (first["brier"], first["aurc"], first["adjacency_ap"], first["direction_auroc"]) == (0.0, 0.0, 1.0, 1.0)
    assert second["brier"] == pytest.approx(0.64)
    assert second["aurc"] == 1.0
    assert second["adjacency_ap"] == pytest.approx(1 / 2)  # the pair of b and y first, that of x and y second
    assert second["direction_auroc"] is None


def test_relations():
    truth = answer(
        relations={"b": "finetune", "c": "adapter", "d": "finetune", "e": "merge"}, a="", b="a", c="a", d="b", e="bc"
    )
    said = answer(
        relations={"a": "finetune", "b": "finetune", "c": "finetune", "e": "merge"}, d="", a="d", b="a", c="a", e="bc"
    )
    # finetune: true b, d; said a, b, c. adapter: true c, never said. merge: right. quantized: neither true nor said.
    assert relation_f1(truth, said) == pytest.approx((2 * 1 / 5 + 0 + 1) / 3)
    assert relation_f1(truth, answer(relations={"b": "quantized"}, a="", b="a", c="", d="", e="")) == 0.0
    assert relation_f1(truth, answer(relations={}, a="", b="a", c="", d="", e="")) is None
    assert relation_f1(TREE, said) is None  # a truth that knows no relations
    partly = answer(relations={"b": "adapter"}, a="", b="a", c="a")
    assert (
        relation_f1(partly, answer(relations={"b": "adapter", "c": "merge"}, a="", b="a", c="a")) == 1.0
    )  # nobody knows c's


def test_several_parents_are_several_events():
    truth = answer(a="", b="", m="ab")
    assert brier(truth, answer({"am": 0.9, "bm": 0.6}, a="", b="", m="ab")) == pytest.approx((0.01 + 0.16) / 2)
    assert aurc(truth, answer({"am": 0.9}, a="", b="", m="a")) == 0.0


def test_nothing_to_score():
    empty = Prediction(ModelGraph({}), {}, relations={})
    assert all(score(empty, empty)[name] is None for name in ALL)
    alone = answer(a="", b="")
    found = score(alone, answer({"ab": 0.8}, a="", b="a"))
    assert (found["brier"], found["aurc"], found["adjacency_ap"]) == (pytest.approx(0.64), 1.0, None)
    assert not math.isnan(found["ece"])
