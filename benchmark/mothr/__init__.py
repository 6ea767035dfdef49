"""Recover who was fine-tuned from whom, from weights alone.

    import mothr

    prediction = mothr.recover("models/")      # a folder of models -> a predicted Model Graph
    mothr.score(prediction, "data/vthr-ft")    # metric -> value, against the known truth
    mothr.methods()                            # the methods that can be named

Importing this package is fast: torch is loaded by the first function that reads weights.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mothr.benchmark import __version__
    from mothr.benchmark.errors import MothrError
    from mothr.benchmark.graph import ModelGraph
    from mothr.benchmark.interface import compare, draw, load, methods, recover, run, score, tracks
    from mothr.benchmark.prediction import Prediction
    from mothr.benchmark.weights.checkpoint import Checkpoint
    from mothr.benchmark.weights.model_set import ModelSet

__all__ = [
    "Checkpoint",
    "ModelGraph",
    "ModelSet",
    "MothrError",
    "Prediction",
    "__version__",
    "compare",
    "draw",
    "load",
    "methods",
    "recover",
    "run",
    "score",
    "tracks",
]

_MODULES = {
    "Checkpoint": "mothr.benchmark.weights.checkpoint",
    "ModelGraph": "mothr.benchmark.graph",
    "ModelSet": "mothr.benchmark.weights.model_set",
    "MothrError": "mothr.benchmark.errors",
    "Prediction": "mothr.benchmark.prediction",
    "__version__": "mothr.benchmark",
}
"""Public name -> the module that defines it. All other public names are in ``mothr.benchmark.interface``."""


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module 'mothr' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(_MODULES.get(name, "mothr.benchmark.interface")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Returns the public names, also those that are not imported yet."""
    return __all__
