"""Leaks: tests whether parents can be predicted from a data set without its weights.

A classifier is given comparisons of the facts (files, headers, configurations, ids) of an ordered pair of
models. It predicts whether the first model is a parent of the second. It is trained on some trees and tested on
the others. For a data set without leaks its score is at the chance level.

The chance level comes from a permutation test: the models are assigned at random to the nodes of the graph, and
the classifier is trained and tested again. This preserves the graph and removes any relation between graph and
facts. So the test is exact for any classifier.

A method sees tensors with their shapes and number formats, so what these decide is no leak. In a drawn data set the trees
differ in sizes. There, models are permuted among those of the same architecture and storage format, and only facts that
differ among these are tested.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from threadpoolctl import threadpool_limits

from mothr.benchmark.data.dataset import MODELS, Truth, open_manifest, open_models, open_truth
from mothr.benchmark.data.facts import Facts, facts_of_files, facts_of_this_copy
from mothr.benchmark.data.verify import formats_are_declared, is_drawn, storage_format
from mothr.benchmark.score.statistics import holm, mean_interval
from mothr.benchmark.storage import read_json
from mothr.benchmark.weights.checkpoint import Checkpoint

Question = Literal["parent", "direction"]
"""What the classifier predicts."""
Read = Literal["files", "this copy"]
"""Which facts the classifier is given."""
QUESTIONS: dict[Question, str] = {
    "parent": "which of all models is the parent",
    "direction": "which of parent and child is the parent",
}
"""Each question in words. ``parent``: an edge against other pairs. ``direction``: an edge against the reverse edge."""
LEVEL = 0.01
"""Significance level: the probability that a data set without leaks is called leaky (Holm-adjusted)."""
MIN_PERMUTATIONS, MAX_PERMUTATIONS = 99, 199
"""The fewest and the most permutations."""
ENOUGH_REACHED = 10
"""No more permutations are drawn once this number of them reach the observed score (Besag and Clifford 1991)."""
MAX_EDGES = 200
"""The largest number of edges that are tested. If there are more, they are drawn."""
NEGATIVES = 4
"""Pairs without an edge, for each edge: this number in its tree, this number of all models, and the reverse edge."""
BINS = 10
"""Number of bins of one comparison for the classifier."""
RIDGE = 30.0
"""Ridge penalty of the classifier, in pairs: a bin with fewer pairs has little weight."""
HEADS = ("num_attention_heads", "num_key_value_heads", "attention_head_dim", "num_experts_per_tok")
"""Keys of config.json that belong to the architecture, though no shape of a tensor shows them."""
FOLDS = 3
"""Number of folds of the cross-validation. A fold holds whole trees; if there is a single tree, it holds nodes."""


@dataclass(frozen=True)
class Finding:
    """The result of one question: how well the classifier predicts parents without the weights."""

    question: Question
    """The question."""
    read: Read
    """The facts: ``files`` are in every copy of the data set, ``this copy`` only on this disk."""
    auc: float
    """Area under the ROC curve of held-out pairs, mean over trees; the chance level is 0.5."""
    low: float | None
    """Lower end of its 95 % interval over trees; None for one tree."""
    high: float | None
    """Upper end."""
    chance: tuple[float, float]
    """The interval that holds 95 % of the areas of the permutations."""
    p: float
    """The p-value: share of the permutations, the observed one included, whose area is at least the observed area."""
    permutations: int
    """Number of permutations; 0 if no fact differs between models, since the area is then 0.5."""
    telling: tuple[tuple[str, float], ...]
    """The comparisons that predict best on their own, each with its area; the sign is chosen for an area above 0.5."""


@dataclass(frozen=True)
class Audit:
    """The result of the leak test of a data set."""

    findings: tuple[Finding, ...]
    """One for each question and kind of facts; empty if the truth has too few edges."""
    leaks: bool
    """Whether the facts of every copy predict parents, at the significance level ``LEVEL``."""
    notes: tuple[str, ...]
    """Notes on which facts were compared."""

    @property
    def lines(self) -> tuple[str, ...]:
        """The result in words."""
        verdict = ("verdict: leaks" if self.leaks else "verdict: at chance",) if self.findings else ()
        return (*self.notes, *map(_sentence, self.findings), *verdict)


def audit(folder: Path, labels: Path | None = None) -> Audit:
    """Tests whether everything in a data set except its weights predicts parents.

    Args:
        folder: The data set.
        labels: For a hidden split, the folder of its labels.

    Raises:
        MothrError: The data set is unfinished or damaged, or its truth is missing.
    """
    truth, manifest = open_truth(folder, labels), open_manifest(folder)
    ids = [model.id for model in manifest.models]
    if len(truth.graph.edges) < FOLDS:
        return Audit((), False, (f"{len(truth.graph.edges)} edges: too few to learn from",))
    groups, notes = _groups(folder, truth, ids)
    findings = []
    sources: dict[Read, Facts] = {
        "files": facts_of_files(folder, manifest),
        "this copy": facts_of_this_copy(folder, manifest),
    }
    for read, facts in sources.items():
        differing, tested = facts.varying(np.zeros_like(groups)), facts.varying(groups)
        notes.append(
            f"{read}: {len(facts)} facts a model, of which these differ: {', '.join(differing.names) or 'none'}"
        )
        if left := [name for name in differing.names if name not in tested.names]:
            notes.append(f"{read}: left out, since architecture or storage format decide them: {', '.join(left)}")
        with threadpool_limits(1):  # the matrices are small, so several threads are slower than one
            findings += [measure(question, tested, truth, ids, groups, read) for question in QUESTIONS]
    notes.append(
        "this copy: only this disk has these facts, and no archive stores them; they are not part of the verdict"
    )
    adjusted = holm([finding.p for finding in findings if finding.read == "files"])
    return Audit(tuple(findings), min(adjusted) <= LEVEL, tuple(notes))


def _groups(folder: Path, truth: Truth, ids: Sequence[str]) -> tuple[NDArray[np.intp], list[str]]:
    """Returns (n,) the group of each model, whose models a method cannot tell apart by their form, and notes about them."""
    drawn, declared = is_drawn(folder), formats_are_declared(truth)
    if not (drawn or declared):
        return np.zeros(len(ids), dtype=np.intp), []
    models = open_models(folder, check=False).checkpoints
    formats = {checkpoint.id: storage_format(checkpoint) for checkpoint in models}
    form: dict[str, Hashable] = (
        {checkpoint.id: _architecture(folder, checkpoint) for checkpoint in models} if drawn else {**formats}
    )
    numbers = {key: number for number, key in enumerate(dict.fromkeys(form[node] for node in ids))}
    note = (
        f"drawn recipe: {len(numbers)} architectures and storage formats; models are permuted within their own"
        if drawn
        else f"declared storage formats: {', '.join(sorted(set(formats.values())))}; models are permuted within their own"
    )
    return np.array([numbers[form[node]] for node in ids]), [note]


def _architecture(folder: Path, checkpoint: Checkpoint) -> Hashable:
    """Returns names, shapes and number formats of a model's tensors, and the sizes in its config.json that these do not show."""
    tensors = tuple(sorted((name, info.shape, info.dtype) for name, info in checkpoint.tensors.items()))
    configs = [read_json(path) for path in sorted((folder / MODELS / checkpoint.id).rglob("config.json"))]
    return tensors, tuple(repr(config.get(key)) for config in configs for key in HEADS)


