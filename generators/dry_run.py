"""What a recipe would cost on this machine, told before anything is downloaded or trained.

Fresh models of the recipe's shape take a few timed steps on data that needs no download; the rest is counted or computed.
"""

import itertools
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mothr.generators.data import vision
from mothr.generators.families import FAMILIES, Family
from mothr.generators.recipe.node import PlannedNode
from mothr.generators.recipe.schema import Recipe
from mothr.generators.recipe.topology import plan
from mothr.generators.train.train import train
from mothr.generators.values.objective import Objective
from mothr.generators.values.seeds import torch_generator
from mothr.generators.values.training import Lora

STEPS = 5
"""Steps of each kind of training; all but the first, which allocates, are timed."""
WORK = 2e11
"""Operations (6 x parameters x positions x examples) of a step timed on a processor; above, fewer examples are timed and scaled up."""
BASE = 520 << 20
"""Bytes of a worker process before it holds a model: interpreter, torch, transformers, pictures or text (measured)."""
STAND_IN = "digits"
"""What is trained on in the place of a task that would have to be downloaded; time and memory do not depend on which pictures."""


@dataclass(frozen=True)
class Kind:
    """One kind of training in a recipe, and what it costs."""

    name: str
    """Root, full fine-tuning, LoRA, student."""
    models: int
    """How many are trained this way."""
    steps: int
    """Optimizer steps of all of them together."""
    batch_size: int
    """Examples a step."""
    timed_batch_size: int
    """Examples of a timed step; where it is smaller, its time was scaled up."""
    seconds_a_step: float
    """Measured here: the median."""
    seconds_a_test: float
    """One of the two tests of each model: measured here, or, where steps were scaled up, a third of as many examples' training."""
    trained: int
    """Parameters that train."""
    activation_bytes: int
    """Measured here: what one step keeps for its backward pass."""


@dataclass(frozen=True)
class Estimate:
    """What a recipe costs."""

    recipe: str
    """Its name."""
    models: int
    """In the data set."""
    trees: int
    """Model Trees."""
    steps: int
    """Optimizer steps in all."""
    parameters: int
    """Of one model."""
    disk_bytes: int
    """Of the data set's models."""
    peak_bytes: int
    """Of one worker process, or, on a GPU, of its memory."""
    hours: float
    """On ``device``, with ``workers`` processes, if nothing else runs there."""
    device: str
    """Which was timed."""
    workers: int
    """Processes."""
    kinds: tuple[Kind, ...]
    """Of training."""
    downloads: tuple[str, ...]
    """What would be fetched first."""

    def to_json(self) -> dict[str, Any]:
        """Returns the estimate as plain values."""
        return asdict(self)


def estimate(recipe: Recipe, device: str, workers: int) -> Estimate:
    """Returns what ``recipe`` costs on ``device`` with so many worker processes, of one thread each.

    Peak memory = base + 4 bytes x (parameters + trained parameters x (1 gradient + optimizer's values)) + activations, where AdamW keeps
    two values a parameter and momentum one, and a student's teacher counts as one more model.
    Hours = the longer of all work shared out evenly and the longest chain of models, each of which waits for its parent. Processes on
    a GPU share it, so that there all work counts, as if one did it.
    """
    family = FAMILIES[recipe.family](**recipe.model)
    nodes = plan(recipe)
    groups: dict[tuple[Any, ...], list[PlannedNode]] = {}
    for node in nodes:
        if node.training is not None and node.checkpoint_of is None:
            groups.setdefault(_key(node), []).append(node)
    with _one_thread(device), tempfile.TemporaryDirectory() as place:
        parameters, companion_seconds, kinds = _measure_all(family, groups, torch.device(device), Path(place))
    seconds = {
        node.id: kind.seconds_a_step * node.steps + 2 * kind.seconds_a_test
        for group, kind in zip(groups.values(), kinds, strict=True)
        for node in group
    }
    for node in nodes:
        if node.root is not None and node.id in seconds:
            seconds[node.id] += companion_seconds
    total, chain = sum(seconds.values()), _longest(nodes, seconds)
    workers = min(workers, len(nodes))
    sharers = workers if device == "cpu" else 1
    shown = [node for node in nodes if not node.withheld]
    return Estimate(
        recipe=recipe.name,
        models=len(shown),
        trees=len({node.tree for node in shown}),
        steps=sum(kind.steps for kind in kinds),
        parameters=parameters,
        disk_bytes=sum(_bytes_of(node, parameters) for node in shown),
        peak_bytes=max(
            (_peak(kind, parameters, group) for kind, group in zip(kinds, groups.values(), strict=True)), default=BASE
        ),
        hours=max(total / sharers, chain) / 3600,
        device=device,
        workers=workers,
        kinds=kinds,
        downloads=downloads(recipe),
    )


