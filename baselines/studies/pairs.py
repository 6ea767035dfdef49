"""How far the models of each true tree of a data set lie apart, and which of each two looks like the parent: for reading alone."""

import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mothr.baselines.linea.method import Linea
from mothr.baselines.parts.directions import evidence
from mothr.baselines.parts.distances import distances
from mothr.baselines.parts.trees import shared
from mothr.benchmark.board.pairs import SplitPairs, TreePairs
from mothr.benchmark.data.dataset import MANIFEST, open_models, open_truth
from mothr.benchmark.storage import sha256_of
from mothr.benchmark.weights.checkpoint import ModelSet
from mothr.benchmark.weights.combine import Array
from mothr.benchmark.weights.layers import Layers

DISTANCE, DIRECTION, LAYERS = Linea.distance, Linea.direction, Linea.layers
"""What is computed: the distance and the direction score that Linea uses."""
DIGITS = 4
"""Digits of a distance, and decimals of evidence."""


def pairs_of(folder: Path) -> SplitPairs:
    """Returns what lies between the models of each true tree of the data set in ``folder``; progress is on stderr.

    Raises:
        MothrError: the data set cannot be opened, its truth is hidden, or the layers select nothing in a tree.
    """
    truth, models = open_truth(folder), open_models(folder)
    known = {checkpoint.id: checkpoint for checkpoint in models.checkpoints}
    trees = tqdm(truth.graph.trees, desc=truth.split, unit="tree", file=sys.stderr, disable=None)
    return SplitPairs(
        split=truth.split,
        version=truth.version,
        manifest_sha256=sha256_of(folder / MANIFEST),
        distance=DISTANCE,
        direction=DIRECTION,
        layers=LAYERS,
        trees=[tree_pairs(ModelSet(tuple(known[node] for node in tree))) for tree in trees],
    )


def tree_pairs(models: ModelSet) -> TreePairs:
    """Returns what lies between the models of one tree, all compared on the same tensors.

    Raises:
        MothrError: the layers select nothing.
    """
    ids = sorted(models.ids)
    if len(ids) == 1:
        return TreePairs(ids=ids, distances=[], evidence=[])
    layers = shared(models, Layers.parse(LAYERS))
    far = _listed(distances(models, DISTANCE, layers), models)
    says = _listed(evidence(models, DIRECTION, layers), models)
    return TreePairs(
        ids=ids,
        distances=[float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None for value in far],
        evidence=[round(value, DIGITS) + 0.0 for value in says],  # no -0.0
    )


def _listed(matrix: Array, models: ModelSet) -> list[float]:
    """Returns the pairs above the diagonal of an (n, n) array, row by row, once its models are sorted by id."""
    order = np.argsort(models.ids)
    found: list[float] = matrix[np.ix_(order, order)][np.triu_indices(len(order), 1)].tolist()
    return found
