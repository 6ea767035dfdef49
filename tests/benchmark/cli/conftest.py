"""Fixtures of the command line: methods of a user, plain model files, a perfect prediction, and a check of errors."""

import json
import shutil
import sys

import pytest

from mothr.benchmark.data.dataset import open_truth

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


@pytest.fixture
def refused():
    """A function that asserts that a command ended with one sentence on stderr, and wrote nothing else."""

    def refused(called, *expected):
        """Asserts that a command ended with one sentence on stderr that holds all that is expected, and wrote nothing else."""
        assert called.code == 1
        assert called.out == ""
        assert called.err.startswith("error: ")
        assert "Traceback" not in called.err
        for part in expected:
            assert part in called.err

    return refused