def downloads(recipe: Recipe) -> tuple[str, ...]:
    """Returns what generating ``recipe`` fetches that is not part of this package: roots and pictures."""
    roots = [f"root {root.name}: {root.source}" for root in recipe.roots if root.source is not None]
    return (
        *roots,
        *(f"task {task}: {vision.TASKS.find(task).source}" for task in recipe.tasks if task in vision.TASKS),
    )


def _key(node: PlannedNode) -> tuple[str, int, str, Lora | None]:
    """Returns what the cost of training ``node`` depends on."""
    assert node.training is not None
    lora = node.edge.lora if node.edge else None
    what = "student" if node.derived else "root" if node.root else "LoRA" if lora else "full fine-tuning"
    return what, node.training.batch_size, node.training.optimizer, lora


# Measuring


def _measure_all(
    family: Family, groups: dict[tuple[Any, ...], list[PlannedNode]], device: torch.device, place: Path
) -> tuple[int, float, tuple[Kind, ...]]:
    """Returns a model's parameters, the seconds that a tree's frozen parts take, and each kind of training."""
    parameters = sum(value.numel() for value in _fresh(family).parameters())
    companions, companion_seconds = None, 0.0
    if family.has_companions:
        companions = place / "companions"
        root = next(node.root for group in groups.values() for node in group if node.root)
        companion_seconds = _companions(family, root, companions, device)
    kinds = []
    for (name, *_), group in groups.items():
        tasks = dict.fromkeys(STAND_IN if task in vision.TASKS else task for task in group[0].tasks)
        objective = family.objective(tuple(tasks), torch_generator(0, "head"), device, companions)
        kinds.append(_measure(name, family, objective, group, parameters, device))
    return parameters, companion_seconds, tuple(kinds)


def _measure(
    name: str, family: Family, objective: Objective, group: Sequence[PlannedNode], parameters: int, device: torch.device
) -> Kind:
    model, node = _fresh(family).to(device), max(group, key=lambda node: node.rank or 0)
    training = node.training
    assert training is not None
    most = training.batch_size if device.type == "cuda" else int(WORK / (6 * parameters * _positions(family)))
    batch = max(1, min(training.batch_size, most))
    stamps: list[float] = []

    def stamp(step: int) -> None:
        stamps.append(_now(device))

    kept, tested = _Kept(), _Tested(objective, device, timed=batch == training.batch_size)
    brief = training.model_copy(update={"steps": STEPS, "batch_size": batch})
    loss = kept.counting(objective.loss)
    teacher = _fresh(family).to(device).eval() if name == "student" else None
    if teacher is not None:
        loss = kept.counting(objective.distillation_loss(teacher, objective))
    train(model, tested, brief, 0, lora=node.edge.lora if node.edge else None, rank=node.rank, loss=loss, on_step=stamp)
    seconds = statistics.median(later - earlier for earlier, later in itertools.pairwise(stamps))
    scale = training.batch_size / batch
    test = tested.seconds if tested.timed else seconds / batch * vision.SIZES["test"] / 3
    return Kind(
        name=name,
        models=len(group),
        steps=sum(node.steps for node in group),
        batch_size=training.batch_size,
        timed_batch_size=batch,
        seconds_a_step=seconds * scale,
        seconds_a_test=test,
        trained=kept.trained,
        activation_bytes=round(kept.bytes * scale),
    )


