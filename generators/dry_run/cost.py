"""What an estimate holds, and its table for people."""

from dataclasses import asdict, dataclass
from typing import Any

BASE_BYTES = 520 << 20
"""Memory of a worker process without a model: interpreter, torch, transformers, data (measured)."""


@dataclass(frozen=True, slots=True)
class TrainingCost:
    """The cost of one kind of training in a recipe."""

    name: str
    """``root``, ``full fine-tuning``, ``LoRA`` or ``student``."""
    models: int
    """Number of models that are trained this way."""
    steps: int
    """Optimizer steps of all these models together."""
    batch_size: int
    """Examples per step."""
    timed_batch_size: int
    """Examples per timed step. If it is smaller than ``batch_size``, the time was scaled up."""
    seconds_a_step: float
    """Median time of a step on this machine, in seconds."""
    seconds_a_test: float
    """Time of one of the two tests of each model, in seconds. If steps were scaled up: a third of the
    training time of as many examples."""
    trained: int
    """Number of trained parameters."""
    activation_bytes: int
    """Memory that one step keeps for its backward pass, in bytes."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The cost of a recipe."""

    recipe: str
    """Name of the recipe."""
    models: int
    """Number of models in the data set."""
    trees: int
    """Number of Model Trees."""
    steps: int
    """Total number of optimizer steps."""
    parameters: int
    """Number of parameters of one model."""
    disk_bytes: int
    """Size of all model files, in bytes."""
    peak_bytes: int
    """Peak memory of one worker process, or on a GPU of its memory, in bytes."""
    hours: float
    """Time on ``device`` with ``workers`` processes, in hours, if nothing else runs there."""
    device: str
    """The device that was timed."""
    workers: int
    """Number of processes."""
    kinds: tuple[TrainingCost, ...]
    """Cost of each kind of training."""
    downloads: tuple[str, ...]
    """Models and data that are downloaded first."""

    def to_json(self) -> dict[str, Any]:
        """Returns the estimate as plain values."""
        return asdict(self)


def rows(cost: Estimate) -> list[dict[str, str]]:
    """Returns the estimate as the rows of a table for people."""
    first = {
        "recipe": cost.recipe,
        "models": str(cost.models),
        "trees": str(cost.trees),
        "steps": f"{cost.steps:,}",
        "parameters per model": f"{cost.parameters:,}",
        "disk": _size(cost.disk_bytes),
        "peak memory per process": f"{_size(cost.peak_bytes)} = {_size(BASE_BYTES)} + weights + gradients + optimizer + activations",
        f"time on {cost.device}, {cost.workers} processes": _duration(cost.hours),
    }
    table = [{"what": name, "value": value} for name, value in first.items()]
    for kind in cost.kinds:
        scaled = (
            ""
            if kind.timed_batch_size == kind.batch_size
            else f" (timed with {kind.timed_batch_size} of them and scaled up)"
        )
        table.append(
            {
                "what": kind.name,
                "value": f"{kind.models} models, {kind.steps:,} steps of {kind.batch_size}, "
                f"{1000 * kind.seconds_a_step:.0f} ms each{scaled}",
            }
        )
    return table + [{"what": "downloaded first", "value": text} for text in cost.downloads]


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _duration(hours: float) -> str:
    return (
        f"{hours:.1f} hours"
        if hours >= 1
        else f"{60 * hours:.0f} minutes"
        if hours >= 1 / 30
        else f"{3600 * hours:.0f} seconds"
    )
