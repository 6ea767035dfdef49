"""The question 9-root, answered from published records; the command ``mothr by-root``."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from mothr.baselines.studies.claims import records
from mothr.baselines.studies.claims.records import RootRow, measured_roots, measurements_of_records, read_roots
from mothr.baselines.studies.datasets import OpenedDataset
from mothr.baselines.studies.roots import root_kurtosis
from mothr.benchmark.data import dataset
from mothr.benchmark.errors import MothrError
from mothr.benchmark.records import store
from mothr.benchmark.run.outcome import RunRequest

COMMAND = "by_root"

NAMES = tuple(f"layers.0.attention.{part}_proj.weight" for part in "qkvo")
TRAINING = {"optimizer": "adamw", "steps": 1000, "learning_rate": 1e-3, "weight_decay": 0.4, "warmup": 0.0}
REQUESTS = [
    RunRequest("mother-v2", setting="known-trees"), RunRequest("mother-v2", {"direction": "norm"}, "known-trees"),
    RunRequest("mother-v2", {"direction": "norm"}, "open"), RunRequest("mother-v2", {"distance_layers": "value"}, "known-trees"),
    RunRequest("mother-lora", setting="known-trees"), RunRequest("linea", setting="known-trees"),
    RunRequest("null-mother-random-direction", setting="known-trees", seed=1), RunRequest("null-star", setting="known-trees"),
]  # fmt: skip


def trees(kind, seeds=(11, 12), inits=("xavier-uniform", "normal")):
    """Returns a tree of three models for each seed: below a uniform root and below a heavy-tailed one."""
    rng, nodes = np.random.default_rng(0), []
    draws = (lambda: rng.uniform(-1, 1, (16, 16)), lambda: rng.laplace(size=(16, 16)) ** 3)
    for seed, init, draw in zip(seeds, inits, draws, strict=True):
        root = {name: draw() for name in NAMES}
        nodes.append((root, [], {"training": {"seed": seed, "init": init, **TRAINING}}))
        start = len(nodes) - 1
        for _ in range(2):
            weights = {name: value + 0.5 * value.std() * rng.normal(size=value.shape) for name, value in root.items()}
            nodes.append((weights, [start], {"relation": "finetune", "subtype": kind}))
    return nodes


@pytest.fixture(scope="module")
def published(tmp_path_factory, write_dataset):
    """A folder of results of two splits that share their roots, and their data sets. No test changes them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTHR_CACHE", str(tmp_path_factory.mktemp("cache")))
        place = tmp_path_factory.mktemp("published")
        opened = []
        for name, kind in (("toy-ft", "full"), ("toy-lora", "lora")):
            write_dataset(place / "data" / name, trees(kind))
            data = OpenedDataset.open(place / "data" / name)
            dataset.copy_to_results(data.folder, place / "results" / store.folder_name(name, 1))
            store.write(data.run(REQUESTS), place / "results")
            opened.append(data)
    return place / "results", opened


def test_published_runs_are_grouped_by_what_is_known_of_the_root(published):
    results, [full, _] = published
    roots = measured_roots([full])
    assert {row.root: row.init for row in roots} == {"11": "xavier-uniform", "12": "normal"}
    table = measurements_of_records(results, roots)
    assert set(table.measure) == {"accuracy_by_init", "accuracy_by_share_left", "accuracy_by_root"}
    classes = {row.root: row.kurtosis for row in roots}
    assert classes["11"] < -0.5
    assert classes["12"] > 1.5
    by_class = table[(table.measure == "accuracy_by_root") & (table.panel == records.FULL)]
    assert set(by_class.x) == {"below -0.5", "1.5 or more"}
    assert set(table[table.measure == "accuracy_by_share_left"].x) == {"0.8 to 0.9"}


def test_only_runs_as_published_are_shown_and_lora_trees_are_those_of_mother_lora(published):
    results, _ = published
    table = measurements_of_records(results, [])
    assert "accuracy_by_root" not in set(table.measure)
    series = table.groupby("panel").series.agg(set).to_dict()
    assert series == {records.FULL: {"kurtosis", "norm", "random", "linea"}, records.LORA: {"kurtosis", "linea"}}
    runs = store.read_all(results)
    [lora] = [run for run in runs if run.method == "mother-lora" and run.split == "toy-lora"]
    kurtosis = table[
        (table.panel == records.LORA) & (table.series == "kurtosis") & (table.measure == "accuracy_by_init")
    ]
    assert kurtosis.value.mean() == lora.metrics["edge_accuracy"]
    [norm] = [
        run
        for run in runs
        if run.split == "toy-ft" and run.setting == "known-trees" and run.parameters.get("direction") == "norm"
    ]
    shown = table[(table.panel == records.FULL) & (table.series == "norm") & (table.measure == "accuracy_by_init")]
    assert shown.value.mean() == norm.metrics["edge_accuracy"]


def test_trees_of_one_root_have_one_origin_in_all_splits(published):
    results, _ = published
    table = measurements_of_records(results, [])
    assert table.groupby("split").origin.agg(set).to_dict() == {"toy-ft": {"11", "12"}, "toy-lora": {"11", "12"}}


def test_a_superseded_split_is_left_out(published, tmp_path):
    shutil.copytree(published[0], tmp_path / "results")
    (tmp_path / "results/toy-lora-v1/superseded.json").write_text(
        '{"superseded_by": "toy-lora-v2", "reason": "A test."}'
    )
    assert set(measurements_of_records(tmp_path / "results", []).split) == {"toy-ft"}
    shutil.rmtree(tmp_path / "results/toy-ft-v1")
    with pytest.raises(MothrError, match="holds no run of mother-v2"):
        measurements_of_records(tmp_path / "results", [])


def test_the_command_measures_roots_and_reads_them_back(published, tmp_path, call):
    results, [full, lora] = published
    first = call(results, full.folder, lora.folder, "--out", tmp_path / "first")
    table = pd.read_csv(tmp_path / "first" / "roots.csv", dtype={"root": str})
    assert table.root.tolist() == ["11", "12"] or table.root.tolist() == ["12", "11"]
    [root] = [node for node in full.graph.roots if full.truth.nodes[node].training["seed"] == 11]
    kurtosis = root_kurtosis(full.models.checkpoints[full.position[root]])
    assert table.set_index("root")["kurtosis"]["11"] == pytest.approx(kurtosis)
    assert "accuracy_by_root" in first.stdout
    assert {"9-root.csv", "9-root-trees.csv", "9-root-toy.svg", "roots.csv"} <= {
        path.name for path in (tmp_path / "first").iterdir()
    }
    again = call(results, "--roots", tmp_path / "first" / "roots.csv", "--json", "--out", tmp_path / "again")
    assert json.loads(again.stdout)["roots"] == 2
    assert (tmp_path / "again" / "9-root.csv").read_text() == (tmp_path / "first" / "9-root.csv").read_text()


def test_a_faulty_table_of_roots_is_refused_with_its_line(tmp_path):
    good = RootRow(root="7", family="vit", init="normal", kurtosis=0.1)
    path = tmp_path / "roots.csv"
    pd.DataFrame([good.model_dump()]).to_csv(path, index=False)
    assert read_roots(path) == [good]
    path.write_text(path.read_text() + "8,vit,normal,much\n")
    with pytest.raises(MothrError, match=r"roots.csv, line 3: .*kurtosis"):
        read_roots(path)
    with pytest.raises(MothrError, match="cannot be read as a table of roots"):
        read_roots(tmp_path / "none.csv")
