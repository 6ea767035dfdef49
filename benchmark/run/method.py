"""The protocol of a method, and what a method declares about itself: kind, version, needs, parameters."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Protocol, get_args, runtime_checkable

from mothr.benchmark.errors import MothrError, unknown_name
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.side_information import MethodKind, Need
from mothr.benchmark.storage import canonical_sha256

if TYPE_CHECKING:
    import numpy as np

    from mothr.benchmark.weights.model_set import ModelSet


@runtime_checkable
class Method(Protocol):
    """A callable that maps models and a random generator to a Prediction.

    By convention a method is a frozen dataclass. Its fields are all its parameters. A field may itself be a frozen
    dataclass, a group
    of parameters. A method may have these class attributes:

    * ``kind``: a value of :data:`MethodKind`; ``"method"`` if absent, or if ``kind`` is a field.
    * ``version``: a string. Change it whenever predictions change. ``"0"`` if absent.
    * ``needs``: the side information that the method needs in every setting, see :data:`Need`. Empty if absent.
    * ``tuned_on``: names of the splits whose truth was used to choose the parameters. Empty if absent.
    * ``renamed``: old name -> new name of each field that was renamed. An error then tells users the new name.
    """

    def __call__(self, models: "ModelSet", rng: "np.random.Generator", /) -> Prediction:
        """Returns the predicted Model Graph of ``models``."""


@dataclass(frozen=True, slots=True)
class About:
    """What a method declares about itself."""

    version: str
    """The method's version."""
    tuned_on: tuple[str, ...]
    """The splits whose truth was used to choose the parameters."""
    parameters: Mapping[str, Any]
    """The values of all fields as JSON values. A group of fields is an object."""
    needs: frozenset[Need]
    """The side information that the method needs in every setting."""
    kind: MethodKind = "method"
    """The method's kind."""


def parameters(method: Method) -> dict[str, Any]:
    """Returns the parameters of ``method``: its dataclass fields, groups as nested dictionaries.

    Empty for other callables.
    """
    return asdict(method) if is_dataclass(method) and not isinstance(method, type) else {}


def needs(method: Method) -> frozenset[Need]:
    """Returns the side information that ``method`` needs in every setting.

    Raises:
        MothrError: an unknown need.
    """
    declared = frozenset(getattr(method, "needs", ()))
    for need in declared:
        if need not in get_args(Need):
            raise unknown_name("need", need, get_args(Need))
    return declared


def kind(method: Method) -> MethodKind:
    """Returns the kind of ``method``: its attribute ``kind``. A field of that name is a parameter, and no kind.

    Raises:
        MothrError: an unknown kind.
    """
    if is_dataclass(method) and any(field.name == "kind" for field in fields(method)):
        return "method"
    declared: MethodKind = getattr(method, "kind", "method")
    if declared not in get_args(MethodKind):
        raise unknown_name("kind of method", str(declared), get_args(MethodKind))
    return declared


def about(method: Method, name: str) -> About:
    """Returns what ``method`` declares about itself.

    Args:
        method: the method.
        name: its name, for errors.

    Raises:
        MothrError: a field cannot be recorded as JSON, or the kind or a need is unknown.
    """
    try:
        canonical_sha256(parameters(method))
    except (TypeError, ValueError) as error:
        raise MothrError(
            f"method {name!r}: its fields cannot be recorded as JSON ({error}); use numbers, text, lists or None"
        ) from error
    version, tuned_on = str(getattr(method, "version", "0")), tuple(getattr(method, "tuned_on", ()))
    return About(version, tuned_on, parameters(method), needs(method), kind(method))