def measure(
    question: Question, facts: Facts, truth: Truth, ids: Sequence[str], groups: NDArray[np.intp], read: Read
) -> Finding:
    """Returns how well the facts answer one question.

    Args:
        question: The question.
        facts: The facts of the n models.
        truth: The true graph.
        ids: The n models.
        groups: (n,) group of each model. Models are permuted within their group.
        read: The kind of facts.
    """
    rng = np.random.default_rng(0)  # so pairs and permutations of a data set are the same on every call
    trees = np.array([truth.trees[node] for node in ids])
    pairs, labels = _pairs(question, truth, ids, trees, rng)
    part_of = _parts(trees, pairs[labels], rng)
    if not facts.columns:
        return Finding(question, read, 0.5, None, None, (0.5, 0.5), 1.0, 0, ())
    compared = facts.compare(*pairs.T)
    folds, home = _folds(pairs, trees, part_of), trees[pairs[:, 1]]
    observed = _areas(compared, labels, folds, home)
    drawn: list[float] = []
    reached = 0
    while len(drawn) < MIN_PERMUTATIONS or (reached < ENOUGH_REACHED and len(drawn) < MAX_PERMUTATIONS):
        permuted = _permuted(groups, rng)
        drawn.append(float(np.mean(_areas(facts.compare(*permuted[pairs].T), labels, folds, home))))
        reached += int(drawn[-1] >= np.mean(observed))
    interval = mean_interval(observed, within=(0, 1))
    single = sorted(
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
        tuple((name, max(area, 1 - area)) for area, name in single[:3]),
    )


def _strength(comparison: tuple[float, str]) -> tuple[float, str]:
    """Returns the sort key of (area, name): the largest distance from 0.5 first."""
    return -abs(comparison[0] - 0.5), comparison[1]


