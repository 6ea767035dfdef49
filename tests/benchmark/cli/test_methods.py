"""The commands on methods: ``run``, ``predict``, ``score`` and their errors."""

import json
import re
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from mothr.benchmark.records import store
from mothr.benchmark.score.metrics import METRICS


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- run ---


def test_runs_are_written_to_the_folder_of_their_split_and_can_be_shown(mothr, tiny, tmp_path):
    out = tmp_path / "results"
    before = contents(tiny)
    rows = mothr("run", "linea,null-star", tiny, "--seeds", "2", "--out", out, "--json").json
    assert [(row["method"], row["setting"], row["seed"]) for row in rows] == [
        (method, setting, seed)
        for method in ("linea", "null-star")
        for setting in ("known-trees", "open")
        for seed in (0, 1)
    ]
    assert {path.parent for path in out.rglob("*") if path.is_file()} == {out / "tiny-v1"}
    assert len(store.read_all(out)) == 8
    assert {row["file"] for row in rows} == {
        f"{out / 'tiny-v1' / store.RUNS}#{record.run_id}" for record in store.read_all(out)
    }
    assert contents(tiny) == before
    page = mothr("leaderboard", out, "--out", tmp_path / "board", "--json").json["page"]
    assert "null-star" in Path(page).read_text()


def test_running_again_replaces_the_row_and_other_settings_add_one(mothr, tiny, tmp_path):
    for words in ((), (), ("--set", "relatedness_threshold=0.2"), ("--seeds", "2")):
        mothr("run", "linea", tiny, "--in-process", "--setting", "open", "--out", tmp_path / "out", *words)
    result = [(record.parameters["relatedness_threshold"], record.seed) for record in store.read_all(tmp_path / "out")]
    assert sorted(result) == [(0.1, 0), (0.1, 1), (0.2, 0)]


def test_a_method_of_the_users_own_runs_and_is_recorded(mothr, tiny, tmp_path, lab):
    called = mothr(
        "run",
        "lab:Lonely",
        tiny,
        "--set",
        "weight=2",
        "--set",
        "layers=a,b",
        "--setting",
        "open",
        "--out",
        tmp_path / "out",
    )
    assert called.code == 0
    [record] = store.read_all(tmp_path / "out")
    assert (record.method, record.method_version, record.parameters) == (
        "lab:Lonely",
        "7",
        {"weight": 2.0, "layers": ["a", "b"]},
    )
    assert record.metrics["root_recall"] == 1.0
    assert record.given == []


def test_methods_that_fail_are_written_beside_those_that_do_not_and_the_command_fails(mothr, tiny, tmp_path, lab):
    words = ("run", "lab:fails,linea,lab:forgets,lab:speaks", tiny, "--setting", "open", "--out", tmp_path / "out")
    called = mothr(*words, "--json")
    assert called.code == 1
    assert [row["status"] for row in called.json] == ["failed", "ok", "failed", "failed"]
    assert "error: 3 of 4 runs failed; the first, lab:fails: RuntimeError: no convergence" in called.err
    records = {record.method: record for record in store.read_all(tmp_path / "out")}
    assert records["lab:fails"].error.startswith("RuntimeError: no convergence (lab.py, line ")
    assert "leaves out 2 models" in records["lab:forgets"].error
    assert "returned a str" in records["lab:speaks"].error
    assert {record.parents is None for name, record in records.items() if name != "linea"} == {True}
    called = mothr(*words)
    assert called.code == 1
    assert re.search(r"^lab:fails +open +0 +failed +- ", called.out, flags=re.MULTILINE)


def test_results_of_other_weights_are_never_mixed_under_one_split(mothr, data, tmp_path, sealed, refused):
    out = tmp_path / "out"
    assert mothr("run", "null-star", data, "--in-process", "--out", out).code == 0
    path = min((data / "models").iterdir()) / "model.safetensors"
    tensors = load_file(path)
    tensors["layers.0.norm.weight"] += 1
    save_file(tensors, path)
    refused(mothr("run", "linea", data, "--out", out), f"{path}: its hash differs from the manifest's")
    sealed(data)
    before = contents(out)
    refused(
        mothr("run", "linea", data, "--out", out),
        "manifest.json: belongs to other weights than",
        "choose another folder",
    )
    assert contents(out) == before
    assert mothr("run", "linea", data, "--in-process", "--out", tmp_path / "other").code == 0


