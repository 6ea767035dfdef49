"""Runs planned methods on a data set, each run in a process of its own, or all of them here."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import product
from pathlib import Path

from mothr.benchmark import dataset, evaluate, isolation, results
from mothr.benchmark.engine import engine
from mothr.benchmark.errors import MothrError
from mothr.benchmark.method import find_method, needs
from mothr.benchmark.plan import Planned
from mothr.benchmark.weights import ModelSet


def count(planned: Sequence[Planned], settings: Sequence[results.Setting]) -> int:
    """Returns how many runs :func:`run` makes."""
    return sum(one.seeds for one in planned) * len(settings)


def settings_for(setting: results.Setting | None, *, hidden: bool) -> tuple[results.Setting, ...]:
    """Returns the settings that are asked for: all where none is named, the open one alone where the truth is hidden.

    Raises:
        MothrError: trees are to be told that are hidden; they would be public with the results.
    """
    if hidden and setting == "known-trees":
        raise MothrError("--setting known-trees: its answers tell which models share a tree, which is hidden; run 'open' alone")
    if hidden:
        return ("open",)
    return (setting,) if setting else evaluate.SETTINGS


def run(
    planned: Sequence[Planned],
    settings: Sequence[results.Setting],
    folder: Path,
    truth: dataset.Truth,
    limits: isolation.Limits,
    *,
    hidden: bool = False,
    in_process: bool = False,
) -> Iterator[tuple[Planned, results.Result]]:
    """Returns each run with its record, made as they are asked for: seed by seed, each method in each setting.

    Args:
        planned: which methods, with which fields and how many seeds.
        settings: what they are told.
        folder: the data set.
        truth: what they are scored against.
        limits: of each run.
        hidden: whether the truth is not to be told with the results.
        in_process: whether methods run here, with no limits and nothing kept apart.

    Raises:
        MothrError: a method cannot be found or set up so; an oracle is to answer with a truth that is hidden; a model cannot be read.
    """
    for one in planned:  # before anything runs; foreign code is not imported here
        if (in_process or isolation.is_own(one.method)) and "truth" in needs(find_method(one.method, one.settings)) and hidden:
            raise _gives_away(one)
    return _each(planned, settings, folder, truth, dataset.open_models(folder), limits, hidden, in_process)


def _each(
    planned: Sequence[Planned],
    settings: Sequence[results.Setting],
    folder: Path,
    truth: dataset.Truth,
    models: ModelSet,
    limits: isolation.Limits,
    hidden: bool,
    in_process: bool,
) -> Iterator[tuple[Planned, results.Result]]:
    with isolation.Runner(limits) as runner, engine(limits.workers, limits.budget) if in_process else nullcontext():
        for seed in range(max(one.seeds for one in planned)):
            with nullcontext() if in_process else isolation.offered(folder, models, seed) as given:
                for one, setting in product([one for one in planned if seed < one.seeds], settings):
                    if given is None:
                        method = find_method(one.method, one.settings)
                        record = evaluate.run(method, one.method, folder, setting, seed, models=models, truth=truth)
                    else:
                        record = runner.run(one.method, one.settings, given, setting, truth)
                    if hidden and "truth" in record.told:
                        raise _gives_away(one)
                    yield one, record


def _gives_away(one: Planned) -> MothrError:
    return MothrError(f"method {one.method!r} is an oracle: its answer is the truth, and the labels are hidden; leave it out")
