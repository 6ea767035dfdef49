"""Recipe -> planned nodes: ids, parents, tasks and kinds of edges, all drawn before anything is trained."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import NodeId
from mothr.generators.families import FAMILIES, Family
from mothr.generators.recipe.derived import derived_nodes
from mothr.generators.recipe.drawn import AnyRecipe, DrawnRecipe
from mothr.generators.recipe.drawn_plan import plan_drawn
from mothr.generators.recipe.node import PlannedNode, id_of
from mothr.generators.recipe.schema import EdgeKind, Recipe, Topology
from mothr.generators.recipe.shapes import parents_of
from mothr.generators.sources.source import Source
from mothr.generators.values.seeds import derive, numpy_generator


def plan(recipe: AnyRecipe) -> list[PlannedNode]:
    """Returns the nodes of ``recipe``; every node comes after its sources.

    Raises:
        MothrError: a node has more children than tasks are left for them, or a tree has too few nodes for the
            derived ones, or drawn values contradict each other.
    """
    if isinstance(recipe, DrawnRecipe):
        return plan_drawn(recipe)
    trained = [node for number in range(len(recipe.roots)) for node in _tree(recipe, number)]
    derived = derived_nodes(recipe, trained, lambda path: node_id(recipe, path))
    return _withhold(recipe, _with_checkpoints(recipe, trained) + derived)


def family_of(recipe: AnyRecipe) -> Family:
    """Returns the family of the models of ``recipe``; of a drawn recipe, with the sizes of its first tree."""
    model = plan_drawn(recipe)[0].model if isinstance(recipe, DrawnRecipe) else recipe.model
    return FAMILIES[recipe.family](**(model or {}))


def sources_of(recipe: AnyRecipe) -> tuple[Source, ...]:
    """Returns the existing models that the roots of ``recipe`` start from, each once."""
    roots = recipe.roots if isinstance(recipe, Recipe) else [node.root for node in plan_drawn(recipe) if node.root]
    return tuple(dict.fromkeys(root.source for root in roots if root.source is not None))


def tasks_of(recipe: AnyRecipe) -> tuple[str, ...]:
    """Returns the tasks that ``recipe`` names; of a drawn recipe, those that were drawn; sorted."""
    if isinstance(recipe, Recipe):
        return recipe.tasks
    return tuple(sorted({task for node in plan_drawn(recipe) for task in node.tasks}))


def node_id(recipe: Recipe, path: str) -> NodeId:
    """Returns the id of the node at ``path``: 12 hex digits of a salted hash, which carry no information
    about the node."""
    return id_of(recipe.seed, recipe.name, path)


# Trees of trained nodes


def _tree(recipe: Recipe, number: int) -> list[PlannedNode]:
    """Returns the trained nodes of one tree, level by level."""
    path, root, topology = str(number), recipe.roots[number], recipe.trees[number]
    root_node = PlannedNode(
        id=node_id(recipe, path),
        path=path,
        parents=(),
        sources=(),
        root_number=number,
        tree=number,
        depth=0,
        tasks=root.tasks,
        seed=derive(root.seed, "root"),
        root=root,
    )
    child_numbers = _child_numbers(recipe, path, topology)
    nodes: list[PlannedNode] = []
    level = [(0, root_node)]
    while level:
        nodes += [node for _, node in level]
        level = [
            pair
            for number, parent in level
            for pair in zip(
                child_numbers[number], _children(recipe, parent, child_numbers[number], topology), strict=True
            )
        ]
    return nodes


def _child_numbers(recipe: Recipe, path: str, topology: Topology) -> list[list[int]]:
    """Returns the numbers of the children of node 0 (the root), 1, 2, ..."""
    parents = parents_of(topology, numpy_generator(recipe.seed, path, "shape"), len(recipe.edges))
    children: list[list[int]] = [[] for _ in range(len(parents) + 1)]
    for child, parent in enumerate(parents, start=1):
        children[parent].append(child)
    return children


def _children(recipe: Recipe, parent: PlannedNode, numbers: Sequence[int], topology: Topology) -> list[PlannedNode]:
    """Draws the children of ``parent``: for each a kind of edge, then a task by the rule of that kind, then a
    rank.

    In a topology of arms the kind of edge is not drawn: each arm has its own. Tasks, ranks and seeds in the
    topology replace drawn ones.
    """
    rng = numpy_generator(recipe.seed, parent.path, "children")
    shares = [edge.share / sum(kind.share for kind in recipe.edges) for edge in recipe.edges]
    used: set[str] = set(parent.tasks)
    shared: dict[tuple[str, ...], str] = {}
    children = []
    for position, number in enumerate(numbers):
        drawn = position if topology.arms is not None else rng.choice(len(shares), p=shares)
        edge = parent.edge if topology.arms is not None and parent.edge else recipe.edges[drawn]
        if topology.tasks is not None:
            tasks: tuple[str, ...] = (topology.tasks[number - 1],)
        else:
            tasks = _draw_tasks(recipe, parent, edge, used, shared, (position, len(numbers)), rng)
        path = f"{parent.path}/{position}"
        rank = int(rng.choice(edge.lora.ranks)) if edge.lora else None
        if rank is not None and topology.ranks is not None:
            rank = topology.ranks[number - 1]
        seed = derive(recipe.seed, path, "training") if topology.seeds is None else topology.seeds[number - 1]
        children.append(
            PlannedNode(
                id=node_id(recipe, path),
                path=path,
                parents=(parent.id,),
                sources=(parent.id,),
                root_number=parent.root_number,
                tree=parent.tree,
                depth=parent.depth + 1,
                tasks=tasks,
                seed=seed,
                edge=edge,
                rank=rank,
            )
        )
    return children


def _draw_tasks(
    recipe: Recipe,
    parent: PlannedNode,
    edge: EdgeKind,
    used: set[str],
    shared: dict[tuple[str, ...], str],
    position: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[str, ...]:
    """Returns the tasks of the next child by the rule of its kind of edge.

    Args:
        recipe: The recipe.
        parent: The parent.
        edge: The child's kind of edge.
        used: Tasks of the parent and of earlier siblings; a task drawn for this child alone is added.
        shared: The task that all children share, by the tasks it was drawn from; a task drawn here is added.
        position: Position of the child among its siblings, and their number.
        rng: The generator of the draw.
    """
    if edge.tasks is None:
        return parent.tasks
    if edge.task_rule == "shared":
        if edge.tasks not in shared:
            shared[edge.tasks] = _draw_task(recipe, parent, edge.tasks, set(parent.tasks), position, rng)
        return (shared[edge.tasks],)
    task = _draw_task(recipe, parent, edge.tasks, used, position, rng)
    used.add(task)
    return (task,)


def _draw_task(
    recipe: Recipe,
    parent: PlannedNode,
    tasks: Sequence[str],
    excluded: set[str],
    position: tuple[int, int],
    rng: np.random.Generator,
) -> str:
    free = [task for task in tasks if task not in excluded]
    if not free:
        child, count = position
        raise MothrError(
            f"recipe {recipe.name}: node {parent.path} has {count} children but only {child} tasks are left for them "
            f"(a child never uses its parent's task, siblings never share one); add tasks to [[edges]] or lower the topology's counts"
        )
    return str(rng.choice(free))


def _with_checkpoints(recipe: Recipe, trained: Sequence[PlannedNode]) -> list[PlannedNode]:
    """Returns ``trained`` with the checkpoints of each node's training before it; they form a chain in the
    order of time."""
    nodes: list[PlannedNode] = []
    added_depth: dict[NodeId, int] = {}  # edges that checkpoints add between the root and a node
    for node in trained:
        training = node.training
        interval = training.keep_every if training else None
        added = added_depth.get(node.parents[0], 0) if node.parents else 0
        steps = range(0 if node.root else interval, training.steps, interval) if training and interval else range(0)
        parents, checkpoints = node.parents, []
        for position, step in enumerate(steps):
            path = f"{node.path}@{step}"
            checkpoint = replace(
                node,
                id=node_id(recipe, path),
                path=path,
                parents=parents,
                depth=node.depth + added + position,
                checkpoint_of=node.id,
                step=step,
            )
            nodes.append(checkpoint)
            parents = (checkpoint.id,)
            checkpoints.append((step, checkpoint.id))
        added_depth[node.id] = added + len(steps)
        depth = node.depth + added_depth[node.id]
        nodes.append(replace(node, parents=parents, depth=depth, checkpoints=tuple(checkpoints)))
    return nodes


# Withheld nodes


def _withhold(recipe: Recipe, nodes: list[PlannedNode]) -> list[PlannedNode]:
    """Marks the drawn fraction of each tree's inner nodes as withheld.

    The parent of a withheld node's child becomes the nearest ancestor that is in the data set.
    """
    if recipe.withheld is None:
        return nodes
    by_id = {node.id: node for node in nodes}
    all_parents = {parent for node in nodes for parent in node.parents}
    withheld: set[NodeId] = set()
    for number in range(len(recipe.roots)):
        inner = sorted(node.id for node in nodes if node.root_number == number and node.edge and node.id in all_parents)
        count = round(recipe.withheld * len(inner))
        withheld.update(numpy_generator(recipe.seed, str(number), "withheld").permutation(inner)[:count].tolist())
    result = []
    for node in nodes:
        parents, gap = node.parents, 0
        while len(parents) == 1 and parents[0] in withheld:
            parents, gap = by_id[parents[0]].parents, gap + 1
        if any(parent in withheld for parent in parents):
            raise MothrError(
                f"recipe {recipe.name}: withheld and merges cannot be combined, because a merge's parent would be missing; remove one"
            )
        result.append(replace(node, parents=parents, withheld_ancestors=gap, withheld=node.id in withheld))
    return result
