"""Fixtures of the benchmark: a small data set that numpy makes without training, and the command line."""

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
    """Writes a data set into ``folder`` and returns it: heavy-tailed roots, and children with Gaussian updates.

    Ids have only the digits 0 to 7. So a test can give other names to models that keep the order of the ids.
    """
    rng = np.random.default_rng(seed)
    nodes = {}
    for tree in range(trees):
        ids = [f"{number:012o}" for number in rng.integers(8**12, size=len(SHAPE))]
        for node, (parent, weights) in enumerate(zip(SHAPE, grow(rng, SHAPE, SHAPES), strict=True)):
            model = folder / "models" / ids[node]
            model.mkdir(parents=True)
            save_file(dict(weights), model / "model.safetensors")
            (model / "config.json").write_text('{"model_type": "toy"}\n')
            nodes[ids[node]] = {
                "parents": [] if parent is None else [ids[parent]], "relation": None if parent is None else "finetune",
                "tree": tree, "depth": (0, 1, 1, 2, 2, 2, 2)[node], "task": f"task {node}", "training": LEARNED,
            }  # fmt: skip
    (folder / "truth.json").write_text(json.dumps({"schema_version": 1, "split": "tiny", "version": 1, "nodes": nodes}))
    return seal(folder)


def seal(folder: Path) -> Path:
    """Sets all times, writes a manifest of the files in ``folder``, and returns ``folder``."""
    fix_times(folder / "models")
    write_manifest(
        folder, name="tiny", version=1, family="toy", mothr_version=__version__, recipe_sha256="0" * 64, environment={}
    )
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A data set of two trees with seven models each. All tests share it, so no test changes it."""
    return build(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture
def data(tiny, tmp_path) -> Path:
    """A copy of ``tiny`` that a test can change."""
    return shutil.copytree(tiny, tmp_path / "data")


@pytest.fixture(scope="session")
def build_data() -> Callable[..., Path]:
    """The function that writes such a data set, for other numbers of trees and other seeds."""
    return build


@pytest.fixture
def sealed() -> Callable[[Path], Path]:
    """The function that writes a new manifest after a change of the files."""
    return seal


@dataclass(frozen=True)
class Called:
    """Exit status and output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        """The one JSON value on standard output."""
        return json.loads(self.out)


@pytest.fixture
def mothr(monkeypatch, capsys) -> Callable[..., Called]:
    """A function that runs ``mothr WORDS`` with all commands, and prints errors as the command line does."""

    def call(*words: object) -> Called:
        monkeypatch.setattr(sys, "argv", ["mothr", *map(str, words)])
        monkeypatch.setattr(cli.app, "registered_commands", list(cli.app.registered_commands))
        monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        return Called(left.value.code or 0, *capsys.readouterr())

    return call
