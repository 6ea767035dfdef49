"""The claims that are measured on predictions, on forests where the result is known."""

import numpy as np
import pytest

from mothr.baselines.parts.directions import DIRECTIONS
from mothr.baselines.studies.claims import recovery, report, runs, table, triples
from mothr.baselines.studies.claims.measures import mean_points
from mothr.baselines.studies.claims.settings import ClaimSettings
from mothr.baselines.studies.claims.table import CLAIMS
from mothr.baselines.studies.datasets import OpenedDataset
from mothr.benchmark.run.execute import execute
from mothr.benchmark.run.in_process import InProcess

NAMES = tuple(f"layers.0.attention.{part}_proj.weight" for part in "qkvo")
PARENTS = (None, 0, 0, 1, 1)
"""Parent of each node of a tree."""
SETTINGS = ClaimSettings(directions=("norm",), seeds=2)


def forest(trees=2, seed=0):
    """Returns trees in which the norm is right on every edge.

    The last leaf of each tree is a copy in int8 or float16. All other children have LoRA rank 4 or 8.
    """
    rng, nodes = np.random.default_rng(seed), []
    for tree in range(trees):
        start = len(nodes)
        for index, parent in enumerate(PARENTS):
            if parent is None:
                weights, record = {name: rng.laplace(0, 1, size=(12, 12)) for name in NAMES}, {}
            else:
                weights = {
                    name: value + rng.normal(0, 0.3, size=(12, 12)) for name, value in nodes[start + parent][0].items()
                }
                record = {
                    "relation": "finetune",
                    "subtype": "lora",
                    "training": {"rank": 4 + 4 * (tree % 2), "steps": 9},
                }
            if index == len(PARENTS) - 1:
                precision = ("int8", "float16")[tree % 2]
                record = {
                    "relation": "quantized",
                    "subtype": precision,
                    "transform": {"kind": "quantized", "precision": precision},
                }
            nodes.append((weights, [] if parent is None else [start + parent], record))
    return nodes


