"""audit(): can parents be told without the weights? A classifier sees everything else and must be at chance.

For each ordered pair of models the classifier sees how their files, headers, configurations and ids compare, and says whether
the first is a parent of the second. It learns on some trees and is tried on others. The same is done many times over after
the models have been dealt out anew over the nodes of the graph, which keeps the graph's shape and breaks every tie to what
the files say: a permutation test, exact whatever the classifier does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from threadpoolctl import threadpool_limits

from mothr.benchmark.data.dataset import Truth, open_manifest, open_models, open_truth
from mothr.benchmark.data.facts import Facts, facts_of_files, facts_of_this_copy
from mothr.benchmark.data.verify import formats_are_declared, storage_format
from mothr.benchmark.score.statistics import holm, mean_interval

Question = Literal["parent", "direction"]
Read = Literal["files", "this copy"]
QUESTIONS: dict[Question, str] = {
    "parent": "which of all models is the parent",
    "direction": "which of parent and child is the parent",
}
"""Each question in words. ``parent``: an edge against other pairs; ``direction``: an edge against the same edge turned round."""
LEVEL = 0.01
"""A data set that leaks nothing is called leaky with this probability (Holm-corrected over the questions)."""
LEAST, MOST, ENOUGH = 99, 199, 10
"""Fewest and most permutations, and the number of them that reach the observed score after which no more are needed
(Besag and Clifford 1991)."""
EDGES = 200
"""The most edges that are asked about; more are drawn from."""
OTHERS = 4
"""Pairs that are no edge, for each edge: so many within its tree, so many from anywhere, and the edge turned round."""
BINS = 10
"""Bins that a comparison is cut into for the classifier."""
RIDGE = 30.0
"""Penalty of the classifier, in pairs: a bin that holds fewer than so many says little."""
FOLDS = 3
"""Parts that the trees (of a single tree: the nodes) are divided into; each is tried after learning on the others."""


@dataclass(frozen=True)
class Finding:
    """How well one question can be answered without the weights."""

    question: Question
    """Which question."""
    read: Read
    """What was read: what every copy of the data set carries, or what only this disk adds."""
    auc: float
    """Area under the ROC curve of held-out pairs, mean over trees; 0.5 is chance."""
    low: float | None
    """Lower end of its 95 % interval over trees; None where there is one tree."""
    high: float | None
    """Upper end."""
    chance: tuple[float, float]
    """The range that 95 % of the permutations fall into."""
    p: float
    """Share of the permutations that reach the score, itself counted."""
    permutations: int
    """Their number; 0 where no fact differs between models, so that the score is 0.5 without trying."""
    telling: tuple[tuple[str, float], ...]
    """The comparisons that alone tell most, each with its area under the curve (above 0.5 by choice of the sign)."""


@dataclass(frozen=True)
class Audit:
    """What the audit of a data set found."""

    findings: tuple[Finding, ...]
    """One for each question and what was read; none where the truth has too few edges to ask about."""
    leaks: bool
    """Whether what every copy carries tells parents, at ``LEVEL``."""
    notes: tuple[str, ...]
    """What was and what was not compared."""

    @property
    def lines(self) -> tuple[str, ...]:
        """The audit in words."""
        verdict = ("verdict: leaks" if self.leaks else "verdict: at chance",) if self.findings else ()
        return (*self.notes, *map(_sentence, self.findings), *verdict)


def audit(folder: Path, labels: Path | None = None) -> Audit:
    """Tries to tell parents from everything in a data set but its weights; ``labels`` is the folder of a hidden split's truth.

    Raises:
        MothrError: the data set is unfinished or damaged, or has no truth.
    """
    truth, manifest = open_truth(folder, labels), open_manifest(folder)
    ids = [model.id for model in manifest.models]
    if len(truth.graph.edges) < FOLDS:
        return Audit((), False, (f"{len(truth.graph.edges)} edges: too few to learn from",))
    formats = np.zeros(len(ids), dtype=np.intp)
    notes = []
    if formats_are_declared(truth):
        found = {
            checkpoint.id: storage_format(checkpoint) for checkpoint in open_models(folder, check=False).checkpoints
        }
        kinds = sorted(set(found.values()))
        formats = np.array([kinds.index(found[node]) for node in ids])
        notes.append(f"declared storage formats: {', '.join(kinds)}; models are dealt out anew within their own")
    findings = []
    sources: dict[Read, Facts] = {
        "files": facts_of_files(folder, manifest),
        "this copy": facts_of_this_copy(folder, manifest),
    }
    for read, facts in sources.items():
        differing, asked = facts.varying(np.zeros_like(formats)), facts.varying(formats)
        notes.append(
            f"{read}: {len(facts)} facts a model, of which these differ: {', '.join(differing.names) or 'none'}"
        )
        if left := [name for name in differing.names if name not in asked.names]:
            notes.append(f"{read}: left out, since the storage format decides them: {', '.join(left)}")
        with threadpool_limits(1):  # the matrices are small, and threads slow each other down
            findings += [ask(question, asked, truth, ids, formats, read) for question in QUESTIONS]
    notes.append(
        "this copy: only this disk adds these facts, and no archive carries them along; they are no part of the verdict"
    )
    adjusted = holm([finding.p for finding in findings if finding.read == "files"])
    return Audit(tuple(findings), min(adjusted) <= LEVEL, tuple(notes))


def ask(
    question: Question, facts: Facts, truth: Truth, ids: Sequence[str], formats: NDArray[np.intp], read: Read
) -> Finding:
    """Returns how well ``facts`` of the models ``ids`` answer ``question``; ``formats`` (n,) are dealt out within themselves."""
    rng = np.random.default_rng(0)  # pairs and permutations of a data set are the same on every call
    trees = np.array([truth.trees[node] for node in ids])
    pairs, labels = _pairs(question, truth, ids, trees, rng)
    parts = _parts(trees, pairs[labels], rng)
    if not facts.columns:
        return Finding(question, read, 0.5, None, None, (0.5, 0.5), 1.0, 0, ())
    compared = facts.compare(*pairs.T)
    folds, home = _folds(pairs, trees, parts), trees[pairs[:, 1]]
    observed = _areas(compared, labels, folds, home)
    drawn: list[float] = []
    reached = 0
    while len(drawn) < LEAST or (reached < ENOUGH and len(drawn) < MOST):
        dealt = _dealt(formats, rng)
        drawn.append(float(np.mean(_areas(facts.compare(*dealt[pairs].T), labels, folds, home))))
        reached += int(drawn[-1] >= np.mean(observed))
    interval = mean_interval(observed, within=(0, 1))
    alone = sorted(
        ((_area(column, labels), name) for column, name in zip(compared.T, facts.columns, strict=True)), key=_strength
    )
    return Finding(
        question,
        read,
        interval.mean,
        interval.low,
        interval.high,
        (float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))),
        float((1 + reached) / (1 + len(drawn))),
        len(drawn),
        tuple((name, max(area, 1 - area)) for area, name in alone[:3]),
    )


def _strength(found: tuple[float, str]) -> tuple[float, str]:
    return -abs(found[0] - 0.5), found[1]


def _dealt(formats: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    """Returns (n,) which model stands at each model's place after they were dealt out anew within their storage formats."""
    dealt = np.arange(len(formats))
    for kind in np.unique(formats):
        places = np.flatnonzero(formats == kind)
        dealt[places] = rng.permutation(places)
    return dealt


