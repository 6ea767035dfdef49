"""Recipe -> the nodes to make: ids, parents, tasks and kinds of edges, all drawn before anything is trained."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import NodeId
from mothr.generators.recipe.schema import Derived, EdgeKind, Recipe, Root, Topology
from mothr.generators.values.seeds import derive, numpy_generator
from mothr.generators.values.training import Training
from mothr.generators.values.transforms import Merge


@dataclass(frozen=True)
class PlannedNode:
    """One model to be made."""

    id: NodeId
    """12 hex digits that say nothing about the node."""
    path: str
    """Its place, e.g. ``2/0/3``: third root, its first child, that one's fourth child; ``2/0@50``: a checkpoint on the way to ``2/0``;
    ``2/0+1.0``: the first node that the recipe's second [[derived]] made, from ``2/0``."""
    parents: tuple[NodeId, ...]
    """The truth: none for a root, several for a merge, the nearest ones in the data set where nodes are withheld."""
    sources: tuple[NodeId, ...]
    """The models that it is made from, which must be there first."""
    root_number: int
    """Position in the recipe of the root that it came from, or whose student it is."""
    tree: int
    """Its Model Tree: the number of its root, or, for a student, which is a tree of its own, one beyond the recipe's roots."""
    depth: int
    """Number of edges above it, withheld nodes included."""
    tasks: tuple[str, ...]
    """What it was last trained on: a mixture for a root, one task for a child, its sources' for a derived node."""
    seed: int
    """Seed of everything drawn while it is made."""
    root: Root | None = None
    """The recipe's entry, for a root."""
    edge: EdgeKind | None = None
    """How it is made from its parent, for a child."""
    derived: Derived | None = None
    """How it is made from its sources, for a derived node."""
    like: Root | None = None
    """For a distilled student: the root of its teacher's tree; the student's fresh weights are drawn as that root's were."""
    rank: int | None = None
    """LoRA rank, where its edge has one."""
    base: NodeId | None = None
    """The nearest common ancestor of a merge's sources."""
    during: NodeId | None = None
    """For a checkpoint: the node on the way to which it is kept."""
    kept: tuple[tuple[int, NodeId], ...] = ()
    """Steps after which its training keeps a checkpoint, and the checkpoint's id."""
    step: int | None = None
    """For a checkpoint: the step after which it is kept; 0 for fresh weights."""
    withheld: bool = False
    """Whether it is left out of the data set."""
    gap: int = 0
    """Number of withheld nodes between it and its parent."""

    @property
    def training(self) -> Training | None:
        """How it is trained; None for a derived node that is not."""
        spec = self.root or self.edge or self.derived
        assert spec is not None
        return spec.training

    @property
    def steps(self) -> int:
        """The work of making it, in optimizer steps; what is made without training, or along with another node, counts as one."""
        return self.training.steps if self.training and self.during is None else 1


def plan(recipe: Recipe) -> list[PlannedNode]:
    """Returns the nodes of ``recipe``, sources before what is made from them.

    Raises:
        MothrError: a node has more children than there are tasks left for them, or a tree has too few nodes to derive others from.
    """
    trained = [node for number in range(len(recipe.roots)) for node in _tree(recipe, number)]
    nodes = _with_checkpoints(recipe, trained) + _derived(recipe, trained)
    return _withhold(recipe, nodes)


# Trees of trained nodes


def _tree(recipe: Recipe, number: int) -> list[PlannedNode]:
    path, root, topology = str(number), recipe.roots[number], recipe.trees[number]
    first = PlannedNode(
        _id(recipe, path),
        path,
        (),
        (),
        root_number=number,
        tree=number,
        depth=0,
        tasks=root.tasks,
        seed=derive(root.seed, "root"),
        root=root,
    )
    children = _children_of(recipe, path, topology)
    nodes: list[PlannedNode] = []
    level = [(0, first)]
    while level:
        nodes += [node for _, node in level]
        level = [
            pair
            for own, parent in level
            for pair in zip(children[own], _children(recipe, parent, children[own], topology), strict=True)
        ]
    return nodes


def _children_of(recipe: Recipe, path: str, topology: Topology) -> list[list[int]]:
    """Returns the numbers of each node's children; the root is number 0."""
    if topology.random is not None:
        rng = numpy_generator(recipe.seed, path, "shape")
        parents = [int(rng.integers(child)) for child in range(1, topology.random)]
    elif topology.parents is not None:
        parents = list(topology.parents)
    elif topology.arms is not None:
        kinds = len(recipe.edges)
        parents = [max(0, child - kinds) for child in range(1, kinds * topology.arms + 1)]
    else:
        parents, level = [], [0]
        for count in topology.branching or ():
            first = len(parents) + 1
            parents += [parent for parent in level for _ in range(count)]
            level = list(range(first, len(parents) + 1))
    children: list[list[int]] = [[] for _ in range(len(parents) + 1)]
    for child, parent in enumerate(parents, start=1):
        children[parent].append(child)
    return children


