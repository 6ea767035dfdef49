"""Fixtures of submissions: a results folder, a method of a user, and functions that write, check and score."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from mothr.benchmark.data.dataset import copy_to_results, open_truth
from mothr.benchmark.exchange.submission_check import check_folder
from mothr.benchmark.exchange.submission_scores import ScoringInputs, score_submissions

DESCRIBED = {"name": "mine", "authors": ["Ada"], "given": [], "settings": ["open"], "tuned_on": []}
SOURCE = """
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.prediction import Prediction

def first(models, rng):
    trees, roots = models.given.trees or dict.fromkeys(models.ids, 0), {}
    edges = [(roots[trees[id]], id) for id in models.ids if roots.setdefault(trees[id], id) != id]
    return Prediction(ModelGraph.from_edges(models.ids, edges))

def forgets(models, rng):
    return Prediction(ModelGraph(dict.fromkeys(models.ids[1:], ())))

forgets.tuned_on = ("tiny-dev",)
"""


@pytest.fixture
def home(tiny, tmp_path, monkeypatch):
    """The current folder. ``results`` has the split ``tiny-v1``, whose labels are known, and ``hidden-v1``, whose are not."""
    monkeypatch.chdir(tmp_path)
    copy_to_results(tiny, Path("results/tiny-v1"))
    Path("results/hidden-v1").mkdir()
    manifest = (tiny / "manifest.json").read_text().replace('"tiny"', '"hidden"')
    Path("results/hidden-v1/manifest.json").write_text(manifest)
    return tmp_path


@pytest.fixture
def lab(home, monkeypatch):
    """The name of a module on the path that is not imported yet."""
    (home / "lab_of_submissions.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(home)
    monkeypatch.delitem(sys.modules, "lab_of_submissions", raising=False)
    return "lab_of_submissions"


@pytest.fixture
def truth(tiny):
    return open_truth(tiny).graph.to_json()


@pytest.fixture
def put():
    """A function that writes a submission."""

    def put(folder, files=(), **changes):
        """Writes a submission: its description with changes, without the keys whose value is None, and its files."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        description = {key: value for key, value in (DESCRIBED | changes).items() if value is not None}
        (folder / "submission.yaml").write_text(yaml.safe_dump(description, sort_keys=False))
        for name, value in dict(files).items():
            value = {"schema_version": 1, "parents": value} if "parents" not in value else value
            (folder / name).write_text(json.dumps(value))
        return folder

    return put


@pytest.fixture
def faults():
    """A function that returns the faults of a submission."""

    def faults(folder):
        """Returns the faults of a submission."""
        findings = check_folder(Path(folder), Path("results")).findings
        return [f"{finding.rule}: {finding.text}" for finding in findings if finding.status != "ok"]

    return faults


@pytest.fixture
def score():
    """A function that scores all submissions."""

    def score(**options):
        """Scores all submissions; returns (submission, board) -> (status, text)."""
        rows = score_submissions(ScoringInputs(Path("results"), Path("data"), **options))
        return {(row.submission, row.board): (row.status, row.text) for row in rows}

    return score
