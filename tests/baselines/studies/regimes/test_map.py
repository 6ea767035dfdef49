"""What the truth records about edges, and the regime map: on which edges each direction score is right."""

import json
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mothr.baselines.cli import commands
from mothr.baselines.parts.directions import DIRECTIONS
from mothr.baselines.studies.ablation import BOUNDS
from mothr.baselines.studies.datasets import EDGE_FIELDS, OpenedDataset
from mothr.baselines.studies.measurements import mean_over_trees
from mothr.baselines.studies.regimes.gains import ALL
from mothr.baselines.studies.regimes.map import MOST_CROSSED, TRAINING_FIELDS, RegimeMapSettings, classed, regime_map
from mothr.baselines.studies.regimes.report import published, regime_cells
from mothr.benchmark.errors import MothrError
from mothr.benchmark.score.statistics import mean_interval

COMMAND = "map"

SHAPES = {f"layers.0.attention.{part}_proj.weight": (12, 12) for part in "qkvo"}
TWO_SCORES = RegimeMapSettings(("norm", "kurtosis"), groupings=(("kind",), ("init", "kind"), ("depth",)), cross=False)


def trained(kind, **training):
    return {
        "relation": "finetune",
        "subtype": kind,
        "task": "b",
        "training": {"optimizer": "adamw", "steps": 300, **training},
    }


def tree(rng, factor=1.0, init="normal"):
    """Returns a root, a fully fine-tuned child, a LoRA child, and a full child of the first child.

    The weights of a child are ``factor`` times those of its parent, plus an update.
    """
    nodes = [
        (
            {name: rng.laplace(0, 1, size=shape) for name, shape in SHAPES.items()},
            [],
            {"task": "a", "training": {"init": init}},
        )
    ]
    for parent, kind in ((0, "full"), (0, "lora"), (1, "full")):
        weights = {
            name: factor * value + rng.normal(0, 0.3, size=value.shape) for name, value in nodes[parent][0].items()
        }
        nodes.append((weights, [parent], trained(kind, learning_rate=5e-4, **({"rank": 4} if kind == "lora" else {}))))
    return nodes


def forest(*trees):
    """Returns the nodes of all trees in one list; the indices of parents are shifted accordingly."""
    nodes = []
    for tree_nodes in trees:
        start = len(nodes)
        nodes += [(weights, [start + parent for parent in parents], fields) for weights, parents, fields in tree_nodes]
    return nodes


@pytest.fixture
def dataset_of(tmp_path, write_dataset):
    """A function that writes nodes as a data set and returns its folder."""

    def write(nodes, name="tiny"):
        write_dataset(tmp_path / name, nodes)
        return tmp_path / name

    return write


def cells_of(folders, settings=TWO_SCORES):
    regimes = regime_map(folders, settings)
    return published(regime_cells(regimes), regimes.measure).set_index(["grouping", "regime", "direction"])


# --- the map ---


def test_norm_is_right_where_updates_add_energy_and_wrong_where_weights_shrink(dataset_of):
    rng = np.random.default_rng(0)
    grown = dataset_of(forest(*(tree(rng) for _ in range(3))), "grown")
    shrunk = dataset_of(forest(*(tree(rng, 0.7, "orthogonal") for _ in range(3))), "shrunk")
    cells = cells_of([grown, shrunk])
    for init, right in (("normal", 1), ("orthogonal", 0)):
        for kind, edges in (("full", 6), ("lora", 3)):
            cell = cells.loc[("init*kind", f"{init}, {kind}", "norm")]
            expected = mean_interval([right] * 3, within=(0, 1))  # three trees that agree are few: it contains 0.5
            assert (cell.accuracy, cell.low, cell.high, cell.trees, cell.edges) == (
                right,
                expected.low,
                expected.high,
                3,
                edges,
            )
            assert not cell.apart
    pooled = cells.loc[("kind", "full", "norm")]
    assert (pooled.accuracy, pooled.trees, pooled.edges) == (0.5, 6, 12)
    assert pooled.low < 0.5 < pooled.high
    assert not pooled.apart
    assert cells.loc[("depth", "2", "norm")].edges == 6


