"""Estimates the cost of a drawn recipe, whose models differ in size and training.

The steps of some nodes are timed. The time of all others follows from a straight line through these times.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import nnls

from mothr.benchmark.storage import canonical_sha256
from mothr.generators.dry_run.cost import BASE_BYTES, Estimate, TrainingCost
from mothr.generators.dry_run.estimate import disk_bytes_of, downloads, longest_chain, peak_bytes_of
from mothr.generators.dry_run.measuring import (
    fresh,
    measure,
    name_of,
    objective_of,
    one_torch_thread,
    seconds_of_companions,
)
from mothr.generators.families import FAMILIES, Family
from mothr.generators.recipe.drawn import DrawnRecipe
from mothr.generators.recipe.node import PlannedNode
from mothr.generators.recipe.topology import plan

TIMED = 10
"""Number of nodes whose steps are timed. They are spread evenly over the amount of work of a step."""
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of a stored number."""


def estimate_drawn(recipe: DrawnRecipe, device: str, workers: int) -> Estimate:
    """Returns the cost of ``recipe`` on ``device`` with ``workers`` processes of one thread each.

    The work of a step is w = parameters x examples. The seconds of a step are s = a + b w, where a, b >= 0 are fitted
    to the timed nodes by least squares of the relative error. Memory is that of the largest timed node.
    """
    nodes = plan(recipe)
    sizes = _parameters(recipe, nodes)
    trained = [node for node in nodes if node.training is not None]
    with one_torch_thread(device), tempfile.TemporaryDirectory() as place:
        companions = _Companions(Path(place), torch.device(device))
        timed = _timed(recipe, trained, sizes, companions, device)
        shared = sum(companions.seconds(recipe, node) for node in _one_of_each(recipe, nodes))
    line = _line([_work(node, sizes) for node, _ in timed], [cost.seconds_a_step for _, cost in timed])
    test = float(np.mean([cost.seconds_a_test for _, cost in timed]))
    seconds = {node.id: node.steps * (line[0] + line[1] * _work(node, sizes)) + 2 * test for node in trained}
    included = [node for node in nodes if not node.withheld]
    processes = min(workers, len(nodes))
    total = sum(seconds.values()) + shared
    return Estimate(
        recipe=recipe.name,
        models=len(included),
        trees=len({node.tree for node in included}),
        steps=sum(node.steps for node in trained),
        parameters=max(sizes.values()),
        disk_bytes=sum(disk_bytes_of(node, sizes[node.id]) * BYTES[node.stored or "float32"] // 4 for node in included),
        peak_bytes=max((peak_bytes_of(cost, sizes[node.id], [node]) for node, cost in timed), default=BASE_BYTES),
        hours=max(total / (processes if device == "cpu" else 1), longest_chain(nodes, seconds)) / 3600,
        device=device,
        workers=processes,
        kinds=tuple(_summary(name, trained, seconds, timed) for name in sorted({name_of(node) for node in trained})),
        downloads=downloads(recipe),
    )


def _family(recipe: DrawnRecipe, node: PlannedNode) -> Family:
    return FAMILIES[recipe.family](**(node.model or {}))


def _parameters(recipe: DrawnRecipe, nodes: Sequence[PlannedNode]) -> dict[str, int]:
    """Returns the number of parameters of each node's model. Each size is built once."""
    counts: dict[str, int] = {}
    result = {}
    for node in nodes:
        key = canonical_sha256(node.model)
        if key not in counts:
            model = fresh(_family(recipe, node))
            counts[key] = sum(value.numel() for value in model.parameters())
        result[node.id] = counts[key]
    return result


def _work(node: PlannedNode, sizes: Mapping[str, int]) -> float:
    assert node.training is not None
    return float(sizes[node.id] * node.training.batch_size)


def _timed(
    recipe: DrawnRecipe,
    trained: Sequence[PlannedNode],
    sizes: Mapping[str, int],
    companions: "_Companions",
    device: str,
) -> list[tuple[PlannedNode, TrainingCost]]:
    """Returns nodes from the smallest to the largest work of a step, with their measured costs."""
    ordered = sorted(trained, key=lambda node: (_work(node, sizes), node.id))
    chosen = sorted({round(index) for index in np.linspace(0, len(ordered) - 1, min(TIMED, len(ordered)))})
    result = []
    for node in (ordered[index] for index in chosen):
        family = _family(recipe, node)
        objective = objective_of(node, family, torch.device(device), companions.folder(recipe, node))
        cost = measure(name_of(node), family, objective, [node], sizes[node.id], torch.device(device))
        result.append((node, cost))
    return result


def _line(work: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """Returns a and b, both 0 or more, of the line seconds = a + b work with the least squared relative error."""
    times = np.array(seconds)
    design = np.stack([np.ones(len(times)), np.array(work)], axis=1) / times[:, None]
    scale = np.linalg.norm(design, axis=0)
    factors, _ = nnls(design / scale, np.ones(len(times)))
    intercept, slope = factors / scale
    return float(intercept), float(slope)


def _one_of_each(recipe: DrawnRecipe, nodes: Sequence[PlannedNode]) -> list[PlannedNode]:
    """Returns one root for each set of frozen parts that is trained."""
    roots = {}
    for node in nodes:
        if node.root is not None and _family(recipe, node).has_companions:
            key = _family(recipe, node).companions_key()
            roots[node.id if key is None else canonical_sha256(key)] = node
    return list(roots.values())


class _Companions:
    """The frozen parts that the timed nodes need, after a few steps of training."""

    def __init__(self, place: Path, device: torch.device) -> None:
        self._place, self._device = place, device
        self._seconds: dict[str, float] = {}

    def folder(self, recipe: DrawnRecipe, node: PlannedNode) -> Path | None:
        """Returns the folder of the frozen parts for the model of ``node``; None if its family has none."""
        family = _family(recipe, node)
        if not family.has_companions:
            return None
        key = canonical_sha256(family.companions_key() or dict(node.model or {}))
        if key not in self._seconds:
            root = node.root or next(other.root for other in plan(recipe) if other.root)
            self._seconds[key] = seconds_of_companions(family, root, self._place / key, self._device)
        return self._place / key

    def seconds(self, recipe: DrawnRecipe, node: PlannedNode) -> float:
        """Returns the estimated seconds to train the frozen parts of ``node``."""
        folder = self.folder(recipe, node)
        return self._seconds[folder.name] if folder is not None else 0.0


def _summary(
    name: str,
    trained: Sequence[PlannedNode],
    seconds: Mapping[str, float],
    timed: Sequence[tuple[PlannedNode, TrainingCost]],
) -> TrainingCost:
    """Returns the cost of all nodes with the kind of training ``name``; sizes and seconds are means."""
    nodes = [node for node in trained if name_of(node) == name]
    costs = [cost for _, cost in timed]
    steps = sum(node.steps for node in nodes)
    test = float(np.mean([cost.seconds_a_test for cost in costs]))
    batch = round(float(np.mean([node.training.batch_size for node in nodes if node.training])))
    return TrainingCost(
        name=name,
        models=len(nodes),
        steps=steps,
        batch_size=batch,
        timed_batch_size=batch,
        seconds_a_step=(sum(seconds[node.id] for node in nodes) - 2 * test * len(nodes)) / steps,
        seconds_a_test=test,
        trained=max(cost.trained for cost in costs),
        activation_bytes=max(cost.activation_bytes for cost in costs),
    )
