"""Methods by name: the entry points ``mothr.methods``, and ``module:attribute`` of anything that can be imported."""

import importlib
import inspect
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from mothr.benchmark.errors import MothrError, describe_error, unknown_name
from mothr.benchmark.run.method import Method
from mothr.benchmark.run.settings import settings_of, with_settings

ENTRY_POINTS = "mothr.methods"
"""The group of entry points that registers methods."""


@cache  # a process sees one state of the installed packages, and to list them takes milliseconds
def _points() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=ENTRY_POINTS))


def method_names() -> list[str]:
    """Returns the registered names of methods, sorted."""
    return sorted(point.name for point in _points())


def own_method_names() -> list[str]:
    """Returns the names that this package itself registers, sorted, whether or not another package does as well."""
    return sorted(point.name for point in _points() if point.dist is not None and point.dist.name == "mothr")


def is_own(name: str) -> bool:
    """Returns whether ``name`` is registered by this package and by no other."""
    return name in own_method_names() and method_names().count(name) == 1


def target_of(name: str) -> str:
    """Returns the ``module:attribute`` that ``name`` is registered for; ``name`` itself if it is not registered."""
    return {point.name: point.value for point in _points()}.get(name, name)


def find_method(name: str, settings: Mapping[str, str] | None = None) -> Method:
    """Returns the method of that name, with other field values if there are ``settings``.

    Args:
        name: a registered name, or ``module:attribute`` of an importable object.
        settings: dotted path of a field -> value as text, see :func:`mothr.benchmark.run.settings.with_settings`.

    Raises:
        MothrError: an unknown name, a failed import, an object that is no method, or a setting that does not fit.
    """
    return with_settings(_registered(name), name, settings or {})


def settings_from(method: Method, name: str) -> dict[str, str]:
    """Returns the settings with which :func:`find_method` gives a method that is equal to ``method``.

    Raises:
        MothrError: no settings of the method ``name`` give it.
    """
    return settings_of(method, _registered(name), name)


def _registered(name: str) -> Method:
    """Returns the method of that name with its default fields."""
    module, colon, attribute = target_of(name).partition(":")
    if not colon:
        raise unknown_name("method", name, method_names())
    try:
        value = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # an import runs foreign code, which may raise anything
        registered = name in method_names()
        remedy = "install mothr again" if registered else "write it as module:attribute, its folder on PYTHONPATH"
        # ValueError and TypeError: an empty name of a module, or a relative one
        plain = isinstance(error, ImportError | AttributeError | ValueError | TypeError)
        raise MothrError(
            f"method {name!r} cannot be imported: {error if plain else describe_error(error)}; {remedy}"
        ) from error
    try:
        method = value() if inspect.isclass(value) else value
    except TypeError as error:
        raise MothrError(
            f"method {name!r} cannot be made without arguments: {error}; give each field a default"
        ) from error
    if not isinstance(method, Method):
        raise MothrError(f"method {name!r} is a {type(method).__name__}, which cannot be called with (models, rng)")
    return method
