"""Faulty submissions are refused, and each fault is named with its remedy."""

import json
import re
from pathlib import Path

import pytest

from mothr.benchmark.exchange.submission_check import check_folder
from mothr.benchmark.storage import write_json


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"authors": None}, "field 'authors' is missing; see results/submissions/README.md"),
        ({"authers": ["Ada"]}, "unknown field 'authers'; did you mean authors"),
        ({"metrics": {"edge_f1": 1.0}}, "unknown field 'metrics'"),
        ({"verified": True}, "unknown field 'verified'"),
        ({"authors": []}, "authors: List should have at least 1 item"),
        ({"authors": ["A\u202eda"]}, "holds characters that cannot be shown"),
        (
            {"given": ["tres"]},
            r"given.0: Input should be 'metadata', 'tree_count', 'trees' or 'truth' \(given: 'tres'\)",
        ),
        ({"given": ["truth"]}, "is an oracle, which cannot be submitted; remove 'truth'"),
        ({"given": ["trees"]}, "'settings' lacks 'known-trees'; add it"),
        ({"settings": ["known-trees"]}, "add 'trees' to 'given'"),
        ({"settings": ["open", "open"]}, "names something twice"),
        (
            {"tuned_on": ["tiny-v1"]},
            "'tiny-v1' is for testing: scores of a method that was tuned on its truth say nothing .* such as tiny-dev",
        ),
        ({"tuned_on": ["Tiny"]}, "'Tiny' is for testing"),
        ({"tuned_on": ["hidden"]}, "'hidden' is for testing"),
        ({"name": "mother-v1"}, "too similar to 'mother-v1', which is a registered method"),
        ({"name": "lin-ea"}, "too similar to 'linea'"),
        ({"name": "linea", "method": "linea"}, "too similar to 'linea'"),
        ({"name": "null-mine"}, "begins with 'null-', which is reserved for bounds; choose another name"),
        ({"name": "oracle-mine"}, "begins with 'oracle-'"),
        ({"name": "../mine"}, "is no name for a folder"),
        ({"name": "Mine"}, "is no name for a folder"),
        ({"paper": "javascript:alert(1)"}, "paper: String should match"),
        ({"version": 1.1}, r"version: Input should be a valid string \(given: 1.1\)"),
    ],
)
def test_a_faulty_description_is_refused_with_the_remedy(home, truth, changes, expected, put, faults):
    problems = faults(put("mine", {"tiny-v1.json": truth}, **changes))
    assert len(problems) == 1, problems
    assert re.search(f"submission.yaml: .*{expected}", problems[0]), problems


def without_one(parents):
    left_out = min(parents)
    return {
        node: [parent for parent in named if parent != left_out] for node, named in parents.items() if node != left_out
    }


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (without_one, "as a prediction on tiny-v1 it leaves out 1 model, '.*' among them; name each of the 14 once"),
        (lambda parents: {**parents, "0" * 12: []}, "adds 1 model, '000000000000' among them"),
        (lambda parents: dict.fromkeys(parents, list(parents)[:1]), "cycle"),
        (
            lambda parents: {"schema_version": 1, "parents": parents, "metrics": {"edge_f1": 1.0}},
            "holds scores, which are never submitted",
        ),
        (lambda parents: {"schema_version": 1, "parents": parents, "sure": 1}, "unknown key 'sure'"),
        (
            lambda parents: {"schema_version": 1, "parents": parents, "abstained": ["\x1b[2J"]},
            r"unknown model '\\x1b\[2J'",
        ),
        (lambda parents: {"schema_version": 1, "parents": parents, "abstained": ["\ud800"]}, "half a character"),
        (
            lambda parents: {"schema_version": 1, "parents": parents, "relations": {min(parents): "son"}},
            "unknown relation",
        ),
    ],
)
def test_a_faulty_prediction_is_refused_with_the_remedy(home, truth, spoil, expected, put, faults):
    [problem] = faults(put("mine", {"tiny-v1.json": spoil(truth)}))
    assert re.search(f"tiny-v1.json: .*{expected}", problem), problem


def test_every_fault_is_named_at_once_and_nothing_is_written(home, truth, mothr, put):
    secret = home / "secret.json"
    secret.write_text(json.dumps({"schema_version": 1, "parents": truth}))
    folder = put(
        "mine", {"tiny-v1.json": without_one(truth), "tiny-v2.json": truth}, name="mother-v2", given=["trees"], extra=1
    )
    (folder / "hidden-v1.json").symlink_to(secret)
    (folder / "more").mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "tiny-v3.json").write_bytes(b"[" * (1 << 24) + b"[")
    (folder / "tiny-v4.json").write_text('{"parents": {}, "parents": {}}')
    (folder / "tiny-v1-open.json").write_text("1" * 5000)
    called = mothr("submit", folder)
    assert called.code == 1
    for part in (
        "hidden-v1.json", "is a link", "is no file", "is neither submission.yaml nor", "16,777,217 bytes, of 16,777,216 allowed",
        "registered method", "lacks 'known-trees'; add it", "unknown field 'extra'", "leaves out 1 model",
        "unknown split 'tiny-v2'", "not valid JSON (a number of 5000 digits", "11 to mend",
    ):  # fmt: skip
        assert part in called.out
    assert "Traceback" not in called.err
    assert not Path("results/submissions").exists()
    assert mothr("submit", "nowhere").err.startswith("error: no folder 'nowhere'; and unknown method 'nowhere'")


def test_the_split_and_the_setting_of_a_file_must_be_clear(home, truth, put, faults):
    both = {"given": ["trees"], "settings": ["known-trees", "open"]}
    [problem] = faults(put("a", {"tiny-v1.json": truth}, **both))
    assert "make it tiny-v1-known-trees.json and tiny-v1-open.json" in problem
    assert (
        faults(
            put(
                "b",
                {"tiny-v1-known-trees.json": truth, "tiny-v1-open.json": truth, "hidden-v1-open.json": truth},
                **both,
            )
        )
        == []
    )
    [problem] = faults(put("b", {"hidden-v1-known-trees.json": truth}, **both))
    assert "withheld, so its trees are not given to anybody" in problem
    write_json(Path("results/tiny-v1/superseded.json"), {"superseded_by": "tiny-v2", "reason": "a leak"})
    Path("b/hidden-v1-known-trees.json").unlink()
    assert "send a prediction on tiny-v2 instead" in " ".join(
        finding.text for finding in check_folder(Path("b"), Path("results")).findings
    )
    [problem] = faults(put("c", {"tiny-v1-known-trees.json": truth}))
    assert "lacks 'known-trees'" in problem
    [problem] = faults(put("d", {"tiny-v1.json": truth, "tiny-v1-open.json": truth}))
    assert "another file is for the same split and setting" in problem
    assert "holds no prediction" in faults(put("e"))[0]
    problems = faults(put("f", {"tiny-v1.json": truth}, method="lab:first"))
    assert ["remove one of them" in problems[0], "no address of its code" in problems[1]] == [True, True]
