"""The command line: help, lists, ``verify``, ``run``, ``predict``, ``score`` and their errors."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from mothr.benchmark.data.dataset import commitment, open_truth
from mothr.benchmark.records import store
from mothr.benchmark.score.metrics import METRICS

SCRIPT = "from mothr.benchmark.cli.main import main; main()"
METHODS = """
from dataclasses import dataclass
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.prediction import Prediction

@dataclass(frozen=True)
class Lonely:
    '''Every model is a root.'''
    version = "7"
    weight: float = 0.5
    layers: tuple[str, ...] = ("all",)

    def __call__(self, models, rng):
        return Prediction(ModelGraph(dict.fromkeys(models.ids, ())))

def fails(models, rng):
    raise RuntimeError("no convergence")

def forgets(models, rng):
    return Prediction(ModelGraph(dict.fromkeys(models.ids[2:], ())))

def speaks(models, rng):
    return "all of them"
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """Puts a module ``lab`` with methods of a user on the path, and returns its folder."""
    folder = tmp_path / "lab"
    folder.mkdir()
    (folder / "lab.py").write_text(METHODS)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "lab", raising=False)
    return folder


@pytest.fixture
def plain(tiny, tmp_path):
    """Four models of one tree as .safetensors files, with other files beside them."""
    folder = tmp_path / "plain"
    folder.mkdir()
    tree = open_truth(tiny).graph.trees[0]
    for number, node in enumerate(sorted(tree)[:4]):
        shutil.copy(tiny / "models" / node / "model.safetensors", folder / f"m{number}.safetensors")
    (folder / "README.md").write_text("mine")
    return folder


@pytest.fixture
def truthful(tiny, tmp_path):
    """A prediction file that holds the truth."""
    path = tmp_path / "truth-as-prediction.json"
    path.write_text(json.dumps({"schema_version": 1, "parents": open_truth(tiny).graph.to_json()}))
    return path


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(called, *expected):
    """Asserts that a command ended with one sentence on stderr that holds all that is expected, and said nothing else."""
    assert called.code == 1
    assert called.out == ""
    assert called.err.startswith("error: ")
    assert "Traceback" not in called.err
    for part in expected:
        assert part in called.err


def groups(text):
    """Returns group -> names of its commands, as ``mothr --help`` lists them."""
    result = {}
    for line in text.split("Options:")[1].splitlines():
        if line.endswith(":"):
            result[line[:-1]] = []
        elif result and (name := re.match(r"  ([\w-]+) +\S", line)):
            list(result.values())[-1].append(name[1])
    return result


# --- help, lists, names ---


def test_help_lists_every_command_in_its_group(mothr):
    result = groups(mothr("--help").out)
    assert list(result) == ["Start", "Data", "Methods", "Studies", "Board", "Own models"]
    for group, expected in {
        "Start": {"quickstart", "list"}, "Data": {"generate", "verify"}, "Methods": {"run", "predict", "score", "check", "submit"},
        "Studies": {"ablate", "map", "claims", "compare"}, "Board": {"leaderboard", "rescore", "gaps"}, "Own models": {"export"},
    }.items():  # fmt: skip
        assert expected <= set(result[group])


def test_the_methods_are_listed_with_the_schema_of_their_fields(mothr):
    rows = {row["name"]: row for row in mothr("list", "methods", "--json").json}
    assert set(rows["linea"]) == {"name", "kind", "given", "version", "description", "fields"}
    assert {name: rows[name]["kind"] for name in ("linea", "null-star", "oracle-star", "model-atlas")} == {
        "linea": "method", "null-star": "null", "oracle-star": "oracle", "model-atlas": "metadata",
    }  # fmt: skip
    assert rows["oracle-direction"]["given"] == ["tree_count", "truth"]
    [field] = [field for field in rows["mother-v2"]["fields"] if field["name"] == "lambda_"]
    assert field == {
        "name": "lambda_", "type": "float", "default": 0.3, "description": field["description"],
    }  # fmt: skip
    assert "distance" in field["description"]
    text = mothr("list", "methods").out
    assert re.search(r"^oracle-direction +oracle +tree_count, truth +\d", text, flags=re.MULTILINE)