def test_a_data_set_that_cannot_be_opened_leaves_no_results(mothr, data, plain, tmp_path, refused):
    out = tmp_path / "out"
    refused(mothr("run", "linea", plain, "--out", out), "truth.json: no truth here")
    (data / "truth.json").unlink()
    refused(
        mothr("run", "linea", data, "--out", out),
        "a hidden split or a plain folder can be predicted on, but not scored",
    )
    (data / "manifest.json").unlink()
    refused(mothr("predict", "linea", data), "missing manifest; the data set is unfinished or damaged")
    assert not out.exists()


# --- predict ---


@pytest.mark.parametrize("name", ["linea", "null-metadata", "mother-v2"])
def test_prediction_on_plain_files_folders_and_hidden_splits(mothr, data, plain, tmp_path, name):
    (data / "truth.json").unlink()
    folders = tmp_path / "folders"
    for path in plain.glob("*.safetensors"):
        (folders / path.stem).mkdir(parents=True)
        shutil.copy(path, folders / path.stem / "model.safetensors")
    (folders / "notes.txt").write_text("x")
    count = () if name != "mother-v2" else ("--set", "n_trees=1")
    result = [mothr("predict", name, source, *count).json for source in (plain, folders, data)]
    assert [set(value["parents"]) for value in result[:2]] == [{"m0", "m1", "m2", "m3"}] * 2
    assert set(result[2]["parents"]) == {path.name for path in (data / "models").iterdir()}
    if name != "null-metadata":
        assert result[0] == result[1]


def test_prediction_is_written_whole_or_not_at_all(mothr, plain, tmp_path, refused):
    out = tmp_path / "new" / "prediction.json"
    value = mothr("predict", "linea", plain, "--out", out, "--json").json
    assert json.loads(out.read_text()) == value
    assert mothr("predict", "linea", plain, "--out", out).out == f"{out}: parents of 4 models\n"
    assert [path.name for path in out.parent.iterdir()] == ["prediction.json"]
    (plain / "m1.safetensors").write_bytes(b"cut")
    refused(mothr("predict", "null-star", plain, "--out", out), "m1.safetensors: not a whole safetensors file")
    assert json.loads(out.read_text()) == value
    (tmp_path / "file").write_text("x")
    (plain / "m1.safetensors").unlink()
    refused(
        mothr("predict", "null-star", plain, "--out", tmp_path / "file" / "p.json"), "cannot write", "check the path"
    )


def test_the_seed_of_a_prediction_is_all_its_randomness(mothr, plain):
    seeds = [mothr("predict", "null-random-tree", plain, "--seed", seed).out for seed in (0, 0, 1, 2, 3)]
    assert seeds[0] == seeds[1]
    assert len(set(seeds)) > 1


def test_oracles_cannot_predict(mothr, plain, tiny, refused):
    for name in ("oracle-star", "oracle-mst-root", "oracle-direction"):
        refused(mothr("predict", name, tiny), f"method '{name}' is an oracle: it needs the truth", "use 'mothr run'")


def test_folders_that_hold_no_models_are_refused(mothr, tmp_path, plain, refused):
    refused(mothr("predict", "linea", tmp_path / "absent"), "absent: no such folder")
    refused(mothr("predict", "linea", plain / "README.md"), "README.md: no such folder")
    (tmp_path / "empty").mkdir()
    refused(mothr("predict", "linea", tmp_path / "empty"), "empty: holds no models")
    (tmp_path / "empty" / "m").mkdir()
    (tmp_path / "empty" / "m" / "pytorch_model.bin").write_bytes(b"\x80")
    refused(
        mothr("predict", "linea", tmp_path / "empty"),
        "pytorch_model.bin: pickled weights can run code",
        "safetensors instead",
    )


