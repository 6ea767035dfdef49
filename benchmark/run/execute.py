"""Runs planned methods on a data set, each run in a process of its own, or all of them here."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from mothr.benchmark.data import dataset
from mothr.benchmark.errors import MothrError
from mothr.benchmark.records.record import RunRecord, Setting
from mothr.benchmark.run import evaluate, isolation
from mothr.benchmark.run.method import needs
from mothr.benchmark.run.plan import Planned
from mothr.benchmark.run.registry import find_method, is_own
from mothr.benchmark.weights.engine import engine
from mothr.benchmark.weights.model_set import ModelSet


@dataclass(frozen=True)
class RunRequest:
    """One run that is to be made."""

    planned: Planned
    """The method with its fields."""
    setting: Setting
    """What it is told."""
    seed: int
    """The number of the run, from 0."""


def listed(planned: Sequence[Planned], settings: Sequence[Setting]) -> list[RunRequest]:
    """Returns the runs that are planned, seed by seed, each method in each setting."""
    seeds = range(max((one.seeds for one in planned), default=0))
    return [
        RunRequest(one, setting, seed) for seed in seeds for one in planned if seed < one.seeds for setting in settings
    ]


def lacking(runs: Iterable[RunRequest], records: Iterable[RunRecord]) -> list[RunRequest]:
    """Returns the ``runs`` of which there is no record with the method's present version.

    Of foreign methods all: their code, which knows their version, is not run here.

    Raises:
        MothrError: a method or a field cannot be found.
    """
    done = {(one.configuration, one.setting, one.seed) for one in records if one.status != "skipped"}
    return [
        one
        for one in runs
        if not is_own(one.planned.method) or (one.planned.configuration(), one.setting, one.seed) not in done
    ]


def settings_for(setting: Setting | None, *, hidden: bool) -> tuple[Setting, ...]:
    """Returns the settings that are asked for: all where none is named, the open one alone where the truth is hidden.

    Raises:
        MothrError: trees are to be told that are hidden; they would be public with the results.
    """
    if hidden and setting == "known-trees":
        raise MothrError(
            "--setting known-trees: its answers tell which models share a tree, which is hidden; run 'open' alone"
        )
    if hidden:
        return ("open",)
    return (setting,) if setting else evaluate.SETTINGS


def run(
    runs: Sequence[RunRequest],
    folder: Path,
    truth: dataset.Truth,
    limits: isolation.Limits,
    *,
    hidden: bool = False,
    in_process: bool = False,
) -> Iterator[tuple[RunRequest, RunRecord]]:
    """Returns each run with its record, made as they are asked for.

    Args:
        runs: what is to be made, in order of seeds.
        folder: the data set.
        truth: what they are scored against.
        limits: of each run.
        hidden: whether the truth is not to be told with the results.
        in_process: whether methods run here, with no limits and nothing kept apart.

    Raises:
        MothrError: a method cannot be found or set up so; an oracle is to answer with a truth that is hidden; a model cannot be read.
    """
    for one in runs:  # before anything runs; foreign code is not imported here
        planned = one.planned
        if (
            (in_process or is_own(planned.method))
            and "truth" in needs(find_method(planned.method, planned.settings))
            and hidden
        ):
            raise _gives_away(planned)
    return _each(runs, folder, truth, dataset.open_models(folder), limits, hidden, in_process)


def _each(
    runs: Sequence[RunRequest],
    folder: Path,
    truth: dataset.Truth,
    models: ModelSet,
    limits: isolation.Limits,
    hidden: bool,
    in_process: bool,
) -> Iterator[tuple[RunRequest, RunRecord]]:
    with isolation.Runner(limits) as runner, engine(limits.workers, limits.budget) if in_process else nullcontext():
        for seed, group in groupby(runs, key=lambda one: one.seed):
            with nullcontext() if in_process else isolation.offered(folder, models, seed) as given:
                for one in group:
                    name, fields = one.planned.method, one.planned.settings
                    if given is None:
                        record = evaluate.run(
                            find_method(name, fields), name, folder, one.setting, seed, models=models, truth=truth
                        )
                    else:
                        record = runner.run(name, fields, given, one.setting, truth)
                    if hidden and "truth" in record.given:
                        raise _gives_away(one.planned)
                    yield one, record


def _gives_away(one: Planned) -> MothrError:
    return MothrError(
        f"method {one.method!r} is an oracle: its answer is the truth, and the labels are hidden; leave it out"
    )
