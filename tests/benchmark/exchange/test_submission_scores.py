"""Scores of submissions: self-run predictions and methods that are run here."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from mothr.benchmark.board.board import board
from mothr.benchmark.errors import MothrError
from mothr.benchmark.exchange.submission import read
from mothr.benchmark.records import store
from mothr.benchmark.run.isolation import Isolated


def test_predictions_are_scored_as_self_run_and_again_only_if_they_changed(home, truth, put, score):
    both = {"given": ["tree_count", "trees"], "settings": ["known-trees", "open"], "tuned_on": ["tiny-dev"]}
    files = {
        "tiny-v1-open.json": truth,
        "tiny-v1-known-trees.json": dict.fromkeys(truth, ()),
        "hidden-v1-open.json": truth,
    }
    put("results/submissions/mine", files, **both)
    boards = [("mine", board) for board in ("tiny-v1, open", "tiny-v1, known-trees", "hidden-v1, open")]
    rows = score()
    assert [rows[board][0] for board in boards] == ["scored", "scored", "not scored"]
    assert rows[boards[0]][1] == "self-run: edge F1 1.000"
    records = {record.setting: record for record in store.read_all(Path("results"))}
    assert {setting: record.given for setting, record in records.items()} == {
        "open": ["tree_count"],
        "known-trees": ["tree_count", "trees"],
    }
    assert records["known-trees"].metrics["edge_f1"] == 0
    for record in records.values():
        assert (record.verified, record.submission, record.method, record.seconds, record.packages) == (
            False,
            "mine",
            "mine",
            None,
            {},
        )
    assert [status for status, _ in score().values()].count("unchanged") == 2
    Path("labels/hidden-v1").mkdir(parents=True)
    withheld = Path("results/tiny-v1/truth.json").read_text()
    Path("labels/hidden-v1/truth.json").write_text(withheld)
    with pytest.raises(MothrError, match="holds the truth of tiny, version 1, and not of hidden-v1"):
        score(labels=Path("labels"))
    Path("labels/hidden-v1/truth.json").write_text(withheld.replace('"tiny"', '"hidden"'))
    assert score(labels=Path("labels"))[boards[2]] == ("scored", "self-run: edge F1 1.000")
    assert score()[boards[2]][0] == "unchanged"  # though its labels are not at hand now
    put("results/submissions/mine", {"tiny-v1-open.json": dict.fromkeys(truth, ())}, **both)
    Path("results/submissions/mine/tiny-v1-known-trees.json").unlink()
    rows = score()
    assert [rows[board][0] for board in boards] == ["scored", "removed", "unchanged"]
    shutil.rmtree("results/submissions/mine")
    assert {status for status, _ in score().values()} == {"removed"}
    assert store.read_all(Path("results")) == []


def test_no_submission_changes_the_records_of_others(home, tiny, truth, mothr, put, score):
    assert mothr("run", "null-star", tiny, "--setting", "open", "--in-process").code == 0
    assert mothr("run", "null-mst-random-root", tiny, "--setting", "open", "--in-process").code == 0
    [first, second] = store.read_all(Path("results"))
    store.write(second.model_copy(update={"method": "mine", "parameters": {}, "method_version": "0"}), Path("results"))
    before = {path: path.read_bytes() for path in Path("results").rglob("*.jsonl")}
    assert len(before) == 1
    put("results/submissions/mine", {"tiny-v1.json": truth})
    put("results/submissions/yours", {"tiny-v1.json": truth})
    put("results/submissions/null-star", {"tiny-v1.json": truth}, name=first.method)
    put(
        "results/submissions/scored",
        {"tiny-v1.json": {"schema_version": 1, "parents": truth, "metrics": {}}},
        name="scored",
    )
    Path("results/submissions/linked").symlink_to(put("elsewhere", {"tiny-v1.json": truth}, name="linked"))
    rows = score()
    assert {status for status, _ in rows.values()} == {"FAILED"}
    assert "which no submission replaces" in rows["mine", "tiny-v1, open"][1]
    assert "its 'name' is 'mine'" in rows["yours", ""][1]
    assert "reserved for bounds" in rows["null-star", ""][1]
    assert "holds scores" in rows["scored", ""][1]
    assert "is a link" in rows["linked", ""][1]
    assert before == {path: path.read_bytes() for path in before}
    called = mothr("score-submissions", "results")
    assert called.code == 1
    assert "5 of the submissions cannot be scored: linked, mine, null-star, scored, yours" in called.err


def test_a_method_is_checked_run_here_once_and_verified(home, lab, tiny, mothr, monkeypatch, score):
    command = ("submit", f"{lab}:first", "--author", "Ada", "--code", "https://example.org")
    assert "'name' is missing" in mothr(*command).out
    called = mothr(*command, "--name", "mine")
    assert called.code == 0, called.out + called.err
    assert "memory" in called.out  # a rule of conduct
    submission = read(Path("results/submissions/mine"))
    assert (submission.given, submission.settings, submission.method) == (
        ["trees"],
        ["known-trees", "open"],
        f"{lab}:first",
    )
    assert score()["mine", "tiny-v1, open"][0] == "not scored"
    Path("data").mkdir()
    shutil.copytree(tiny, "data/tiny")
    rows = score()
    assert rows["mine", "tiny-v1, open"][1].startswith("verified: edge F1 0.")
    assert rows["mine", "hidden-v1, open"] == (
        "not scored",
        "the labels are withheld; name their folder with --labels",
    )
    sys.modules.pop(lab)  # where it was read what the method says of itself
    assert score(seeds=2)["mine", "tiny-v1, open"][0] == "scored"
    assert lab not in sys.modules  # its code ran elsewhere
    monkeypatch.setattr(Isolated, "_run", None)  # nothing is run again
    assert {status for status, _ in score().values()} == {"unchanged", "not scored"}
    records = store.read_all(Path("results"))
    assert {(record.setting, record.seed, record.verified, record.submission) for record in records} == {
        (setting, seed, True, "mine") for setting in ("known-trees", "open") for seed in (0, 1)
    }
    assert set(board(records)["standing"]) == {"verified"}
    assert {tuple(record.given) for record in records} == {(), ("trees",)}
    assert {record.kind for record in records} == {"method"}


def test_a_method_that_breaks_a_rule_or_is_not_as_described_is_refused(home, lab, tiny, put, faults, score):
    about = {"method": f"{lab}:forgets", "code": "https://example.org", "tuned_on": ["tiny-dev"]}
    problems = faults(put("a", **about))
    assert len([problem for problem in problems if "cannot be judged" not in problem]) == 1
    assert problems[0].startswith("prediction: one model, known-trees: the method's prediction leaves out 1 model")
    problems = faults(put("b", **about | {"given": ["tree_count"], "tuned_on": [], "version": 2}))
    assert [re.search("'(given|tuned_on|version)'", problem)[1] for problem in problems] == [
        "given",
        "tuned_on",
        "version",
    ]
    assert "has no attribute 'nothing'" in faults(put("c", **about | {"method": f"{lab}:nothing"}))[0]
    put("results/submissions/mine", **about)
    Path("data").mkdir()
    Path("data/tiny").symlink_to(tiny)
    assert score()["mine", ""][0] == "FAILED"
    assert store.read_all(Path("results")) == []
