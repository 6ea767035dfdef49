"""The scale study: trees of several widths, grouped by width, training and kurtosis of the root, and the agreement between widths."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mothr.baselines.cli import commands
from mothr.baselines.studies.datasets import OpenedDataset
from mothr.baselines.studies.regimes.map import RegimeMapSettings
from mothr.baselines.studies.scale import means, report, trees
from mothr.benchmark.errors import MothrError
from mothr.benchmark.records.store import folder_name, write
from mothr.benchmark.run.outcome import RunRequest

COMMAND = "scale"
assert COMMAND in {command.function.__name__ for command in commands}
TWO_SCORES = RegimeMapSettings(("norm", "kurtosis"))
METHODS = [
    RunRequest("neighbour-joining", {}),
    RunRequest("mother-v2", {}),
    RunRequest("mother-v2", {"direction": "norm"}),
]


def tree(rng, width, factor, published=False):
    """Returns a root and two children, whose weights are ``factor`` times those of the root, plus an update."""
    names = [f"layers.0.attention.{part}_proj.weight" for part in "qkvo"]
    root = {name: rng.laplace(size=(width, width)) for name in names}
    steps = int(rng.integers(300, 5000))
    record = {"training": None if published else {"steps": steps, "init": "normal"}, "task": "a"}
    children = [
        {name: factor * value + rng.normal(0, 0.3, size=value.shape) for name, value in root.items()} for _ in range(2)
    ]
    made = {
        "relation": "finetune",
        "subtype": "full",
        "task": "b",
        "depth": 1,
        "training": {"optimizer": "adamw", "steps": 30},
    }
    return [(root, [], record), *((child, [0], made) for child in children)]


@pytest.fixture
def study(tmp_path, write_dataset):
    """Two data sets with runs: width 8, on which the norm is right, and width 12 with a published root, on which it is wrong."""
    rng, folders = np.random.default_rng(0), []
    for name, width, factor, published in (("small", 8, 1.0, False), ("large", 12, 0.7, True)):
        nodes = []
        for _ in range(4):
            one, start = tree(rng, width, factor, published), len(nodes)
            nodes += [(weights, [start + parent for parent in above], fields) for weights, above, fields in one]
        write_dataset(tmp_path / name, nodes)
        folders.append(tmp_path / name)
        data = OpenedDataset.open(tmp_path / name)
        write(data.run(METHODS), tmp_path / "results")
        assert (tmp_path / "results" / folder_name(name, 1)).is_dir()
    return folders, tmp_path / "results"


def test_each_tree_has_a_row_for_each_direction_score_and_each_ranked_method(study):
    table = trees.scale_table(*study, TWO_SCORES)
    assert len(table) == 8 * (2 + len(METHODS))
    norm = table[table.name == "norm"].set_index(["split", "tree"])
    assert set(norm.loc["small"].value) == {1}
    assert set(norm.loc["large"].value) == {0}
    assert set(norm.loc["small"].width) == {8}
    assert set(norm.loc["large"].width) == {12}
    assert set(norm.loc["small"].root) == {trees.TRAINED}
    assert set(norm.loc["large"].root) == {trees.PUBLISHED}
    assert norm.loc["large"].root_steps.isna().all()
    assert norm.loc["small"].root_steps.between(300, 5000).all()
    methods = table[table.kind == trees.METHOD]
    assert set(methods[methods.plain].name.str.split().str[0]) == {"neighbour-joining", "mother-v2"}
    assert len(set(methods.name)) == 3
    assert len(set(methods[methods.plain].name)) == 2


def test_the_value_of_a_method_is_its_edge_f1_on_that_tree(study):
    folders, results = study
    table = trees.scale_table(folders, results, TWO_SCORES)
    records = [json.loads(line) for line in (results / "small-v1" / "runs.jsonl").read_text().splitlines()]
    [record] = [run for run in records if run["method"] == "neighbour-joining" and run["setting"] == "open"]
    ours = table[(table.split == "small") & (table.name == "neighbour-joining")].set_index("tree").value
    scores = record["per_tree"]
    assert ours.to_dict() == dict(zip(scores["tree"], scores["edge_f1"], strict=True))


def test_means_are_over_trees_and_groups_are_in_ascending_order(study):
    table = means.scale_means(trees.scale_table(*study, TWO_SCORES))
    widths = table[(table["axis"] == "width") & (table.name == "norm")]
    assert set(widths.group) == {"8", "12"}
    assert means.group_order("width", table) == ["8", "12"]
    assert means.group_order("root_steps", table)[-1] == trees.PUBLISHED
    assert widths.set_index("group").loc["8", ["mean", "trees", "items"]].tolist() == [1, 4, 8]


def test_rankings_agree_within_a_width_and_differ_where_the_order_is_reversed():
    rng, rows = np.random.default_rng(1), []
    for width, sign in ((32, 1), (64, 1), (128, -1)):
        for number in range(12):
            for name in range(6):
                value = 0.5 + sign * 0.08 * (name - 2.5) + rng.normal(0, 0.01)
                rows.append(
                    {
                        "kind": trees.METHOD,
                        "name": str(name),
                        "split": str(width),
                        "tree": number,
                        "width": width,
                        "value": value,
                    }
                )
    agreement = means.size_agreement(pd.DataFrame(rows)).set_index(["first", "second"])
    assert agreement.loc[(32, 64), "tau"] == pytest.approx(1)
    assert agreement.loc[(32, 128), "tau"] == pytest.approx(-1)
    assert agreement.loc[(64, 128), "tau"] == pytest.approx(-1)
    assert agreement.loc[(64, 64), "tau"] == pytest.approx(1)
    assert agreement.loc[(32, 128), "high"] < 0


def test_a_name_without_a_value_on_some_tree_does_not_enter_the_ranking():
    rows = [
        {"kind": trees.DIRECTION, "name": name, "split": "s", "tree": number, "width": width, "value": value}
        for width in (8, 16)
        for number in range(3)
        for name, value in (("a", 0.1), ("b", 0.2), ("c", np.nan if number == 1 else 0.3))
    ]
    assert set(means.size_agreement(pd.DataFrame(rows)).names) == {2}


def test_the_command_writes_tables_and_the_figure(study, tmp_path, call):
    folders, results = study
    called = call(*folders, "--results", results, "--out", tmp_path / "scale", "--directions", "norm,kurtosis")
    assert "8 and 12" in called.output
    assert "halves of 8" in called.output
    written = {path.name for path in (tmp_path / "scale").iterdir() if path.suffix != ".parquet"}
    assert written == {"scale.csv", "scale-trees.csv", "agreement.csv", "scale.svg", "scale.png"}
    picture = Image.open(tmp_path / "scale" / "scale.png")
    assert min(picture.size) > 500
    text = (tmp_path / "scale" / "scale.svg").read_text()
    assert all(word in text for word in ("neighbour-joining", "kurtosis", "steps of the root", "small, large."))


def test_a_name_of_a_figure_has_one_colour_in_all_panels(study):
    figure = report.scale_figure(means.scale_means(trees.scale_table(*study, TWO_SCORES)), "")
    axes = [axes for part in figure.subfigs for axes in part.axes]
    assert len(axes) == len(report.ROWS) * (len(means.AXES) + 1)


def test_a_data_set_without_runs_is_refused(study, tmp_path):
    folders, _ = study
    with pytest.raises(MothrError, match=r"holds no runs; run 'mothr run' on .*small with --out"):
        trees.scale_table(folders, tmp_path / "nothing", TWO_SCORES)


@pytest.mark.parametrize(
    ("name", "message"), [("oracle", "direction 'oracle' reads no weights"), ("norms", "unknown direction")]
)
def test_bounds_and_unknown_scores_are_refused(study, tmp_path, call, name, message):
    folders, results = study
    with pytest.raises(MothrError, match=message):
        call(*folders, "--results", results, "--out", tmp_path / "scale", "--directions", name)
    assert not (tmp_path / "scale").exists()
