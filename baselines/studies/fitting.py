"""Fits the direction score ``learned`` on dev splits with known truth, and measures it on each split that the fit left out.

For two related models u and v, the fitted log-odds that u is the parent are

    sum over k of weight_k * tanh(score_k(u, v) / scale_k),

where score_k is another direction score; see :mod:`mothr.baselines.parts.learned`. The weights come from a logistic regression
with an L2 penalty. The terms are chosen by forward selection with leave-one-split-out cross-validation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tomli_w
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from mothr.baselines.parts.directions import pair_scores
from mothr.baselines.parts.learned import Term
from mothr.benchmark.data.dataset import open_models, open_truth
from mothr.benchmark.errors import MothrError
from mothr.benchmark.storage import write_text
from mothr.benchmark.weights.combine import Array
from mothr.benchmark.weights.layers import Layers

CANDIDATES = (
    ("residual_independence", "elements"), ("residual_independence", "vote"), ("norm_ratio", "elements"), ("norm_ratio", "vote"),
    ("abs_kurtosis", "vote"), ("negentropy", "vote"), ("kurtosis", "vote"), ("outliers", "vote"), ("max_abs", "vote"),
)  # fmt: skip
"""(direction score, combination over tensors) of each possible term. All are cheap, and none depends on the size of a model."""
LAYERS = "body"
"""Tensors that the candidate scores are computed on; see :class:`mothr.benchmark.weights.layers.Layers`."""
PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Strengths of the L2 penalty to choose from: 1 / (2 variance) of the Gaussian prior of a weight."""


@dataclass(frozen=True, slots=True)
class EdgeScores:
    """The candidate scores of the edges of one split."""

    split: str
    """Name of the split."""
    scores: Array
    """Scores of (parent, child), one row an edge and one column a candidate of :data:`CANDIDATES`."""


@dataclass(frozen=True, slots=True)
class DirectionFit:
    """A fitted direction score, and how well it does on the splits that were left out."""

    terms: tuple[Term, ...]
    """Terms of the sum, fitted on all splits."""
    penalty: float
    """Chosen value of :data:`PENALTIES`."""
    edges: Mapping[str, int]
    """Split -> number of its edges."""
    left_out: Mapping[str, tuple[float, float]]
    """Split -> (accuracy, log loss) on its edges of a fit on the other splits. Log loss is the mean negative log-likelihood in
    nats."""


def edge_scores(folder: Path) -> EdgeScores:
    """Returns the candidate scores of each edge of a data set between a trained model and its only parent.

    Raises:
        MothrError: The data set cannot be opened, or no model in it was trained from another.
    """
    truth, models = open_truth(folder), open_models(folder)
    position = {node: index for index, node in enumerate(models.ids)}
    trained = {node: record for node, record in truth.nodes.items() if record.relation in ("finetune", "adapter")}
    pairs = np.array(
        [(position[record.parents[0]], position[node]) for node, record in trained.items() if len(record.parents) == 1],
        dtype=np.intp,
    )
    if not len(pairs):
        raise MothrError(
            f"{folder}: no model was trained from another, so there is no direction to learn; choose another split"
        )
    layers = Layers.parse(LAYERS)
    columns = [pair_scores(models, direction, pairs, layers, how=how) for direction, how in CANDIDATES]
    return EdgeScores(truth.split, np.stack(columns, axis=1))


def fit(splits: Sequence[EdgeScores]) -> DirectionFit:
    """Returns the fit on all of ``splits``; each split has the same total weight.

    Forward selection: in each round the candidate joins that lowers the mean log loss on left-out splits most, together with
    the penalty that is then best. The selection ends when no candidate lowers that loss.

    Raises:
        MothrError: There are fewer than two splits, so none can be left out.
    """
    if len(splits) < 2:
        raise MothrError(f"{len(splits)} split given; at least two are needed, since each is left out in turn")
    selected: tuple[int, ...] = ()
    best_loss, penalty, left_out = np.inf, PENALTIES[-1], dict[str, tuple[float, float]]()
    while True:
        remaining = [candidate for candidate in range(len(CANDIDATES)) if candidate not in selected]
        trials = [((*selected, candidate), strength) for candidate in remaining for strength in PENALTIES]
        results = [_cross_validated(splits, *trial) for trial in trials]
        losses = [float(np.mean([loss for _, loss in result.values()])) for result in results]
        if min(losses, default=np.inf) >= best_loss:
            counts = {split.split: len(split.scores) for split in splits}
            return DirectionFit(_fitted_terms(splits, selected, penalty), penalty, counts, left_out)
        best = int(np.argmin(losses))
        best_loss, (selected, penalty), left_out = losses[best], trials[best], results[best]


def _cross_validated(
    splits: Sequence[EdgeScores], selected: Sequence[int], penalty: float
) -> dict[str, tuple[float, float]]:
    """Returns, for each split, (accuracy, log loss) on its edges of a fit on all other splits."""
    results = {}
    for left_out in splits:
        terms = _fitted_terms([split for split in splits if split is not left_out], selected, penalty)
        columns = zip(selected, terms, strict=True)
        log_odds = np.sum([term.of(left_out.scores[:, candidate]) for candidate, term in columns], axis=0)
        accuracy = float(np.mean(np.where(log_odds == 0, 0.5, log_odds > 0)))
        results[left_out.split] = accuracy, float(np.logaddexp(0, -log_odds).mean())
    return results


def _fitted_terms(splits: Sequence[EdgeScores], selected: Sequence[int], penalty: float) -> tuple[Term, ...]:
    """Returns the terms of the candidates ``selected`` (indices), fitted on ``splits``."""
    scores = np.concatenate([split.scores for split in splits])[:, selected]
    weights = np.concatenate([np.full(len(split.scores), 1 / len(split.scores)) for split in splits])
    scales = _scales(scores)
    inputs = np.tanh(scores / scales)
    # Each edge is given in both orders: (parent, child) is class 1, (child, parent) is class 0. So no intercept is needed.
    model = LogisticRegression(C=1 / penalty, fit_intercept=False, max_iter=10_000, tol=1e-10)
    labels = np.repeat([1, 0], len(inputs))
    model.fit(np.concatenate([inputs, -inputs]), labels, sample_weight=np.tile(weights, 2) / 2)
    rows = zip(selected, scales.tolist(), model.coef_[0].tolist(), strict=True)
    return tuple(Term(*CANDIDATES[candidate], round(scale, 6), round(weight, 4)) for candidate, scale, weight in rows)


def _scales(scores: Array) -> NDArray[np.float64]:
    """Returns the median absolute value of each column; 1 if that is 0."""
    medians = np.median(np.abs(scores), axis=0)
    return np.where(medians > 0, medians, 1.0)


def write(result: DirectionFit, path: Path) -> None:
    """Writes the fit to ``path`` in the format of ``learned.toml``, whole or not at all.

    Raises:
        MothrError: The file cannot be written.
    """
    value = {
        "fitted_on": list(result.edges),
        "edges": dict(result.edges),
        "penalty": result.penalty,
        "left_out": {
            split: {"accuracy": round(accuracy, 4), "log_loss": round(loss, 4)}
            for split, (accuracy, loss) in result.left_out.items()
        },
        "terms": [asdict(term) for term in result.terms],
    }
    write_text(path, f"# Made by `mothr fit-direction`; see learned.py for what it means.\n{tomli_w.dumps(value)}")