def test_the_fields_of_one_method_can_be_listed(mothr):
    assert mothr("list", "mother-v2", "--json").json[0]["name"] == "distance"
    assert re.search(r"^lambda_ +float +0\.3 +\S", mothr("list", "mother-v2").out, flags=re.MULTILINE)


def test_every_command_shows_an_example_of_itself(mothr):
    commands = [name for names in groups(mothr("--help").out).values() for name in names]
    assert {"list", "verify", "run", "predict", "score", "leaderboard", "generate", "quickstart"} <= set(commands)
    for command in commands:
        called = mothr(command, "--help")
        assert called.code == 0
        assert f"Example: mothr {command}" in called.out
        assert "--json" in called.out


def test_without_arguments_help_is_shown_and_the_version_is_known(mothr):
    assert "Usage" in mothr().out + mothr().err
    assert re.fullmatch(r"mothr \d+\.\d+\.\d+\S*\n", mothr("--version").out)


@pytest.mark.parametrize("what", ["recipes", "methods", "distances", "directions", "metrics"])
def test_lists_are_tables_for_people_and_one_value_for_machines(mothr, what):
    rows = mothr("list", what, "--json").json
    text = mothr("list", what).out
    assert len(rows) > 1
    assert text.count("\n") == len(rows) + 1
    assert all(row["name"] in text for row in rows)


def test_unknown_names_are_refused_with_near_ones(mothr, tiny, tmp_path):
    out = tmp_path / "out"
    refused(mothr("list", "method"), "unknown list 'method'; did you mean methods")
    refused(
        mothr("list", "zzz", "--json"), "unknown list 'zzz'; known: directions, distances, methods, metrics, recipes"
    )
    refused(mothr("run", "lina", tiny, "--out", out), "unknown method 'lina'; did you mean linea")
    refused(mothr("predict", "mother_v2", tiny), "unknown method 'mother_v2'; did you mean mother-v2")
    refused(
        mothr("run", "linea", tiny, "--set", "distanse=rms", "--out", out),
        "unknown field of linea 'distanse'; did you mean distance",
    )
    refused(
        mothr("run", "linea", tiny, "--set", "distance=rmse", "--out", out), "unknown distance 'rmse'; did you mean rms"
    )
    refused(mothr("run", "linea,nobody", tiny, "--out", out), "unknown method 'nobody'")
    refused(mothr("run", ",", tiny, "--out", out), "no method in ','", "mothr list methods")
    assert not out.exists()


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("sharpness=high", "--set sharpness=high: the value does not fit float"),
        ("sharpness=nan", "--set sharpness=nan: the value must be finite"),
        ("sharpness", "--set sharpness: write it as field=value"),
        ("=1", "--set =1: write it as field=value"),
        ("relatedness_threshold=2", "relatedness_threshold is 2.0; it must lie between 0 and 1"),
        ("layers=square-heads", "unknown layers 'square-heads'; did you mean square-head"),
        ("layers=re:(", "not a regular expression"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(mothr, tiny, tmp_path, setting, expected):
    refused(mothr("run", "linea", tiny, "--set", setting, "--out", tmp_path / "out"), expected)
    assert not (tmp_path / "out").exists()


def test_what_the_command_line_itself_refuses_is_said_on_stderr(mothr, tiny):
    for words, expected in (
        (("run", "linea", tiny, "--setting", "closed"), "'--setting'"),
        (("run", "linea", tiny, "--seeds", "0"), "'--seeds'"),
        (("sing",), "'sing'"),
    ):
        called = mothr(*words)
        assert (called.code, called.out) == (2, "")
        assert expected in called.err


# --- verify ---


def test_verify_says_sound_or_what_is_wrong(mothr, data):
    assert mothr("verify", data).out.endswith("sound\n")
    assert mothr("verify", data, "--json").json == {
        "ok": True, "models": 14, "notes": ["14 models, 0.2 MB", "2 trees, 12 edges; 14 nodes learned"], "problems": [],
    }  # fmt: skip
    path = min((data / "models").iterdir()) / "config.json"
    path.write_text("{}")
    called = mothr("verify", data)
    assert called.code == 1
    assert f"problem: {path}: its hash differs" in called.out
    called = mothr("verify", data, "--json")
    assert called.code == 1
    assert called.json["ok"] is False
    assert len(called.json["problems"]) == 1
    refused(mothr("verify", data / "models"), "missing manifest; not a data set")


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


def test_results_of_other_weights_are_never_mixed_under_one_split(mothr, data, tmp_path, sealed):
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


def test_a_data_set_that_cannot_be_opened_leaves_no_results(mothr, data, plain, tmp_path):
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
    result = [mothr("predict", name, place, *count).json for place in (plain, folders, data)]
    assert [set(value["parents"]) for value in result[:2]] == [{"m0", "m1", "m2", "m3"}] * 2
    assert set(result[2]["parents"]) == {path.name for path in (data / "models").iterdir()}
    if name != "null-metadata":
        assert result[0] == result[1]


def test_prediction_is_written_whole_or_not_at_all(mothr, plain, tmp_path):
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


def test_oracles_cannot_predict(mothr, plain, tiny):
    for name in ("oracle-star", "oracle-mst-root", "oracle-direction"):
        refused(mothr("predict", name, tiny), f"method '{name}' is an oracle: it needs the truth", "use 'mothr run'")


def test_folders_that_hold_no_models_are_refused(mothr, tmp_path, plain):
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
    }  # nothing is said of relations and probabilities
    assert [tree["edge_f1"] for tree in result["per_tree"]] == [1.0, 1.0]
    text = mothr("score", truthful, tiny).out
    assert re.search(r"^edge_f1 +1\.000 +0\.\d{3} +higher +Who is my parent\?$", text, flags=re.MULTILINE)