def test_intervals_are_over_trees_and_not_over_edges(dataset_of):
    rng = np.random.default_rng(1)
    folder = dataset_of(forest(tree(rng), tree(rng), tree(rng, 0.7)))
    cell = cells_of([folder]).loc[("kind", "full", "norm")]
    interval = mean_interval([1, 1, 0], within=(0, 1))
    assert (cell.accuracy, cell.low, cell.high) == pytest.approx((interval.mean, interval.low, interval.high))


def test_trees_with_the_same_root_count_as_one(dataset_of):
    rng = np.random.default_rng(2)
    nodes = forest(tree(rng), tree(rng))
    halved_children = [
        ({name: value / (2 if parents else 1) for name, value in weights.items()}, parents, fields)
        for weights, parents, fields in nodes
    ]
    cell = cells_of([dataset_of(nodes), dataset_of(halved_children, "other")]).loc[("kind", "lora", "norm")]
    assert (cell.accuracy, cell.trees, cell.edges) == (0.5, 2, 4)


def with_roots(*draws, **training):
    """Returns trees of a root and a child, whose output matrices have the weights that each of ``draws`` draws of a shape."""
    nodes = []
    for draw in draws:
        root = {name: draw(shape) for name, shape in SHAPES.items()}
        nodes += [(root, [], {"training": training} if training else {})]
        nodes += [({name: 1.5 * value for name, value in root.items()}, [len(nodes) - 1], trained("full"))]
    return nodes


def test_edges_are_grouped_by_the_kurtosis_of_the_root_in_ascending_classes(dataset_of):
    rng = np.random.default_rng(8)
    folder = dataset_of(with_roots(lambda shape: rng.laplace(size=shape) ** 3, lambda shape: rng.uniform(-1, 1, shape)))
    accuracies = regime_map(
        [folder], RegimeMapSettings(("norm",), groupings=(("root_kurtosis",), ("root_kurtosis", "kind")))
    ).trees
    data = OpenedDataset.open(folder)
    measured = sorted(fields["root_kurtosis"] for fields in data.root_fields)
    assert measured[0] < -0.5
    assert measured[1] > 1.5
    regimes_of = accuracies.groupby("grouping", sort=False).regime.agg(list).to_dict()
    assert regimes_of == {
        "root_kurtosis": ["below -0.5", "1.5 or more"],
        "root_kurtosis*kind": ["root kurtosis below -0.5, full", "root kurtosis 1.5 or more, full"],
    }


def test_numbers_of_many_values_are_grouped_into_classes_and_few_values_are_not():
    rows = pd.DataFrame({"steps": [30, 60, 199, 200, 5000, None], "learning_rate": [1e-3] * 6, "weight_decay": [None] * 6,
                         "batch_size": [64] * 6, "rank": [None] * 6,
                         "root_kurtosis": [-0.5, 0.5, 1.5, -3, None, 9], "root_initial_share": [1.0] * 6,
                         "way": [0.05, 0.1, 0.99, 1, 7, None],
                         **dict.fromkeys(("root_steps", "root_weight_decay", "width", "layers"), [64] * 6)})  # fmt: skip
    classes = classed(rows, max_values=4)
    assert [None if pd.isna(name) else name for name in classes.steps] == [
        "below 60", "60 to 200", "60 to 200", "200 to 600", "2000 or more", None
    ]  # fmt: skip
    assert classes.learning_rate.tolist() == [1e-3] * 6
    assert classed(rows, max_values=5).steps.equals(rows.steps)
    assert [None if pd.isna(name) else name for name in classes.root_kurtosis] == [
        "-0.5 to 0", "0.5 to 1.5", "1.5 or more", "below -0.5", None, "1.5 or more"
    ]  # fmt: skip
    assert set(classes.root_initial_share) == {"0.9 or more"}
    assert [None if pd.isna(name) else name for name in classes.way] == [
        "below 0.1", "0.1 to 0.3", "0.3 to 1", "1 to 3", "3 or more", None
    ]  # fmt: skip
    assert classes.width.tolist() == [64] * 6


