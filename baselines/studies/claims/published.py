"""MoTHer as its authors publish it, with its own and with other direction scores, on each Model Tree of a data set.

The layers and the distance are those of the authors. So a tree whose children are all LoRA models is solved with the rank
distance and the value projections (``mother-lora``), and every other tree with those of ``mother-v2``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from mothr.baselines.methods.mother import MOTHER_LORA, MOTHER_V2, MoTHer
from mothr.baselines.studies.ablation import BOUNDS
from mothr.baselines.studies.claims.runs import COMPARED_METHOD, warn_if_failed
from mothr.baselines.studies.claims.settings import ClaimSettings
from mothr.baselines.studies.datasets import OpenedDataset
from mothr.baselines.studies.ties import TreeTies, record_ties
from mothr.benchmark.records.record import RunRecord
from mothr.benchmark.run.outcome import RunRequest
from mothr.benchmark.run.registry import settings_from

PUBLISHED: Mapping[str, MoTHer] = {"mother-v2": MOTHER_V2, "mother-lora": MOTHER_LORA}
"""Registered name -> the method as published."""


def published_name(data: OpenedDataset, tree: int) -> str:
    """Returns the name of the method that the authors use for trees of this kind, a key of :data:`PUBLISHED`."""
    return "mother-lora" if data.kinds(tree) == "lora" else "mother-v2"


@dataclass(frozen=True, slots=True)
class PublishedRun:
    """One run of MoTHer, or of the method that it is compared with, on a whole data set."""

    series: str
    """The direction score, or the name of the other method."""
    trees: tuple[int, ...]
    """The trees that it stands for; the run itself is on all trees."""
    record: RunRecord
    """The record."""
    ties: Sequence[TreeTies] | None
    """The ties of each tree; None for another method, and for a run that failed."""


@cache
def published_runs(data: OpenedDataset, settings: ClaimSettings) -> tuple[PublishedRun, ...]:
    """Returns the runs of MoTHer as published, with each of ``settings.directions`` and the two bounds, and of Linea."""
    names = [published_name(data, tree) for tree in range(len(data.edges))]
    runs = []
    for name in dict.fromkeys(names):
        trees = tuple(tree for tree, used in enumerate(names) if used == name and data.edges[tree])
        for direction in dict.fromkeys((*settings.directions, *BOUNDS)) if trees else ():
            method = replace(PUBLISHED[name], direction=direction)
            for seed in range(settings.seeds if direction == "random" else 1):
                request = RunRequest(name, settings_from(method, name), settings.setting, seed)
                record = _run(data, request)
                runs.append(PublishedRun(direction, trees, record, record_ties(record, data)))
    compared = _run(data, RunRequest(COMPARED_METHOD, setting=settings.setting))
    runs.append(PublishedRun(COMPARED_METHOD, tuple(range(len(data.edges))), compared, None))
    return tuple(runs)


def _run(data: OpenedDataset, request: RunRequest) -> RunRecord:
    [record] = data.run([request])
    warn_if_failed(record)
    return record


def runs_by_tree(data: OpenedDataset, settings: ClaimSettings) -> Iterator[tuple[int, PublishedRun]]:
    """Yields (tree, run) for each tree with edges and each run that stands for it."""
    for run in published_runs(data, settings):
        for tree in run.trees:
            if data.edges[tree]:
                yield tree, run
