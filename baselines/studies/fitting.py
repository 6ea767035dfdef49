"""Fits the direction score ``learned`` on data sets with known truth, and says how well it does on those it was not fitted on."""

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
"""(direction, combination over tensors) of the scores that may have a part; all are cheap and none depends on a model's size."""
LAYERS = "body"
PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""What 1 / (2 variance of the weights' prior) is chosen from; a larger one keeps log-odds smaller."""


@dataclass(frozen=True)
class Edges:
    """The edges of one data set on which a score is fitted or tried."""

    split: str
    """Where they are from."""
    scores: Array
    """(edges, candidates) of (parent, child)."""


@dataclass(frozen=True)
class Fitted:
    """A fit."""

    terms: tuple[Term, ...]
    """The sum."""
    penalty: float
    """Chosen from :data:`PENALTIES` by leaving out one split at a time."""
    edges: Mapping[str, int]
    """Split -> how many edges it gave."""
    left_out: Mapping[str, tuple[float, float]]
    """Split -> share of its edges that a fit on the others directs right, and the mean negative log-likelihood in nats."""


def edges_of(folder: Path) -> Edges:
    """Returns the edges of the data set in ``folder`` between a model and the one it was trained from.

    Raises:
        MothrError: it cannot be opened, or has no such edge.
    """
    truth, models = open_truth(folder), open_models(folder)
    place = {node: at for at, node in enumerate(models.ids)}
    trained = {node: known.parents for node, known in truth.nodes.items() if known.relation in ("finetune", "adapter")}
    pairs = np.array(
        [(place[above[0]], place[node]) for node, above in trained.items() if len(above) == 1], dtype=np.intp
    )
    if not len(pairs):
        raise MothrError(
            f"{folder}: no model was trained from another, so there is no direction to learn from; choose another split"
        )
    layers = Layers.parse(LAYERS)
    columns = [pair_scores(models, direction, pairs, layers, how=how) for direction, how in CANDIDATES]
    return Edges(truth.split, np.stack(columns, axis=1))


def fit(found: Sequence[Edges]) -> Fitted:
    """Returns the fit on all of ``found``, each split weighted alike.

    Scores join the sum one by one, each time the one that most lowers the mean loss on the split that is left out, with the penalty
    that is then best; none joins that does not lower it.

    Raises:
        MothrError: fewer than two splits, so that none can be left out.
    """
    if len(found) < 2:
        raise MothrError(f"{len(found)} split given; at least two are needed, since each is left out in turn")
    chosen: tuple[int, ...] = ()
    best, penalty, left_out = np.inf, PENALTIES[-1], dict[str, tuple[float, float]]()
    while True:
        trials = [((*chosen, at), one) for at in range(len(CANDIDATES)) if at not in chosen for one in PENALTIES]
        tried = [
            {out.split: _tried(out, [other for other in found if other is not out], *trial) for out in found}
            for trial in trials
        ]
        losses = [float(np.mean([loss for _, loss in splits.values()])) for splits in tried]
        if min(losses, default=np.inf) >= best:
            return Fitted(
                _terms(found, chosen, penalty), penalty, {one.split: len(one.scores) for one in found}, left_out
            )
        at = int(np.argmin(losses))
        best, (chosen, penalty), left_out = losses[at], trials[at], tried[at]


def _tried(one: Edges, others: Sequence[Edges], chosen: Sequence[int], penalty: float) -> tuple[float, float]:
    """Returns how a fit on ``others`` does on ``one``, see :class:`Fitted`."""
    terms = _terms(others, chosen, penalty)
    odds = np.sum([term.of(one.scores[:, at]) for at, term in zip(chosen, terms, strict=True)], axis=0)
    return float(np.mean(np.where(odds == 0, 0.5, odds > 0))), float(np.logaddexp(0, -odds).mean())


def _terms(found: Sequence[Edges], chosen: Sequence[int], penalty: float) -> tuple[Term, ...]:
    scores = np.concatenate([one.scores for one in found])[:, chosen]
    shares = np.concatenate([np.full(len(one.scores), 1 / len(one.scores)) for one in found])
    scales = _scales(scores)
    inputs = np.tanh(scores / scales)
    # Each edge is given both ways round, so that no constant is to be fitted.
    model = LogisticRegression(C=1 / penalty, fit_intercept=False, max_iter=10_000, tol=1e-10)
    model.fit(np.concatenate([inputs, -inputs]), np.repeat([1, 0], len(inputs)), sample_weight=np.tile(shares, 2) / 2)
    rows = zip(chosen, scales.tolist(), model.coef_[0].tolist(), strict=True)
    return tuple(Term(*CANDIDATES[at], round(scale, 6), round(weight, 4)) for at, scale, weight in rows)


def _scales(scores: Array) -> NDArray[np.float64]:
    """Returns the median size of each column, 1 for one of zeros."""
    sizes = np.median(np.abs(scores), axis=0)
    return np.where(sizes > 0, sizes, 1.0)


def write(found: Fitted, path: Path) -> None:
    """Writes the fit to ``path``, whole or not at all."""
    value = {
        "fitted_on": list(found.edges),
        "edges": dict(found.edges),
        "penalty": found.penalty,
        "left_out": {
            split: {"accuracy": round(right, 4), "log_loss": round(loss, 4)}
            for split, (right, loss) in found.left_out.items()
        },
        "terms": [asdict(term) for term in found.terms],
    }
    write_text(path, f"# Made by `mothr fit-direction`; see learned.py for what it means.\n{tomli_w.dumps(value)}")
