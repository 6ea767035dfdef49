"""The regime map of methods: on which edges their published predictions are right, and which cells are marked."""

import json
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from mothr.baselines.cli import commands
from mothr.baselines.studies.datasets import OpenedDataset
from mothr.baselines.studies.regimes.gains import ALL
from mothr.baselines.studies.regimes.measure import DIRECTION_ACCURACY, apart_from_series, best_of, method_recall
from mothr.baselines.studies.regimes.methods import MethodMapSettings, method_map
from mothr.baselines.studies.regimes.report import published, regime_cells
from mothr.benchmark.errors import MothrError
from mothr.benchmark.records.store import read_runs, write
from mothr.benchmark.run.outcome import RunRequest

COMMAND = "map"
TREES = 6
NULL = "null-mst-random-root"
VARIANT = 'mother-v2 direction="norm"'
KINDS = MethodMapSettings(groupings=(("kind",), ("depth",)), cross=False)
PLANTED = """
import numpy as np
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.prediction import Prediction


def roles(models):
    tensors = [checkpoint.read("role.weight") for checkpoint in models.checkpoints]
    return {node: tuple(np.asarray(tensor, dtype=int)[0, :2].tolist()) for node, tensor in zip(models.ids, tensors)}


def copies(models, rng):
    '''Finds the parent of each full child, and no parent of others.'''
    found = roles(models)
    root = {tree: node for node, (tree, role) in found.items() if role == 0}
    return Prediction(ModelGraph({node: [root[tree]] if role == 1 else [] for node, (tree, role) in found.items()}))
"""
"""A method that reads the tree and the role of each model from a tensor: 0 root, 1 full child, 2 LoRA child."""


def forest(rng):
    """Returns trees of a root, two fully fine-tuned children, and a LoRA child below the first of them."""
    nodes = []
    for tree in range(TREES):
        start = len(nodes)
        for role, above, kind in ((0, [], None), (1, [0], "full"), (1, [0], "full"), (2, [1], "lora")):
            weights = {
                f"layers.0.attention.{part}_proj.weight": rng.normal(size=(8, 8))
                if not above
                else nodes[start + above[0]][0][f"layers.0.attention.{part}_proj.weight"]
                + rng.normal(0, 0.1, size=(8, 8))
                for part in "qkvo"
            }
            weights["role.weight"] = np.array([[tree, role]] * 2)
            training = {"optimizer": "adamw", "steps": 30, **({"init": "normal"} if not above else {})}
            made = {"relation": "finetune", "subtype": kind} if above else {}
            fields = {
                "task": "a",
                "tree": TREES - 1 - tree,
                "training": training,
                **made,
            }  # numbers that are no positions
            nodes.append((weights, [start + place for place in above], fields))
    return nodes


@pytest.fixture
def study(tmp_path, write_dataset, monkeypatch):
    """A data set, and the folder of the runs of four methods and two nulls on it."""
    (tmp_path / "planted_method.py").write_text(PLANTED)
    monkeypatch.syspath_prepend(tmp_path)
    write_dataset(tmp_path / "tiny", forest(np.random.default_rng(0)))
    requests = [
        RunRequest("planted_method:copies", {}),
        RunRequest("neighbour-joining", {}),
        RunRequest("mother-v2", {}),
        RunRequest("mother-v2", {"direction": "norm"}),
        RunRequest("null-star", {}),
        *(RunRequest(NULL, {}, seed=seed) for seed in range(3)),
    ]
    write(OpenedDataset.open(tmp_path / "tiny").run(requests), tmp_path / "results")
    return tmp_path / "tiny", tmp_path / "results"


def with_methods(*names, **more):
    return MethodMapSettings(groupings=KINDS.groupings, cross=False, methods=names, **more)


def cells_of(study, settings):
    regimes = method_map([study[0]], study[1], settings)
    return published(regime_cells(regimes), regimes.measure).set_index(["grouping", "regime", "method"])


def change(study, method, **values):
    """Writes the first run of ``method`` again with other values."""
    place = study[1] / "tiny-v1"
    run = next(run for run in read_runs(place) if run.method == method)
    write(run.model_copy(update=values), study[1])
    return run