def _now(device: torch.device) -> float:
    """Returns seconds: of this process's own work, whatever else the processor does, or, on a GPU, of the clock."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def _fresh(family: Family) -> nn.Module:
    return family.build("normal", 0.02, torch_generator(0, "weights"))


def _positions(family: Family) -> int:
    """Returns how many positions a model reads of one example, about; for a UNet the pixels of its latents."""
    side, patch = getattr(family, "image_size", 0), getattr(family, "patch_size", 1)
    return getattr(family, "context", 0) or (side // patch) ** 2 or 64


class _Tested:
    """An objective whose tests are timed, or, where they would take too long, left out."""

    def __init__(self, objective: Objective, device: torch.device, timed: bool) -> None:
        self._objective = objective
        self._device = device
        self.timed = timed
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objective, name)

    def evaluate(self, model: nn.Module) -> float:
        """Returns the metric, and remembers how long that took."""
        start = _now(self._device)
        value = self._objective.evaluate(model) if self.timed else 0.0
        self.seconds = _now(self._device) - start
        return value


class _Kept:
    """Counts what a step keeps for its backward pass, and what it trains."""

    def __init__(self) -> None:
        self.bytes = 0
        self.trained = 0

    def counting(self, loss: Any) -> Any:
        """Returns ``loss`` with the first call counted."""

        def counted(model: nn.Module, batch_size: int, generator: torch.Generator) -> torch.Tensor:
            if self.bytes:
                return loss(model, batch_size, generator)
            self.trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
            weights = {value.untyped_storage().data_ptr() for value in model.parameters()}
            seen: dict[int, int] = {}

            def keep(value: torch.Tensor) -> torch.Tensor:
                storage = value.untyped_storage()
                if storage.data_ptr() not in weights:
                    seen[storage.data_ptr()] = storage.nbytes()
                return value

            with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
                result = loss(model, batch_size, generator)
            self.bytes = sum(seen.values())
            return result

        return counted


def _companions(family: Any, root: Any, folder: Path, device: torch.device) -> float:
    """Makes a tree's frozen parts in a few steps each, and returns the seconds that all steps would take."""
    fields = {name: value for name, value in family if name.endswith("_steps")}
    stamps = [_now(device)]
    brief = family.model_copy(update=dict.fromkeys(fields, STEPS))
    brief.companions(root.seed, folder, device, lambda step: stamps.append(_now(device)))
    taken = stamps[-1] - stamps[0]
    return taken / (STEPS * len(fields)) * sum(fields.values())


@contextmanager
def _one_thread(device: str) -> Any:
    """One torch thread, as worker processes have."""
    threads = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


# Counting


def _longest(nodes: Sequence[PlannedNode], seconds: dict[str, float]) -> float:
    """Returns the seconds of the longest chain of models, each of which waits for its sources."""
    until: dict[str, float] = {}
    for node in nodes:
        until[node.id] = seconds.get(node.id, 0.0) + max((until[source] for source in node.sources), default=0.0)
    return max(until.values(), default=0.0)


def _bytes_of(node: PlannedNode, parameters: int) -> int:
    spec = node.derived.transform if node.derived else None
    if spec is None or spec.kind != "quantized":
        return 4 * parameters
    stored = spec.precision if spec.stored == "as-is" else spec.stored
    return {"int8": 1, "float16": 2, "bfloat16": 2}.get(stored, 4) * parameters


def _peak(kind: Kind, parameters: int, group: Sequence[PlannedNode]) -> int:
    training = group[0].training
    assert training is not None
    values = 1 + (2 if training.optimizer == "adamw" else 1)
    models = 2 if kind.name == "student" else 1
    return BASE + 4 * (models * parameters + values * kind.trained) + kind.activation_bytes


def rows(found: Estimate) -> list[dict[str, str]]:
    """Returns the estimate as a table's rows, for people."""
    first = {
        "recipe": found.recipe,
        "models": str(found.models),
        "trees": str(found.trees),
        "steps": f"{found.steps:,}",
        "parameters a model": f"{found.parameters:,}",
        "disk": _size(found.disk_bytes),
        "peak memory a process": f"{_size(found.peak_bytes)} = {_size(BASE)} + weights + gradients + optimizer + activations",
        f"time on {found.device}, {found.workers} processes": _duration(found.hours),
    }
    table = [{"what": name, "value": value} for name, value in first.items()]
    for kind in found.kinds:
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
    return table + [{"what": "fetched first", "value": text} for text in found.downloads]


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
