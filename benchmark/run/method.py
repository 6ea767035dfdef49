"""What a method is, what it may be told, what it answers, and how one is found by name."""

import importlib
import inspect
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol, get_args, get_type_hints, runtime_checkable

from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

from mothr.benchmark.errors import MothrError, in_words, unknown_name
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.side_information import Need
from mothr.benchmark.storage import canonical_sha256

if TYPE_CHECKING:
    import numpy as np

    from mothr.benchmark.weights.checkpoint import ModelSet

ENTRY_POINTS = "mothr.methods"


@runtime_checkable
class Method(Protocol):
    """Anything that is called with models and a random generator and returns a Prediction.

    By convention a frozen dataclass whose fields are its hyper-parameters, with three class attributes, any of which may be
    absent: ``version`` (a string, changed whenever answers change), ``needs`` (see :data:`Need`; absent means the weights
    suffice) and ``tuned_on`` (names of the splits whose truth was used to choose its parameters).
    """

    def __call__(self, models: "ModelSet", rng: "np.random.Generator", /) -> Prediction:
        """Returns the predicted Model Graph of ``models``."""


@dataclass(frozen=True)
class About:
    """What a method says of itself."""

    version: str
    """Its own version."""
    tuned_on: tuple[str, ...]
    """The splits whose truth was used to choose its parameters."""
    parameters: Mapping[str, Any]
    """Its hyper-parameters; any JSON values."""
    needs: frozenset[Need]
    """What it must be told beside the weights."""


def method_names() -> list[str]:
    """Returns the registered method names, sorted."""
    return sorted(point.name for point in entry_points(group=ENTRY_POINTS))


def own_method_names() -> list[str]:
    """Returns the names that this package itself registers, sorted, whether or not another does as well."""
    points = entry_points(group=ENTRY_POINTS)
    return sorted(point.name for point in points if point.dist is not None and point.dist.name == "mothr")


def find_method(name: str, settings: Mapping[str, str] | None = None) -> Method:
    """Returns the method registered as ``name`` or found at ``module:attribute``, with ``settings`` applied.

    Args:
        name: a registered name, or ``module:attribute`` of an importable object.
        settings: field -> value as text, converted to the type of the field's present value.

    Raises:
        MothrError: no such name, the import fails, the object is no method, or a setting does not fit.
    """
    points = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    module, colon, attribute = (points[name].value if name in points else name).partition(":")
    if not colon:
        raise unknown_name("method", name, points)
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a module runs foreign code when it is imported
        remedy = "install mothr again" if name in points else "write it as module:attribute, its folder on PYTHONPATH"
        known = isinstance(
            error, ImportError | AttributeError | ValueError | TypeError
        )  # the last two: an empty or a relative module
        raise MothrError(
            f"method {name!r} cannot be imported: {error if known else in_words(error)}; {remedy}"
        ) from error
    try:
        method = found() if inspect.isclass(found) else found
    except TypeError as error:
        raise MothrError(
            f"method {name!r} cannot be made without arguments: {error}; give each field a default"
        ) from error
    if not isinstance(method, Method):
        raise MothrError(f"method {name!r} is a {type(method).__name__}, which cannot be called with (models, rng)")
    return _apply(method, name, settings or {})


def _apply(method: Method, name: str, settings: Mapping[str, str]) -> Method:
    if not settings:
        return method
    if not is_dataclass(method) or isinstance(method, type):
        raise MothrError(f"method {name!r} has no fields to set; only dataclass methods take --set")
    hints = get_type_hints(type(method))
    known = [item.name for item in fields(method) if item.init]
    values = {}
    for key, text in settings.items():
        if key not in known:
            raise unknown_name(f"field of {name}", key, known)
        values[key] = _convert(text, hints[key], f"--set {key}={text}")
    try:
        return replace(method, **values)
    except (TypeError, ValueError) as error:
        raise MothrError(f"method {name!r}: {error}") from error


def _convert(text: str, hint: Any, where: str) -> Any:
    """Returns ``text`` as a value of type ``hint``; ``none`` is None where that is allowed, a sequence is comma-separated."""
    try:
        adapter = TypeAdapter(hint)
    except PydanticSchemaGenerationError as error:
        raise MothrError(f"{where}: a field of type {hint} cannot be set from text") from error
    values = [None, text] if text.lower() == "none" else [text, text.split(",")]
    for value in values:
        with suppress(ValidationError):
            converted = adapter.validate_strings(value) if isinstance(value, str) else adapter.validate_python(value)
            if isinstance(converted, float) and not math.isfinite(converted):
                raise MothrError(f"{where}: the value must be finite, so that it can be recorded")
            return converted
    raise MothrError(f"{where}: the value does not fit {hint.__name__ if isinstance(hint, type) else hint}")


def parameters(method: Method) -> dict[str, Any]:
    """Returns the hyper-parameters of ``method`` as recorded in results: its dataclass fields, else nothing."""
    return asdict(method) if is_dataclass(method) and not isinstance(method, type) else {}


def needs(method: Method) -> frozenset[Need]:
    """Returns what ``method`` must be told beside the weights."""
    declared = frozenset(getattr(method, "needs", ()))
    for need in declared:
        if need not in get_args(Need):
            raise unknown_name("need", need, get_args(Need))
    return declared


def about(method: Method, name: str) -> About:
    """Returns what ``method``, called ``name``, says of itself.

    Raises:
        MothrError: its fields cannot be recorded, or it declares an unknown need.
    """
    try:
        canonical_sha256(parameters(method))
    except (TypeError, ValueError) as error:
        raise MothrError(
            f"method {name!r}: its fields cannot be recorded as JSON ({error}); use numbers, text, lists or None"
        ) from error
    version, tuned_on = str(getattr(method, "version", "0")), tuple(getattr(method, "tuned_on", ()))
    return About(version, tuned_on, parameters(method), needs(method))
