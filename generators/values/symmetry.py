"""Permutations of neurons and heads that leave the function of a network unchanged."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Symmetry:
    """A group of blocks that can be permuted together in several tensors without a change of the network's
    function.

    A block is one neuron or one attention head. Each axis is cut into ``segments`` equal segments of
    ``blocks`` equal blocks. Blocks are permuted within their segment only; each segment has a permutation of
    its own.
    """

    blocks: int
    """Number of blocks in a segment."""
    axes: tuple[tuple[str, int], ...]
    """(tensor name, axis) of every axis along which these blocks lie. The width of a block may differ between
    axes."""
    segments: int = 1
    """Number of segments, e.g. groups of query heads that share one key head."""
