"""Ablations: which methods are run, their records, table, summary and figure, and the command ``mothr ablate``."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import entry_points
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.numpy import save_file

from mothr.baselines.cli.ablation import ablate
from mothr.baselines.methods.mother import MOTHER_V2
from mothr.baselines.parts.directions import DIRECTIONS
from mothr.baselines.studies import ablation, ablation_report, output
from mothr.baselines.studies.ablation import BOUNDS, VARIED_FIELDS, AblationGrid
from mothr.baselines.studies.datasets import OpenedDataset
from mothr.baselines.studies.roots import KURTOSIS_LIMITS, interval_names
from mothr.benchmark import __version__
from mothr.benchmark.board import board
from mothr.benchmark.data.dataset import fix_times, open_truth, write_manifest
from mothr.benchmark.errors import MothrError, MothrWarning
from mothr.benchmark.records import store
from mothr.benchmark.run.execute import execute
from mothr.benchmark.run.in_process import InProcess
from mothr.benchmark.run.outcome import RunRequest
from mothr.benchmark.run.registry import settings_from
from mothr.benchmark.score.metrics import METRICS
from mothr.benchmark.score.statistics import Interval

COMMAND = "ablate"

PARENTS = (None, 0, 0, 1, 1, 2)
"""Parent of each node of a tree."""
TREES = 3
SHAPES = {f"layers.{layer}.attention.{part}_proj.weight": (16, 16) for layer in range(2) for part in "qkvo"}
SHAPES |= {"layers.0.mlp.up_proj.weight": (32, 16), "flat.weight": (4, 4)}
TWO_SCORES = AblationGrid(directions=("norm", "kurtosis"))


def build(folder, left_out=None):
    """Writes a data set to ``folder`` and returns ``folder``: heavy-tailed roots, Gaussian updates, and one matrix of ones in every model.

    The first root has no tensor called ``left_out``.
    """
    rng, nodes = np.random.default_rng(0), {}
    for tree in range(TREES):
        ids, weights = [rng.bytes(6).hex() for _ in PARENTS], []
        for node, parent in enumerate(PARENTS):
            draw, inherited = (rng.laplace, None) if parent is None else (rng.normal, weights[parent])
            weights.append(
                {
                    name: draw(0, 0.1, size=shape) + (0 if inherited is None else inherited[name])
                    for name, shape in SHAPES.items()
                }
            )
            weights[-1]["flat.weight"] = np.ones(SHAPES["flat.weight"])
            model = folder / "models" / ids[node]
            model.mkdir(parents=True)
            stored = {name: value for name, value in weights[-1].items() if (tree, node, name) != (0, 0, left_out)}
            save_file({name: value.astype(np.float32) for name, value in stored.items()}, model / "model.safetensors")
            nodes[ids[node]] = {"parents": [] if parent is None else [ids[parent]], "tree": tree}
    (folder / "truth.json").write_text(json.dumps({"schema_version": 1, "split": "tiny", "version": 1, "nodes": nodes}))
    fix_times(folder / "models")
    write_manifest(
        folder, name="tiny", version=1, family="toy", mothr_version=__version__, recipe_sha256="0" * 64, environment={}
    )
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Three trees of six models. No test changes them."""
    return build(tmp_path_factory.mktemp("tiny") / "data")


# --- what is run ---


def test_every_combination_is_run_with_both_bounds():
    grid = AblationGrid(
        ("kurtosis", "norm", "kurtosis"), ("rms", "cosine"), (0.0, 0.1, 0.3), ("mlp", "all"), (None, "vote")
    )
    combinations = {tuple(getattr(method, field) for field in VARIED_FIELDS) for method in grid.methods}
    assert len(combinations) == len(grid.methods) == 2 * 3 * 2 * 2 * (2 + len(BOUNDS))
    assert {method.direction for method in grid.methods} == {"kurtosis", "norm", *BOUNDS}


def test_all_direction_scores_are_run_if_none_is_named():
    assert {method.direction for method in AblationGrid().methods} == set(DIRECTIONS)


