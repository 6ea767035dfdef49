"""A small data set made by numpy, nothing trained, and the command line called as a user calls it."""

import json
import shutil
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from mothr.benchmark import __version__
from mothr.benchmark.cli import main as cli
from mothr.benchmark.data.dataset import fix_times, write_manifest
from mothr.benchmark.run.forests import grow

SHAPE = (None, 0, 0, 1, 1, 2, 2)
"""Parent of each node of a tree: 1 + 2 + 4."""
SHAPES = {
    **{f"layers.{layer}.attention.{part}_proj.weight": (16, 16) for layer in range(2) for part in "qkvo"},
    **{f"layers.{layer}.mlp.up_proj.weight": (32, 16) for layer in range(2)},
    **{f"layers.{layer}.norm.weight": (16,) for layer in range(2)},
}
LEARNED = {"metric": "accuracy", "before": 0.2, "after": 0.9, "chance": 0.2, "tested_on": 100}


def build(folder: Path, trees: int = 2, seed: int = 0) -> Path:
    """Returns ``folder``, made a data set: heavy-tailed roots, and children that add Gaussian updates.

    Ids hold the digits 0 to 7 alone, so that a test can rename models and keep the order and the beginnings of their names.
    """
    rng = np.random.default_rng(seed)
    nodes = {}
    for tree in range(trees):
        ids = [f"{number:012o}" for number in rng.integers(8**12, size=len(SHAPE))]
        for node, (above, weights) in enumerate(zip(SHAPE, grow(rng, SHAPE, SHAPES), strict=True)):
            place = folder / "models" / ids[node]
            place.mkdir(parents=True)
            save_file(dict(weights), place / "model.safetensors")
            (place / "config.json").write_text('{"model_type": "toy"}\n')
            nodes[ids[node]] = {
                "parents": [] if above is None else [ids[above]], "relation": None if above is None else "finetune",
                "tree": tree, "depth": (0, 1, 1, 2, 2, 2, 2)[node], "task": f"task {node}", "training": LEARNED,
            }  # fmt: skip
    (folder / "truth.json").write_text(json.dumps({"schema_version": 1, "split": "tiny", "version": 1, "nodes": nodes}))
    return seal(folder)


def seal(folder: Path) -> Path:
    """Returns ``folder`` with its times fixed and a manifest of what lies there now."""
    fix_times(folder / "models")
    write_manifest(
        folder, name="tiny", version=1, family="toy", mothr_version=__version__, recipe_sha256="0" * 64, environment={}
    )
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A data set of two trees of seven models, shared by all tests: never to be changed."""
    return build(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture
def data(tiny, tmp_path) -> Path:
    """A copy of it, to be spoiled."""
    return shutil.copytree(tiny, tmp_path / "data")


@pytest.fixture(scope="session")
def build_data() -> Callable[..., Path]:
    """The function that makes such a data set, with other numbers of trees and other seeds."""
    return build


@pytest.fixture
def sealed() -> Callable[[Path], Path]:
    """The function that writes a new manifest after an honest change."""
    return seal


@dataclass(frozen=True)
class Called:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        """The one JSON value on standard output."""
        return json.loads(self.out)


@pytest.fixture
def mothr(monkeypatch, capsys) -> Callable[..., Called]:
    """A function that runs ``mothr WORDS``, plug-in commands and the printing of errors included."""

    def call(*words: object) -> Called:
        monkeypatch.setattr(sys, "argv", ["mothr", *map(str, words)])
        monkeypatch.setattr(cli.app, "registered_commands", list(cli.app.registered_commands))
        monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        return Called(left.value.code or 0, *capsys.readouterr())

    return call
