"""Examples to fit on: the statistics of the trained models of a tree, and which candidates are their true parents."""

import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mothr.baselines.linea.assembly import related_models, trained_and_derived, warned_before
from mothr.baselines.linea.fitted.features import Features, pair_features, root_features
from mothr.baselines.linea.fitted.measure import Evidence
from mothr.baselines.linea.fitted.method import FittedLinea
from mothr.baselines.studies.datasets import OpenedDataset
from mothr.benchmark.graph import ModelGraph, NodeId


@dataclass(frozen=True, eq=False)
class Example:
    """The trained models of one tree as Linea sees them, with the truth."""

    split: str
    """Name of the split."""
    tree: int
    """Number of the true tree of the first model."""
    ids: tuple[NodeId, ...]
    """The n models."""
    parents: tuple[tuple[NodeId, ...], ...]
    """True parents of each model, those among ``ids`` and all others."""
    evidence: Evidence
    """The statistics."""
    pair_features: Features
    """Features of candidates, (n, k) each."""
    root_features: Features
    """Features of roots, (n,) each."""
    edges: NDArray[np.bool_]
    """Whether a candidate is a right parent, (n, k). All are right for a model whose true parent is not among ``ids``."""
    roots: NDArray[np.bool_]
    """Whether a model is a true root, or its parent is not among ``ids``, (n,)."""

    def without_truth(self, nodes: Collection[NodeId]) -> "Example":
        """Returns this example as if nothing were known about the parents of ``nodes``."""
        unknown = np.isin(self.ids, list(nodes))
        return replace(self, edges=self.edges | unknown[:, None], roots=self.roots | unknown)


def examples_of(data: OpenedDataset) -> list[Example]:
    """Returns the examples of a data set: its trees of two and more trained models. A bar is shown on stderr.

    Models are related and derived models are set aside as in a prediction, so that the fit sees what a prediction sees.
    """
    truth, method = data.truth, FittedLinea()
    _, trees = related_models(data.models, method)
    found: list[Example] = []
    with warned_before(True):
        for tree, reordered in tqdm(trees, desc=truth.split, unit="tree", file=sys.stderr, disable=None):
            trained = trained_and_derived(tree, reordered, method, np.random.default_rng(0)).trained
            if len(trained) > 1:
                evidence = method.evidence(trained)
                found.append(_example(truth.split, truth.trees, truth.graph, trained.ids, evidence))
    return found


def _example(
    split: str, trees: dict[NodeId, int], graph: ModelGraph, ids: tuple[NodeId, ...], evidence: Evidence
) -> Example:
    parents = tuple(tuple(graph.parents[node]) for node in ids)
    candidates = np.array(ids)[evidence.candidates.parents]
    edges = np.array([np.isin(row, above) for row, above in zip(candidates, parents, strict=True)])
    is_root = np.array([not above for above in parents])
    unknown = ~is_root & ~edges.any(axis=1)
    return Example(
        split=split,
        tree=trees[ids[0]],
        ids=ids,
        parents=parents,
        evidence=evidence,
        pair_features=pair_features(evidence),
        root_features=root_features(evidence),
        edges=edges | unknown[:, None],
        roots=is_root | unknown,
    )


def folds(found: Sequence[Example], count: int) -> Iterator[tuple[list[Example], list[Example]]]:
    """Yields (examples to fit on, examples left out), ``count`` times; all examples of one tree are in one fold."""
    trees = {key: place % count for place, key in enumerate(sorted({(item.split, item.tree) for item in found}))}
    for fold in range(count):
        inside = [trees[item.split, item.tree] == fold for item in found]
        if any(inside):
            pairs = list(zip(found, inside, strict=True))
            yield [item for item, out in pairs if not out], [item for item, out in pairs if out]