def test_fields_that_are_not_varied_are_those_of_the_base():
    grid = AblationGrid(("norm",), base=replace(MOTHER_V2, stage="generalisation", distance_layers="all"))
    assert {(method.stage, method.distance_layers) for method in grid.methods} == {("generalisation", "all")}


def test_only_the_direction_random_is_run_several_times():
    counts = pd.Series([method.direction for method, _ in TWO_SCORES.runs(4)]).value_counts()
    assert counts.to_dict() == {"random": 4, "norm": 1, "kurtosis": 1, "oracle": 1}


def test_a_grid_of_bounds_only_is_refused():
    with pytest.raises(MothrError, match="beside the bounds"):
        AblationGrid(("random", "oracle"))


# --- records, rows, summary ---


@pytest.fixture(scope="module")
def records(tiny):
    return ablation.run(TWO_SCORES, tiny, "known-trees", seeds=3)


def single_run(method, folder, setting):
    """Returns the record of one run with seed 0."""
    request = RunRequest("mother-v2", settings_from(method, "mother-v2"), setting)
    [(_, record)] = execute([request], folder, open_truth(folder), InProcess())
    return record


def test_records_equal_those_of_single_runs(tiny, records):
    timed = {"seconds", "date"}
    for method, record in zip(TWO_SCORES.methods, [record for record in records if record.seed == 0], strict=True):
        alone = single_run(method, tiny, "known-trees")
        assert record.model_dump(exclude=timed) == alone.model_dump(exclude=timed)


def test_features_kept_in_memory_do_not_change_a_prediction(tiny):
    grid = AblationGrid(("kurtosis", "norm"), ("rms", "cosine"), (0.1, 1.0), ("mlp", "attention"), (None, "vote"))
    for method, record in zip(grid.methods, ablation.run(grid, tiny, "open", seeds=1), strict=True):
        assert record.parents == single_run(method, tiny, "open").parents


def test_table_has_a_row_for_each_run_and_tree_with_parameters_and_metrics(records):
    table = ablation.table_rows(records, range(TREES))
    assert len(table) == len(records) * TREES
    assert set(records[0].parameters) | {name for name, metric in METRICS.items() if metric.per_tree} <= set(
        table.columns
    )
    assert not table.duplicated([*VARIED_FIELDS, "seed", "tree"]).any()
    row = table[(table.direction == "random") & (table.seed == 2) & (table.tree == 1)].iloc[0]
    [record] = [run for run in records if run.parameters["direction"] == "random" and run.seed == 2]
    assert {name: row[name] for name in METRICS if METRICS[name].per_tree} == pytest.approx(
        record.tree_scores()[1], nan_ok=True
    )


def test_summary_equals_the_leaderboard(records):
    table = board.board(records).set_index("parameters")
    rows = ablation.summary(records)
    assert [row.varied["direction"] for row in rows] == ["norm", "kurtosis", *BOUNDS]
    for row, (_, board_row) in zip(
        sorted(rows, key=lambda row: row.varied["direction"]), table.sort_index().iterrows(), strict=True
    ):
        for name, interval in row.intervals.items():
            expected = (board_row[name], board_row[f"{name}_low"], board_row[f"{name}_high"])
            assert (interval.mean, interval.low, interval.high) == expected
        assert row.runs == (3 if row.varied["direction"] == "random" else 1)


def test_the_true_direction_is_perfect_and_a_random_one_is_worst(records):
    means = {row.varied["direction"]: row.intervals["edge_accuracy"].mean for row in ablation.summary(records)}
    assert means["oracle"] == 1
    assert means["random"] < means["norm"] <= 1


def test_failed_run_counts_as_zero_and_has_a_row_for_each_tree(tiny):
    records = ablation.run(AblationGrid(("kurtosis", "norm"), layers=("re:flat",)), tiny, "known-trees", seeds=1)
    assert records[0].status == "failed"
    kurtosis = ablation.summary(records)[0]
    assert (kurtosis.failed, kurtosis.intervals["edge_accuracy"].mean) == (1, 0)
    table = ablation.table_rows(records, range(TREES))
    failed = table[table.direction == "kurtosis"]
    assert len(failed) == TREES
    assert failed.edge_f1.isna().all()
    assert failed.error.str.contains("undefined").all()


