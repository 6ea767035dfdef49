"""The claims that are measured on weights, on weights drawn so that the result is known; the command and its figures."""

import json
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mothr.baselines.cli import commands
from mothr.baselines.studies.claims import report, table
from mothr.baselines.studies.claims.measures import MEASURES, POINT_COLUMNS, mean_points
from mothr.baselines.studies.claims.settings import ClaimSettings
from mothr.baselines.studies.claims.table import CLAIMS
from mothr.baselines.studies.datasets import OpenedDataset
from mothr.baselines.studies.measurements import Measurement
from mothr.benchmark.errors import MothrError
from mothr.benchmark.score.statistics import mean_interval

COMMAND = "claims"

SIDE = 12
NAMES = tuple(f"layers.0.attention.{part}_proj.weight" for part in "qkvo")
SETTINGS = ClaimSettings(directions=("norm",), seeds=1)
COLUMNS = [*POINT_COLUMNS, "mean", "low", "high", "trees", "items"]


def fields(kind, **training):
    return {
        "relation": "finetune",
        "subtype": kind,
        "task": "b",
        "training": {"optimizer": "adamw", "steps": 300, **training},
    }


def chain(rng, length=5, rank=None):
    """Returns a chain of models with orthogonal updates: the distance of two models is the square root of the edges between them."""
    basis = np.linalg.qr(rng.normal(size=(SIDE, SIDE)))[0]
    weights, nodes = {name: rng.laplace(0, 1, size=(SIDE, SIDE)) for name in NAMES}, []
    for depth in range(length):
        if depth:
            update = np.outer(basis[depth], basis[-depth]) * (1 if rank is None else rank[depth - 1])
            weights = {name: value + update for name, value in weights.items()}
        nodes.append(
            (weights, [depth - 1] if depth else [], fields("full" if rank is None else "lora") if depth else {})
        )
    return nodes


def forest(*trees):
    """Returns the nodes of all trees in one list; the indices of parents are shifted accordingly."""
    nodes = []
    for tree_nodes in trees:
        start = len(nodes)
        nodes += [(weights, [start + parent for parent in parents], record) for weights, parents, record in tree_nodes]
    return nodes


@pytest.fixture
def opened(tmp_path, write_dataset):
    """A function that writes nodes as a data set and opens it."""

    def write(nodes, name="tiny"):
        write_dataset(tmp_path / name, nodes)
        return OpenedDataset.open(tmp_path / name)

    return write


def points(name, *datasets):
    return mean_points(table.measurements(CLAIMS[name], datasets, SETTINGS)).set_index("measure")


# --- claims about weights ---


def test_distance_grows_with_the_number_of_edges_on_an_additive_chain(opened):
    rng = np.random.default_rng(0)
    means = points("1-distance", opened(forest(chain(rng), chain(rng))))
    rho = means.loc["distance_spearman"]
    low = mean_interval([1, 1], within=(-1, 1)).low  # two trees that agree are few
    assert (rho["mean"], rho.low, rho.high, rho.trees, rho["items"]) == pytest.approx((1, low, 1, 2, 20))
    curve = means.loc["distance"].set_index("x")
    assert curve["mean"].to_dict() == pytest.approx({hops: np.sqrt(hops) for hops in (1, 2, 3, 4)}, rel=1e-4)
    assert curve["items"].to_dict() == {1: 8, 2: 6, 3: 4, 4: 2}


def test_paths_over_edges_of_several_kinds_are_a_series_of_their_own(opened):
    nodes = chain(np.random.default_rng(1))
    nodes[4] = (*nodes[4][:2], {"relation": "quantized", "subtype": "int8"})
    means = points("1-distance", opened(nodes)).loc["distance"].set_index(["series", "x"])["items"]
    assert means.to_dict() == {("full", 1): 3, ("full", 2): 2, ("full", 3): 1, ("quantized", 1): 1, ("several kinds", 2): 1,
                               ("several kinds", 3): 1, ("several kinds", 4): 1}  # fmt: skip