def test_results_are_scored_again_from_the_results_folder_alone(mothr, tiny, tmp_path):
    out = tmp_path / "out"
    [row] = mothr("run", "null-random-tree", tiny, "--in-process", "--setting", "open", "--out", out, "--json").json
    [stored] = store.read_all(out)
    for place in (tiny, out / "tiny-v1"):
        result = mothr("score", row["file"], place, "--json").json
        assert (result["metrics"], result["per_tree"]) == (stored.metrics, stored.per_tree)
        assert result["chance"]["edge_f1"] < 0.5


def test_there_is_no_score_without_a_truth(mothr, data, plain, truthful):
    refused(mothr("score", truthful, plain), "truth.json: no truth here")
    (data / "truth.json").unlink()
    refused(
        mothr("score", truthful, data),
        "truth.json: no truth here; a hidden split or a plain folder can be predicted on",
    )


def test_a_failed_run_has_nothing_to_score(mothr, tiny, tmp_path, lab):
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
def test_predicted_parents_that_cannot_be_are_refused(mothr, tiny, truthful, change, expected):
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
def test_a_prediction_file_that_is_none_is_refused(mothr, tiny, tmp_path, text, expected):
    path = tmp_path / "prediction.json"
    path.write_text(text)
    refused(mothr("score", path, tiny, "--json"), f"{path}: ", expected)
    refused(mothr("score", tmp_path / "absent.json", tiny), "absent.json: no such file")


# --- as a process of its own ---


def process(*words, before="", **variables):
    """Returns what ``mothr WORDS`` did in a new process, ``before`` executed first."""
    command = [sys.executable, "-c", f"{before}\n{SCRIPT}", *map(str, words)]
    return subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, **variables})


