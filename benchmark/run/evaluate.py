"""Runs a method on the weights of a data set, and scores what it answered."""

import re
import time
import warnings
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mothr.benchmark.data import dataset
from mothr.benchmark.errors import MothrError, MothrWarning, in_words
from mothr.benchmark.graph import NodeId
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.records import provenance
from mothr.benchmark.records.record import RunRecord, Setting, Status, kind_of_run
from mothr.benchmark.run.method import About, Method, about, needs
from mothr.benchmark.score import metrics
from mothr.benchmark.side_information import Need, SideInformation
from mothr.benchmark.storage import sha256_of
from mothr.benchmark.weights.model_set import ModelSet

ANSWER = "the method's answer"
"""What errors call it."""
SETTINGS: tuple[Setting, ...] = ("known-trees", "open")


@dataclass(frozen=True)
class RunOutcome:
    """What a method answered, and at what cost."""

    prediction: Prediction | None
    """None where it failed."""
    error: str | None
    """Why it failed."""
    seconds: float
    """Wall-clock time."""
    status: Status = "failed"
    """How it ended."""
    peak_bytes: int | None = None
    """Largest resident memory of its process, where it had one of its own."""
    isolation: Literal["sandbox", "process"] | None = None
    """How it was kept apart, see :class:`mothr.benchmark.records.record.RunRecord`."""


def predict(method: Method, models: ModelSet, seed: int = 0) -> Prediction:
    """Returns what ``method`` answers about ``models``, which it sees under ids drawn anew from ``seed``.

    Raises:
        MothrError: the answer is no legal Prediction, or does not name exactly the models.
    """
    rng = np.random.default_rng(seed)
    real = dict(zip(_draw_ids(len(models), rng), models.ids, strict=True))
    with in_names_of_the_user(real):
        return _asked(method, models.relabel({old: new for new, old in real.items()}), rng).relabel(real)


def answer(method: Method, models: ModelSet, seed: int) -> Prediction:
    """Returns what ``method`` answers about ``models``, under the ids that they have here.

    Raises:
        MothrError: the answer is no legal Prediction, or does not name exactly the models.
    """
    rng = np.random.default_rng(seed)
    _draw_ids(len(models), rng)  # the method's draws come after those of the ids, wherever it runs
    return _asked(method, models, rng)


def _asked(method: Method, models: ModelSet, rng: np.random.Generator) -> Prediction:
    given = method(models, rng)
    if not isinstance(given, Prediction):
        raise MothrError(
            f"the method returned a {type(given).__name__}; it must return a mothr.benchmark.run.method.Prediction"
        )
    return Prediction.from_json(given.of(models.ids, ANSWER).to_json(), ANSWER)


@contextmanager
def in_names_of_the_user(real: Mapping[NodeId, NodeId]) -> Iterator[None]:
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


def fresh_ids(models: ModelSet, seed: int) -> dict[NodeId, NodeId]:
    """Returns {id: the id under which a method sees the model}, drawn anew from ``seed``."""
    return dict(zip(models.ids, _draw_ids(len(models), np.random.default_rng(seed)), strict=True))


def _draw_ids(count: int, rng: np.random.Generator) -> list[NodeId]:
    """Returns ``count`` different ids of 12 hex digits."""
    found: dict[NodeId, None] = {}
    while len(found) < count:
        found[rng.bytes(6).hex()] = None
    return list(found)


def given_for(method: Method, folder: Path, truth: dataset.Truth, setting: Setting) -> SideInformation:
    """Returns what the harness tells ``method`` in ``setting``: the partition if known, and what it declares it needs."""
    return given_in(needs(method), folder, truth, setting)


def given_in(needed: Container[Need], folder: Path, truth: dataset.Truth, setting: Setting) -> SideInformation:
    """Returns what the harness tells a method that declares these needs."""
    return SideInformation(
        trees=truth.trees if setting == "known-trees" else None,
        tree_count=len(truth.graph.trees) if "tree_count" in needed else None,
        metadata=dataset.metadata(folder, truth.nodes) if "metadata" in needed else None,
        truth=truth.graph if "truth" in needed else None,
    )


def attempt(method: Method, models: ModelSet, seed: int) -> RunOutcome:
    """Runs :func:`predict` and returns what came of it; a method's failure is a result, not an error."""
    start = time.perf_counter()
    try:
        prediction, error = predict(method, models, seed), None
    except (Exception, SystemExit) as problem:  # a method is foreign code: whatever it raises is recorded in its row
        prediction, error = None, in_words(problem)
    return RunOutcome(prediction, error, time.perf_counter() - start, "ok" if prediction else "failed")


def run(
    method: Method,
    name: str,
    folder: Path,
    setting: Setting,
    seed: int = 0,
    *,
    models: ModelSet | None = None,
    truth: dataset.Truth | None = None,
) -> RunRecord:
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
    said = about(method, name)
    truth = dataset.open_truth(folder) if truth is None else truth
    models = dataset.open_models(folder) if models is None else models
    told = given_for(method, folder, truth, setting)
    return record(name, said, told, attempt(method, models.with_given(told), seed), folder, truth, setting, seed)


def record(
    name: str,
    said: About,
    told: SideInformation,
    outcome: RunOutcome,
    folder: Path,
    truth: dataset.Truth,
    setting: Setting,
    seed: int,
) -> RunRecord:
    """Returns the result record of a run that has ended, scored against ``truth``."""
    scored = score(outcome.prediction, truth) if outcome.prediction else Scores({}, ())
    answer = outcome.prediction.to_json() if outcome.prediction else {}
    return RunRecord(
        split=truth.split,
        split_version=truth.version,
        manifest_sha256=sha256_of(folder / dataset.MANIFEST),
        setting=setting,
        method=name,
        method_version=said.version,
        kind=kind_of_run(said.kind, told.names()),
        tuned_on=list(said.tuned_on),
        parameters=dict(said.parameters),
        seed=seed,
        given=told.names(),
        status=outcome.status,
        error=outcome.error,
        parents=answer.get("parents"),
        confidence=answer.get("confidence"),
        trees=answer.get("trees"),
        abstained=answer.get("abstained"),
        relations=answer.get("relations"),
        metrics=dict(scored.whole),
        per_tree=[dict(row) for row in scored.trees],
        seconds=round(outcome.seconds, 3),
        peak_bytes=outcome.peak_bytes,
        isolation=outcome.isolation,
        **provenance.environment(),
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
    true, prediction = truth.prediction, prediction.of(truth.nodes, "the prediction")
    return Scores(metrics.score(true, prediction), tuple(metrics.per_tree(true, prediction)))
