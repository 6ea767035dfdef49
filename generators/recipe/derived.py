"""Plans the derived nodes: merges, copies and distilled students of trained nodes."""

from collections.abc import Callable, Sequence

import numpy as np

from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import NodeId
from mothr.generators.recipe.node import PlannedNode
from mothr.generators.recipe.schema import Derived, Recipe
from mothr.generators.values.seeds import derive, numpy_generator
from mothr.generators.values.transforms import Merge


def derived_nodes(
    recipe: Recipe, trained: Sequence[PlannedNode], node_id: Callable[[str], NodeId]
) -> list[PlannedNode]:
    """Returns the nodes that the recipe's ``[[derived]]`` entries make of the trained nodes.

    Args:
        recipe: The recipe.
        trained: The trained nodes of all trees.
        node_id: Returns the id of the node at a path.

    Raises:
        MothrError: a tree has too few nodes.
    """
    inner = {source for node in trained for source in node.sources}
    nodes: list[PlannedNode] = []
    trees = len(recipe.roots)
    for number in range(len(recipe.roots)):
        members = [node for node in trained if node.root_number == number]
        if len(members) == 1 and len(recipe.roots) > 1:
            continue  # a single unrelated model: nothing is derived from it
        for entry, derived in enumerate(recipe.derived or ()):
            rng = numpy_generator(recipe.seed, str(number), "derived", entry)
            for count in range(derived.per_tree):
                used = {source for node in nodes if node.derived is derived for source in node.sources}
                sources = _draw_sources(recipe, derived, members, inner, used, rng)
                path = f"{sources[0].path}+{entry}.{count}"
                tree = number
                if derived.transform.kind == "distilled":
                    tree, trees = trees, trees + 1
                seed = derive(recipe.seed, path, "derived")
                nodes.append(_derived_node(recipe, derived, members, sources, tree, node_id(path), path, seed))
    return nodes


def _derived_node(
    recipe: Recipe,
    derived: Derived,
    members: Sequence[PlannedNode],
    sources: Sequence[PlannedNode],
    tree: int,
    id: NodeId,
    path: str,
    seed: int,
) -> PlannedNode:
    """Returns one derived node. A duplicate has its original's parents, a student has none, and any other has
    its sources as parents."""
    number = members[0].root_number
    ids = tuple(source.id for source in sources)
    student = derived.transform.kind == "distilled"
    if derived.transform.kind == "duplicate":
        parents, depth = sources[0].parents, sources[0].depth
    elif student:
        parents, depth = (), 0
    else:
        parents, depth = ids, 1 + max(source.depth for source in sources)
    return PlannedNode(
        id=id,
        path=path,
        parents=parents,
        sources=ids,
        root_number=number,
        tree=tree,
        depth=depth,
        tasks=tuple(dict.fromkeys(task for source in sources for task in source.tasks)),
        seed=seed,
        derived=derived,
        common_ancestor=_common_ancestor(sources, members),
        initialised_like=recipe.roots[number] if student else None,
    )


def _draw_sources(
    recipe: Recipe,
    derived: Derived,
    members: Sequence[PlannedNode],
    inner: set[NodeId],
    used: set[NodeId],
    rng: np.random.Generator,
) -> list[PlannedNode]:
    """Draws the source of a copy, or the parents of a merge; no parent of a merge is an ancestor of another.

    Args:
        recipe: The recipe.
        derived: The entry of the recipe.
        members: The trained nodes of the tree.
        inner: The nodes of all trees that have children.
        used: The sources of earlier nodes of the same entry, none of which is copied twice.
        rng: The generator of the draw.
    """
    suitable = {
        "any": lambda node: True,
        "leaf": lambda node: node.id not in inner,
        "inner": lambda node: node.id in inner,
        "root": lambda node: node.root is not None,
    }[derived.of]
    merge = derived.transform if isinstance(derived.transform, Merge) else None
    free = [node for node in members if suitable(node) and (merge is not None or node.id not in used)]
    if merge is not None:
        free = [node for node in free if node.root is None]  # the root is an ancestor of all other nodes
    sources: list[PlannedNode] = []
    for _ in range(merge.parents if merge else 1):
        if not free:
            raise MothrError(
                f"recipe {recipe.name}: tree {members[0].root_number} has too few nodes for derived.per_tree = {derived.per_tree} of kind "
                f"{derived.transform.kind} (of = {derived.of!r}); lower per_tree or make the tree larger"
            )
        source = free[rng.choice(len(free))]
        sources.append(source)
        free = [node for node in free if not (_is_above(node, source) or _is_above(source, node))]
    return sources


def _is_above(node: PlannedNode, other: PlannedNode) -> bool:
    """Returns whether ``node`` is ``other`` or an ancestor of it, by their paths."""
    return f"{other.path}/".startswith(f"{node.path}/")


def _common_ancestor(sources: Sequence[PlannedNode], members: Sequence[PlannedNode]) -> NodeId:
    common = [node for node in members if all(_is_above(node, source) for source in sources)]
    return max(common, key=lambda node: node.depth).id