def test_as_a_process_a_method_is_found_on_pythonpath_and_progress_stays_off_standard_output(tiny, tmp_path, lab):
    words = ("run", "lab:fails,lab:Lonely", tiny, "--setting", "open", "--out", tmp_path / "out", "--json")
    done = process(*words, PYTHONPATH=str(lab))
    assert done.returncode == 1
    assert [row["status"] for row in json.loads(done.stdout)] == ["failed", "ok"]
    assert "error: 1 of 2 runs failed" in done.stderr
    assert "Traceback" not in done.stderr


def test_as_a_process_warnings_are_lines_and_on_a_full_disk_the_old_file_stays(plain, tmp_path):
    tensors = load_file(plain / "m2.safetensors")
    del tensors["layers.0.attention.q_proj.weight"]
    save_file(tensors, plain / "m2.safetensors")
    out = tmp_path / "prediction.json"
    out.write_text("old")
    full = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))"
    done = process("predict", "linea", plain, "--out", out, before=full)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) > 2
    assert lines[0].startswith("warning: 1 of 4 models lack some of the 10 tensors of layers 'body': m2; m2 lacks 1")
    assert all(line.startswith("warning: ") and "results are not kept; set MOTHR_CACHE" in line for line in lines[1:-1])
    assert lines[-1].startswith(f"error: {out}: cannot write (File too large)")
    assert out.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["prediction.json"]


def test_the_answer_is_the_same_in_two_processes_and_with_little_memory(mothr, tiny, monkeypatch, tmp_path):
    wanted = mothr("predict", "mother-v2", tiny, "--set", "n_trees=2").out
    monkeypatch.setenv("MOTHR_CACHE", str(tmp_path))  # nothing is there yet
    assert mothr("predict", "mother-v2", tiny, "--set", "n_trees=2", "--workers", 2, "--memory", 0.2).out == wanted


def test_too_little_memory_is_told_with_both_numbers(mothr, tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("MOTHR_CACHE", str(tmp_path))
    done = mothr("predict", "linea", tiny, "--memory", 1e-6)
    assert done.code == 1
    assert "bytes at a time" in done.err
    assert "the memory budget leaves" in done.err


def test_a_hidden_split_is_verified_run_and_scored_with_its_labels_which_results_do_not_tell(mothr, data, tmp_path):
    labels, out = tmp_path / "labels", tmp_path / "results"
    labels.mkdir()
    (labels / "salt").write_text("a" * 64)
    (data / "truth.json").rename(labels / "truth.json")
    manifest = json.loads((data / "manifest.json").read_text())
    manifest["commitment"] = commitment(labels)
    (data / "manifest.json").write_text(json.dumps(manifest))
    assert mothr("verify", data).code == mothr("verify", data, "--labels", labels).code == 0
    refused(
        mothr("run", "null-star", data, "--out", out),
        "a hidden split or a plain folder can be predicted on, but not scored",
    )
    assert mothr("run", "null-star", data, "--labels", labels, "--out", out, "--in-process").code == 0
    assert sorted(path.name for path in (out / "tiny-v1").iterdir()) == ["manifest.json", "runs.jsonl"]
    assert {record.setting for record in store.read_all(out)} == {"open"}
    for words in (("null-star", "--setting", "known-trees"), ("oracle-star",)):
        refused(mothr("run", *words, "--labels", labels, "--out", out, "--in-process", data), "hidden")
    assert len(list((out / "tiny-v1").iterdir())) == 2
    record = out / "tiny-v1" / "runs.jsonl"
    scored = mothr("score", record, data, "--labels", labels, "--json")
    assert scored.json["metrics"]["edge_f1"] == json.loads(record.read_text())["metrics"]["edge_f1"]
    value = json.loads((labels / "truth.json").read_text())
    value["version"] = 2
    (labels / "truth.json").write_text(json.dumps(value))
    refused(mothr("score", record, data, "--labels", labels), "is not the truth that")
