"""What methods answer with models missing, other scores and other copies, on forests where that is known."""

import numpy as np
import pytest

from mothr.baselines.parts.directions import DIRECTIONS
from mothr.baselines.studies import robustness
from mothr.baselines.studies.claims import recovery, report, table, triples
from mothr.baselines.studies.claims.measures import mean_points
from mothr.baselines.studies.claims.settings import ClaimSettings
from mothr.baselines.studies.claims.table import CLAIMS
from mothr.baselines.studies.datasets import OpenedDataset
from mothr.benchmark.run import evaluate

NAMES = tuple(f"layers.0.attention.{part}_proj.weight" for part in "qkvo")
SHAPE = (None, 0, 0, 1, 1)
SETTINGS = ClaimSettings(directions=("norm",), seeds=2)


def forest(trees=2, seed=0):
    """Returns trees of which norm tells every direction; the last leaf of each is a copy in int8, a second one has rank 4 or 8."""
    rng, nodes = np.random.default_rng(seed), []
    for tree in range(trees):
        start = len(nodes)
        for place, above in enumerate(SHAPE):
            if above is None:
                weights, about = {name: rng.laplace(0, 1, size=(12, 12)) for name in NAMES}, {}
            else:
                weights = {
                    name: value + rng.normal(0, 0.3, size=(12, 12)) for name, value in nodes[start + above][0].items()
                }
                about = {
                    "relation": "finetune",
                    "subtype": "lora",
                    "training": {"rank": 4 + 4 * (tree % 2), "steps": 9},
                }
            if place == len(SHAPE) - 1:
                precision = ("int8", "float16")[tree % 2]
                about = {
                    "relation": "quantized",
                    "subtype": precision,
                    "transform": {"kind": "quantized", "precision": precision},
                }
            nodes.append((weights, [] if above is None else [start + above], about))
    return nodes


