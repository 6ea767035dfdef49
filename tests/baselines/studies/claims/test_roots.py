"""The questions about MoTHer's root: accuracy by the kurtosis of the root, and rootings that tie."""

import numpy as np
import pandas as pd
import pytest

from mothr.baselines.studies.claims import published, report, roots, table
from mothr.baselines.studies.claims.measures import mean_points
from mothr.baselines.studies.claims.settings import ClaimSettings
from mothr.baselines.studies.claims.table import CLAIMS
from mothr.baselines.studies.datasets import OpenedDataset

NAMES = tuple(f"layers.0.attention.{part}_proj.weight" for part in "qkvo")
PARENTS = (None, 0, 0, 1)
SETTINGS = ClaimSettings(directions=("kurtosis", "norm"), seeds=2)
INITS = ("xavier-uniform", "normal", "unknown")
TRAINING = {"optimizer": "adamw", "steps": 1000, "learning_rate": 1e-3, "weight_decay": 0.4, "warmup": 0.0}


def forest(kind="full", withheld=False):
    """Returns three trees: below uniform weights, below heavy-tailed ones, and below weights of which nothing is recorded.

    All updates are Gaussian, so that a child has a higher kurtosis than a uniform parent, a lower one than a heavy-tailed
    parent, and always a higher norm.
    """
    rng, nodes = np.random.default_rng(0), []
    draws = (
        lambda: rng.uniform(-1, 1, (16, 16)),
        lambda: rng.laplace(size=(16, 16)) ** 3,
        lambda: rng.laplace(size=(16, 16)),
    )
    for init, draw in zip(INITS, draws, strict=True):
        start = len(nodes)
        for parent in PARENTS:
            if parent is None:
                weights = {name: draw() for name in NAMES}
                record = {} if init == "unknown" else {"training": {"init": init, **TRAINING}}
                record |= {"withheld": 1, "relation": "finetune"} if withheld else {}
            else:
                before = nodes[start + parent][0]
                weights = {
                    name: value + 0.5 * value.std() * rng.normal(size=value.shape) for name, value in before.items()
                }
                record = {"relation": "finetune", "subtype": kind}
            nodes.append((weights, [] if parent is None else [start + parent], record))
    return nodes


