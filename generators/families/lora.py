"""Checks the low-rank updates of a recipe against the layers of a family."""

from collections.abc import Mapping, Sequence


def check_lora(ranks: Sequence[int], targets: Sequence[str], layer_ranks: Mapping[str, int]) -> None:
    """Checks that every target is a linear layer of the family and that every rank is a rank of its matrices.

    Args:
        ranks: Ranks of the updates.
        targets: Names of linear layers.
        layer_ranks: Name of each linear layer that can have an update -> the shorter side of its smallest
            matrix.

    Raises:
        ValueError: a target is not such a layer, or a rank is too large for an update of low rank.
    """
    for target in targets:
        if target not in layer_ranks:
            raise ValueError(
                f"lora.targets: {target!r} is not a linear layer of this family; choose from {', '.join(layer_ranks)}"
            )
        for rank in ranks:
            if rank > layer_ranks[target]:
                raise ValueError(
                    f"lora.ranks: rank {rank} is above {layer_ranks[target]}, the largest rank of {target}; choose a smaller rank"
                )
