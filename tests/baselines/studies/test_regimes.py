"""What made models, as the truth has it, and the map: which direction score is right where."""

import json
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mothr.baselines.cli import commands
from mothr.baselines.parts.directions import DIRECTIONS
from mothr.baselines.studies import regime_report, regimes
from mothr.baselines.studies.ablation import BOUNDS
from mothr.baselines.studies.datasets import EDGE_FIELDS, OpenedDataset
from mothr.baselines.studies.measurements import mean_over_trees
from mothr.baselines.studies.regimes import RegimeMapSettings, regime_map
from mothr.benchmark.errors import MothrError
from mothr.benchmark.score.statistics import mean_interval

COMMAND = "map"

SHAPES = {f"layers.0.attention.{part}_proj.weight": (12, 12) for part in "qkvo"}
TWO = RegimeMapSettings(("norm", "kurtosis"), groupings=(("kind",), ("init", "kind"), ("depth",)))


def trained(kind, **training):
    return {
        "relation": "finetune",
        "subtype": kind,
        "task": "b",
        "training": {"optimizer": "adamw", "steps": 300, **training},
    }


def tree(rng, factor=1.0, init="normal"):
    """Returns a root, a fully fine-tuned child, a LoRA child, and a full child of the first; weights are ``factor`` parents + update."""
    nodes = [
        (
            {name: rng.laplace(0, 1, size=shape) for name, shape in SHAPES.items()},
            [],
            {"task": "a", "training": {"init": init}},
        )
    ]
    for above, kind in ((0, "full"), (0, "lora"), (1, "full")):
        weights = {
            name: factor * value + rng.normal(0, 0.3, size=value.shape) for name, value in nodes[above][0].items()
        }
        nodes.append((weights, [above], trained(kind, learning_rate=5e-4, **({"rank": 4} if kind == "lora" else {}))))
    return nodes


def forest(*trees):
    """Returns the nodes of all trees, with the places of parents moved along."""
    found = []
    for one in trees:
        start = len(found)
        found += [(weights, [start + parent for parent in above], fields) for weights, above, fields in one]
    return found


@pytest.fixture
def made(tmp_path, write_dataset):
    """A function that writes nodes as a data set and returns its folder."""

    def make(nodes, name="tiny"):
        write_dataset(tmp_path / name, nodes)
        return tmp_path / name

    return make


def cells(folders, chart=TWO):
    return regime_report.regime_cells(regime_map(folders, chart)).set_index(["grouping", "regime", "direction"])


# --- the map ---


def test_norm_is_right_where_updates_add_energy_and_wrong_where_weights_shrink(made):
    rng = np.random.default_rng(0)
    grown = made(forest(*(tree(rng) for _ in range(3))), "grown")
    shrunk = made(forest(*(tree(rng, 0.7, "orthogonal") for _ in range(3))), "shrunk")
    found = cells([grown, shrunk])
    for init, right in (("normal", 1), ("orthogonal", 0)):
        for kind, edges in (("full", 6), ("lora", 3)):
            cell = found.loc[("init*kind", f"{init}, {kind}", "norm")]
            alike = mean_interval([right] * 3, within=(0, 1))  # three trees of one mind are few: it holds 0.5 as well
            assert (cell.accuracy, cell.low, cell.high, cell.trees, cell.edges) == (
                right,
                alike.low,
                alike.high,
                3,
                edges,
            )
            assert not cell.apart
    pooled = found.loc[("kind", "full", "norm")]
    assert (pooled.accuracy, pooled.trees, pooled.edges) == (0.5, 6, 12)
    assert pooled.low < 0.5 < pooled.high
    assert not pooled.apart
    assert found.loc[("depth", "2", "norm")].edges == 6


def test_intervals_are_over_trees_not_edges(made):
    rng = np.random.default_rng(1)
    folder = made(forest(tree(rng), tree(rng), tree(rng, 0.7)))
    cell = cells([folder]).loc[("kind", "full", "norm")]
    interval = mean_interval([1, 1, 0], within=(0, 1))
    assert (cell.accuracy, cell.low, cell.high) == pytest.approx((interval.mean, interval.low, interval.high))