def test_a_warning_of_all_runs_is_shown_once(tmp_path):
    data = build(tmp_path / "data", left_out="layers.0.mlp.up_proj.weight")
    with pytest.warns(MothrWarning) as caught:
        ablation.run(AblationGrid(("norm", "kurtosis", "std"), weights=(0.1, 0.3)), data, "known-trees", seeds=1)
    texts = [str(warning.message) for warning in caught]
    assert len(texts) == len(set(texts)) == 1
    assert "up_proj" in texts[0]


def test_layers_that_select_nothing_stop_before_the_first_run(tiny):
    with pytest.raises(MothrError, match="'conv' select none"):
        ablation.run(AblationGrid(("norm",), layers=("matrices", "conv")), tiny, "known-trees")


# --- the root of the tree, and ties ---


@pytest.fixture(scope="module")
def with_roots(tiny, records):
    return ablation.table_with_roots(records, OpenedDataset.open(tiny))


def test_each_run_and_tree_has_the_fields_of_its_root_and_the_number_of_ties(tiny, records, with_roots):
    data = OpenedDataset.open(tiny)
    assert len(with_roots) == len(records) * TREES
    kurtosis = with_roots.groupby("tree", sort=False).root_kurtosis.agg(["min", "max"])
    assert kurtosis["min"].equals(kurtosis["max"])
    assert kurtosis["min"].tolist() == [root["root_kurtosis"] for root in data.root_fields]
    labels = [data.truth.nodes[next(iter(tree))].tree for tree in data.graph.trees]
    assert kurtosis.index.tolist() == labels
    assert (with_roots.optimal_rootings >= 1).all()
    single = with_roots[with_roots.optimal_rootings == 1]
    assert len(single) > 0
    assert np.allclose(single.edge_accuracy, single.edge_accuracy_over_ties)
    assert set(with_roots[with_roots.direction == "oracle"].edge_accuracy_over_ties) == {1.0}


def test_means_by_root_are_over_trees_and_sum_up_to_the_summary(records, with_roots):
    means = ablation.means_by_root(with_roots)
    assert set(means.root) == {"root_kurtosis"}  # the truth records neither the initialisation nor the training
    for direction, rows in means.groupby("direction"):
        [whole] = [row for row in ablation.summary(records) if row.varied["direction"] == direction]
        assert rows.trees.sum() == TREES
        assert np.average(rows.edge_accuracy, weights=rows.trees) == pytest.approx(
            whole.intervals["edge_accuracy"].mean
        )


def test_a_tree_without_a_known_root_is_in_no_class_and_a_failed_run_counts_as_zero(with_roots):
    unknown = with_roots.assign(root_kurtosis=with_roots.root_kurtosis.where(with_roots.tree != 1))
    assert set(ablation.means_by_root(unknown).groupby("direction").trees.sum()) == {TREES - 1}
    failed = with_roots.assign(
        status=with_roots.status.where(with_roots.direction != "norm", "failed"),
        root_kurtosis=[-1.0, 0.0, 9.0] * (len(with_roots) // TREES),
    )
    means = ablation.means_by_root(failed).set_index(["class", "direction"])
    assert list(dict.fromkeys(means.index.get_level_values("class"))) == ["below -0.5", "0 to 0.5", "1.5 or more"]
    assert set(means.loc[(slice(None), "norm"), "edge_accuracy"]) == {0.0}
    assert means.loc[("below -0.5", "oracle"), "edge_accuracy"] == 1
    assert means.low.isna().all()  # one tree a class


# --- the figure ---


def marks(axes, names):
    """Returns name -> (mean, low, high) as drawn by errorbar. The ends are NaN if no bar is drawn."""
    [bars] = axes.containers
    middle, _, [reach] = bars
    ends = [segment[:, 0] if len(segment) else (np.nan, np.nan) for segment in reach.get_segments()]
    return {name: (mean, *end) for name, mean, end in zip(names, middle.get_xdata(), ends, strict=True)}


def test_figure_shows_means_intervals_and_bounds(records):
    rows = {row.varied["direction"]: row for row in ablation.summary(records)}
    panels = ablation_report.ablation_figure(list(rows.values()), "title").axes
    names = [label.get_text() for label in panels[0].get_yticklabels()]
    assert set(names) == {"norm", "kurtosis"}
    assert [axes.get_xlabel() for axes in panels] == ["edge accuracy", "direction accuracy"]
    for axes, metric in zip(panels, ("edge_accuracy", "direction_accuracy"), strict=True):
        for name, ends in marks(axes, names).items():
            interval = rows[name].intervals[metric]
            assert ends == pytest.approx((interval.mean, interval.low, interval.high))
        bounds = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() in (":", "--")]
        assert bounds == [rows[bound].intervals[metric].mean for bound in BOUNDS]


