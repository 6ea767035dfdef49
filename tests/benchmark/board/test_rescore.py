"""Scoring records again: those that are committed, and spoiled ones."""

import json
from pathlib import Path

import pytest

from mothr.benchmark.board.rescore import rescore
from mothr.benchmark.records import store
from mothr.benchmark.records.record import RunRecord
from mothr.benchmark.run.evaluate import run
from mothr.benchmark.run.registry import find_method
from mothr.benchmark.storage import read_json, write_json

COMMITTED = Path(__file__).parents[3] / "results"


def test_committed_records_hold_what_their_predictions_score():
    """A sixteenth of them, chosen by hash; ``mothr rescore results --check`` takes all."""
    found = list(rescore(COMMITTED, write=False, only="0"))
    assert len(found) > 50
    assert [str(one) for one in found if one.differs or one.fault or not one.scored] == []


@pytest.fixture
def written(mothr, tiny, tmp_path):
    """A results folder with two runs of one method, and one that failed."""
    mothr("run", "null-random-tree", tiny, "--setting", "open", "--seeds", 2, "--in-process", "--out", tmp_path)
    record = run(find_method("null-star"), "null-star", tiny, "open")
    answer = {"status": "failed", "error": "it broke", "parents": None, "metrics": {}, "per_tree": []}
    store.write(RunRecord(**record.model_dump() | answer), tmp_path)
    return tmp_path


def test_new_metrics_are_written_and_all_else_is_kept(mothr, written):
    first, second, *_ = sorted((written / "tiny-v1").glob("null-random-tree-*.json"))
    honest, untouched = first.read_bytes(), second.read_bytes()
    value = read_json(first)
    del value["metrics"]["edge_f1"]
    value["metrics"]["shd"] += 2**-40
    value["per_tree"][1]["root_recall"] = None
    value["metrics"]["no_longer"] = 1.0
    write_json(first, value)
    checked = mothr("rescore", written, "--check")
    assert checked.code == 1
    assert f"{first}: differs in shd, no_longer, edge_f1, root_recall of tree 1" in checked.out
    assert "3 records: 1 differ, 0 cannot be scored" in checked.out
    assert read_json(first) == value  # a check writes nothing
    assert mothr("rescore", written, "--json").json["written"] == 1
    again = json.loads(first.read_bytes())
    assert (again, list(again)) == (json.loads(honest), list(json.loads(honest)))
    assert second.read_bytes() == untouched
    assert mothr("rescore", written / "tiny-v1", "--check").code == 0
    assert [path.name for path in written.rglob("*.partial")] == []


def test_a_failed_run_has_no_metrics(mothr, written):
    [path] = (written / "tiny-v1").glob("null-star-*.json")
    write_json(path, read_json(path) | {"metrics": {"edge_f1": 1.0}})
    assert mothr("rescore", written, "--json").json["differing"] == {str(path): ["edge_f1"]}
    assert store.read(path).metrics == {}


def test_what_cannot_be_scored_is_said(mothr, written):
    truth = written / "tiny-v1" / "truth.json"
    kept = truth.read_text()
    truth.write_text(kept.replace("parents", "parent"))
    found = mothr("rescore", written)
    assert (found.code, found.out.count("truth.json: field 'nodes.")) == (1, 3)
    truth.unlink()  # as of a hidden split: no fault, but said
    found = mothr("rescore", written, "--check", "--json")
    assert (found.code, found.json["without_truth"], found.json["differing"]) == (0, 3, {})
