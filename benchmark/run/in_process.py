"""Runs methods in this process: fast, without limits, and nothing is kept from the method."""

import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from mothr.benchmark.errors import MothrError, MothrWarning, describe_error
from mothr.benchmark.graph import NodeId
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.records.record import Status
from mothr.benchmark.run.execute import Source
from mothr.benchmark.run.method import About, Method, about
from mothr.benchmark.run.outcome import RunOutcome, RunRequest
from mothr.benchmark.run.registry import find_method
from mothr.benchmark.weights.engine import engine
from mothr.benchmark.weights.model_set import ModelSet
from mothr.benchmark.weights.streaming import device

PREDICTION = "the method's prediction"
"""How error messages name it."""


@dataclass
class InProcess:
    """The executor that runs methods in this process. Use it as a context for many calls of ``execute``."""

    workers: int | None = None
    """Processes that compute features, each with one thread; None keeps the resources that the caller has set."""
    memory: float = 2
    """GiB that computing features may take, in all processes together, if there are ``workers``."""
    models: ModelSet | None = None
    """The models that methods are given: all of the data set, opened already, or a part of them.

    None for all of them.
    """
    sees_code: bool = field(default=True, init=False)
    _stack: ExitStack = field(default_factory=ExitStack, init=False, repr=False)
    _depth: int = field(default=0, init=False, repr=False)

    def __enter__(self) -> Self:
        if self._depth == 0 and self.workers is not None:
            self._stack.enter_context(engine(self.workers, self.memory))
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._stack.close()

    @contextmanager
    def opened(self, source: Source) -> Iterator[Callable[[RunRequest], RunOutcome]]:
        """Gives the function that runs a request on ``source``."""

        def run(request: RunRequest) -> RunOutcome:
            method = find_method(request.method, request.settings)
            declared = about(method, request.method)
            return _outcome(method, declared, request, source)

        yield run


def _outcome(method: Method, declared: About, request: RunRequest, source: Source) -> RunOutcome:
    given = source.given(request.method, declared, request.setting)
    attempt = try_to_predict(method, source.models.with_given(given), request.seed)
    status: Status = "ok" if attempt.prediction else "failed"
    names = tuple(given.names())
    return RunOutcome(declared, names, attempt.prediction, attempt.error, attempt.seconds, status, device=device().type)


@dataclass(frozen=True, slots=True)
class Attempt:
    """The result of calling a method once."""

    prediction: Prediction | None
    """None if the call failed."""
    error: str | None
    """Why it failed."""
    seconds: float
    """Wall-clock time, in seconds."""


def try_to_predict(method: Method, models: ModelSet, seed: int) -> Attempt:
    """Calls :func:`predict`. An error of the method is a result, not an error of the caller."""
    start = time.perf_counter()
    try:
        prediction, error = predict(method, models, seed), None
    except (Exception, SystemExit) as problem:  # the code of a method may raise anything; its record says what
        prediction, error = None, describe_error(problem)
    return Attempt(prediction, error, time.perf_counter() - start)


def predict(method: Method, models: ModelSet, seed: int = 0) -> Prediction:
    """Returns the prediction of ``method`` for ``models``. The method sees other ids, which are drawn from ``seed``.

    Raises:
        MothrError: the method returns no Prediction, or one that does not name exactly the models.
    """
    rng = np.random.default_rng(seed)
    real = dict(zip(_draw_ids(len(models), rng), models.ids, strict=True))
    with in_ids_of_the_user(real):
        return _called(method, models.relabel({old: new for new, old in real.items()}), rng).relabel(real)


def predict_as_named(method: Method, models: ModelSet, seed: int) -> Prediction:
    """Returns the prediction of ``method`` for ``models``, which have their fresh ids already.

    Raises:
        MothrError: the method returns no Prediction, or one that does not name exactly the models.
    """
    rng = np.random.default_rng(seed)
    _draw_ids(len(models), rng)  # so that the method's draws are those of predict
    return _called(method, models, rng)


def _called(method: Method, models: ModelSet, rng: np.random.Generator) -> Prediction:
    prediction = method(models, rng)
    if not isinstance(prediction, Prediction):
        raise MothrError(f"the method returned a {type(prediction).__name__}; it must return a mothr.Prediction")
    return prediction.of(models.ids, PREDICTION)


@contextmanager
def in_ids_of_the_user(real: Mapping[NodeId, NodeId]) -> Iterator[None]:
    """Replaces the fresh ids by those of the data set in warnings and errors. Each warning is shown once.

    Args:
        real: id that the method sees -> id in the data set.
    """

    def renamed(text: str) -> str:
        return re.sub(r"\b[0-9a-f]{12}\b", lambda match: real.get(match[0], match[0]), text)

    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", MothrWarning)
            yield
    except MothrError as error:
        raise MothrError(renamed(str(error))) from error
    finally:
        distinct = {(renamed(str(warning.message)), warning.category): warning for warning in caught}
        for (text, category), warning in distinct.items():
            warnings.warn_explicit(text, category, warning.filename, warning.lineno)


def fresh_ids(models: ModelSet, seed: int) -> dict[NodeId, NodeId]:
    """Returns id in the data set -> the id that a method sees, drawn from ``seed``."""
    return dict(zip(models.ids, _draw_ids(len(models), np.random.default_rng(seed)), strict=True))


def _draw_ids(count: int, rng: np.random.Generator) -> list[NodeId]:
    """Returns ``count`` distinct ids of 12 hex digits."""
    ids: dict[NodeId, None] = {}
    while len(ids) < count:
        ids[rng.bytes(6).hex()] = None
    return list(ids)