# --- score ---


def test_the_truth_as_a_prediction_is_perfect(mothr, tiny, truthful):
    result = mothr("score", truthful, tiny, "--json").json
    best = {
        name: metric.high if metric.better == "higher" else metric.low
        for name, metric in METRICS.items()
        if metric.inputs == "graphs"
    }
    assert {name: result["metrics"][name] for name in best} == pytest.approx(best)
    assert {result["metrics"][name] for name in METRICS.keys() - best} == {
        None
    }  # the prediction has no relations and no probabilities
    assert [tree["edge_f1"] for tree in result["per_tree"]] == [1.0, 1.0]
    text = mothr("score", truthful, tiny).out
    assert re.search(r"^edge_f1 +1\.000 +0\.\d{3} +higher +Who is my parent\?$", text, flags=re.MULTILINE)


def test_results_are_scored_again_from_the_results_folder_alone(mothr, tiny, tmp_path):
    out = tmp_path / "out"
    [row] = mothr("run", "null-random-tree", tiny, "--in-process", "--setting", "open", "--out", out, "--json").json
    [stored] = store.read_all(out)
    for source in (tiny, out / "tiny-v1"):
        result = mothr("score", row["file"], source, "--json").json
        assert (result["metrics"], result["per_tree"]) == (stored.metrics, stored.per_tree)
        assert result["chance"]["edge_f1"] < 0.5


def test_there_is_no_score_without_a_truth(mothr, data, plain, truthful, refused):
    refused(mothr("score", truthful, plain), "truth.json: no truth here")
    (data / "truth.json").unlink()
    refused(
        mothr("score", truthful, data),
        "truth.json: no truth here; a hidden split or a plain folder can be predicted on",
    )


def test_a_failed_run_has_nothing_to_score(mothr, tiny, tmp_path, lab, refused):
    rows = mothr("run", "lab:fails", tiny, "--setting", "open", "--out", tmp_path / "out", "--json").json
    refused(mothr("score", rows[0]["file"], tiny), "run of 'lab:fails' with seed 0 is failed and holds no prediction")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda parents, child, root: parents.update({root: [child]}), "cycle"),
        (lambda parents, child, root: parents.update({child: ["f" * 12]}), "unknown parent 'ffffffffffff'"),
        (
            lambda parents, child, root: parents.update({"f" * 12: []}),
            "the prediction adds 1 model, 'ffffffffffff' among them",
        ),
        (
            lambda parents, child, root: parents.pop(next(n for n in parents if [n] not in parents.values())),
            "leaves out 1 model",
        ),
        (lambda parents, child, root: parents.update({child: root}), "must be a list of ids"),
    ],
)
def test_impossible_predicted_parents_are_refused(mothr, tiny, truthful, change, expected, refused):
    value = json.loads(truthful.read_text())
    child, [root] = next(
        (node, named) for node, named in value["parents"].items() if named and not value["parents"][named[0]]
    )
    change(value["parents"], child, root)
    truthful.write_text(json.dumps(value))
    refused(mothr("score", truthful, tiny), str(truthful), expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "not valid JSON"),
        ("", "not valid JSON"),
        ("[]", "a prediction is an object with the key 'parents'"),
        ('{"schema_version": 2, "parents": {}}', "schema_version is 2; this version reads 1"),
        ('{"schema_version": 1, "parents": {}, "confidnce": {}}', "unknown key 'confidnce'; did you mean confidence"),
        (
            '{"schema_version": 1, "parents": {"a": [], "b": ["a"]}, "confidence": {"b": {"a": NaN}}}',
            "NaN is not a finite number",
        ),
        ('{"manifest_sha256": "0"}', "schema_version is None"),
    ],
)
def test_a_file_that_is_no_prediction_is_refused(mothr, tiny, tmp_path, text, expected, refused):
    path = tmp_path / "prediction.json"
    path.write_text(text)
    refused(mothr("score", path, tiny, "--json"), f"{path}: ", expected)
    refused(mothr("score", tmp_path / "absent.json", tiny), "absent.json: no such file")