def _pairs(
    question: Question, truth: Truth, ids: Sequence[str], trees: NDArray[np.intp], rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Returns (m, 2) ordered pairs of models and (m,) whether the first is a parent of the second."""
    position = {node: at for at, node in enumerate(ids)}
    every = sorted((position[parent], position[child]) for parent, child in truth.graph.edges)
    edges = [every[at] for at in rng.permutation(len(every))[:EDGES]]
    others = {(child, parent) for parent, child in edges}
    if question == "parent":
        for _, child in edges:
            near = np.flatnonzero(trees == trees[child])
            others |= {
                (int(other), child) for places in (near, np.arange(len(ids))) for other in rng.choice(places, OTHERS)
            }
        others -= {(at, at) for at in range(len(ids))} | set(every)
    pairs = np.array([*edges, *sorted(others)], dtype=np.intp)
    return pairs, np.arange(len(pairs)) < len(edges)


def _parts(trees: NDArray[np.intp], edges: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    """Returns (n,) the part of each model: whole trees, with about as many edges each; of a single tree that has edges, nodes."""
    count = np.bincount(trees[edges[:, 1]], minlength=trees.max() + 1)
    if (count > 0).sum() < 2:
        return rng.permutation(np.arange(len(trees)) % FOLDS)
    filled = np.zeros(min(FOLDS, int((count > 0).sum())))
    part = np.zeros(len(count), dtype=np.intp)
    for tree in np.argsort(-count, kind="stable"):
        part[tree] = filled.argmin()
        filled[part[tree]] += count[tree]
    return part[trees]


def _folds(
    pairs: NDArray[np.intp], trees: NDArray[np.intp], parts: NDArray[np.intp]
) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Returns for each part (m,) which pairs are learned from and which are tried: those whose child is in the part."""
    whole = len({*zip(trees.tolist(), parts.tolist(), strict=True)}) == len(set(trees.tolist()))
    found = []
    for part in np.unique(parts[pairs[:, 1]]):
        tried = parts[pairs[:, 1]] == part
        # In a single tree, a parent with children in two parts is met in both: leaving it out would leave few edges.
        found.append((~(parts[pairs] == part).any(axis=1) if whole else ~tried, tried))
    return found


def _areas(
    compared: NDArray[np.float64],
    labels: NDArray[np.bool_],
    folds: Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]],
    home: NDArray[np.intp],
) -> list[float]:
    """Returns the area under the curve among the pairs of each tree in ``home``, of scores learned on other parts."""
    binned, scores = _binned(compared), np.zeros(len(labels))
    for learned, tried in folds:
        scores[tried] = binned[tried] @ _learned(binned[learned], labels[learned])
    mixed = [tree for tree in np.unique(home) if 0 < labels[home == tree].sum() < (home == tree).sum()]
    return [_area(scores[home == tree], labels[home == tree]) for tree in mixed]


