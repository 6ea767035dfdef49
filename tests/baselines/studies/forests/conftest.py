"""Two small data sets with known truth, and their examples."""

import numpy as np
import pytest

from mothr.baselines.studies.datasets import OpenedDataset
from mothr.baselines.studies.forests.examples import examples_of
from mothr.benchmark.run.forests import grow

TREE = (None, 0, 0, 1, 1, 2, 2)
"""Parent of each node of a tree."""
SHAPES = {f"layers.{layer}.mlp.up_proj.weight": (24, 16) for layer in range(3)}
TREES = 4


@pytest.fixture(scope="module")
def folders(tmp_path_factory, write_dataset):
    """Two data sets of four trees; the children of odd nodes were trained by sgd, all others by adamw."""
    base = tmp_path_factory.mktemp("data")
    for seed, name in enumerate(("one-dev", "two-dev")):
        nodes = []
        for tree in range(TREES):
            weights = grow(np.random.default_rng(10 * seed + tree), TREE, SHAPES)
            first = len(nodes)
            nodes += [
                (
                    held,
                    [] if parent is None else [first + parent],
                    {
                        "relation": None if parent is None else "finetune",
                        "tree": tree,
                        "training": {"optimizer": "sgd" if place % 2 else "adamw", "steps": 100},
                    },
                )
                for place, (held, parent) in enumerate(zip(weights, TREE, strict=True))
            ]
        write_dataset(base / name, nodes, seed)
    return [base / "one-dev", base / "two-dev"]


@pytest.fixture(scope="module")
def found(folders):
    return [example for folder in folders for example in examples_of(OpenedDataset.open(folder))]