def training(rng, seed, init):
    """Returns the checkpoints of a root's training, whose outliers grow, and of a fine-tuning, whose outliers shrink."""
    base, nodes = {name: rng.normal(size=(SIDE, SIDE)) for name in NAMES}, []
    for index, outlier in enumerate((6, 8, 10, 9, 7)):
        weights = {name: value.copy() for name, value in base.items()}
        for value in weights.values():
            value[0, 0] = outlier
        stage, run, steps = (
            ("pretraining", 2 * seed, 100 * index) if index < 3 else ("full", 2 * seed + 1, 50 * (index - 2))
        )
        record = fields(stage, seed=run, steps=steps, **({"init": init} if index == 2 else {}))
        nodes.append((weights, [index - 1] if index else [], record if index else {"task": "a"}))
    return nodes


def test_outliers_are_followed_through_training(opened):
    rng = np.random.default_rng(2)
    means = points("2-3-outliers", opened(forest(training(rng, 1, "normal"), training(rng, 2, "orthogonal"))))
    trend = means.loc["kurtosis_trend"].set_index(["x", "series"])["mean"]
    assert trend.to_dict() == {(stage, series): sign for stage, sign in (("root training", 1), ("fine-tuning (full)", -1))
                               for series in ("normal", "all", "orthogonal")}  # fmt: skip
    curve = means.loc["kurtosis"].set_index(["panel", "series"]).loc[("fine-tuning (full): query", "normal")]
    assert list(curve.x) == [0, 50, 100]
    assert set(curve.trees) == {1}
    assert set(means.loc["kurtosis"].panel.str.split(": ").str[1]) == {"matrices", "query", "key", "value", "output"}


def test_a_training_whose_checkpoints_are_no_chain_is_left_out(opened):
    nodes = training(np.random.default_rng(3), 1, "normal")
    nodes[2] = (nodes[2][0], [0], nodes[2][2])
    panels = table.measurements(CLAIMS["2-3-outliers"], [opened(nodes)], SETTINGS).panel
    assert set(panels.str.split(":").str[0]) == {"fine-tuning (full)", "matrices"}


def test_rank_counts_edges_if_updates_of_rank_one_differ_in_size(opened):
    nodes = chain(np.random.default_rng(4), rank=(9.0, 0.1, 0.1, 0.1))
    for index, rank in ((1, 4), (2, 4), (3, 8), (4, 8)):
        nodes[index][2]["training"] |= {"rank": rank}
    means = points("4-lora", opened(nodes)).reset_index().set_index(["measure", "x"])
    assert means.loc[("lora_spearman", "rank"), "mean"] == pytest.approx(1)
    assert means.loc[("lora_spearman", "rms"), "mean"] < 0.9
    assert means.loc[("skeleton_accuracy", "rank"), "mean"] == 1
    by_rank = means.loc["skeleton_by_rank"].set_index("series", append=True)["items"]
    assert by_rank.to_dict() == {(rank, name): 2 for rank in (4, 8) for name in ("rank", "rms")}


def test_outliers_that_shrink_with_depth_give_a_correlation_of_minus_one(opened):
    rng = np.random.default_rng(5)
    nodes = [({name: np.where(np.eye(SIDE) > 0, size, value) for name, value in {n: rng.normal(size=(SIDE, SIDE)) for n in NAMES}.items()},
              [depth - 1] if depth else [], {}) for depth, size in enumerate((30, 12, 6, 3))]  # fmt: skip
    means = points("8-depth", opened(nodes))
    assert means.loc["depth_spearman", "mean"] == -1
    assert list(means.loc["depth"].x) == [0, 1, 2, 3]
    assert means.loc["depth", "mean"].mean() == pytest.approx(0)


def test_data_that_cannot_test_a_claim_give_no_measurement(opened):
    rng = np.random.default_rng(6)
    single = opened([({name: rng.normal(size=(SIDE, SIDE)) for name in NAMES}, [], {})])
    assert all(table.measurements(claim, [single], SETTINGS).empty for claim in CLAIMS.values())