@pytest.fixture(scope="module")
def two(tmp_path_factory, write_dataset):
    """Two trees of five, never to be changed; with a cache of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTHR_CACHE", str(tmp_path_factory.mktemp("cache")))
        folder = tmp_path_factory.mktemp("robust") / "two"
        write_dataset(folder, forest())
        known = OpenedDataset.open(folder)
        robustness.records(known, SETTINGS)
    return known


def by(values, *names):
    """Returns the value of each choice of the fields ``names``, each once."""
    found = {}
    for value in values:
        found.setdefault(tuple(getattr(value, name) for name in names), []).append(value.value)
    return found


def test_records_are_made_once_and_are_the_harness_s(two):
    records = robustness.records(two, SETTINGS)
    assert robustness.records(two, SETTINGS) is records
    [norm] = [one for one in robustness.published_records(two, SETTINGS) if robustness.compared_name(one) == "norm"]
    method, registered = robustness.compared_methods(SETTINGS)["norm"]
    alone = evaluate.run(method, registered, two.folder, "known-trees")
    assert (norm.parents, norm.parameters) == (alone.parents, alone.parameters)
    assert {robustness.compared_name(one) for one in robustness.published_records(two, SETTINGS)} == {
        *DIRECTIONS,
        "linea",
    }


def test_triples_are_solved_by_the_truth_and_by_a_score_that_is_right(two):
    found = by(triples.triples_solved(two, SETTINGS), "measure", "panel", "x")
    for panel in ("grandparent, parent, child", "parent and two children"):
        assert found["triples_solved", panel, "oracle"] == found["triples_solved", panel, "norm"] == [1, 1]
        assert {name for _, where, name in found if where == panel} == set(DIRECTIONS)
    assert found["motif_accuracy", "whole trees", "norm"] == [1, 1]


def test_triples_with_three_edges_or_three_strangers_are_none(tmp_path, write_dataset):
    nodes = forest(1)
    nodes[2] = (nodes[2][0], [0, 1], {"relation": "merge"})  # a shortcut from 0 to 2 by way of 1
    ids = write_dataset(tmp_path / "merged", nodes)
    known = OpenedDataset.open(tmp_path / "merged")
    named = [
        [tuple(ids.index(node) for node in triple) for triple in part]
        for part in triples.connected_triples(known, sorted(ids)).values()
    ]
    assert {frozenset(triple) for triple in named[0]} == {frozenset({0, 1, 3}), frozenset({0, 1, 4})}
    assert {frozenset(triple) for triple in named[1]} == {
        frozenset({1, 2, 3}),
        frozenset({1, 2, 4}),
        frozenset({1, 3, 4}),
    }
    for part in named:
        for triple in part:
            positions, parents = triples.in_model_order(known, [ids[place] for place in triple])
            assert positions == sorted(positions)
            assert sorted(parents).count(-1) == 1


def test_a_score_that_cannot_tell_is_not_helped_by_the_order_of_models(two):
    solved = triples.solve(np.ones((3, 3)) - np.eye(3), np.zeros((3, 3)))
    orders = {tuple(triples.in_model_order(two, triple)[1]) for tree in two.graph.trees
              for part in triples.connected_triples(two, sorted(tree)).values() for triple in part}  # fmt: skip
    assert len(orders) > 1
    assert len([order for order in orders if list(order) == solved]) <= 1


def test_trees_of_other_origin_are_told_apart_at_every_share(two):
    found = by(recovery.clustering(two, SETTINGS), "series", "x")
    assert {x for _, x in found} == {100, 75, 50, 25}  # a tenth of ten is one model, which has no other
    assert all(value == [1] * len(value) for (series, _), value in found.items() if series != "Ward, largest gap")
    assert [len(found["cosine above 0.1", x]) for x in (100, 75)] == [1, 2]


def test_one_tree_cannot_be_told_apart(tmp_path, write_dataset):
    write_dataset(tmp_path / "one", forest(1))
    assert recovery.clustering(OpenedDataset.open(tmp_path / "one"), SETTINGS) == []


def test_missing_models_are_bridged_by_their_nearest_ancestors(two):
    found = recovery.robustness(two, SETTINGS)
    whole = by([value for value in found if value.x == 100], "series")
    assert whole["norm",] == [1, 1]
    kept = [value for value in found if value.measure == "accuracy_by_share" and value.series == "norm"]
    assert {value.x for value in kept} >= {50, 75, 100}
    assert {value.value for value in kept} == {1}
    assert all(value.items <= 4 for value in kept)


def test_every_score_and_the_own_method_are_compared_and_siblings_classed(two):
    found = recovery.robustness(two, SETTINGS)
    scores = by([value for value in found if value.measure == "accuracy_by_score"], "x")
    assert {x for (x,) in scores} == {*DIRECTIONS, "linea"}
    assert scores["oracle",] == scores["norm",] == [1, 1]
    assert len(scores["random",]) == 2 * SETTINGS.seeds
    near = by([value for value in found if value.measure == "accuracy_by_sibling"], "x")
    assert {x for (x,) in near} <= {"0.9 to 1.2", "1.2 to 1.6", "above 1.6"}


def test_curves_go_over_weights_ranks_depths_and_precisions(two):
    found = by(recovery.curves(two, SETTINGS), "measure", "series", "x")
    assert {x for measure, series, x in found if (measure, series) == ("accuracy_by_lambda", "norm")} == set(
        SETTINGS.lambdas
    )
    assert found["accuracy_by_rank", "norm", 4] == found["accuracy_by_rank", "norm", 8] == [1]
    assert found["accuracy_by_depth", "norm", 2] == [1, 1]
    assert {x for measure, _, x in found if measure == "accuracy_by_precision"} == {"int8", "float16"}
    assert found["accuracy_by_lambda", "oracle", 0.3] == [1, 1]
    assert not [key for key in found if key[0] in ("accuracy_by_pruning", "accuracy_by_noise")]


@pytest.mark.parametrize("name", ["5-motifs", "7-robustness", "curves"])
def test_each_has_a_table_and_a_figure_with_a_panel_for_each_measure(two, name):
    points = mean_points(table.measurements(CLAIMS[name], [two], SETTINGS))
    assert set(points.trees) <= {1, 2}
    assert points["mean"].between(points.low.fillna(0), points.high.fillna(1)).all()
    drawn = report.claim_figure(CLAIMS[name], points, "")
    assert len([axes for axes in drawn.subfigs[0].axes if axes.axison]) == len(
        points[["measure", "panel"]].drop_duplicates()
    )


def test_a_measure_with_one_x_alone_is_no_curve(tmp_path, write_dataset):
    write_dataset(tmp_path / "one", forest(1))
    measures = set(table.measurements(CLAIMS["curves"], [OpenedDataset.open(tmp_path / "one")], SETTINGS).measure)
    assert measures == {"accuracy_by_lambda", "accuracy_by_depth"}