def test_an_undecided_score_counts_half_and_an_undefined_score_is_left_out(dataset_of):
    weights = {"flat.weight": np.ones((4, 4)), "layers.0.mlp.up_proj.weight": np.arange(16.0).reshape(4, 4)}
    folder = dataset_of([(weights, [], {}), (weights, [0], trained("full"))])
    assert cells_of([folder]).loc[("kind", "full", "norm")].accuracy == 0.5
    flat = cells_of([folder], RegimeMapSettings(("norm", "kurtosis"), "re:flat", groupings=(("kind",),)))
    assert list(flat.index.get_level_values("direction")) == ["norm"]


def test_every_edge_of_a_merge_counts_and_single_models_and_duplicates_are_allowed(dataset_of):
    rng = np.random.default_rng(3)
    nodes = tree(rng)
    mean = {name: (nodes[2][0][name] + nodes[3][0][name]) / 2 for name in SHAPES}
    merge = (
        mean,
        [2, 3],
        {"relation": "merge", "subtype": "linear", "transform": {"kind": "merge", "method": "linear"}},
    )
    lone = ({name: rng.normal(size=shape) for name, shape in SHAPES.items()}, [], {})
    accuracies = regime_map([dataset_of([*nodes, merge, (nodes[1][0], [0], trained("full")), lone])], TWO_SCORES).trees
    merged = accuracies[(accuracies.regime == "merge linear") & (accuracies.series == "norm")]
    assert (merged["items"].sum(), merged.value.item()) == (
        2,
        0,
    )  # the mean of two models has a smaller norm than either
    assert accuracies[(accuracies.grouping == "kind") & (accuracies.series == "norm")]["items"].sum() == 6


def test_the_fields_that_decide_are_first_and_are_crossed(dataset_of):
    rng = np.random.default_rng(9)
    folder = dataset_of(forest(*(tree(rng, factor, init) for factor, init in ((1.0, "normal"), (0.7, "uniform")) * 3)))
    settings = RegimeMapSettings(("norm",), groupings=(("kind",), ("init",), ("depth",)))
    found = regime_map([folder], settings)
    assert found.gains.field.iloc[0] == "init"
    assert found.gains[found.gains.series == ALL].set_index("field").gain["init"] == 1
    assert found.crossing.fields[0] == "init"
    assert found.crossing.rows == ("normal", "uniform")
    crossed = found.trees[found.trees.grouping == found.crossing.grouping]
    assert set(crossed.regime) == set(found.crossing.places)
    for regime, (row, _) in found.crossing.places.items():
        assert regime.startswith(found.crossing.rows[row])
    alone = regime_map([folder], replace(settings, cross=False))
    assert alone.crossing is None
    assert alone.trees.equals(found.trees[found.trees.grouping != found.crossing.grouping])


def test_all_scores_but_the_bounds_are_mapped_by_default():
    assert set(RegimeMapSettings().directions) == set(DIRECTIONS) - set(BOUNDS)


def test_a_truth_with_parents_only_is_mapped_by_the_fields_that_follow_from_them(dataset_of):
    weights = {name: np.eye(*shape) for name, shape in SHAPES.items()}
    folder = dataset_of([(weights, [], {}), ({name: 2 * value for name, value in weights.items()}, [0], {})])
    accuracies = regime_map([folder], RegimeMapSettings(("norm",))).trees
    assert dict(zip(accuracies.grouping, accuracies.regime, strict=True)) == {
        "family": "toy", "kind": "unrecorded", "stored": "float32", "root_kurtosis": "1.5 or more", "width": "12", "layers": "1",
        "depth": "1", "withheld": "0",
        "*".join(TRAINING_FIELDS): "unrecorded",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"directions": ("nrom",)}, "did you mean norm"), ({"directions": ("oracle",)}, "reads no weights"),
        ({"layers": "bodi"}, "did you mean body"), ({"groupings": (("optimiser",),)}, "did you mean optimizer"),
    ],
)  # fmt: skip
def test_unknown_names_are_refused(values, message):
    with pytest.raises(MothrError, match=message):
        RegimeMapSettings(**values)


