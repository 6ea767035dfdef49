import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.records.provenance import environment
from mothr.benchmark.records.record import RunRecord, identity
from mothr.benchmark.records.store import file_name, read, read_all, write
from mothr.benchmark.storage import canonical_sha256

FIELDS = {
    "split": "tiny",
    "split_version": 1,
    "manifest_sha256": "0" * 64,
    "setting": "known-trees",
    "method": "null-star",
    "method_version": "1",
    "parameters": {"weight": 0.3, "layers": ("query", "key")},
    "seed": 0,
    "told": ["trees"],
    "status": "ok",
    "parents": {"a": [], "b": ["a"]},
    "metrics": {"edge_f1": 1.0, "direction_auroc": None},
    "per_tree": [{"tree": 0, "edge_f1": 1.0, "direction_auroc": None}],
    "device": "cpu",
    "mothr_version": "0.1.0",
    "commit": None,
    "dirty": None,
    "packages": {"python": "3.12.0"},
    "date": "2026-01-31T12:00:00Z",
}


def record(**changes):
    return RunRecord(**FIELDS | changes)


def failed(**changes):
    return record(
        status="failed", error="RuntimeError: no convergence", parents=None, metrics={}, per_tree=[], **changes
    )


def edited(path, **changes):
    value = json.loads(path.read_text())
    for name, item in changes.items():
        value[name] = item
    path.write_text(json.dumps(value))
    return path


def test_reads_back_what_was_written(tmp_path):
    full = record(confidence={"b": {"a": 0.9}}, trees={"a": 0, "b": 0}, abstained=["a"], seconds=1.5, tuned_on=["dev"])
    for one in (record(), full, failed(seed=1)):
        assert read(write(one, tmp_path)) == one


def test_file_lies_in_the_folder_of_its_split_under_a_name_of_method_and_identity(tmp_path):
    path = write(record(method="my_lab.methods:Best"), tmp_path)
    assert path.parent == tmp_path / "tiny-v1"
    assert re.fullmatch(r"my_lab-methods-Best-[0-9a-f]{8}\.json", path.name)
    assert path.name == file_name(read(path))
    assert path.stem[-8:] == canonical_sha256(identity(read(path)))[:8]


def test_name_changes_with_each_part_of_the_identity_and_with_nothing_else():
    parts = {
        "split": "other", "split_version": 2, "manifest_sha256": "1" * 64, "setting": "open", "method": "null-sta",
        "method_version": "2", "parameters": {"weight": 0.4}, "seed": 1,
    }  # fmt: skip
    assert set(identity(record())) == set(parts)
    assert (
        len({file_name(record(**{name: value})) for name, value in parts.items()} | {file_name(record())})
        == len(parts) + 1
    )
    assert file_name(record()) == file_name(record(seconds=3.0, date="2027-01-01T00:00:00Z", metrics={}))
    assert file_name(record()) == file_name(record(parameters={"layers": ["query", "key"], "weight": 0.3}))


def test_no_method_name_can_leave_the_folder():
    name = file_name(record(method="../../etc/passwd:x"))
    assert Path(name).name == name
    assert not name.startswith(".")


def test_prediction_is_the_answer_with_all_that_came_with_it():
    found = record(confidence={"b": {"a": 0.9}}, trees={"a": 0, "b": 1}, abstained=["b"]).prediction()
    assert found.graph == ModelGraph({"a": (), "b": ("a",)})
    assert found.confidence == {("a", "b"): 0.9}
    assert found.trees == {"a": 0, "b": 1}
    assert found.abstained == {"b"}
    with pytest.raises(MothrError, match="no convergence"):
        failed().prediction()