@pytest.fixture(scope="module")
def three(tmp_path_factory, write_dataset):
    """A data set of three trees of four models, with a cache of its own. No test changes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTHR_CACHE", str(tmp_path_factory.mktemp("cache")))
        folder = tmp_path_factory.mktemp("roots") / "three"
        write_dataset(folder, forest())
        data = OpenedDataset.open(folder)
        published.published_runs(data, SETTINGS)
    return data


def means_of(data, name="9-root"):
    points = mean_points(table.measurements(CLAIMS[name], [data], SETTINGS))
    return points.set_index(["measure", "series", "x"])["mean"]


def test_kurtosis_is_wrong_below_uniform_roots_and_right_below_heavy_tailed_ones(three):
    means = means_of(three)["direction_by_root"]
    assert means["kurtosis", "below -0.5"] == 0
    assert means["kurtosis", "1.5 or more"] == 1
    assert set(means["norm"]) == {1}


def test_the_kurtosis_of_each_root_stands_beside_its_initialisation(three):
    values = means_of(three)["root_kurtosis"]["full"]
    assert values["xavier-uniform"] == pytest.approx(-1.2, abs=0.15)
    assert values["normal"] > 1.5
    assert set(values.index) == {"xavier-uniform", "normal", "unrecorded"}


def test_whole_trees_are_grouped_by_class_initialisation_and_share_left(three):
    points = mean_points(table.measurements(CLAIMS["9-root"], [three], SETTINGS))
    by_class = points[points.measure == "accuracy_by_root"]
    order = list(dict.fromkeys(by_class.x))
    assert order[0] == "below -0.5"
    assert order[-1] == "1.5 or more"
    assert set(by_class.series) == {"kurtosis", "norm", "random", "oracle", "linea"}
    norm = by_class[by_class.series == "norm"].set_index("x")["mean"]
    oracle = by_class[by_class.series == "oracle"].set_index("x")["mean"]
    assert norm.equals(oracle)
    assert set(points[points.measure == "accuracy_by_init"].x) == {"xavier-uniform", "normal", "unrecorded"}
    left = points[points.measure == "accuracy_by_share_left"]
    assert set(left.x) == {"0.8 to 0.9"}  # exp(-0.4 * 1e-3 * 1000 / 2) is 0.82
    assert set(left.trees) == {2}  # the third root has no record


def test_lora_trees_are_solved_with_the_layers_of_the_authors(tmp_path, write_dataset):
    write_dataset(tmp_path / "lora", forest("lora"))
    data = OpenedDataset.open(tmp_path / "lora")
    mother = [run for run in published.published_runs(data, SETTINGS) if run.series != "linea"]
    assert {run.record.method for run in mother} == {"mother-lora"}
    for run in mother:
        parameters = run.record.parameters
        assert (parameters["distance"], parameters["distance_layers"], parameters["direction_layers"]) == (
            "rank", "value", "value"
        )  # fmt: skip


def test_full_and_lora_trees_of_one_data_set_use_a_method_each(tmp_path, write_dataset):
    nodes = forest()
    for node in nodes[4:8]:
        node[2].update({"subtype": "lora"} if node[1] else {})
    write_dataset(tmp_path / "both", nodes)
    data = OpenedDataset.open(tmp_path / "both")
    methods = {tree: published.published_name(data, tree) for tree in range(3)}
    assert sorted(methods.values()) == ["mother-lora", "mother-v2", "mother-v2"]
    used = {(tree, run.record.method) for tree, run in published.runs_by_tree(data, SETTINGS) if run.series == "norm"}
    assert used == set(methods.items())


def test_trees_whose_roots_are_withheld_give_no_measurement(tmp_path, write_dataset):
    write_dataset(tmp_path / "withheld", forest(withheld=True))
    data = OpenedDataset.open(tmp_path / "withheld")
    assert roots.by_root(data, SETTINGS) == []


def test_ties_are_counted_for_each_score_and_averaged_over(three):
    points = mean_points(table.measurements(CLAIMS["10-ties"], [three], SETTINGS))
    counts = points[points.measure == "optimal_rootings"].set_index("x")["mean"]
    assert counts["norm"] == counts["oracle"] == 1
    assert (counts >= 1).all()
    assert "linea" not in counts.index
    tied = points[points.measure == "tied"].set_index("x")["mean"]
    assert ((tied > 0) == (counts > 1)).all()
    accuracy = points[points.measure == "accuracy_with_ties"].set_index(["x", "series"])["mean"]
    assert accuracy["norm", "as predicted"] == accuracy["norm", "mean over optimal rootings"] == 1


def test_the_mean_over_rootings_is_what_a_random_choice_among_them_gives(three):
    for tree, run in published.runs_by_tree(three, SETTINGS):
        if run.ties is not None and run.ties[tree].rootings == 1:
            predicted = run.record.parents
            right = np.mean([parent in predicted[child] for parent, child in three.edges[tree]])
            assert run.ties[tree].edge_accuracy == pytest.approx(right)


@pytest.mark.parametrize("name", ["9-root", "10-ties"])
def test_figures_list_classes_in_ascending_order(three, name):
    points = mean_points(table.measurements(CLAIMS[name], [three], SETTINGS))
    assert isinstance(points, pd.DataFrame)
    figure = report.claim_figure(CLAIMS[name], points, "Caption.")
    panels = [axes for axes in figure.subfigs[0].axes if axes.axison]
    assert len(panels) == points.measure.nunique()
    if name == "9-root":
        labels = [[label.get_text() for label in axes.get_yticklabels()] for axes in panels]
        assert any(texts[0] == "below -0.5" and texts[-1] == "1.5 or more" for texts in labels)