def test_data_sets_that_cannot_be_mapped_are_named(dataset_of, tmp_path):
    weights = {name: np.eye(*shape) for name, shape in SHAPES.items()}
    lone = dataset_of([(weights, [], {})], "lone")
    with pytest.raises(MothrError, match="no model of these data sets has a parent"):
        regime_map([lone], TWO_SCORES)
    with pytest.raises(MothrError, match="holds the same split, lone"):
        regime_map([lone, lone], TWO_SCORES)
    with pytest.raises(MothrError, match="no truth here"):
        regime_map([lone, tmp_path], TWO_SCORES)
    (lone / "truth.json").unlink()
    with pytest.raises(MothrError, match="no truth here"):
        regime_map([lone], TWO_SCORES)


# --- the fields of an edge ---


def test_steps_are_counted_between_checkpoints_and_the_initialisation_is_that_of_the_root(tmp_path, write_dataset):
    weights = {name: np.eye(*shape) for name, shape in SHAPES.items()}

    def checkpoint(steps, seed, **more):
        return {
            "relation": "finetune",
            "subtype": "pretraining",
            "task": "a",
            "training": {"seed": seed, "steps": steps, **more},
        }

    nodes = [
        (weights, [], {"task": "a"}), (weights, [0], checkpoint(100, 1)), (weights, [1], checkpoint(400, 1, init="orthogonal")),
        (weights, [2], {**checkpoint(60, 2), "task": "b"}), (weights, [3], checkpoint(90, 2)),
        (weights, [4], {"relation": "quantized", "subtype": "int8", "task": "a", "transform": {"kind": "quantized", "precision": "int8"}}),
        (weights, [4], {"relation": "finetune", "subtype": "pruned", "transform": {"kind": "pruned", "share": 0.5}, "withheld": 2}),
    ]  # fmt: skip
    ids = write_dataset(tmp_path / "checkpoints", nodes)
    data = OpenedDataset.open(tmp_path / "checkpoints")
    fields = [data.edge_fields((data.graph.parents[node][0], node)) for node in ids[1:]]
    assert all(tuple(edge) == EDGE_FIELDS for edge in fields)
    assert [edge["steps"] for edge in fields] == [100, 300, 60, 30, None, None]
    assert {edge["init"] for edge in fields} == {"orthogonal"}
    assert [edge["kind"] for edge in fields] == [*["pretraining"] * 4, "quantized int8", "pruned 0.5"]
    assert [edge["task"] for edge in fields] == ["parent's task", "parent's task", "new task", "new task", None, None]
    assert [edge["withheld"] for edge in fields] == [0, 0, 0, 0, 0, 2]
    assert [edge["depth"] for edge in fields] == [1, 2, 3, 4, 5, 5]


def test_items_weigh_equally_within_an_origin_and_origins_weigh_equally():
    measured = [("a", "u", 1.0, 3), ("a", "u", 0.0, 1), ("a", "v", 0.25, 8)]
    excluded = [("b", "u", np.nan, 1), ("b", "v", 1.0, 0), ("c", "u", 1.0, 1)]
    rows = pd.DataFrame(measured + excluded, columns=["group", "origin", "value", "items"])
    means = mean_over_trees(rows, ["group"], 0, 1).set_index("group")
    interval = mean_interval([0.75, 0.25], within=(0, 1))
    assert tuple(means.loc["a"]) == (0.5, interval.low, interval.high, 2, 12)
    assert "b" not in means.index
    assert means.loc["c", "trees"] == 1
    assert means.loc["c", ["low", "high"]].isna().all()


# --- the command ---


