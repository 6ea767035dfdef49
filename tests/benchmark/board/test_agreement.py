"""How far two splits rank the same methods alike."""

import pytest

from mothr.benchmark.board.agreement import split_agreement
from mothr.benchmark.board.board import TREE_METRICS
from mothr.benchmark.errors import MothrError
from mothr.benchmark.records import store
from mothr.benchmark.records.record import RunRecord

FIELDS = {
    "split_version": 1, "manifest_sha256": "0" * 64, "method_version": "1", "parameters": {}, "seed": 0, "given": [], "status": "ok",
    "device": "cpu", "mothr_version": "0.1.0", "commit": None, "dirty": None, "packages": {}, "date": "2026-01-31T12:00:00Z",
    "parents": {"a": []}, "metrics": {"edge_f1": 0.0},
}  # fmt: skip


@pytest.fixture
def results(tmp_path):
    """A folder with two splits: three methods in the same order, a null method, and a method on one split only."""
    for split, scores in (("one", (0.9, 0.5, 0.2)), ("two", (0.7, 0.6, 0.1))):
        methods = {"linea": scores[0], "mother-v2": scores[1], "tensorlock": scores[2], "null-star": 1.0}
        for method, score in methods.items() | ({("neighbour-joining", 0.0)} if split == "one" else set()):
            run = {"split": split, "method": method, "kind": "null" if method == "null-star" else "method"}
            for setting in ("open", "known-trees"):
                value = score if setting == "open" else 1 - score if split == "two" else score
                per_tree = [{"tree": tree, **dict.fromkeys(TREE_METRICS, value)} for tree in range(3)]
                given = ["trees"] if setting == "known-trees" else []
                record = FIELDS | run | {"setting": setting, "per_tree": per_tree, "given": given}
                store.write(RunRecord(**record), tmp_path)
    return tmp_path


def test_only_ranked_methods_that_ran_on_both_splits_count(results):
    found = split_agreement(results, "one-v1", "two-v1")
    assert (found.tau, found.methods) == (1, 3)
    assert split_agreement(results, "one-v1", "two-v1", "known-trees").tau == -1


def test_an_unknown_split_is_refused_with_near_names(results):
    with pytest.raises(MothrError, match=r"unknown split with runs in .* 'two'; did you mean two-v1"):
        split_agreement(results, "one-v1", "two")


def test_splits_without_shared_methods_are_refused(results):
    store.write(
        RunRecord(
            **FIELDS
            | {
                "split": "three",
                "method": "mine",
                "kind": "method",
                "setting": "open",
                "per_tree": [{"tree": 0, **dict.fromkeys(TREE_METRICS, 1.0)}],
            }
        ),
        results,
    )
    with pytest.raises(MothrError, match="0 ranked methods were run on both one-v1 and three-v1 in the setting open"):
        split_agreement(results, "one-v1", "three-v1")


def test_the_command_prints_tau_with_its_interval(results, mothr):
    called = mothr("agreement", "one-v1", "two-v1", results)
    assert called.out.strip() == "Kendall's tau 1.00 (1.00 to 1.00) over 3 ranked methods"
    assert mothr("agreement", "one-v1", "two-v1", results, "--json").json["tau"] == 1
