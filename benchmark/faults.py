"""What is wrong with a record, in words: the faults that pydantic finds in what a user's file says."""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from mothr.benchmark.errors import unknown_name

LONGEST = 80
"""Letters that are shown of a faulty value."""


def faults(error: ValidationError, kind: type[BaseModel]) -> Iterator[str]:
    """Yields in words each fault that was found in what should have been a ``kind``, with near names for unknown fields."""
    for fault in error.errors(include_url=False):
        *outer, last = fault["loc"] or ("",)
        where, value = ".".join(map(str, fault["loc"])), fault["input"]
        if fault["type"] == "extra_forbidden":
            yield f"{where}: {unknown_name('field', str(last), _fields_at(kind, outer))}"
        elif fault["type"] == "missing":
            yield f"field {where!r} is missing"
        else:
            said = not where or fault["type"] == "value_error" or isinstance(value, dict | list)
            text = fault["msg"].removeprefix("Value error, ")
            yield (f"{where}: " if where else "") + text + ("" if said else f" (given: {_short(value)})")


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= LONGEST else shown[:LONGEST] + "..."


def _fields_at(kind: type[BaseModel], place: list[int | str]) -> list[str]:
    """Returns the fields of the record at ``place``, where the value that tells kinds of records apart is a step of its own."""
    choices = [kind]
    for step in place:  # places in a list and keys of a table lead to the same records
        if len(choices) > 1:
            choices = [choice for choice in choices if step in _told_apart_by(choice)] or choices
        elif isinstance(step, str) and step in choices[0].model_fields:
            choices = _records(choices[0].model_fields[step].annotation)
    return [name for choice in choices for name in choice.model_fields]


def _told_apart_by(kind: type[BaseModel]) -> tuple[Any, ...]:
    return get_args(kind.model_fields["kind"].annotation) if "kind" in kind.model_fields else ()


def _records(hint: Any) -> list[type[BaseModel]]:
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return [hint]
    return [record for part in get_args(hint) for record in _records(part)]
