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

from mothr.baselines.cli import ablate
from mothr.baselines.methods.mother import MOTHER_V2
from mothr.baselines.parts.directions import DIRECTIONS
from mothr.baselines.studies import ablation, ablation_report, output
from mothr.baselines.studies.ablation import BOUNDS, VARIED_FIELDS, AblationGrid
from mothr.benchmark import __version__
from mothr.benchmark.board import board
from mothr.benchmark.data.dataset import fix_times, write_manifest
from mothr.benchmark.errors import MothrError, MothrWarning
from mothr.benchmark.records import store
from mothr.benchmark.run import evaluate
from mothr.benchmark.score.metrics import METRICS
from mothr.benchmark.score.statistics import Interval

COMMAND = "ablate"

SHAPE = (None, 0, 0, 1, 1, 2)
"""Parent of each node of a tree."""
TREES = 3
SHAPES = {f"layers.{layer}.attention.{part}_proj.weight": (16, 16) for layer in range(2) for part in "qkvo"}
SHAPES |= {"layers.0.mlp.up_proj.weight": (32, 16), "flat.weight": (4, 4)}
TWO = AblationGrid(directions=("norm", "kurtosis"))


def build(folder, lacking=None):
    """Returns ``folder``, made a data set: heavy-tailed roots, Gaussian updates, and one matrix that is all ones in every model."""
    rng, nodes = np.random.default_rng(0), {}
    for tree in range(TREES):
        ids, weights = [rng.bytes(6).hex() for _ in SHAPE], []
        for node, above in enumerate(SHAPE):
            draw, old = (rng.laplace, None) if above is None else (rng.normal, weights[above])
            weights.append(
                {name: draw(0, 0.1, size=shape) + (0 if old is None else old[name]) for name, shape in SHAPES.items()}
            )
            weights[-1]["flat.weight"] = np.ones(SHAPES["flat.weight"])
            place = folder / "models" / ids[node]
            place.mkdir(parents=True)
            kept = {name: value for name, value in weights[-1].items() if (tree, node, name) != (0, 0, lacking)}
            save_file({name: value.astype(np.float32) for name, value in kept.items()}, place / "model.safetensors")
            nodes[ids[node]] = {"parents": [] if above is None else [ids[above]], "tree": tree}
    (folder / "truth.json").write_text(json.dumps({"schema_version": 1, "split": "tiny", "version": 1, "nodes": nodes}))
    fix_times(folder / "models")
    write_manifest(
        folder, name="tiny", version=1, family="toy", mothr_version=__version__, recipe_sha256="0" * 64, environment={}
    )
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Three trees of six models, never to be changed."""
    return build(tmp_path_factory.mktemp("tiny") / "data")


# --- what is run ---


def test_every_combination_is_run_and_the_bounds_with_each():
    grid = AblationGrid(
        ("kurtosis", "norm", "kurtosis"), ("rms", "cosine"), (0.0, 0.1, 0.3), ("mlp", "all"), (None, "vote")
    )
    points = {tuple(getattr(method, field) for field in VARIED_FIELDS) for method in grid.methods}
    assert len(points) == len(grid.methods) == 2 * 3 * 2 * 2 * (2 + len(BOUNDS))
    assert {method.direction for method in grid.methods} == {"kurtosis", "norm", *BOUNDS}


def test_all_direction_scores_are_run_if_none_is_named():
    assert {method.direction for method in AblationGrid().methods} == set(DIRECTIONS)


def test_fields_that_are_not_varied_are_those_of_the_base():
    grid = AblationGrid(("norm",), base=replace(MOTHER_V2, stage="generalisation", distance_layers="all"))
    assert {(method.stage, method.distance_layers) for method in grid.methods} == {("generalisation", "all")}


def test_only_the_coin_is_run_again():
    counts = pd.Series([method.direction for method, _ in TWO.runs(4)]).value_counts()
    assert counts.to_dict() == {"random": 4, "norm": 1, "kurtosis": 1, "oracle": 1}


def test_bounds_alone_are_no_ablation():
    with pytest.raises(MothrError, match="beside the bounds"):
        AblationGrid(("random", "oracle"))


# --- records, rows, summary ---


@pytest.fixture(scope="module")
def records(tiny):
    return ablation.run(TWO, tiny, "known-trees", seeds=3)


def test_records_are_those_of_the_harness(tiny, records):
    timed = {"seconds", "date"}
    for method, record in zip(TWO.methods, [one for one in records if one.seed == 0], strict=True):
        alone = evaluate.run(method, "mother-v2", tiny, "known-trees", 0)
        assert record.model_dump(exclude=timed) == alone.model_dump(exclude=timed)


def test_what_is_remembered_mixes_no_two_questions(tiny):
    grid = AblationGrid(("kurtosis", "norm"), ("rms", "cosine"), (0.1, 1.0), ("mlp", "attention"), (None, "vote"))
    for method, record in zip(grid.methods, ablation.run(grid, tiny, "open", seeds=1), strict=True):
        assert record.parents == evaluate.run(method, "mother-v2", tiny, "open", 0).parents


def test_table_has_a_row_for_each_run_and_tree_with_parameters_and_metrics(records):
    table = ablation.table_rows(records, TREES)
    assert len(table) == len(records) * TREES
    assert set(records[0].parameters) | {name for name, metric in METRICS.items() if metric.per_tree} <= set(
        table.columns
    )
    assert not table.duplicated([*VARIED_FIELDS, "seed", "tree"]).any()
    row = table[(table.direction == "random") & (table.seed == 2) & (table.tree == 1)].iloc[0]
    [record] = [one for one in records if one.parameters["direction"] == "random" and one.seed == 2]
    assert {name: row[name] for name in METRICS if METRICS[name].per_tree} == pytest.approx(
        record.tree_scores()[1], nan_ok=True
    )


def test_summary_is_the_leaderboards(records):
    table = board.board(records).set_index("parameters")
    lines = ablation.summary(records)
    assert [line.varied["direction"] for line in lines] == ["norm", "kurtosis", *BOUNDS]
    for line, (_, row) in zip(
        sorted(lines, key=lambda line: line.varied["direction"]), table.sort_index().iterrows(), strict=True
    ):
        for name, interval in line.intervals.items():
            assert (interval.mean, interval.low, interval.high) == (row[name], row[f"{name}_low"], row[f"{name}_high"])
        assert line.runs == (3 if line.varied["direction"] == "random" else 1)


def test_truth_bounds_the_scores_and_the_coin_is_worse(records):
    means = {line.varied["direction"]: line.intervals["edge_accuracy"].mean for line in ablation.summary(records)}
    assert means["oracle"] == 1
    assert means["random"] < means["norm"] <= 1


def test_failed_run_counts_as_zero_and_has_a_row_for_each_tree(tiny):
    made = ablation.run(AblationGrid(("kurtosis", "norm"), layers=("re:flat",)), tiny, "known-trees", seeds=1)
    assert made[0].status == "failed"
    kurtosis = ablation.summary(made)[0]
    assert (kurtosis.failed, kurtosis.intervals["edge_accuracy"].mean) == (1, 0)
    table = ablation.table_rows(made, TREES)
    failed = table[table.direction == "kurtosis"]
    assert len(failed) == TREES
    assert failed.edge_f1.isna().all()
    assert failed.error.str.contains("undefined").all()


def test_what_all_runs_warn_of_is_said_once(tmp_path):
    data = build(tmp_path / "data", lacking="layers.0.mlp.up_proj.weight")
    with pytest.warns(MothrWarning) as caught:
        ablation.run(AblationGrid(("norm", "kurtosis", "std"), weights=(0.1, 0.3)), data, "known-trees", seeds=1)
    texts = [str(one.message) for one in caught]
    assert len(texts) == len(set(texts)) == 1
    assert "up_proj" in texts[0]


def test_layers_that_select_nothing_stop_before_the_first_run(tiny):
    with pytest.raises(MothrError, match="'conv' select none"):
        ablation.run(AblationGrid(("norm",), layers=("matrices", "conv")), tiny, "known-trees")


# --- the figure ---


def marks(axes, names):
    """Returns name -> (mean, low, high) as drawn by errorbar, the ends NaN where no bar is drawn."""
    [bars] = axes.containers
    middle, _, [reach] = bars
    ends = [segment[:, 0] if len(segment) else (np.nan, np.nan) for segment in reach.get_segments()]
    return {name: (mean, *end) for name, mean, end in zip(names, middle.get_xdata(), ends, strict=True)}


def test_figure_shows_means_intervals_and_bounds(records):
    lines = {line.varied["direction"]: line for line in ablation.summary(records)}
    drawn = ablation_report.ablation_figure(list(lines.values()), "title").axes
    names = [label.get_text() for label in drawn[0].get_yticklabels()]
    assert set(names) == {"norm", "kurtosis"}
    assert [axes.get_xlabel() for axes in drawn] == ["edge accuracy", "direction accuracy"]
    for axes, metric in zip(drawn, ("edge_accuracy", "direction_accuracy"), strict=True):
        for name, ends in marks(axes, names).items():
            interval = lines[name].intervals[metric]
            assert ends == pytest.approx((interval.mean, interval.low, interval.high))
        upright = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() in (":", "--")]
        assert upright == [lines[bound].intervals[metric].mean for bound in BOUNDS]


def test_figure_has_a_panel_for_each_choice(tiny):
    made = ablation.run(
        AblationGrid(("norm",), ("rms", "cosine"), (0.0, 0.1, 0.3), ("mlp",)), tiny, "known-trees", seeds=1
    )
    shown = [axes for axes in ablation_report.ablation_figure(ablation.summary(made), "title").axes if axes.axison]
    assert len(shown) == 2 * 6
    titles = [axes.get_title() for axes in shown if axes.get_title()]
    assert titles == [
        f"distance {distance}\nλ = {weight}" for distance in ("rms", "cosine") for weight in (0.0, 0.1, 0.3)
    ]


def test_figure_of_one_tree_has_no_intervals_and_says_what_is_undefined(records):
    [line, *others] = ablation.summary(records)
    point = Interval(0.5, None, None, 1)
    odd = replace(line, intervals={"edge_accuracy": point, "direction_accuracy": None, "edge_f1": point})
    edges, directions = ablation_report.ablation_figure([odd, *others], "title").axes
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
    texts = "|".join(ElementTree.parse(out / "ablation.svg").getroot().itertext())
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
        assert words in texts
    with Image.open(out / "ablation.png") as image:
        image.load()
        assert image.width == 1400
        assert len(image.convert("RGB").getcolors(1 << 20)) > 10
    assert [path.name for path in out.parent.iterdir()] == ["ablation"]


def test_json_is_one_value_with_intervals(tiny, tmp_path, call):
    called = call(tiny, "--directions", "norm", "--seeds", 1, "--json", "--out", tmp_path / "out")
    value = json.loads(called.stdout)
    assert (value["runs"], value["failed"]) == (3, 0)
    assert [row["direction"] for row in value["rows"]] == ["norm", *BOUNDS]
    for row in value["rows"]:
        assert 0 <= row["edge_accuracy_low"] <= row["edge_accuracy"] <= row["edge_accuracy_high"] <= 1
        assert row["edge_accuracy_n"] == TREES


def test_records_are_written_if_wanted_and_make_a_board(tiny, tmp_path, call):
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


def test_open_setting_is_told_no_trees(tiny, tmp_path, call):
    call(tiny, "--directions", "norm", "--setting", "open", "--seeds", 1, "--out", tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "ablation.csv")
    assert set(table.told) == {"tree_count", "tree_count truth"}


@pytest.mark.parametrize(
    ("option", "value", "says"),
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
def test_wrong_words_are_told_before_anything_is_opened(tmp_path, call, option, value, says):
    with pytest.raises(MothrError, match=says):
        call(tmp_path / "no-such-data", f"{option}={value}", "--out", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_stands_at_out_is_left_alone(tiny, tmp_path, call):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(MothrError, match="exists and is not an empty folder"):
        call(tiny, "--out", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_nothing_is_left_where_it_stops_halfway(tmp_path, call):
    with pytest.raises(MothrError, match="no truth here"):
        call(tmp_path / "no-such-data", "--out", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_failed_runs_are_written_and_then_told(tiny, tmp_path, call):
    with pytest.raises(MothrError, match=r"1 of 4 runs failed; the first, kurtosis: .*undefined"):
        call(tiny, "--directions", "kurtosis,norm", "--layers", "re:flat", "--seeds", 1, "--out", tmp_path / "out")
    assert set(pd.read_csv(tmp_path / "out" / "ablation.csv").status) == {"failed", "ok"}


def test_missing_matplotlib_is_told_before_the_runs(tiny, tmp_path, call, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MothrError, match=r"mothr\[generate\]"):
        call(tiny, "--out", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_command_is_registered_and_its_module_loads_no_torch():
    [point] = [point for point in entry_points(group="mothr.commands") if point.name == "baselines"]
    assert ablate in point.load()
    code = "import sys, mothr.baselines.cli; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