def test_a_method_that_finds_all_edges_of_one_kind_and_none_of_another(study):
    cells = cells_of(study, with_methods("planted_method:copies", "null-star"))
    full, lora = (cells.loc[("kind", kind, "planted_method:copies")] for kind in ("full", "lora"))
    assert (full.recall, full.trees, full.edges) == (1, TREES, 2 * TREES)
    assert (lora.recall, lora.trees, lora.edges) == (0, TREES, TREES)
    assert cells.loc[("depth", "2", "planted_method:copies")].recall == 0
    assert full.apart is True
    assert lora.apart is False
    assert set(cells.xs("null-star", level="method").apart) == {None}
    assert full.low < 1  # six trees that agree are few


def test_the_recall_of_a_tree_is_its_edge_accuracy_in_the_records(study):
    trees = method_map([study[0]], study[1], MethodMapSettings(groupings=(("family",),), methods=(NULL, VARIANT))).trees
    runs = [run for run in read_runs(study[1] / "tiny-v1") if run.method == NULL]
    assert len(runs) == 3
    truth = OpenedDataset.open(study[0]).truth
    numbers = truth.graph.tree_labels({node: entry.tree for node, entry in truth.nodes.items()})
    assert sorted(numbers) == list(range(TREES)) != list(numbers)
    expected = {
        position: np.mean([run.tree_scores()[number]["edge_accuracy"] for run in runs])
        for position, number in enumerate(numbers)
    }
    recall = trees[trees.series == NULL].set_index("tree").value.to_dict()
    assert recall == pytest.approx(expected)
    assert set(trees.series) == {NULL, VARIANT}


def test_the_default_is_each_ranked_method_with_its_own_parameters_and_then_the_nulls(study):
    regimes = method_map([study[0]], study[1], KINDS)
    series = list(regimes.trees.series.unique())
    assert len(series) == 4
    assert series[2:] == [NULL, "null-star"]
    assert {name.split()[0] for name in series[:2]} == {"neighbour-joining", "mother-v2"}
    assert VARIANT not in series
    means = regimes.trees[regimes.trees.grouping == "kind"].groupby("series")["value"].mean()
    assert means[series[0]] >= means[series[1]]
    assert set(regimes.gains.series) <= {ALL, *series[:2]}  # the fields need not explain what a null finds


def test_a_name_is_the_row_with_own_parameters_and_a_label_is_any_row(study):
    [own] = [name for name in method_map([study[0]], study[1], KINDS).trees.series.unique() if "mother-v2" in name]
    trees = method_map([study[0]], study[1], with_methods("mother-v2", VARIANT)).trees
    assert list(trees.series.unique()) == [own, VARIANT]
    with pytest.raises(MothrError, match="unknown method in these results 'neigbour-joining'; did you mean neighbour"):
        method_map([study[0]], study[1], with_methods("neigbour-joining"))


def test_a_failed_run_and_an_abstention_find_no_edge_and_a_skipped_run_does_not_count(study):
    planted = "planted_method:copies"
    run = change(study, planted, seed=1, status="failed", parents=None, error="no memory", metrics={}, per_tree=[])
    change(study, planted, seed=2, status="skipped", parents=None, error="no model", metrics={}, per_tree=[])
    assert cells_of(study, with_methods(planted)).loc[("kind", "full", planted)].recall == 0.5
    child = next(node for node, above in run.parents.items() if above)
    change(study, planted, abstained=[child])
    assert cells_of(study, with_methods(planted)).loc[("kind", "full", planted)].recall == pytest.approx(
        0.5 * (1 - 1 / (2 * TREES))
    )


def test_runs_that_do_not_fit_are_refused(study, tmp_path):
    folder, results = study
    with pytest.raises(MothrError, match=r"nothing/tiny-v1: holds no runs; run 'mothr run' on .*tiny with --out"):
        method_map([folder], tmp_path / "nothing", KINDS)
    with pytest.raises(MothrError, match=r"holds no runs in the setting known-trees; run 'mothr run' on .*tiny"):
        method_map([folder], results, with_methods(setting="known-trees"))
    run = next(run for run in read_runs(results / "tiny-v1") if run.method == "null-star")
    change(study, "null-star", parents={f"x{node[1:]}": [] for node in run.parents})
    with pytest.raises(MothrError, match=r"tiny-v1/runs.jsonl#null-star-[0-9a-f]+: names other models than .*tiny"):
        method_map([folder], results, KINDS)