def _learned(binned: NDArray[np.float32], labels: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Returns the weights of a linear classifier: ridge regression on labels of balanced weight."""
    targets = np.where(labels, 1 / max(labels.sum(), 1), -1 / max((~labels).sum(), 1)) * len(labels) / 2
    weights = np.abs(targets)
    normal = (binned.T * weights.astype(np.float32)) @ binned + RIDGE * np.eye(binned.shape[1], dtype=np.float32)
    return np.asarray(np.linalg.solve(normal, binned.T @ targets.astype(np.float32)), dtype=np.float32)


def _binned(compared: NDArray[np.float64]) -> NDArray[np.float32]:
    """Returns (m, columns x bins) which of up to ``BINS`` equally filled bins, or none for NaN, each comparison falls into.

    On these a linear classifier can learn any sum of curves, one a comparison, in a millisecond. Boosted trees, which could
    learn more, take fifty times as long, and each permutation learns anew.
    """
    found = []
    for column in compared.T:
        known = np.unique(column[~np.isnan(column)])
        edges = (
            known
            if len(known) <= BINS
            else np.unique(np.quantile(column[~np.isnan(column)], np.linspace(0, 1, BINS + 1)[:-1]))
        )
        found.append(np.searchsorted(edges, column, side="right")[:, None] == np.arange(1, len(edges) + 1))
        found[-1][np.isnan(column)] = False
    return np.concatenate(found, axis=1).astype(np.float32)


def _area(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """Returns the area under the ROC curve: how often an edge scores above another pair, ties counted half."""
    known = ~np.isnan(scores)
    ranks, labels = rankdata(scores[known]), labels[known]
    yes, no = int(labels.sum()), int((~labels).sum())
    return float((ranks[labels].sum() - yes * (yes + 1) / 2) / (yes * no)) if yes and no else 0.5


def _sentence(finding: Finding) -> str:
    asked = f"{finding.read}: {QUESTIONS[finding.question]}"
    if not finding.permutations:
        return f"{asked}: AUC 0.5, as all facts are the same for all models"
    interval = "" if finding.low is None else f" ({finding.low:.2f} to {finding.high:.2f} over trees)"
    found = f"AUC {finding.auc:.3f}{interval}, by chance {finding.chance[0]:.2f} to {finding.chance[1]:.2f}"
    text = f"{asked}: {found}, p = {finding.p:.3f} of {finding.permutations} permutations"
    if finding.p <= LEVEL:
        text += "; most telling: " + "; ".join(f"{name} (AUC {area:.2f})" for name, area in finding.telling)
    return text
