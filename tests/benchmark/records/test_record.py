import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.records.provenance import environment
from mothr.benchmark.records.record import RunRecord, identity, identity_key
from mothr.benchmark.storage import canonical_sha256


def test_the_id_has_the_method_and_a_hash_of_the_identity(record):
    run = record(method="my_lab.methods:Best")
    assert run.run_id == f"my_lab-methods-Best-{canonical_sha256(identity(run))[:8]}"


def test_the_id_changes_with_each_field_of_the_identity_and_with_no_other(record):
    fields = {
        "split": "other", "split_version": 2, "manifest_sha256": "1" * 64, "setting": "open", "method": "null-sta",
        "method_version": "2", "parameters": {"weight": 0.4}, "seed": 1,
    }  # fmt: skip
    assert set(identity(record())) == set(fields)
    changed = [record(**{name: value}) for name, value in fields.items()]
    for distinct in ({run.run_id for run in changed}, {identity_key(identity(run)) for run in changed}):
        assert len(distinct) == len(fields)
        assert not distinct & {record().run_id, identity_key(identity(record()))}
    for same in (
        record(seconds=3.0, date="2027-01-01T00:00:00Z", metrics={}),
        record(parameters={"layers": ["query", "key"], "weight": 0.3}),
    ):
        assert same.run_id == record().run_id
        assert identity_key(identity(same)) == identity_key(identity(record()))


def test_seeds_are_sorted_as_numbers(record):
    runs = [record(seed=seed) for seed in (10, 9, 100, 0)]
    assert [run.seed for run in sorted(runs, key=lambda run: identity_key(identity(run)))] == [0, 9, 10, 100]


def test_no_method_name_makes_an_id_that_leaves_the_folder(record):
    run_id = record(method="../../etc/passwd:x").run_id
    assert Path(run_id).name == run_id
    assert not run_id.startswith(".")


def test_the_prediction_has_every_part(record, failed):
    prediction = record(confidence={"b": {"a": 0.9}}, trees={"a": 0, "b": 1}, abstained=["b"]).prediction()
    assert prediction.graph == ModelGraph({"a": (), "b": ("a",)})
    assert prediction.confidence == {("a", "b"): 0.9}
    assert prediction.trees == {"a": 0, "b": 1}
    assert prediction.abstained == {"b"}
    with pytest.raises(MothrError, match="no convergence"):
        failed().prediction()


def test_tree_scores_are_keyed_by_the_tree(record):
    run = record(per_tree=[{"tree": 3.0, "edge_f1": 0.5}])
    assert run.tree_scores() == {3: {"edge_f1": 0.5}}
    assert repr(run.per_tree[0]["tree"]) == "3"


def test_json_values_leave_out_absent_fields_and_make_the_same_record(record, failed):
    full = record(confidence={"b": {"a": 0.9}}, trees={"a": 0, "b": 0}, abstained=["a"], seconds=1.5, tuned_on=["dev"])
    for run in (record(), full, failed(seed=1)):
        assert RunRecord.from_json(json.loads(json.dumps(run.to_json())), "here") == run
    value = record().to_json()
    assert {"commit", "dirty"} <= value.keys()  # may be None, and are always there
    assert not {"error", "confidence", "seconds", "submission"} & value.keys()
    assert value["metrics"] == {"edge_f1": 1.0, "direction_auroc": None}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"schema_version": 5}, "schema_version is 5"),
        ({"metrcs": {}}, "metrcs.*did you mean metrics"),
        ({"seed": "0"}, "seed: .*integer.*'0'"),
        ({"seed": -1}, "seed"),
        ({"status": "fine"}, "status: .*'fine'"),
        ({"setting": "closed"}, "setting: .*'closed'"),
        ({"given": ["everything"]}, "given.0: .*'everything'"),
        ({"told": []}, "told: unknown field"),
        ({"kind": "bound"}, "kind: .*'bound'"),
        ({"kind": "method", "given": ["metadata"]}, "given metadata is of the kind 'metadata'"),
        ({"kind": "metadata", "given": ["metadata", "truth"]}, "is of the kind 'oracle'"),
        ({"split": "../x"}, "split: "),
        ({"manifest_sha256": "12"}, "manifest_sha256: "),
        ({"date": "yesterday"}, "date: "),
        ({"metrics": {"edge_f1": "1.0"}}, "metrics.edge_f1"),
        ({"metrics": {"edge_f1": float("nan")}}, "metrics.edge_f1"),
        ({"parameters": {"weight": float("inf")}}, "parameters: "),
        ({"parents": {"a": ["b"], "b": ["a"]}}, "cycle"),
        ({"parents": {"a": ["z"]}}, "unknown parent 'z'"),
        ({"parents": None}, "a run that is ok has parents"),
        ({"error": "but it failed"}, "no error"),
        ({"status": "timeout"}, "timeout has no parents"),
        ({"confidence": {"b": {"a": 1.5}}}, r"must be in \[0, 1\]"),
        ({"abstained": ["z"]}, "unknown model 'z'"),
        ({"schema_version": 3, "per_tree": [{"edge_f1": 1.0}]}, "needs its tree's label"),
        ({"schema_version": 3, "per_tree": [{"tree": 0}, {"tree": 0}]}, "per_tree: .*named twice"),
        ({"per_tree": {"edge_f1": [1.0]}}, "needs its tree's label"),
        ({"per_tree": {"tree": [0, 0]}}, "per_tree: .*named twice"),
        ({"per_tree": {"tree": [0], "edge_f1": [1.0, 0.5]}}, "per_tree: .*one length"),
        ({"per_tree": {"tree": [0], "edge_f1": 1.0}}, "per_tree: .*a list for each metric"),
        ({"per_tree": {"edge_f1": None}}, "per_tree: .*a list for each metric"),
        ({"per_tree": [{"tree": 0, "edge_f1": 1.0}]}, "per_tree: .*a list for each metric"),
    ],
)
def test_a_faulty_value_is_refused_by_place_and_fault(record, changes, expected):
    with pytest.raises(MothrError, match=f"^runs, line 3: .*{expected}"):
        RunRecord.from_json(record().to_json() | changes, "runs, line 3")


def test_every_missing_field_is_named(record):
    value = record().to_json()
    del value["seed"], value["device"]
    with pytest.raises(MothrError, match="'seed' is missing; field 'device' is missing"):
        RunRecord.from_json(value, "here")
    with pytest.raises(MothrError, match="here: a record is a JSON object, not list"):
        RunRecord.from_json([], "here")


def test_a_record_cannot_be_changed_and_takes_only_json_parameters(record):
    with pytest.raises(ValidationError):
        record().seed = 1
    with pytest.raises(ValidationError, match="not JSON serializable"):
        record(parameters={"layers": {1, 2}})


def test_the_environment_fills_the_fields_of_provenance(record):
    fields = environment("cuda")
    run = record(**fields)
    assert run.device == "cuda"
    assert {"python", "torch", "numpy"} <= set(run.packages)
    assert run.date.endswith("Z")
    assert (run.commit is None) == (run.dirty is None)


def test_records_and_leaderboard_do_not_load_torch():
    code = (
        "import sys, mothr.benchmark.records.store, mothr.benchmark.board.leaderboard; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