def _children(recipe: Recipe, parent: PlannedNode, numbers: Sequence[int], topology: Topology) -> list[PlannedNode]:
    """Draws the children of those numbers: a kind of edge each (its own arm's, in a topology of arms), then a task by the kind's rule.

    What the topology says of a child's task, rank and seed is not drawn.
    """
    count, by_kind = len(numbers), topology.arms is not None
    rng = numpy_generator(recipe.seed, parent.path, "children")
    shares = [edge.share / sum(kind.share for kind in recipe.edges) for edge in recipe.edges]
    taken, found = set(parent.tasks), []
    common: dict[tuple[str, ...], str] = {}
    for child in range(count):
        drawn = child if by_kind else rng.choice(len(shares), p=shares)
        edge = parent.edge if by_kind and parent.edge else recipe.edges[drawn]
        tasks: tuple[str, ...]
        if topology.tasks is not None:
            tasks = (topology.tasks[numbers[child] - 1],)
        elif edge.tasks is None:
            tasks = parent.tasks
        elif edge.task_rule == "shared":
            if edge.tasks not in common:
                common[edge.tasks] = _draw_task(recipe, parent, edge.tasks, set(parent.tasks), child, count, rng)
            tasks = (common[edge.tasks],)
        else:
            tasks = (_draw_task(recipe, parent, edge.tasks, taken, child, count, rng),)
            taken.update(tasks)
        path = f"{parent.path}/{child}"
        rank = int(rng.choice(edge.lora.ranks)) if edge.lora else None
        if rank is not None and topology.ranks is not None:
            rank = topology.ranks[numbers[child] - 1]
        seed = (
            topology.seeds[numbers[child] - 1] if topology.seeds is not None else derive(recipe.seed, path, "training")
        )
        found.append(
            PlannedNode(
                _id(recipe, path),
                path,
                (parent.id,),
                (parent.id,),
                root_number=parent.root_number,
                tree=parent.tree,
                depth=parent.depth + 1,
                tasks=tasks,
                seed=seed,
                edge=edge,
                rank=rank,
            )
        )
    return found


def _draw_task(
    recipe: Recipe,
    parent: PlannedNode,
    tasks: Sequence[str],
    taken: set[str],
    child: int,
    count: int,
    rng: np.random.Generator,
) -> str:
    free = [task for task in tasks if task not in taken]
    if not free:
        raise MothrError(
            f"recipe {recipe.name}: node {parent.path} has {count} children but only {child} tasks are left for them "
            f"(a child never uses its parent's task, siblings never share one); add tasks to [[edges]] or lower the topology's counts"
        )
    return str(rng.choice(free))


def _with_checkpoints(recipe: Recipe, trained: Sequence[PlannedNode]) -> list[PlannedNode]:
    """Returns ``trained`` with the checkpoints that are kept on the way to each node, which form a chain in time."""
    nodes: list[PlannedNode] = []
    longer: dict[NodeId, int] = {}  # node -> edges that checkpoints add to the way from the root to it
    for node in trained:
        training = node.training
        every = training.keep_every if training else None
        added = longer.get(node.parents[0], 0) if node.parents else 0
        steps = range(0 if node.root else every, training.steps, every) if training and every else range(0)
        parents, kept = node.parents, []
        for position, step in enumerate(steps):
            path = f"{node.path}@{step}"
            nodes.append(
                replace(
                    node,
                    id=_id(recipe, path),
                    path=path,
                    parents=parents,
                    depth=node.depth + added + position,
                    during=node.id,
                    step=step,
                )
            )
            parents = (nodes[-1].id,)
            kept.append((step, nodes[-1].id))
        longer[node.id] = added + len(steps)
        nodes.append(replace(node, parents=parents, depth=node.depth + longer[node.id], kept=tuple(kept)))
    return nodes


# Derived nodes