# --- tables ---


def test_a_table_has_one_row_for_each_point_within_the_range_of_its_measure():
    values = pd.DataFrame(
        [Measurement("adjusted_rand", "", series, x, "vit", "s", -1, f"draw {draw}", 1.0 - draw, 1) for series in "ab" for x in (10.0, 50.0)
         for draw in (0, 1)]
    )  # fmt: skip
    means = mean_points(values)
    assert list(means.columns) == COLUMNS
    assert len(means) == 4
    assert set(means["mean"]) == {0.5}
    assert (means.low.min(), means.high.max()) == (MEASURES["adjusted_rand"].low, 1)


@pytest.mark.parametrize(
    ("values", "message"),
    [({"distance": "rsm"}, "did you mean rms"), ({"directions": ("nrom",)}, "did you mean norm"), ({"layers": "bodi"}, "did you mean body"),
     ({"distance": "signed_max"}, "not symmetric"), ({"seeds": 0}, "at least one")],
)  # fmt: skip
def test_wrong_settings_are_refused(values, message):
    with pytest.raises(MothrError, match=message):
        ClaimSettings(**values)


# --- the command ---


def test_command_writes_tables_and_figures_and_names_the_claims_it_skips(opened, tmp_path, call):
    rng = np.random.default_rng(7)
    folder = opened(forest(chain(rng, 4), chain(rng, 4))).folder
    called = call(
        folder, "--only", "1-distance,2-3-outliers,4-lora,6-clustering", "--seeds", 1, "--out", tmp_path / "out"
    )
    tested = ["1-distance", "6-clustering"]
    for name in tested:
        assert list(pd.read_csv(tmp_path / "out" / f"{name}.csv").columns) == COLUMNS
        assert list(pd.read_csv(tmp_path / "out" / f"{name}-trees.csv").columns) == list(Measurement._fields)
        svg_text = "|".join(ElementTree.parse(tmp_path / "out" / f"{name}.svg").getroot().itertext())
        assert "t-intervals" in svg_text
        assert CLAIMS[name].title in svg_text
        with Image.open(tmp_path / "out" / f"{name}.png") as image:
            assert image.width >= 1400
    assert {path.stem.removesuffix("-trees") for path in (tmp_path / "out").iterdir()} == set(tested)
    assert "2-3-outliers: skipped: needs checkpoints that were kept during training" in called.stdout
    assert "4-lora: skipped: needs edges of the subtype lora" in called.stdout
    assert "distance_spearman" in called.stdout


def test_only_chosen_claims_are_tested_and_printed_as_json(opened, tmp_path, call):
    folder = opened(chain(np.random.default_rng(8))).folder
    value = json.loads(call(folder, "--only", "1-distance,6-clustering", "--json", "--out", tmp_path / "out").stdout)
    assert list(value["claims"]) == ["1-distance"]
    assert list(value["skipped"]) == ["6-clustering"]
    assert {(row["measure"], row["trees"], row["low"]) for row in value["claims"]["1-distance"]["rows"]} == {
        ("distance", 1, None), ("distance_spearman", 1, None)
    }  # fmt: skip