def test_without_a_null_no_cell_is_marked_and_the_caption_says_so(study):
    cells = cells_of(study, with_methods("neighbour-joining"))
    assert set(cells.apart) == {None}
    assert "no null method is shown" in method_recall(None, frozenset()).mark_text


def test_a_cell_is_marked_by_the_paired_difference_to_the_best_null():
    rows = []
    for tree, base in enumerate((0.1, 0.5, 0.9, 0.3)):
        for name, value in (
            ("null", base),
            ("weak", 0.0),
            ("better", base + 0.1),
            ("alike", base * (1.2, 0.8)[tree % 2]),
        ):
            rows.append(("kind", "full", name, "s", tree, f"o{tree}", value, 10))
    trees = pd.DataFrame(rows, columns=["grouping", "regime", "series", "split", "tree", "origin", "value", "items"])
    assert best_of(trees, frozenset({"null", "weak"})) == "null"
    assert best_of(trees, frozenset()) is None
    cells = trees.drop_duplicates("series")
    nulls = frozenset({"null", "weak"})
    marks = apart_from_series("null", nulls, cells, trees)
    assert dict(zip(cells.series, marks, strict=True)) == {"null": None, "weak": None, "better": True, "alike": False}
    [one_tree, *_] = apart_from_series("null", frozenset(), cells[cells.series == "better"], trees[trees.tree == 0])
    assert one_tree is False


# --- the command ---


def test_the_command_writes_tables_and_figures_in_the_words_of_methods(study, tmp_path, call):
    folder, results = study
    called = call(folder, "--runs", results, "--by", "kind,depth", "--out", tmp_path / "out")
    table, trees, fields = (pd.read_csv(tmp_path / "out" / f"{name}.csv") for name in ("map", "map-trees", "fields"))
    assert list(table.columns) == ["grouping", "regime", "method", "recall", "low", "high", "trees", "edges", "apart"]
    assert {"method", "value"} < set(trees.columns)
    assert set(fields.method) <= {ALL, *table.method}
    assert "share of true edges found, means over trees" in called.stdout
    assert "directed" not in called.stdout
    svg = {
        name: " ".join("|".join(ElementTree.parse(tmp_path / "out" / f"{name}.svg").getroot().itertext()).split())
        for name in ("map", "fields")
    }
    for words in (
        "Which edges a method finds",
        "neighbour-joining",
        f"difference to {NULL}",
        "Setting open.",
        "Data: tiny.",
    ):
        assert words in svg["map"]
    assert "Which fields say whether a method finds an edge" in svg["fields"]
    assert not any(words in text for words in ("directed", "0.5,", "direction score") for text in svg.values())


def test_json_has_null_for_cells_that_are_not_compared(study, tmp_path, call):
    methods = f"neighbour-joining,{NULL}"
    called = call(study[0], "--runs", study[1], "--methods", methods, "--by", "kind", "--json", "--out", tmp_path / "o")
    rows = json.loads(called.stdout)["rows"]
    assert [(row["regime"], row["method"]) for row in rows] == [
        (kind, name) for kind in ("full", "lora") for name in ("neighbour-joining", NULL)
    ]
    assert {row["apart"] for row in rows if row["method"] == NULL} == {None}
    assert {type(row["apart"]) for row in rows if row["method"] != NULL} == {bool}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--runs", "r", "--directions", "norm"], "--directions and --runs: a map shows either"),
        (["--runs", "r", "--layers", "mlp"], "--layers and --runs: a map shows either"),
        (["--methods", "linea"], "--methods chooses among published runs; name their folder with --runs"),
        (["--setting", "open"], "--setting chooses among published runs"),
        (["--runs", "r", "--by", "optimiser"], "did you mean optimizer"),
    ],
)
def test_options_that_contradict_are_refused(words, message, tmp_path, call):
    with pytest.raises(MothrError, match=message):
        call(tmp_path / "tiny", *words, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_help_has_an_example_of_methods():
    [command] = [item.function for item in commands if item.function.__name__ == COMMAND]
    assert "--runs results --methods linea" in command.__doc__


def test_a_direction_map_is_compared_with_chance():
    cells = pd.DataFrame({"low": [0.6, 0.4, 0.1, np.nan], "high": [0.9, 0.9, 0.4, np.nan]})
    assert list(DIRECTION_ACCURACY.mark(cells, cells)) == [True, False, True, False]