def test_trees_of_one_root_count_as_one(made):
    rng = np.random.default_rng(2)
    nodes = forest(tree(rng), tree(rng))
    other = [
        ({name: value / (2 if above else 1) for name, value in weights.items()}, above, fields)
        for weights, above, fields in nodes
    ]
    cell = cells([made(nodes), made(other, "other")]).loc[("kind", "lora", "norm")]
    assert (cell.accuracy, cell.trees, cell.edges) == (0.5, 2, 4)


def test_what_cannot_be_told_counts_half_and_what_is_undefined_not_at_all(made):
    weights = {"flat.weight": np.ones((4, 4)), "layers.0.mlp.up_proj.weight": np.arange(16.0).reshape(4, 4)}
    folder = made([(weights, [], {}), (weights, [0], trained("full"))])
    assert cells([folder]).loc[("kind", "full", "norm")].accuracy == 0.5
    flat = cells([folder], RegimeMapSettings(("norm", "kurtosis"), "re:flat", (("kind",),)))
    assert list(flat.index.get_level_values("direction")) == ["norm"]


def test_every_edge_of_a_merge_counts_and_lone_models_and_duplicates_do_no_harm(made):
    rng = np.random.default_rng(3)
    nodes = tree(rng)
    mean = {name: (nodes[2][0][name] + nodes[3][0][name]) / 2 for name in SHAPES}
    merge = (
        mean,
        [2, 3],
        {"relation": "merge", "subtype": "linear", "transform": {"kind": "merge", "method": "linear"}},
    )
    lone = ({name: rng.normal(size=shape) for name, shape in SHAPES.items()}, [], {})
    found = regime_map([made([*nodes, merge, (nodes[1][0], [0], trained("full")), lone])], TWO)
    merged = found[(found.regime == "merge linear") & (found.direction == "norm")]
    assert (merged["items"].sum(), merged.value.item()) == (2, 0)  # a mean of two has less energy than either
    assert found[(found.grouping == "kind") & (found.direction == "norm")]["items"].sum() == 6


def test_every_score_that_looks_at_weights_is_mapped_if_none_is_named():
    assert set(RegimeMapSettings().directions) == set(DIRECTIONS) - set(BOUNDS)


