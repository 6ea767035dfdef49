"""Measures the cost of a few training steps of fresh models, on data that needs no download."""

import itertools
import statistics
import time
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mothr.generators.data import vision
from mothr.generators.dry_run.cost import TrainingCost
from mothr.generators.families import Family
from mothr.generators.recipe.node import PlannedNode
from mothr.generators.train.train import train
from mothr.generators.values.objective import Objective
from mothr.generators.values.seeds import torch_generator

STEPS = 5
"""Number of steps of each kind of training. All but the first, which allocates memory, are timed."""
MAX_OPERATIONS = 2e11
"""Largest number of operations (6 x parameters x positions x examples) of a timed step on a CPU. A larger
step is timed with fewer examples, and its time is scaled up."""
STAND_IN = "digits"
"""The task that replaces a task with downloaded pictures; time and memory do not depend on the pictures."""


def name_of(node: PlannedNode) -> str:
    """Returns the name of the kind of training of ``node``."""
    lora = node.edge.lora if node.edge else None
    return "student" if node.derived else "root" if node.root else "LoRA" if lora else "full fine-tuning"


def objective_of(node: PlannedNode, family: Family, device: torch.device, companions: Path | None) -> Objective:
    """Returns the objective of ``node``; downloaded pictures are replaced by others."""
    tasks = dict.fromkeys(STAND_IN if task in vision.TASKS else task for task in node.tasks)
    return family.objective(tuple(tasks), torch_generator(0, "head"), device, companions)


def measure(
    name: str, family: Family, objective: Objective, group: Sequence[PlannedNode], parameters: int, device: torch.device
) -> TrainingCost:
    """Returns the cost of the kind of training that the nodes of ``group`` have, measured with the largest
    rank among them."""
    model, node = fresh(family).to(device), max(group, key=lambda node: node.rank or 0)
    training = node.training
    assert training is not None
    most = training.batch_size if device.type == "cuda" else int(MAX_OPERATIONS / (6 * parameters * _positions(family)))
    batch = max(1, min(training.batch_size, most))
    stamps: list[float] = []

    def stamp(step: int) -> None:
        stamps.append(_now(device))

    counter, tested = _ActivationCounter(), _TimedObjective(objective, device, timed=batch == training.batch_size)
    brief = training.model_copy(update={"steps": STEPS, "batch_size": batch})
    loss = counter.counting(objective.loss)
    teacher = fresh(family).to(device).eval() if name == "student" else None
    if teacher is not None:
        loss = counter.counting(objective.distillation_loss(teacher, objective))
    train(model, tested, brief, 0, lora=node.edge.lora if node.edge else None, rank=node.rank, loss=loss, on_step=stamp)
    seconds = statistics.median(later - earlier for earlier, later in itertools.pairwise(stamps))
    scale = training.batch_size / batch
    test = tested.seconds if tested.timed else seconds / batch * vision.SIZES["test"] / 3
    return TrainingCost(
        name=name,
        models=len(group),
        steps=sum(node.steps for node in group),
        batch_size=training.batch_size,
        timed_batch_size=batch,
        seconds_a_step=seconds * scale,
        seconds_a_test=test,
        trained=counter.trained,
        activation_bytes=round(counter.bytes * scale),
    )


def _now(device: torch.device) -> float:
    """Returns the CPU time of this process, or on a GPU the wall-clock time, in seconds."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def fresh(family: Family) -> nn.Module:
    """Returns a model of the sizes of ``family``."""
    return family.build("normal", 0.02, torch_generator(0, "weights"))


def _positions(family: Family) -> int:
    """Returns the approximate number of positions per example: bytes, patches, or pixels of the latents of a
    UNet."""
    side, patch = getattr(family, "image_size", 0), getattr(family, "patch_size", 1)
    return getattr(family, "context", 0) or (side // patch) ** 2 or 64


class _TimedObjective:
    """An objective whose tests are timed, or left out if they would take too long."""

    def __init__(self, objective: Objective, device: torch.device, timed: bool) -> None:
        self._objective = objective
        self._device = device
        self.timed = timed
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objective, name)

    def evaluate(self, model: nn.Module) -> float:
        """Returns the metric and records its time."""
        start = _now(self._device)
        value = self._objective.evaluate(model) if self.timed else 0.0
        self.seconds = _now(self._device) - start
        return value


class _ActivationCounter:
    """Counts the bytes that a step keeps for its backward pass, and the trained parameters."""

    def __init__(self) -> None:
        self.bytes = 0
        self.trained = 0

    def counting(self, loss: Any) -> Any:
        """Returns ``loss``; its first call is counted."""

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


def seconds_of_companions(family: Any, root: Any, folder: Path, device: torch.device) -> float:
    """Trains the frozen parts of a tree for a few steps, and returns the estimated time of all steps in
    seconds."""
    fields = {name: value for name, value in family if name.endswith("_steps")}
    stamps = [_now(device)]
    brief = family.model_copy(update=dict.fromkeys(fields, STEPS))
    brief.companions(root.seed, folder, device, lambda step: stamps.append(_now(device)))
    taken = stamps[-1] - stamps[0]
    return taken / (STEPS * len(fields)) * sum(fields.values())


@contextmanager
def one_torch_thread(device: str) -> Any:
    """Sets one torch thread, as in worker processes."""
    threads = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