def test_if_no_claim_can_be_tested_the_error_names_the_required_data_and_no_file_is_left(opened, tmp_path, call):
    folder = opened([({name: np.eye(SIDE) for name in NAMES}, [], {})]).folder
    with pytest.raises(
        MothrError, match=r"none of the claims .* 1-distance skipped: needs a tree of three .* curves skipped: needs"
    ):
        call(folder, "--out", tmp_path / "out")
    with pytest.raises(MothrError, match="did you mean 8-depth"):
        call(folder, "--only", "depth", "--out", tmp_path / "out")
    (folder / "truth.json").unlink()
    with pytest.raises(MothrError, match="no truth here"):
        call(folder, "--out", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_help_names_every_claim():
    [command] = [item.function for item in commands if item.function.__name__ == "claims"]
    assert all(name in command.__doc__ for name in CLAIMS)


# --- claims and questions ---


def test_what_no_text_states_is_a_question():
    assert {name: claim.kind for name, claim in CLAIMS.items()} == {
        "1-distance": "claim", "2-3-outliers": "claim and question", "4-lora": "claim", "5-motifs": "claim",
        "6-clustering": "claim and question", "7-robustness": "question", "8-depth": "question", "9-root": "question",
        "10-ties": "question", "curves": "question",
    }  # fmt: skip
    for claim in CLAIMS.values():
        assert claim.claim is None or claim.claim.endswith(".")
        assert claim.question is None or claim.question.endswith("?")


def test_figure_table_and_json_say_whether_it_is_a_claim_or_a_question(opened, tmp_path, call):
    folder = opened(chain(np.random.default_rng(9))).folder
    words = (folder, "--only", "1-distance,8-depth", "--out")
    called, value = call(*words, tmp_path / "a"), json.loads(call(*words, tmp_path / "b", "--json").stdout)
    assert [(found["kind"], found["claim"], found["question"]) for found in value["claims"].values()] == [
        ("claim", CLAIMS["1-distance"].claim, None), ("question", None, CLAIMS["8-depth"].question)
    ]  # fmt: skip
    lines = [line.split() for line in called.stdout.splitlines()]
    assert {(line[0], line[1]) for line in lines if line and line[0] in CLAIMS} == {
        ("1-distance", "claim"), ("8-depth", "question")
    }  # fmt: skip
    texts = [" ".join("".join(ElementTree.parse(tmp_path / "a" / f"{name}.svg").getroot().itertext()).split())
             for name in ("1-distance", "8-depth")]  # fmt: skip
    assert "Claim of the paper: The distance between" in texts[0]
    assert "Question, which no text of the authors answers: Do weight outliers" in texts[1]


# --- figures ---


def test_numbers_are_joined_and_names_are_listed_and_intervals_are_drawn():
    rows = [("distance", "", "full", x, "vit", x, x - 0.5, x + 0.5, 3, 9) for x in (1.0, 2.0)]
    rows += [("distance_spearman", "", "full", "full", "vit", 0.5, 0.1, 0.9, 3, 9)]
    rows += [("distance_spearman", "", "full", "full", "llama", 0.5, np.nan, np.nan, 1, 9)]
    figure = report.claim_figure(CLAIMS["1-distance"], pd.DataFrame(rows, columns=COLUMNS), "Caption.")
    curve, listed = figure.subfigs[0].axes
    assert (curve.get_title(), listed.get_title()) == ("n = 3", "n = 1 to 3")
    assert curve.get_xlabel() == "edges between two models"
    [bars] = curve.containers
    assert [segment[:, 1].tolist() for segment in bars[2][0].get_segments()] == [[0.5, 1.5], [1.5, 2.5]]
    assert [label.get_text() for label in listed.get_yticklabels()] == ["full"]
    assert [bars[0].get_xdata().tolist() for bars in listed.containers] == [[0.5], [0.5]]
    marks = [text.get_text() for text in figure.subfigs[1].legends[0].get_texts()]
    assert marks == ["full, vit", "full, llama"]
    assert "Caption." in figure.subfigs[1].texts[0].get_text()


def test_more_series_than_colours_differ_in_dash_or_marker():
    styles = report.series_styles([f"series {index}" for index in range(20)])
    assert len({(style["color"], str(style["linestyle"]), style["marker"]) for style in styles.values()}) == 20


def test_ticks_whose_labels_would_overlap_are_left_out():
    assert report.spaced_ticks(np.array([60.0, 300.0, 400.0]), np.log2) == [60, 300]
    assert report.spaced_ticks(np.array([2.0, 4.0, 8.0, 16.0]), np.log2) == [2, 4, 8, 16]
    assert report.spaced_ticks(np.array([10.0, 25.0, 50.0, 75.0, 100.0]), np.positive) == [10, 25, 50, 75, 100]
