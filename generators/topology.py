"""Recipe -> the nodes to make: ids, parents, tasks and kinds of edges, all drawn before anything is trained."""

import hashlib
from dataclasses import dataclass

from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import NodeId
from mothr.generators.recipe import EdgeKind, Recipe, Root, Training
from mothr.generators.seeds import derive, numpy_generator


@dataclass(frozen=True)
class PlannedNode:
    """One model to be made."""

    id: NodeId
    """12 hex digits that say nothing about the node."""
    path: str
    """Its place, e.g. ``2/0/3``: third root, its first child, that one's fourth child."""
    parent: NodeId | None
    """None for a root."""
    tree: int
    """Position of its root in the recipe."""
    tasks: tuple[str, ...]
    """What it is trained on: a mixture for a root, one task for a child."""
    seed: int
    """Seed of everything drawn while it is trained."""
    root: Root | None
    """The recipe's entry, for a root."""
    edge: EdgeKind | None
    """How it is made from its parent, for a child."""
    rank: int | None
    """LoRA rank, where its edge has one."""

    @property
    def depth(self) -> int:
        """Number of edges above it."""
        return self.path.count("/")

    @property
    def training(self) -> Training:
        """How it is trained."""
        spec = self.root or self.edge
        assert spec is not None
        return spec.training


def plan(recipe: Recipe) -> list[PlannedNode]:
    """Returns the nodes of ``recipe``, parents before children.

    Raises:
        MothrError: a node has more children than there are tasks left for them.
    """
    nodes: list[PlannedNode] = []
    for tree, root in enumerate(recipe.roots):
        path = str(tree)
        level = [PlannedNode(_id(recipe, path), path, None, tree, root.tasks, derive(root.seed, "root"), root, None, None)]
        for children in recipe.topology.branching:
            nodes += level
            level = [child for parent in level for child in _children(recipe, parent, children)]
        nodes += level
    return nodes


def _children(recipe: Recipe, parent: PlannedNode, count: int) -> list[PlannedNode]:
    """Draws ``count`` children: a kind of edge each, then a task that neither the parent nor a sibling has."""
    rng = numpy_generator(recipe.seed, parent.path, "children")
    shares = [edge.share / sum(kind.share for kind in recipe.edges) for edge in recipe.edges]
    taken, found = set(parent.tasks), []
    for child in range(count):
        edge = recipe.edges[rng.choice(len(shares), p=shares)]
        free = [task for task in edge.tasks if task not in taken]
        if not free:
            raise MothrError(
                f"recipe {recipe.name}: node {parent.path} has {count} children but only {child} tasks are left for them "
                f"(a child never uses its parent's task, siblings never share one); add tasks to [[edges]] or lower topology.branching"
            )
        task = str(rng.choice(free))
        taken.add(task)
        path = f"{parent.path}/{child}"
        rank = int(rng.choice(edge.lora.ranks)) if edge.lora else None
        seed = derive(recipe.seed, path, "training")
        found.append(PlannedNode(_id(recipe, path), path, parent.id, parent.tree, (task,), seed, None, edge, rank))
    return found


def _id(recipe: Recipe, path: str) -> NodeId:
    return hashlib.sha256(f"{derive(recipe.seed, 'salt')}|{recipe.name}|{path}".encode()).hexdigest()[:12]
