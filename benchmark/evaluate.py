"""Runs a method on the weights of a data set, and scores what it answered."""

import re
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mothr.benchmark import dataset, metrics, results
from mothr.benchmark.errors import MothrError, in_words
from mothr.benchmark.features import MothrWarning
from mothr.benchmark.graph import NodeId
from mothr.benchmark.method import Method, Prediction, Told, needs, parameters
from mothr.benchmark.storage import canonical_sha256, sha256_of
from mothr.benchmark.weights import ModelSet

Setting = Literal["known-trees", "open"]
SETTINGS: tuple[Setting, ...] = ("known-trees", "open")


@dataclass(frozen=True)
class Run:
    """What a method answered, and at what cost."""

    prediction: Prediction | None
    """None where it failed."""
    error: str | None
    """Why it failed."""
    seconds: float
    """Wall-clock time."""


def predict(method: Method, models: ModelSet, seed: int = 0) -> Prediction:
    """Returns what ``method`` answers about ``models``, which it sees under ids drawn anew from ``seed``.

    Raises:
        MothrError: the answer is no legal Prediction, or does not name exactly the models.
    """
    rng = np.random.default_rng(seed)
    fresh = _fresh_ids(len(models), rng)
    hidden = dict(zip(models.ids, fresh, strict=True))
    real = {new: old for old, new in hidden.items()}
    with _in_names_of_the_user(real):
        answer = method(models.relabel(hidden), rng)
        if not isinstance(answer, Prediction):
            raise MothrError(f"the method returned a {type(answer).__name__}; it must return a mothr.benchmark.method.Prediction")
        for what, ids in (("leaves out", set(fresh) - set(answer.graph.nodes)), ("adds", set(answer.graph.nodes) - set(fresh))):
            if ids:
                raise MothrError(f"the method's answer {what} {len(ids)} models; it must name exactly the {len(models)} it was given")
        return Prediction.from_json(answer.to_json(), "the method's answer").relabel(real)


@contextmanager
def _in_names_of_the_user(real: Mapping[NodeId, NodeId]) -> Iterator[None]:
    """Lets warnings (each once) and errors call the models as the user does, not by the ids that the method sees."""

    def renamed(text: str) -> str:
        return re.sub(r"\b[0-9a-f]{12}\b", lambda found: real.get(found[0], found[0]), text)

    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", MothrWarning)
            yield
    except MothrError as error:
        raise MothrError(renamed(str(error))) from error
    finally:
        for (text, category), one in {(renamed(str(one.message)), one.category): one for one in caught}.items():
            warnings.warn_explicit(text, category, one.filename, one.lineno)


def _fresh_ids(count: int, rng: np.random.Generator) -> list[NodeId]:
    """Returns ``count`` different ids of 12 hex digits."""
    found: dict[NodeId, None] = {}
    while len(found) < count:
        found[rng.bytes(6).hex()] = None
    return list(found)


def told_for(method: Method, folder: Path, truth: dataset.Truth, setting: Setting) -> Told:
    """Returns what the harness tells ``method`` in ``setting``: the partition if known, and what it declares it needs."""
    needed = needs(method)
    return Told(
        trees=truth.trees if setting == "known-trees" else None,
        tree_count=len(truth.graph.trees) if "tree_count" in needed else None,
        metadata=dataset.metadata(folder, truth.nodes) if "metadata" in needed else None,
        truth=truth.graph if "truth" in needed else None,
    )


def attempt(method: Method, models: ModelSet, seed: int) -> Run:
    """Runs :func:`predict` and returns what came of it; a method's failure is a result, not an error."""
    start = time.perf_counter()
    try:
        prediction, error = predict(method, models, seed), None
    except (Exception, SystemExit) as problem:  # a method is foreign code: whatever it raises is recorded in its row
        prediction, error = None, in_words(problem)
    return Run(prediction, error, time.perf_counter() - start)


def run(
    method: Method,
    name: str,
    folder: Path,
    setting: Setting,
    seed: int = 0,
    *,
    models: ModelSet | None = None,
    truth: dataset.Truth | None = None,
) -> results.Result:
    """Returns the result record of one method on one data set with known truth.

    Args:
        method: what to run.
        name: what to call it in the record.
        folder: the data set.
        setting: what the method is told.
        seed: seeds the method's generator and the ids that it sees.
        models: the data set's models where they are open already.
        truth: its truth where that is open already.

    Raises:
        MothrError: the data set cannot be opened or has no truth, or the method's fields cannot be recorded.
    """
    try:
        canonical_sha256(parameters(method))
    except (TypeError, ValueError) as error:
        raise MothrError(f"method {name!r}: its fields cannot be recorded as JSON ({error}); use numbers, text, lists or None") from error
    truth = dataset.open_truth(folder) if truth is None else truth
    models = dataset.open_models(folder) if models is None else models
    told = told_for(method, folder, truth, setting)
    outcome = attempt(method, models.with_told(told), seed)
    scored = score(outcome.prediction, truth) if outcome.prediction else Scores({}, ())
    answer = outcome.prediction.to_json() if outcome.prediction else {}
    return results.Result(
        split=truth.split, split_version=truth.version, manifest_sha256=sha256_of(folder / dataset.MANIFEST), setting=setting,
        method=name, method_version=str(getattr(method, "version", "0")),
        tuned_on=list(getattr(method, "tuned_on", ())), parameters=parameters(method), seed=seed,
        told=told.names(), status="ok" if outcome.prediction else "failed", error=outcome.error,
        parents=answer.get("parents"), confidence=answer.get("confidence"), trees=answer.get("trees"), abstained=answer.get("abstained"),
        relations=answer.get("relations"),
        metrics=dict(scored.whole), per_tree=[dict(row) for row in scored.trees], seconds=round(outcome.seconds, 3),
        **results.environment(),
    )


@dataclass(frozen=True)
class Scores:
    """The metrics of one prediction."""

    whole: Mapping[str, float | None]
    """Over the whole Model Graph."""
    trees: tuple[Mapping[str, float | None], ...]
    """For each true Model Tree."""


def score(prediction: Prediction, truth: dataset.Truth) -> Scores:
    """Returns every metric of ``prediction`` against ``truth``.

    Raises:
        MothrError: the prediction leaves models out or names unknown ones.
    """
    known, named = set(truth.nodes), set(prediction.graph.nodes)
    for what, ids in (("leaves out", known - named), ("names the unknown", named - known)):
        if ids:
            raise MothrError(f"the prediction {what} model {min(ids)!r}; it must name each of the {len(known)} models once")
    return Scores(metrics.score(truth.graph, prediction.graph), tuple(metrics.per_tree(truth.graph, prediction.graph)))