def _derived(recipe: Recipe, trained: Sequence[PlannedNode]) -> list[PlannedNode]:
    inner = {parent for node in trained for parent in node.sources}
    found: list[PlannedNode] = []
    trees = len(recipe.roots)
    for number in range(len(recipe.roots)):
        members = [node for node in trained if node.root_number == number]
        if len(members) == 1 and len(recipe.roots) > 1:
            continue  # a stranger: nothing is derived from it
        for entry, derived in enumerate(recipe.derived or ()):
            rng = numpy_generator(recipe.seed, str(number), "derived", entry)
            for count in range(derived.per_tree):
                taken = {source for node in found if node.derived is derived for source in node.sources}
                sources = _draw_sources(recipe, derived, members, inner, taken, number, rng)
                path = f"{sources[0].path}+{entry}.{count}"
                student = derived.transform.kind == "distilled"
                tree, trees = (trees, trees + 1) if student else (number, trees)
                if derived.transform.kind == "duplicate":
                    parents, depth = sources[0].parents, sources[0].depth
                else:
                    parents = () if student else tuple(source.id for source in sources)
                    depth = 0 if student else 1 + max(source.depth for source in sources)
                found.append(
                    PlannedNode(
                        _id(recipe, path),
                        path,
                        parents,
                        tuple(source.id for source in sources),
                        root_number=number,
                        tree=tree,
                        depth=depth,
                        tasks=tuple(dict.fromkeys(task for source in sources for task in source.tasks)),
                        seed=derive(recipe.seed, path, "derived"),
                        derived=derived,
                        base=_common_ancestor(sources, members),
                        like=recipe.roots[number] if student else None,
                    )
                )
    return found


def _draw_sources(
    recipe: Recipe,
    derived: Derived,
    members: Sequence[PlannedNode],
    inner: set[NodeId],
    taken: set[NodeId],
    number: int,
    rng: np.random.Generator,
) -> list[PlannedNode]:
    """Draws the node that a derived one is made from, or the several of a merge, none of which is another's ancestor."""
    suits = {
        "any": lambda node: True,
        "leaf": lambda node: node.id not in inner,
        "inner": lambda node: node.id in inner,
        "root": lambda node: node.root is not None,
    }[derived.of]
    merge = derived.transform if isinstance(derived.transform, Merge) else None
    free = [node for node in members if suits(node) and (merge is not None or node.id not in taken)]
    if merge is not None:
        free = [node for node in free if node.root is None]  # the ancestor of all others
    sources: list[PlannedNode] = []
    for _ in range(merge.parents if merge else 1):
        if not free:
            raise MothrError(
                f"recipe {recipe.name}: tree {number} has too few nodes for derived.per_tree = {derived.per_tree} of kind "
                f"{derived.transform.kind} (of = {derived.of!r}); lower per_tree or make the tree larger"
            )
        drawn = free[rng.choice(len(free))]
        sources.append(drawn)
        free = [node for node in free if not (_is_above(node, drawn) or _is_above(drawn, node))]
    return sources


def _is_above(node: PlannedNode, other: PlannedNode) -> bool:
    return f"{other.path}/".startswith(f"{node.path}/")


def _common_ancestor(sources: Sequence[PlannedNode], members: Sequence[PlannedNode]) -> NodeId:
    above = [node for node in members if all(_is_above(node, source) for source in sources)]
    return max(above, key=lambda node: node.depth).id


# Withheld nodes


def _withhold(recipe: Recipe, nodes: list[PlannedNode]) -> list[PlannedNode]:
    """Marks the drawn share of each tree's inner nodes as withheld, and hangs their children from the nearest ancestor left."""
    if recipe.withheld is None:
        return nodes
    by_id = {node.id: node for node in nodes}
    parents = {parent for node in nodes for parent in node.parents}
    hidden: set[NodeId] = set()
    for number in range(len(recipe.roots)):
        inner = sorted(node.id for node in nodes if node.root_number == number and node.edge and node.id in parents)
        count = round(recipe.withheld * len(inner))
        hidden.update(numpy_generator(recipe.seed, str(number), "withheld").permutation(inner)[:count].tolist())
    found = []
    for node in nodes:
        left, gap = node.parents, 0
        while len(left) == 1 and left[0] in hidden:
            left, gap = by_id[left[0]].parents, gap + 1
        if any(parent in hidden for parent in left):
            raise MothrError(
                f"recipe {recipe.name}: withheld and merges do not go together: a merge's parent would be missing"
            )
        found.append(replace(node, parents=left, gap=gap, withheld=node.id in hidden))
    return found


def relation_of(node: PlannedNode) -> tuple[Literal["finetune", "merge", "quantized"] | None, str | None]:
    """Returns the relation of ``node`` to its parents and its finer kind, as the truth has them.

    The Hub knows no relation for pruned, noised and permuted copies; people tag them as fine-tuned, and so does the truth.
    """
    if node.derived is not None:
        transform = node.derived.transform
        if transform.kind == "merge":
            return "merge", transform.method
        if transform.kind == "quantized":
            return "quantized", transform.precision
        return ("finetune" if node.parents else None), transform.kind
    if node.edge is not None:
        return "finetune", node.edge.subtype
    return ("finetune", "pretraining") if node.parents else (None, None)


def _id(recipe: Recipe, path: str) -> NodeId:
    return hashlib.sha256(f"{derive(recipe.seed, 'salt')}|{recipe.name}|{path}".encode()).hexdigest()[:12]