def test_a_data_set_of_bare_parents_is_mapped_by_what_is_known(made):
    weights = {name: np.eye(*shape) for name, shape in SHAPES.items()}
    folder = made([(weights, [], {}), ({name: 2 * value for name, value in weights.items()}, [0], {})])
    found = regime_map([folder], RegimeMapSettings(("norm",)))
    assert dict(zip(found.grouping, found.regime, strict=True)) == {
        "family": "toy", "kind": "unrecorded", "depth": "1", "withheld": "0", "*".join(regimes.TRAINING_FIELDS): "unrecorded"
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


def test_data_that_cannot_be_mapped_are_named(made, tmp_path):
    weights = {name: np.eye(*shape) for name, shape in SHAPES.items()}
    lone = made([(weights, [], {})], "lone")
    with pytest.raises(MothrError, match="no model of these data sets has a parent"):
        regime_map([lone], TWO)
    with pytest.raises(MothrError, match="holds the same split, lone"):
        regime_map([lone, lone], TWO)
    with pytest.raises(MothrError, match="no truth here"):
        regime_map([lone, tmp_path], TWO)
    (lone / "truth.json").unlink()
    with pytest.raises(MothrError, match="no truth here"):
        regime_map([lone], TWO)


# --- what made a model ---


def test_checkpoints_are_parted_by_their_steps_and_the_root_says_how_it_began(tmp_path, write_dataset):
    weights = {name: np.eye(*shape) for name, shape in SHAPES.items()}

    def kept(steps, seed, **more):
        return {
            "relation": "finetune",
            "subtype": "pretraining",
            "task": "a",
            "training": {"seed": seed, "steps": steps, **more},
        }

    nodes = [
        (weights, [], {"task": "a"}), (weights, [0], kept(100, 1)), (weights, [1], kept(400, 1, init="orthogonal")),
        (weights, [2], {**kept(60, 2), "task": "b"}), (weights, [3], kept(90, 2)),
        (weights, [4], {"relation": "quantized", "subtype": "int8", "task": "a", "transform": {"kind": "quantized", "precision": "int8"}}),
        (weights, [4], {"relation": "finetune", "subtype": "pruned", "transform": {"kind": "pruned", "share": 0.5}, "withheld": 2}),
    ]  # fmt: skip
    ids = write_dataset(tmp_path / "kept", nodes)
    known = OpenedDataset.open(tmp_path / "kept")
    made = [known.edge_fields((known.graph.parents[node][0], node)) for node in ids[1:]]
    assert all(tuple(one) == EDGE_FIELDS for one in made)
    assert [one["steps"] for one in made] == [100, 300, 60, 30, None, None]
    assert {one["init"] for one in made} == {"orthogonal"}
    assert [one["kind"] for one in made] == [*["pretraining"] * 4, "quantized int8", "pruned 0.5"]
    assert [one["task"] for one in made] == ["parent's task", "parent's task", "new task", "new task", None, None]
    assert [one["withheld"] for one in made] == [0, 0, 0, 0, 0, 2]
    assert [one["depth"] for one in made] == [1, 2, 3, 4, 5, 5]


def test_over_trees_weighs_things_within_an_origin_and_origins_alike():
    one = [("a", "u", 1.0, 3), ("a", "u", 0.0, 1), ("a", "v", 0.25, 8)]
    two = [("b", "u", np.nan, 1), ("b", "v", 1.0, 0), ("c", "u", 1.0, 1)]
    rows = pd.DataFrame(one + two, columns=["group", "origin", "value", "items"])
    found = mean_over_trees(rows, ["group"], 0, 1).set_index("group")
    interval = mean_interval([0.75, 0.25], within=(0, 1))
    assert tuple(found.loc["a"]) == (0.5, interval.low, interval.high, 2, 12)
    assert "b" not in found.index
    assert found.loc["c", "trees"] == 1
    assert found.loc["c", ["low", "high"]].isna().all()


# --- the command ---


def test_command_writes_tables_and_figures(made, tmp_path, call):
    rng = np.random.default_rng(4)
    folder = made(forest(tree(rng), tree(rng, init="orthogonal")))
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
    names = {path.name for path in (tmp_path / "out").iterdir()} - {"map.parquet", "map-trees.parquet"}
    assert names == {"map.csv", "map-trees.csv", "map.svg", "map.png", "map-crossed.svg", "map-crossed.png"}
    texts = "|".join(ElementTree.parse(tmp_path / "out" / "map.svg").getroot().itertext())
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
        assert words in texts
    assert "weight decay" not in texts  # no truth says it
    with Image.open(tmp_path / "out" / "map-crossed.png") as image:
        assert image.width == 1900
    assert "full, adamw, lr 0.0005, 300 steps, new task" in called.stdout


def test_json_has_no_nan_and_groups_are_chosen(made, tmp_path, call):
    folder = made(tree(np.random.default_rng(5)))
    called = call(folder, "--directions", "norm", "--by", "init * kind", "--json", "--out", tmp_path / "out")
    value = json.loads(called.stdout)
    assert [(row["grouping"], row["regime"], row["edges"]) for row in value["rows"]] == [
        ("init*kind", "normal, full", 2), ("init*kind", "normal, lora", 1)
    ]  # fmt: skip
    assert {(row["trees"], row["low"]) for row in value["rows"]} == {(1, None)}


def test_nothing_is_left_where_it_stops_halfway(tmp_path, call):
    with pytest.raises(MothrError, match="no truth here"):
        call(tmp_path / "no-such-data", "--out", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_help_names_all_there_is_to_choose():
    [command] = [one for one in commands if one.__name__ == "map"]
    assert all(name in command.__doc__ for name in EDGE_FIELDS)


# --- the figure ---


def test_long_maps_fall_into_pages_and_one_tree_is_never_told_apart():
    rows = [("depth", str(depth), "norm", "s", 0, "o", 1.0, 2) for depth in range(regime_report.ROWS_PER_FIGURE + 5)]
    rows += [("family", "vit", "norm", "s", 0, "o", 1.0, 9)]
    trees = pd.DataFrame(rows, columns=["grouping", "regime", "direction", "split", "tree", "origin", "value", "items"])
    pages = list(regime_report.pages(regime_report.regime_cells(trees)))
    assert [len(page) for page in pages] == [regime_report.ROWS_PER_FIGURE, 5]
    assert set(pd.concat(pages).grouping) == {"depth"}  # one family alone makes no difference
    drawn = regime_report.regime_figure(pages[1], "")
    texts = [text.get_text() for axes in drawn.subfigs[0].axes for text in axes.texts]
    assert texts == ["(1.00)", "1 / 2"] * 5