def test_tree_scores_are_keyed_by_the_tree():
    made = record(per_tree=[{"tree": 3.0, "edge_f1": 0.5}])
    assert made.tree_scores() == {3: {"edge_f1": 0.5}}
    assert repr(made.per_tree[0]["tree"]) == "3"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"schema_version": 2}, "schema_version is 2"),
        ({"metrcs": {}}, "metrcs.*did you mean metrics"),
        ({"seed": "0"}, "seed: .*integer.*'0'"),
        ({"seed": -1}, "seed"),
        ({"status": "fine"}, "status: .*'fine'"),
        ({"setting": "closed"}, "setting: .*'closed'"),
        ({"told": ["everything"]}, "told.0: .*'everything'"),
        ({"split": "../x"}, "split: "),
        ({"manifest_sha256": "12"}, "manifest_sha256: "),
        ({"date": "yesterday"}, "date: "),
        ({"metrics": {"edge_f1": "1.0"}}, "metrics.edge_f1"),
        ({"metrics": {"edge_f1": float("nan")}}, "NaN is no finite number"),
        ({"parameters": {"weight": float("inf")}}, "Infinity is no finite number"),
        ({"parents": {"a": ["b"], "b": ["a"]}}, "cycle"),
        ({"parents": {"a": ["z"]}}, "unknown parent 'z'"),
        ({"parents": None}, "a run that is ok has parents"),
        ({"error": "but it failed"}, "no error"),
        ({"status": "timeout"}, "timeout has no parents"),
        ({"confidence": {"b": {"a": 1.5}}}, r"must be in \[0, 1\]"),
        ({"abstained": ["z"]}, "unknown model 'z'"),
        ({"per_tree": [{"edge_f1": 1.0}]}, "needs its tree's label"),
        ({"per_tree": [{"tree": 0}, {"tree": 0}]}, "per_tree: .*named twice"),
    ],
)
def test_a_faulty_file_is_refused_by_name_and_fault(tmp_path, changes, expected):
    path = edited(write(record(), tmp_path), **changes)
    with pytest.raises(MothrError, match=expected) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_a_missing_field_a_list_and_half_a_file_are_refused(tmp_path):
    path = write(record(), tmp_path)
    whole = path.read_text()
    value = json.loads(whole)
    del value["seed"], value["device"]
    lacking = "'seed' is missing; field 'device' is missing"
    for content, expected in ((json.dumps(value), lacking), ("[]", "JSON object"), (whole[:50], "JSON")):
        path.write_text(content)
        with pytest.raises(MothrError, match=expected):
            read(path)
    with pytest.raises(MothrError, match="no such file"):
        read(tmp_path / "absent.json")


def test_a_record_cannot_be_changed_and_takes_only_json_parameters():
    with pytest.raises(ValidationError):
        record().seed = 1
    with pytest.raises(ValidationError, match="not JSON serializable"):
        record(parameters={"layers": {1, 2}})


def test_read_all_finds_records_and_passes_over_the_rest(tmp_path):
    paths = {
        write(one, tmp_path)
        for one in (record(), record(seed=1), record(split="other", split_version=3), failed(seed=2))
    }
    (tmp_path / "tiny-v1" / "manifest.json").write_text("{}")
    (tmp_path / "tiny-v1" / "truth.json").write_text("{}")
    (tmp_path / "submissions" / "mine").mkdir(parents=True)
    (tmp_path / "submissions" / "mine" / "prediction.json").write_text("not a record")
    (tmp_path / "submissions" / "mine.yaml").write_text("method: mine")
    found = read_all(tmp_path)
    assert {file_name(one) for one in found} == {path.name for path in paths}
    assert len(found) == 4
    assert len(read_all(tmp_path / "tiny-v1")) == 3


def test_read_all_refuses_a_record_in_the_wrong_place(tmp_path):
    path = write(record(), tmp_path)
    edited(path, seed=5)
    with pytest.raises(MothrError, match=r"tiny-v1.null-star-.*move it there"):
        read_all(tmp_path)
    path.rename(path.with_name(file_name(read(path))))
    assert [one.seed for one in read_all(tmp_path)] == [5]
    (tmp_path / "tiny-v1").rename(tmp_path / "tiny-v2")
    with pytest.raises(MothrError, match="tiny-v1"):
        read_all(tmp_path)
    with pytest.raises(MothrError, match="no such folder"):
        read_all(tmp_path / "absent")


def test_environment_fills_the_fields_that_say_where_and_by_what():
    found = environment("cuda")
    made = RunRecord(**{name: value for name, value in FIELDS.items() if name not in found} | found)
    assert made.device == "cuda"
    assert {"python", "torch", "numpy"} <= set(made.packages)
    assert made.date.endswith("Z")
    assert (made.commit is None) == (made.dirty is None)


def test_results_and_leaderboard_do_not_load_torch():
    code = "import sys, mothr.benchmark.records.results, mothr.benchmark.board.leaderboard; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
