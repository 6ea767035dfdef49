"""Readable messages for the faults that pydantic finds in the file of a user."""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from mothr.benchmark.errors import unknown_name

MAX_SHOWN = 80
"""Number of characters of a faulty value that a message shows."""


def faults(error: ValidationError, kind: type[BaseModel]) -> Iterator[str]:
    """Yields one message for each fault of a validation. For an unknown field it gives the most similar field names.

    Args:
        error: The error of pydantic.
        kind: The type of record that was validated.
    """
    for fault in error.errors(include_url=False):
        *outer, last = fault["loc"] or ("",)
        where, value = ".".join(map(str, fault["loc"])), fault["input"]
        if fault["type"] == "extra_forbidden":
            yield f"{where}: {unknown_name('field', str(last), _fields_at(kind, outer))}"
        elif fault["type"] == "missing":
            yield f"field {where!r} is missing"
        else:
            # The messages of validators of ours name the value. Tables and lists are too long to show.
            show_value = where and fault["type"] != "value_error" and not isinstance(value, dict | list)
            text = fault["msg"].removeprefix("Value error, ")
            yield (f"{where}: " if where else "") + text + (f" (given: {_shortened(value)})" if show_value else "")


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."


def _fields_at(kind: type[BaseModel], location: list[int | str]) -> list[str]:
    """Returns the field names of the record at ``location`` in a record of type ``kind``.

    In a union of record types, the value of the field ``kind`` is a step of the location. It selects the record
    type.
    """
    choices = [kind]
    for step in location:  # an index of a list and a key of a table do not change the record type
        if len(choices) > 1:
            choices = [choice for choice in choices if step in _kinds(choice)] or choices
        elif isinstance(step, str) and step in choices[0].model_fields:
            choices = _record_types(choices[0].model_fields[step].annotation)
    return [name for choice in choices for name in choice.model_fields]


def _kinds(kind: type[BaseModel]) -> tuple[Any, ...]:
    """Returns the allowed values of the field ``kind`` of a record type."""
    return get_args(kind.model_fields["kind"].annotation) if "kind" in kind.model_fields else ()


def _record_types(hint: Any) -> list[type[BaseModel]]:
    """Returns the record types in a type hint."""
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return [hint]
    return [record for part in get_args(hint) for record in _record_types(part)]
