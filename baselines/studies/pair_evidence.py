"""Computes the distance and the direction evidence of every pair of models of each true tree, for readers of the board's page.

:mod:`mothr.benchmark.board.pairs` defines the file that holds the result. No method reads it, and no metric uses it.
"""

import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mothr.baselines.linea.method import Linea
from mothr.baselines.parts.directions import evidence
from mothr.baselines.parts.distances import distances
from mothr.baselines.parts.trees import shared_layers
from mothr.benchmark.board.pairs import SplitPairs, TreePairs
from mothr.benchmark.data.dataset import MANIFEST, open_models, open_truth
from mothr.benchmark.storage import sha256_of
from mothr.benchmark.weights.combine import Array
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.model_set import ModelSet

DISTANCE, DIRECTION, LAYERS = Linea.distance, Linea.direction, Linea.layers
"""The distance, the direction score and the tensors that Linea uses."""
DIGITS = 4
"""Significant digits of a distance, and decimals of the evidence, in the file."""


def split_pair_evidence(folder: Path) -> SplitPairs:
    """Returns distance and evidence of all pairs of each true tree of the data set in ``folder``. Progress is shown on stderr.

    Raises:
        MothrError: The data set cannot be opened, its truth is hidden, or a tree has no tensor of :data:`LAYERS`.
    """
    truth, models = open_truth(folder), open_models(folder)
    checkpoints = {checkpoint.id: checkpoint for checkpoint in models.checkpoints}
    trees = tqdm(truth.graph.trees, desc=truth.split, unit="tree", file=sys.stderr, disable=None)
    return SplitPairs(
        split=truth.split,
        version=truth.version,
        manifest_sha256=sha256_of(folder / MANIFEST),
        distance=DISTANCE,
        direction=DIRECTION,
        layers=LAYERS,
        trees=[tree_pair_evidence(ModelSet(tuple(checkpoints[node] for node in tree))) for tree in trees],
    )


def tree_pair_evidence(models: ModelSet) -> TreePairs:
    """Returns distance and evidence of all pairs of the models of one tree, on the tensors that all its models share.

    Evidence is positive if the first model of a pair is the likelier parent of the second.

    Raises:
        MothrError: The models have no tensor of :data:`LAYERS`.
    """
    ids = sorted(models.ids)
    if len(ids) == 1:
        return TreePairs(ids=ids, distances=[], evidence=[])
    layers = shared_layers(models, Layers.parse(LAYERS))
    pair_distances = _upper_triangle(distances(models, DISTANCE, layers), models)
    pair_evidence = _upper_triangle(evidence(models, DIRECTION, layers), models)
    return TreePairs(
        ids=ids,
        distances=[float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None for value in pair_distances],
        evidence=[round(value, DIGITS) + 0.0 for value in pair_evidence],  # + 0.0 turns -0.0 into 0.0
    )


def _upper_triangle(matrix: Array, models: ModelSet) -> list[float]:
    """Returns the entries above the diagonal of an (n, n) array, row by row, after the models are sorted by id."""
    order = np.argsort(models.ids)
    values: list[float] = matrix[np.ix_(order, order)][np.triu_indices(len(order), 1)].tolist()
    return values
