"""What a board is to hold: which methods run on which splits, with which fields and how many seeds, as a file says it.

A plan is TOML, a ``[[rows]]`` for methods that are run alike::

    [[rows]]
    methods = ["mother-v2"]
    splits = ["*-lora-*"]                           # shell patterns; all splits if left out
    set = { direction = ["kurtosis", "norm"] }      # a run for each value; of several fields, for each combination
    seeds = 1
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mothr.benchmark.errors import MothrError, unknown_name
from mothr.benchmark.faults import faults
from mothr.benchmark.records.record import Configuration
from mothr.benchmark.run.method import about
from mothr.benchmark.run.registry import find_method, method_names

NAME = "plan.toml"
"""What the plan of a folder of results is called."""
Text = Annotated[str, Field(min_length=1, max_length=200)]


@dataclass(frozen=True)
class Planned:
    """One method with its fields, as a board is to hold it."""

    method: str
    """A registered name or ``module:attribute``."""
    settings: dict[str, str] = field(default_factory=dict)
    """Field -> value as text, as ``--set`` takes them."""
    seeds: int = 1
    """How often it runs, each time with ids and generator drawn anew."""

    def __str__(self) -> str:
        return f"{self.method} {self.fields}".strip()

    @property
    def fields(self) -> str:
        """Its settings, as they are written behind ``--set``."""
        return " ".join(f"{name}={value}" for name, value in self.settings.items())

    def configuration(self) -> Configuration:
        """Returns what tells its rows on the board from others'. It imports the method.

        Raises:
            MothrError: the method or a field cannot be found.
        """
        said = about(find_method(self.method, self.settings), self.method)
        return self.method, said.version, json.dumps(said.parameters, sort_keys=True)


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
    """The rows of a plan, in its order."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    rows: Annotated[list[_Rows], Field(min_length=1)]

    def on(self, split: str) -> list[Planned]:
        """Returns what is to run on the split of that name."""
        return [
            one
            for row in self.rows
            if any(fnmatchcase(split, pattern) for pattern in row.splits)
            for one in row.planned()
        ]

    def names(self) -> dict[Configuration, str]:
        """Returns what each method with its fields is called, whatever split it runs on. It imports the methods.

        Raises:
            MothrError: a method or a field cannot be found.
        """
        return {one.configuration(): str(one) for row in self.rows for one in row.planned()}


def read(path: Path) -> Plan:
    """Returns the plan in ``path``.

    Raises:
        MothrError: it cannot be read, or is faulty.
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
            _known(name, f"{path}: rows.{number}: ")
    return plan


def asked(text: str, settings: Mapping[str, str] | None = None, seeds: int | None = None) -> Plan:
    """Returns the plan that is asked for in one word: its file, ``all``, or names of methods with commas between them.

    Args:
        text: the word.
        settings: field -> value for the methods named.
        seeds: how often each runs; once if left out.

    Raises:
        MothrError: as :func:`read`; an unknown method; or ``settings`` or ``seeds`` beside a file, which has its own.
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
        _known(name)
    return Plan(
        rows=[_Rows(methods=names, set={key: [value] for key, value in (settings or {}).items()}, seeds=seeds or 1)]
    )


def _known(name: str, where: str = "") -> None:
    if ":" not in name and name not in method_names():
        raise MothrError(f"{where}{unknown_name('method', name, method_names())}")


def beside(results: Path) -> Plan | None:
    """Returns the plan of a folder of results; None where it has none.

    Raises:
        MothrError: as :func:`read`.
    """
    path = results / NAME
    return read(path) if path.is_file() else None