def test_figure_has_a_panel_for_each_choice(tiny):
    records = ablation.run(
        AblationGrid(("norm",), ("rms", "cosine"), (0.0, 0.1, 0.3), ("mlp",)), tiny, "known-trees", seeds=1
    )
    shown = [axes for axes in ablation_report.ablation_figure(ablation.summary(records), "title").axes if axes.axison]
    assert len(shown) == 2 * 6
    titles = [axes.get_title() for axes in shown if axes.get_title()]
    assert titles == [
        f"distance {distance}\nλ = {weight}" for distance in ("rms", "cosine") for weight in (0.0, 0.1, 0.3)
    ]


def test_figure_of_one_tree_has_no_intervals_and_marks_undefined_values(records):
    [row, *others] = ablation.summary(records)
    point = Interval(0.5, None, None, 1)
    altered = replace(row, intervals={"edge_accuracy": point, "direction_accuracy": None, "edge_f1": point})
    edges, directions = ablation_report.ablation_figure([altered, *others], "title").axes
    names = [label.get_text() for label in edges.get_yticklabels()]
    mean, *ends = marks(edges, names)["norm"]
    assert (mean, np.isnan(ends).all()) == (0.5, True)
    assert [text.get_text() for text in directions.texts] == ["undefined"]


# --- the command ---


def test_command_writes_table_and_figure(tiny, tmp_path, call):
    out = tmp_path / "new" / "ablation"
    called = call(tiny, "--directions", "norm,kurtosis", "--weights", "0.1,0.3", "--seeds", 2, "--out", out)
    table = pd.read_csv(out / "ablation.csv")
    assert len(table) == 2 * (2 + 2 + 1) * TREES
    assert set(table.lambda_) == {0.1, 0.3}
    assert (out / "ablation.parquet").exists() == (output.parquet_engine() is not None)
    assert ("no ablation.parquet" in called.stdout) == (output.parquet_engine() is None)
    assert [line.split()[:2] for line in called.stdout.splitlines()[:2]] == [["lambda_", "direction"], ["0.1", "norm"]]
    svg_text = "|".join(ElementTree.parse(out / "ablation.svg").getroot().itertext())
    for words in (
        "norm",
        "kurtosis",
        "λ = 0.1",
        "λ = 0.3",
        "edge accuracy",
        "direction accuracy",
        "layers matrices",
        "direction oracle",
    ):
        assert words in svg_text
    with Image.open(out / "ablation.png") as image:
        image.load()
        assert image.width == 1400
        assert len(image.convert("RGB").getcolors(1 << 20)) > 10
    assert [path.name for path in out.parent.iterdir()] == ["ablation"]


def test_command_prints_means_by_root_on_request(tiny, tmp_path, call):
    called = call(tiny, "--directions", "norm", "--seeds", 1, "--by-root", "--out", tmp_path / "out")
    heading, *lines = [line.split() for line in called.stdout.splitlines()]
    assert heading == ["root", "class", "direction", "edge_accuracy", "over_ties", "optimal_rootings", "n"]
    classes = {name.split()[0] for name in interval_names(KURTOSIS_LIMITS)}
    assert {line[0] for line in lines if line[1:] and line[1] in classes} == {"root_kurtosis"}
    assert {line[2] for line in lines if line[1:] and line[-1] == str(TREES)} <= {"norm", *BOUNDS}
    table = pd.read_csv(tmp_path / "out" / "ablation-by-root.csv")
    assert list(table.columns) == list(ablation.BY_ROOT_COLUMNS)
    value = json.loads(call(tiny, "--directions", "norm", "--seeds", 1, "--json", "--out", tmp_path / "json").stdout)
    assert [row["edge_accuracy"] for row in value["by_root"]] == pytest.approx(table.edge_accuracy.tolist())