def _permuted(groups: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    """Returns a random permutation (n,) of the models within their groups."""
    permuted = np.arange(len(groups))
    for group in np.unique(groups):
        positions = np.flatnonzero(groups == group)
        permuted[positions] = rng.permutation(positions)
    return permuted


def _pairs(
    question: Question, truth: Truth, ids: Sequence[str], trees: NDArray[np.intp], rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Returns (m, 2) ordered pairs of models, and (m,) whether the first model is a parent of the second."""
    position = {node: index for index, node in enumerate(ids)}
    all_edges = sorted((position[parent], position[child]) for parent, child in truth.graph.edges)
    edges = [all_edges[index] for index in rng.permutation(len(all_edges))[:MAX_EDGES]]
    negatives = {(child, parent) for parent, child in edges}
    if question == "parent":
        for _, child in edges:
            same_tree = np.flatnonzero(trees == trees[child])
            for candidates in (same_tree, np.arange(len(ids))):
                negatives |= {(int(model), child) for model in rng.choice(candidates, NEGATIVES)}
        negatives -= {(index, index) for index in range(len(ids))} | set(all_edges)
    pairs = np.array([*edges, *sorted(negatives)], dtype=np.intp)
    return pairs, np.arange(len(pairs)) < len(edges)


def _parts(trees: NDArray[np.intp], edges: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    """Returns (n,) the part of each model: whole trees, so that parts have similar numbers of edges.

    If only one tree has edges, nodes are divided at random.
    """
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
    """Returns for each part two masks (m,): pairs for training, and pairs for testing (with a child in the part)."""
    whole = len({*zip(trees.tolist(), parts.tolist(), strict=True)}) == len(set(trees.tolist()))
    folds = []
    for part in np.unique(parts[pairs[:, 1]]):
        tested = parts[pairs[:, 1]] == part
        # In a single tree, a parent can have children in two parts. Leaving out such parents would leave few edges.
        folds.append((~(parts[pairs] == part).any(axis=1) if whole else ~tested, tested))
    return folds


def _areas(
    compared: NDArray[np.float64],
    labels: NDArray[np.bool_],
    folds: Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]],
    home: NDArray[np.intp],
) -> list[float]:
    """Returns the area under the ROC curve for the pairs of each tree.

    The scores of a pair come from a classifier that was trained on other parts.

    Args:
        compared: (m, columns) comparisons of m pairs.
        labels: (m,) whether a pair is an edge.
        folds: For each part, the pairs for training and for testing.
        home: (m,) tree of the child of each pair.
    """
    binned, scores = _binned(compared), np.zeros(len(labels))
    for training, testing in folds:
        scores[testing] = binned[testing] @ _fitted(binned[training], labels[training])
    mixed = [tree for tree in np.unique(home) if 0 < labels[home == tree].sum() < (home == tree).sum()]
    return [_area(scores[home == tree], labels[home == tree]) for tree in mixed]


def _fitted(binned: NDArray[np.float32], labels: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Returns the weights of a linear classifier: ridge regression with balanced weights of both labels."""
    targets = np.where(labels, 1 / max(labels.sum(), 1), -1 / max((~labels).sum(), 1)) * len(labels) / 2
    weights = np.abs(targets)
    normal = (binned.T * weights.astype(np.float32)) @ binned + RIDGE * np.eye(binned.shape[1], dtype=np.float32)
    return np.asarray(np.linalg.solve(normal, binned.T @ targets.astype(np.float32)), dtype=np.float32)


def _binned(compared: NDArray[np.float64]) -> NDArray[np.float32]:
    """Returns (m, columns x bins) indicators: the bin of each comparison, of up to ``BINS`` equally filled bins.

    On indicators a linear classifier can fit any sum of one function of each comparison, in a millisecond.
    Boosted trees could fit more, but they take fifty times as long, and the classifier is trained for each
    permutation.
    """
    indicators = []
    for column in compared.T:
        known = np.unique(column[~np.isnan(column)])
        edges = (
            known
            if len(known) <= BINS
            else np.unique(np.quantile(column[~np.isnan(column)], np.linspace(0, 1, BINS + 1)[:-1]))
        )
        indicators.append(np.searchsorted(edges, column, side="right")[:, None] == np.arange(1, len(edges) + 1))
        indicators[-1][np.isnan(column)] = False
    return np.concatenate(indicators, axis=1).astype(np.float32)


def _area(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """Returns the area under the ROC curve: the probability that an edge scores above another pair; ties count half."""
    known = ~np.isnan(scores)
    ranks, labels = rankdata(scores[known]), labels[known]
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if not positives or not negatives:
        return 0.5
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _sentence(finding: Finding) -> str:
    subject = f"{finding.read}: {QUESTIONS[finding.question]}"
    if not finding.permutations:
        return f"{subject}: AUC 0.5, since all facts are the same for all models"
    interval = "" if finding.low is None else f" ({finding.low:.2f} to {finding.high:.2f} over trees)"
    result = f"AUC {finding.auc:.3f}{interval}, by chance {finding.chance[0]:.2f} to {finding.chance[1]:.2f}"
    text = f"{subject}: {result}, p = {finding.p:.3f} of {finding.permutations} permutations"
    if finding.p <= LEVEL:
        text += "; best predictors: " + "; ".join(f"{name} (AUC {area:.2f})" for name, area in finding.telling)
    return text