def test_command_writes_tables_and_figures(dataset_of, tmp_path, call):
    rng = np.random.default_rng(4)
    folder = dataset_of(forest(tree(rng), tree(rng, 0.7, init="orthogonal")))
    called = call(folder, "--directions", "norm,residual_independence", "--out", tmp_path / "out")
    table, trees = (pd.read_csv(tmp_path / "out" / f"{name}.csv") for name in ("map", "map-trees"))
    assert list(table.columns) == [
        "grouping",
        "regime",
        "direction",
        "accuracy",
        "low",
        "high",
        "trees",
        "edges",
        "apart",
    ]
    assert list(trees.columns) == ["grouping", "regime", "direction", "split", "tree", "origin", "value", "items"]
    assert list(dict.fromkeys(table.direction)) == ["norm", "residual_independence"]
    fields, pairs = (pd.read_csv(tmp_path / "out" / f"{name}.csv") for name in ("fields", "field-pairs"))
    [crossing] = {name for name in table.grouping if name.count("*") == 1}
    assert set(crossing.split("*")) == set(pairs.loc[0, ["first", "second"]])
    varied = {name for name, rows in table.groupby("grouping") if rows.regime.nunique() > 1 and "*" not in name}
    assert {"kind", "init", "depth"} <= varied == set(fields.field)
    drawn = ["map", "map-crossed", "fields", *(f"map-{name}".replace("_", "-") for name in varied)]
    drawn.append(f"map-{crossing}".replace("*", "-").replace("_", "-"))
    names = {path.name for path in (tmp_path / "out").iterdir() if path.suffix != ".parquet"}
    tables = {f"{name}.csv" for name in ("map", "map-trees", "fields", "field-pairs")}
    assert names == tables | {f"{name}.{suffix}" for name in drawn for suffix in ("svg", "png")}
    svg_text = "|".join(ElementTree.parse(tmp_path / "out" / "map.svg").getroot().itertext())
    shown = (
        "residual independence",
        "orthogonal",
        "lora",
        "2 / 4",
        "share of edges directed right",
        "Layers body",
        "95 %",
        "Data: tiny",
    )
    for words in shown:
        assert words in svg_text
    assert "weight decay" not in svg_text  # the truth does not record it
    with Image.open(tmp_path / "out" / "map-crossed.png") as image:
        assert image.width == 1900
    assert "full, adamw, lr 0.0005, 300 steps, new task" in called.stdout


def test_json_has_no_nan_and_groupings_can_be_chosen(dataset_of, tmp_path, call):
    folder = dataset_of(tree(np.random.default_rng(5)))
    called = call(folder, "--directions", "norm", "--by", "init * kind", "--json", "--out", tmp_path / "out")
    value = json.loads(called.stdout)
    assert [(row["grouping"], row["regime"], row["edges"]) for row in value["rows"]] == [
        ("init*kind", "normal, full", 2), ("init*kind", "normal, lora", 1)
    ]  # fmt: skip
    assert {(row["trees"], row["low"]) for row in value["rows"]} == {(1, None)}


def test_a_failed_command_leaves_no_files(tmp_path, call):
    with pytest.raises(MothrError, match="no truth here"):
        call(tmp_path / "no-such-data", "--out", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_field():
    [command] = [item.function for item in commands if item.function.__name__ == "map"]
    assert all(name in command.__doc__ for name in EDGE_FIELDS)


def test_fields_of_too_many_values_are_not_crossed(dataset_of):
    rng = np.random.default_rng(10)
    nodes = forest(*(tree(rng, factor, init) for factor, init in ((1.0, "normal"), (0.7, "uniform")) * 7))
    for place, (_, parents, fields) in enumerate(nodes):
        if parents:
            fields["training"]["optimizer"] = f"optimizer {place % 28}"  # two trees have the same ones
    settings = RegimeMapSettings(("norm",), groupings=(("optimizer",), ("init",), ("kind",)))
    found = regime_map([dataset_of(nodes)], settings)
    assert found.gains.set_index("field").regimes["optimizer"].max() > MOST_CROSSED
    assert found.crossing.fields == ("init", "kind")