def test_json_is_one_value_with_intervals(tiny, tmp_path, call):
    called = call(tiny, "--directions", "norm", "--seeds", 1, "--json", "--out", tmp_path / "out")
    value = json.loads(called.stdout)
    assert (value["runs"], value["failed"]) == (3, 0)
    assert [row["direction"] for row in value["rows"]] == ["norm", *BOUNDS]
    for row in value["rows"]:
        assert 0 <= row["edge_accuracy_low"] <= row["edge_accuracy"] <= row["edge_accuracy_high"] <= 1
        assert row["edge_accuracy_n"] == TREES


def test_records_are_written_on_request_and_make_a_board(tiny, tmp_path, call):
    call(tiny, "--directions", "norm", "--seeds", 2, "--out", tmp_path / "without")
    assert not (tmp_path / "without" / "records").exists()
    call(tiny, "--directions", "norm", "--seeds", 2, "--records", "--out", tmp_path / "with")
    read = store.read_all(tmp_path / "with" / "records")
    assert len(read) == 4
    assert sorted(row.kind for row in board.rows(read)) == ["method", "null", "oracle"]


def test_other_fields_of_the_method_can_be_set(tiny, tmp_path, call):
    call(
        tiny, "--directions", "norm", "--set", "distance_layers=all", "--combine", "own,vote", "--out", tmp_path / "out"
    )
    table = pd.read_csv(tmp_path / "out" / "ablation.csv")
    assert set(table.distance_layers) == {"all"}
    assert set(table.direction_combine.fillna("own")) == {"own", "vote"}


def test_in_the_open_setting_methods_are_not_given_the_trees(tiny, tmp_path, call):
    call(tiny, "--directions", "norm", "--setting", "open", "--seeds", 1, "--out", tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "ablation.csv")
    assert set(table.told) == {"tree_count", "tree_count truth"}


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--directions", "norm,kurtossis", "did you mean .*kurtosis"),
        ("--distances", "rsm", "did you mean rms"),
        ("--layers", "matrics", "did you mean .*matrices"),
        ("--combine", "vot", "did you mean vote"),
        ("--weights", "0.1,much", "much: not a number"),
        ("--weights", "-1", "-1"),
        ("--weights", ",", "name at least one"),
        ("--set", "direction=norm", "use --directions"),
        ("--set", "stages=x", "did you mean stage"),
    ],
)
def test_wrong_values_are_refused_before_data_are_opened(tmp_path, call, option, value, message):
    with pytest.raises(MothrError, match=message):
        call(tmp_path / "no-such-data", f"{option}={value}", "--out", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_with_files_is_refused_and_left_alone(tiny, tmp_path, call):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(MothrError, match="exists and is not an empty folder"):
        call(tiny, "--out", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_failed_command_leaves_no_files(tmp_path, call):
    with pytest.raises(MothrError, match="no truth here"):
        call(tmp_path / "no-such-data", "--out", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_failed_runs_are_written_and_then_reported(tiny, tmp_path, call):
    with pytest.raises(MothrError, match=r"1 of 4 runs failed; the first, kurtosis: .*undefined"):
        call(tiny, "--directions", "kurtosis,norm", "--layers", "re:flat", "--seeds", 1, "--out", tmp_path / "out")
    assert set(pd.read_csv(tmp_path / "out" / "ablation.csv").status) == {"failed", "ok"}


def test_missing_matplotlib_is_reported_before_the_runs(tiny, tmp_path, call, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MothrError, match=r"mothr\[generate\]"):
        call(tiny, "--out", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_command_is_registered_and_its_module_imports_no_torch():
    [point] = [point for point in entry_points(group="mothr.commands") if point.name == "baselines"]
    assert ablate in [command.function for command in point.load()]
    code = "import sys, mothr.baselines.cli; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