@pytest.fixture(scope="module")
def two(tmp_path_factory, write_dataset):
    """A data set of two trees of five models, with a cache of its own. No test changes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTHR_CACHE", str(tmp_path_factory.mktemp("cache")))
        folder = tmp_path_factory.mktemp("robust") / "two"
        write_dataset(folder, forest())
        data = OpenedDataset.open(folder)
        runs.records(data, SETTINGS)
    return data


def values_by(measurements, *fields):
    """Returns the values of the measurements, grouped by the values of ``fields``."""
    groups = {}
    for measurement in measurements:
        groups.setdefault(tuple(getattr(measurement, field) for field in fields), []).append(measurement.value)
    return groups


def test_runs_are_made_once_and_equal_single_runs(two):
    records = runs.records(two, SETTINGS)
    assert runs.records(two, SETTINGS) is records
    [norm] = [record for record in runs.published_records(two, SETTINGS) if runs.compared_name(record) == "norm"]
    [(_, single)] = execute([runs.compared_requests(SETTINGS)["norm"]], two.folder, two.truth, InProcess())
    assert (norm.parents, norm.parameters) == (single.parents, single.parameters)
    assert {runs.compared_name(record) for record in runs.published_records(two, SETTINGS)} == {
        *DIRECTIONS,
        "linea",
    }


def test_triples_are_solved_with_the_true_direction_and_with_a_score_that_is_right(two):
    values = values_by(triples.triples_solved(two, SETTINGS), "measure", "panel", "x")
    for kind in ("grandparent, parent, child", "parent and two children"):
        assert values["triples_solved", kind, "oracle"] == values["triples_solved", kind, "norm"] == [1, 1]
        assert {name for _, panel, name in values if panel == kind} == set(DIRECTIONS)
    assert values["motif_accuracy", "whole trees", "norm"] == [1, 1]


def test_triples_with_three_edges_or_fewer_than_two_are_left_out(tmp_path, write_dataset):
    nodes = forest(1)
    nodes[2] = (nodes[2][0], [0, 1], {"relation": "merge"})  # 2 is a child of 0 and of 1
    ids = write_dataset(tmp_path / "merged", nodes)
    data = OpenedDataset.open(tmp_path / "merged")
    chains, forks = [
        [tuple(ids.index(node) for node in triple) for triple in kind]
        for kind in triples.connected_triples(data, sorted(ids)).values()
    ]
    assert {frozenset(triple) for triple in chains} == {frozenset({0, 1, 3}), frozenset({0, 1, 4})}
    assert {frozenset(triple) for triple in forks} == {
        frozenset({1, 2, 3}),
        frozenset({1, 2, 4}),
        frozenset({1, 3, 4}),
    }
    for triple in [*chains, *forks]:
        positions, parents = triples.in_model_order(data, [ids[index] for index in triple])
        assert positions == sorted(positions)
        assert sorted(parents).count(-1) == 1


def test_an_undecided_score_does_not_profit_from_the_order_of_models(two):
    solved = triples.solve(np.ones((3, 3)) - np.eye(3), np.zeros((3, 3)))
    orders = {tuple(triples.in_model_order(two, triple)[1]) for tree in two.graph.trees
              for kind in triples.connected_triples(two, sorted(tree)).values() for triple in kind}  # fmt: skip
    assert len(orders) > 1
    assert len([order for order in orders if list(order) == solved]) <= 1


def test_unrelated_trees_are_separated_at_every_share(two):
    values = values_by(recovery.clustering(two, SETTINGS), "series", "x")
    assert {x for _, x in values} == {100, 75, 50, 25}  # a tenth of ten models is one model, which cannot be clustered
    assert all(scores == [1] * len(scores) for (series, _), scores in values.items() if series != "Ward, largest gap")
    assert [len(values["cosine above 0.1", x]) for x in (100, 75)] == [1, 2]


def test_a_single_tree_has_no_clustering(tmp_path, write_dataset):
    write_dataset(tmp_path / "one", forest(1))
    assert recovery.clustering(OpenedDataset.open(tmp_path / "one"), SETTINGS) == []


def test_the_parent_of_a_model_is_its_nearest_remaining_ancestor(two):
    measurements = recovery.robustness(two, SETTINGS)
    all_models = values_by([point for point in measurements if point.x == 100], "series")
    assert all_models["norm",] == [1, 1]
    curve = [point for point in measurements if point.measure == "accuracy_by_share" and point.series == "norm"]
    assert {point.x for point in curve} >= {50, 75, 100}
    assert {point.value for point in curve} == {1}
    assert all(point.items <= 4 for point in curve)


def test_all_scores_and_linea_are_compared_and_children_are_classed_by_their_siblings(two):
    measurements = recovery.robustness(two, SETTINGS)
    scores = values_by([point for point in measurements if point.measure == "accuracy_by_score"], "x")
    assert {x for (x,) in scores} == {*DIRECTIONS, "linea"}
    assert scores["oracle",] == scores["norm",] == [1, 1]
    assert len(scores["random",]) == 2 * SETTINGS.seeds
    siblings = values_by([point for point in measurements if point.measure == "accuracy_by_sibling"], "x")
    assert {x for (x,) in siblings} <= {"0.9 to 1.2", "1.2 to 1.6", "above 1.6"}


def test_curves_are_over_weights_ranks_depths_and_precisions(two):
    values = values_by(recovery.curves(two, SETTINGS), "measure", "series", "x")
    assert {x for measure, series, x in values if (measure, series) == ("accuracy_by_lambda", "norm")} == set(
        SETTINGS.lambdas
    )
    assert values["accuracy_by_rank", "norm", 4] == values["accuracy_by_rank", "norm", 8] == [1]
    assert values["accuracy_by_depth", "norm", 2] == [1, 1]
    assert {x for measure, _, x in values if measure == "accuracy_by_precision"} == {"int8", "float16"}
    assert values["accuracy_by_lambda", "oracle", 0.3] == [1, 1]
    assert not [key for key in values if key[0] in ("accuracy_by_pruning", "accuracy_by_noise")]


@pytest.mark.parametrize("name", ["5-motifs", "7-robustness", "curves"])
def test_each_claim_has_a_table_and_a_figure_with_a_panel_for_each_measure(two, name):
    points = mean_points(table.measurements(CLAIMS[name], [two], SETTINGS))
    assert set(points.trees) <= {1, 2}
    assert points["mean"].between(points.low.fillna(0), points.high.fillna(1)).all()
    figure = report.claim_figure(CLAIMS[name], points, "")
    assert len([axes for axes in figure.subfigs[0].axes if axes.axison]) == len(
        points[["measure", "panel"]].drop_duplicates()
    )


def test_a_measure_with_a_single_x_is_no_curve(tmp_path, write_dataset):
    write_dataset(tmp_path / "one", forest(1))
    measures = set(table.measurements(CLAIMS["curves"], [OpenedDataset.open(tmp_path / "one")], SETTINGS).measure)
    assert measures == {"accuracy_by_lambda", "accuracy_by_depth"}
