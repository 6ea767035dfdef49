"""The plan of a board: which methods run on which splits, with which fields, and how many seeds.

A plan is a TOML file. Each ``[[rows]]`` describes methods that are run alike::

    [[rows]]
    methods = ["mother-v2"]
    splits = ["*-lora-*", "!sd-*"]                  # shell patterns, see selects(); all splits if left out
    set = { direction = ["kurtosis", "norm"] }      # a run for each value; for each combination of several fields
    seeds = 1
"""

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mothr.benchmark.errors import MothrError, unknown_name
from mothr.benchmark.faults import faults
from mothr.benchmark.records.record import Configuration, RunRecord, Setting
from mothr.benchmark.run.method import about
from mothr.benchmark.run.outcome import RunRequest
from mothr.benchmark.run.registry import find_method, is_own, method_names

NAME = "plan.toml"
"""Name of the plan in a folder of results."""
SETTINGS: tuple[Setting, ...] = get_args(Setting)
"""Every setting."""
Text = Annotated[str, Field(min_length=1, max_length=200)]


@dataclass(frozen=True, slots=True)
class Planned:
    """One method with its fields, as a plan has it."""

    method: str
    """A registered name or ``module:attribute``."""
    settings: dict[str, str] = field(default_factory=dict)
    """Dotted path of a field -> value as text, as ``--set`` takes them."""
    seeds: int = 1
    """Number of runs. Each draws new ids and has its own random generator."""

    def __str__(self) -> str:
        return f"{self.method} {self.fields}".strip()

    @property
    def fields(self) -> str:
        """The settings as they are written behind ``--set``."""
        return RunRequest(self.method, self.settings).fields

    def configuration(self) -> Configuration:
        """Returns method, version and parameters, which identify its rows on the board. Imports the method.

        Raises:
            MothrError: the method or a field does not exist.
        """
        declared = about(find_method(self.method, self.settings), self.method)
        return self.method, declared.version, json.dumps(declared.parameters, sort_keys=True)


def selects(patterns: Sequence[str], split: str) -> bool:
    """Returns whether shell patterns select the split: the last one that fits decides, and "!" before it takes the split out again."""
    fitting = [pattern for pattern in patterns if fnmatchcase(split, pattern.removeprefix("!"))]
    return bool(fitting) and not fitting[-1].startswith("!")


class _Rows(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    methods: Annotated[list[Text], Field(min_length=1)]
    splits: Annotated[list[Text], Field(min_length=1)] = ["*"]
    set: dict[Text, Annotated[list[Text], Field(min_length=1)]] = {}
    seeds: Annotated[int, Field(ge=1)] = 1

    def planned(self) -> list[Planned]:
        choices = [dict(zip(self.set, values, strict=True)) for values in product(*self.set.values())]
        return [Planned(method, choice, self.seeds) for method in self.methods for choice in choices]


class Plan(BaseModel):
    """A plan: its rows, in the order of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    rows: Annotated[list[_Rows], Field(min_length=1)]

    def on(self, split: str) -> list[Planned]:
        """Returns the methods that are planned for the split of that name."""
        return [planned for row in self.rows if selects(row.splits, split) for planned in row.planned()]

    def names(self) -> dict[Configuration, str]:
        """Returns the name of every planned method with its fields, on whatever split. Imports the methods.

        Raises:
            MothrError: a method or a field does not exist.
        """
        return {planned.configuration(): str(planned) for row in self.rows for planned in row.planned()}


def read(path: Path) -> Plan:
    """Returns the plan in ``path``.

    Raises:
        MothrError: the file cannot be read, or is not a plan.
    """
    try:
        values: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MothrError(f"{path}: cannot read this plan ({error})") from None
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, a number of too many digits
        raise MothrError(f"{path}: not valid TOML: {error}") from None
    try:
        plan = Plan.model_validate(values)
    except ValidationError as error:
        raise MothrError(f"{path}: {'; '.join(faults(error, Plan))}") from None
    for number, row in enumerate(plan.rows):
        for name in row.methods:
            _check_name(name, f"{path}: rows.{number}: ")
    return plan


def requested(text: str, settings: Mapping[str, str] | None = None, seeds: int | None = None) -> Plan:
    """Returns the plan that one word of the command line stands for.

    Args:
        text: the path of a plan, ``all``, or names of methods separated by commas.
        settings: dotted path of a field -> value as text, for the methods that are named.
        seeds: number of runs of each; 1 if left out.

    Raises:
        MothrError: an unknown method, a faulty plan, or ``settings`` or ``seeds`` beside the path of a plan.
    """
    if text.endswith(".toml"):
        if settings or seeds:
            option = "--set" if settings else "--seeds"
            raise MothrError(f"{text}: a plan has its own fields and seeds; leave out {option}, or edit the plan")
        return read(Path(text))
    names = method_names() if text == "all" else [name for name in text.split(",") if name]
    if not names:
        raise MothrError(
            f"no method in {text!r}; name one of 'mothr list methods', several with commas, 'all', or a plan (.toml)"
        )
    for name in names:
        _check_name(name)
    values = {key: [value] for key, value in (settings or {}).items()}
    return Plan(rows=[_Rows(methods=names, set=values, seeds=seeds or 1)])


def _check_name(name: str, where: str = "") -> None:
    if ":" not in name and name not in method_names():
        raise MothrError(f"{where}{unknown_name('method', name, method_names())}")


def of_results(results: Path) -> Plan | None:
    """Returns the plan of a folder of results; None if it has none.

    Raises:
        MothrError: as :func:`read`.
    """
    path = results / NAME
    return read(path) if path.is_file() else None


def requests(planned: Sequence[Planned], settings: Sequence[Setting]) -> list[RunRequest]:
    """Returns the planned runs, seed by seed: each method in each setting."""
    seeds = range(max((item.seeds for item in planned), default=0))
    return [
        RunRequest(item.method, item.settings, setting, seed)
        for seed in seeds
        for item in planned
        if seed < item.seeds
        for setting in settings
    ]


def missing(requests: Iterable[RunRequest], records: Iterable[RunRecord]) -> list[RunRequest]:
    """Returns the ``requests`` that have no record with the method's present version.

    Every request of another package's method is returned. Its version is known to its code alone, which is not
    imported here.

    Raises:
        MothrError: a method or a field does not exist.
    """
    done = {(record.configuration, record.setting, record.seed) for record in records if record.status != "skipped"}

    def is_done(request: RunRequest) -> bool:
        configuration = Planned(request.method, dict(request.settings)).configuration()
        return (configuration, request.setting, request.seed) in done

    return [request for request in requests if not is_own(request.method) or not is_done(request)]


def settings_for(setting: Setting | None, *, hidden: bool) -> tuple[Setting, ...]:
    """Returns the settings to run: ``setting``, or all if it is None. Only ``open`` if the truth is hidden.

    Raises:
        MothrError: ``setting`` is known-trees and the truth is hidden: the published results would show the trees.
    """
    if hidden and setting == "known-trees":
        raise MothrError(
            "--setting known-trees: the predictions show which models share a tree, and the labels are hidden; run 'open' alone"
        )
    if hidden:
        return ("open",)
    return (setting,) if setting else SETTINGS
