"""ModelSet: the models that a method is given, with lazily read stacks of one tensor of all models."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NoReturn

import torch

from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import NodeId
from mothr.benchmark.side_information import SideInformation
from mothr.benchmark.weights.checkpoint import Checkpoint, empty_stack, read_into


@dataclass(frozen=True)
class ModelSet:
    """The models that a method is given, and the side information.

    The models are sorted by content digest. So neither their ids nor the order of the folder carry information.

    Raises:
        MothrError: There is no model.
    """

    checkpoints: tuple[Checkpoint, ...]
    """The models. The constructor sorts them by content digest, then by id."""
    given: SideInformation = field(default_factory=SideInformation)
    """What the method is given beside the weights."""

    def __post_init__(self) -> None:
        if not self.checkpoints:
            raise MothrError("no models: at least one is needed")
        ordered = tuple(sorted(self.checkpoints, key=lambda checkpoint: (checkpoint.digest, checkpoint.id)))
        object.__setattr__(self, "checkpoints", ordered)

    def __len__(self) -> int:
        return len(self.checkpoints)

    @property
    def told(self) -> NoReturn:
        """The name of ``given`` in earlier versions. Any access raises an error that says so."""
        raise AttributeError("ModelSet.told is called ModelSet.given now; write models.given")

    @property
    def ids(self) -> tuple[NodeId, ...]:
        """The ids of the models. Every array of this set has its rows in this order."""
        return tuple(checkpoint.id for checkpoint in self.checkpoints)

    @cached_property
    def shapes(self) -> dict[tuple[str, tuple[int, ...]], tuple[int, ...]]:
        """(tensor name, shape) -> positions of the models that hold such a tensor. Sorted by name and shape."""
        # Nearly always all models have the same shapes, so models are grouped by all of their shapes first.
        groups: dict[tuple[tuple[str, tuple[int, ...]], ...], list[int]] = {}
        for position, checkpoint in enumerate(self.checkpoints):
            groups.setdefault(checkpoint.shapes, []).append(position)
        holders: dict[tuple[str, tuple[int, ...]], list[int]] = {}
        for shapes, positions in groups.items():
            for key in shapes:
                holders.setdefault(key, []).extend(positions)
        return {key: tuple(sorted(holders[key])) for key in sorted(holders)}

    def stack(self, name: str, positions: Sequence[int]) -> torch.Tensor:
        """Returns the tensor ``name`` of the n models at ``positions``, (n, *shape).

        The stack is float64 if one of the models stores float64, else float32.

        Raises:
            MothrError: A value is NaN or infinite, or a file is damaged.
        """
        infos = [self.checkpoints[position].tensors[name] for position in positions]
        return read_into(empty_stack(len(infos), infos[0].shape, [info.dtype for info in infos]), infos)

    def stacks(
        self, select: Iterable[tuple[str, tuple[int, ...]]] | None = None
    ) -> Iterator[tuple[str, tuple[int, ...], torch.Tensor]]:
        """Yields (name, positions, stack) of each selected (name, shape), one tensor of all models at a time.

        Each stack is read when it is requested, and each byte is read once. So the memory is that of one tensor
        times the number of models.

        Args:
            select: The (name, shape) of the tensors to read; None for all.
        """
        for key in self.shapes if select is None else select:
            positions = self.shapes[key]
            yield key[0], positions, self.stack(key[0], positions)

    def relabel(self, names: Mapping[NodeId, NodeId]) -> "ModelSet":
        """Returns the same models with each model ``id`` renamed to ``names[id]``."""
        renamed = tuple(checkpoint.renamed(names[checkpoint.id]) for checkpoint in self.checkpoints)
        return ModelSet(renamed, self.given.relabel(names))

    def with_given(self, given: SideInformation) -> "ModelSet":
        """Returns the same models with other side information."""
        return replace(self, given=given)
