"""Candidate pairs among very many models, where all pairs are too many: neighbours by random projections of the weights.

A projection keeps distances but for a few per cent (Johnson and Lindenstrauss 1984), and reads each model once. A parent is
among the nearest models of its child, so that exact distances are wanted for few pairs alone.
"""

import hashlib
import math

import numpy as np
import torch
from numpy.typing import NDArray

from mothr.benchmark.combine import Array
from mothr.benchmark.features import CHUNK
from mothr.benchmark.layers import Layers
from mothr.benchmark.weights import ModelSet


def projections(models: ModelSet, layers: Layers, width: int = 64) -> Array:
    """Returns (n, width) projections, whose distances are near the root of the sum over tensors of squared relative distances.

    Each tensor is projected by Gaussian numbers drawn from its name and shape, so that neither ids nor listing order say
    anything, and scaled by the root mean square of its norms. A tensor that a model lacks counts as zero.
    """
    found = np.zeros((len(models), width))
    for name, shape in layers.select_from(models):
        elements, positions = math.prod(shape), models.shapes[name, shape]
        seed = int.from_bytes(hashlib.sha256(f"{name}|{shape}".encode()).digest()[:7], "big")
        drawn = torch.randn(elements, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        energy, projected = 0.0, np.empty((len(positions), width))
        for start in range(0, len(positions), step := max(1, CHUNK // elements)):
            rows = models.stack(name, positions[start : start + step]).double().flatten(1)
            energy += float(rows.square().sum())
            projected[start : start + step] = rows @ drawn
        if energy > 0:
            found[list(positions)] += projected / math.sqrt(width * energy / len(positions))
    return found


def neighbours(points: Array, count: int = 10) -> NDArray[np.intp]:
    """Returns the pairs (i, j), i < j, in which one is among the ``count`` nearest of the other, (m, 2), sorted."""
    n = len(points)
    count = min(count, n - 1)
    if count < 1:
        return np.zeros((0, 2), dtype=np.intp)
    points = points - points.mean(axis=0)
    squares, found = (points**2).sum(axis=1), []
    for start in range(0, n, step := max(1, CHUNK // n)):
        some = np.arange(start, min(start + step, n))
        far = squares[some, None] + squares - 2 * points[some] @ points.T
        far[some - start, some] = np.inf
        near = np.argpartition(far, count - 1, axis=1)[:, :count]
        found.append(np.stack([np.repeat(some, count), near.ravel()], axis=1))
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)
