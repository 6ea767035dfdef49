"""Reassignment: models are moved to the parents whose updates they have.

The first tree joins nearest models. Two siblings that were trained on the same data may lie nearer to each other than to
their parent. The inheritance test finds such edges, and this module repairs them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from mothr.baselines.linea.inheritance import Triple
from mothr.baselines.parts.trees import Pair
from mothr.benchmark.weights.combine import Array

Violations = Callable[[Iterable[Triple]], list[float]]
"""Maps triples (child, parent, model above the parent) to violations; above 1 the child does not inherit the update."""


def reassign(
    tree: Sequence[Pair], distances: Array, violations_of: Violations, max_siblings: int
) -> tuple[dict[int, int], dict[int, float]]:
    """Returns ({child: parent}, {child: violation}) after every model has moved to a parent whose update it has.

    Let c be a model, p its parent and a the model above p. There are two moves.

    * If c lacks the update u = p - a, then c moves to a, or below the nearest other child of a whose update it has.
    * If c is nearer to another model s than to p, where s is a child of p or of a, and c has the update of s, then c moves
      below s: <c - a', s - a'> / |s - a'|^2 is about 1, with a' the model above s.

    The moves are repeated until none is left. No model moves before its own parent stays, and no model goes back to a
    parent that it has left.

    Args:
        tree: (parent, child) pairs of one tree.
        distances: (n, n) distances.
        violations_of: The inheritance test.
        max_siblings: Number of nearest candidates that are tried for each model.
    """
    parent_of = {child: parent for parent, child in tree}
    abandoned = set[Pair]()
    while True:
        violations = _present_violations(parent_of, violations_of)
        moving = {child for child, violation in violations.items() if violation > 1}
        new_parent = _siblings_with_inherited_update(
            parent_of, moving, abandoned, distances, violations_of, max_siblings
        )
        moves: dict[int, int] = {}
        for child in sorted(new_parent.keys() | {child for child in moving if parent_of[child] not in moving}):
            target = new_parent[child] if child in new_parent else parent_of[parent_of[child]]
            if target not in moves and child not in moves.values():  # neither of the two moves in the same round
                moves[child] = target
        if not moves:
            return parent_of, violations
        abandoned |= {(parent_of[child], child) for child in moves}
        parent_of |= moves


def _present_violations(parent_of: Mapping[int, int], violations_of: Violations) -> dict[int, float]:
    """Returns {child: violation of its present edge}; 0 for children of the root, which cannot be tested."""
    triples = {child: (child, parent, parent_of[parent]) for child, parent in parent_of.items() if parent in parent_of}
    return dict.fromkeys(parent_of, 0.0) | dict(zip(triples, violations_of(triples.values()), strict=True))


def _siblings_with_inherited_update(
    parent_of: Mapping[int, int],
    moving: set[int],
    abandoned: set[Pair],
    distances: Array,
    violations_of: Violations,
    max_siblings: int,
) -> dict[int, int]:
    """Returns {child: the nearest candidate parent whose update it has}, for the children that have one.

    Candidates of a moving child are the other children of the model above its parent. Those of any other child are nearer
    to it than its parent, and are children of its parent or of the model above that.
    """
    staying: dict[int, list[int]] = {}
    for child, parent in parent_of.items():
        staying.setdefault(parent, []).extend([] if child in moving else [child])
    candidates: list[Triple] = []
    for child, parent in parent_of.items():
        if parent in moving:
            continue
        tops = [*([parent_of[parent]] if parent in parent_of else []), *([] if child in moving else [parent])]
        reach = np.inf if child in moving else distances[child, parent]
        beside = [
            (child, sibling, top)
            for top in tops
            for sibling in staying[top]
            if sibling not in (child, parent)
            and (sibling, child) not in abandoned
            and distances[child, sibling] < reach
        ]
        candidates += sorted(beside, key=lambda triple: distances[triple[:2]])[:max_siblings]
    inherited: dict[int, int] = {}
    for (child, sibling, _), violation in zip(candidates, violations_of(candidates), strict=True):
        if violation <= 1:
            inherited.setdefault(child, sibling)
    return inherited
