"""Settings of a method as text: field -> value, as ``--set`` takes them. And the schema of a method's fields.

A field of a group is named by a dotted path: ``inheritance.min_tail_coefficient``.
"""

import ast
import inspect
import json
import math
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any, get_type_hints

from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

from mothr.benchmark.errors import MothrError, unknown_name
from mothr.benchmark.run.method import Method, parameters


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a method."""

    name: str
    """Its dotted path."""
    type: str
    """Its type, as Python writes it."""
    default: Any
    """Its value if nothing is set; a JSON value."""
    description: str
    """The docstring below it in the source of its class; empty where there is none."""


def fields_of(method: Method) -> list[Field]:
    """Returns the fields of ``method``, those of groups included; empty for a callable that is no dataclass."""
    return [
        Field(path, _type_text(hint), _json_value(value), _docstrings(owner.__class__).get(path.rpartition(".")[2], ""))
        for path, (owner, hint, value) in _leaves(method).items()
    ]


def with_settings(method: Method, name: str, settings: Mapping[str, str]) -> Method:
    """Returns ``method`` with other field values.

    Args:
        method: the method.
        name: its name, for errors.
        settings: dotted path of a field -> value as text. The text is converted to the type of the field. ``none``
            is None where
            the type allows it. A sequence is separated by commas, or is a JSON list.

    Raises:
        MothrError: an unknown or renamed field, or a value that does not fit.
    """
    if not settings:
        return method
    if not _is_group(method):
        raise MothrError(f"method {name!r} has no fields to set; only a dataclass has fields that --set can change")
    tree: dict[str, Any] = {}
    for path, text in settings.items():
        value = _parsed(method, name, path, text)
        *groups, last = path.split(".")
        level = tree
        for group in groups:
            level = level.setdefault(group, {})
        level[last] = value
    try:
        changed: Method = _replaced(method, tree)
    except (TypeError, ValueError) as error:
        raise MothrError(f"method {name!r}: {error}") from error
    return changed


def settings_of(method: Method, default: Method, name: str) -> dict[str, str]:
    """Returns the settings that turn ``default`` into ``method``: the reverse of :func:`with_settings`.

    Args:
        method: the method to express as text.
        default: the method that is registered as ``name``.
        name: the registered name.

    Raises:
        MothrError: no settings make this method of ``default``.
    """
    if type(method) is not type(default):
        raise MothrError(f"a {type(method).__name__} is no {name!r} with other field values; register it by a name")
    before = _leaves(default)
    settings = {
        path: as_text(value)
        for path, (_, _, value) in _leaves(method).items()
        if path not in before or not _same(value, before[path][2])
    }
    if not _same(parameters(with_settings(default, name, settings)), parameters(method)):
        written = " ".join(f"{path}={text}" for path, text in settings.items())
        raise MothrError(f"method {name!r}: --set {written} gives other values than the method has; use plain values")
    return settings


def _is_group(value: object) -> bool:
    return is_dataclass(value) and not isinstance(value, type)


def _leaves(group: Any, prefix: str = "") -> dict[str, tuple[Any, Any, Any]]:
    """Returns dotted path -> (dataclass of the field, its type, its value) of every field that is no group."""
    if not _is_group(group):
        return {}
    leaves: dict[str, tuple[Any, Any, Any]] = {}
    for item in fields(group):
        if not item.init:
            continue
        value = getattr(group, item.name)
        if _is_group(value):
            leaves |= _leaves(value, f"{prefix}{item.name}.")
        else:
            leaves[prefix + item.name] = group, _hints(group.__class__)[item.name], value
    return leaves


def _parsed(method: Method, name: str, path: str, text: str) -> Any:
    """Returns ``text`` as a value of the field at ``path``."""
    where = f"--set {path}={text}"
    renamed: Mapping[str, str] = getattr(method, "renamed", {})
    if path in renamed:
        raise MothrError(f"{where}: the field {path!r} of {name} is now {renamed[path]!r}; set {renamed[path]}={text}")
    leaves = _leaves(method)
    if path in leaves:
        return _convert(text, leaves[path][1], where)
    group: Any = method
    done: list[str] = []
    for step in path.split("."):
        known = [item.name for item in fields(group) if item.init]
        if step not in known:
            inner = [leaf for leaf in leaves if leaf.rpartition(".")[2] == step]
            if not done and inner:
                raise MothrError(f"unknown field of {name} {step!r}; did you mean {' or '.join(inner)}?")
            raise unknown_name(f"field of {'.'.join([name, *done])}", step, known)
        group = getattr(group, step)
        done.append(step)
        if not _is_group(group):
            raise MothrError(
                f"{where}: {'.'.join(done)!r} of {name} is one value and has no fields; set {'.'.join(done)}=VALUE"
            )
    inside = [leaf for leaf in leaves if leaf.startswith(f"{path}.")]
    raise MothrError(f"{where}: {path!r} of {name} is a group of fields; set one of them: {', '.join(inside)}")


def _replaced(group: Any, tree: Mapping[str, Any]) -> Any:
    """Returns ``group`` with the values in ``tree``, which has a mapping for each group inside."""
    values = {}
    for name, value in tree.items():
        inner = getattr(group, name)
        values[name] = _replaced(inner, value) if _is_group(inner) else value
    return replace(group, **values)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


@cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint)


def _convert(text: str, hint: Any, where: str) -> Any:
    """Returns ``text`` as a value of type ``hint``."""
    try:
        adapter = _adapter(hint)
    except PydanticSchemaGenerationError as error:
        raise MothrError(f"{where}: a field of type {_type_text(hint)} cannot be set from text") from error
    for value in _readings(text):
        with suppress(ValidationError):
            converted = adapter.validate_strings(value) if isinstance(value, str) else adapter.validate_python(value)
            if isinstance(converted, float) and not math.isfinite(converted):
                raise MothrError(f"{where}: the value must be finite, so that it can be recorded")
            return converted
    raise MothrError(f"{where}: the value does not fit {_type_text(hint)}")


def _readings(text: str) -> Iterator[Any]:
    """Yields the possible values of ``text``: None, the text itself, a JSON list, a list with commas."""
    if text.lower() == "none":
        yield None
    yield text
    if text.startswith("["):
        with suppress(ValueError, RecursionError):
            yield json.loads(text)
    if text.lower() != "none":
        yield text.split(",")


def as_text(value: Any) -> str:
    """Returns ``value`` as text that :func:`_convert` turns into the same value.

    Floats are written with all their digits.
    """
    if value is None:
        return "none"
    if isinstance(value, str):
        return value
    return json.dumps(value)


def _same(first: Any, second: Any) -> bool:
    """Returns whether two values are equal and of the same types: 1, 1.0 and True differ; a tuple equals a list."""
    try:
        return json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    except (TypeError, ValueError):
        return False


def _json_value(value: Any) -> Any:
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        return str(value)


def _type_text(hint: Any) -> str:
    return hint.__name__ if type(hint) is type else str(hint).replace("typing.", "")


@cache
def _docstrings(group: Any) -> dict[str, str]:
    """Returns field -> the docstring below it, for a dataclass and its bases. Fields without a docstring are absent."""
    docstrings: dict[str, str] = {}
    for base in reversed(group.__mro__):
        try:
            [definition] = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        except (OSError, TypeError, SyntaxError):  # built in, made at run time, or its file is gone
            continue
        for item, below in pairwise(getattr(definition, "body", [])):
            match item, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    docstrings[name] = " ".join(text.split())
    return docstrings
