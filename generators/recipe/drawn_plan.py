"""Drawn recipe -> planned nodes. Every value is drawn before anything is trained.

A draw is a pure function of the recipe's seed, the number of the draw, the node (or the tree) and the field.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from mothr.benchmark.errors import MothrError
from mothr.benchmark.faults import faults
from mothr.benchmark.graph import NodeId
from mothr.generators.families import FAMILIES, Family
from mothr.generators.recipe.distribution import KINDS, Drawer, Scope
from mothr.generators.recipe.drawn import DrawnRecipe, TreeValues
from mothr.generators.recipe.node import PlannedNode, id_of
from mothr.generators.recipe.schema import EdgeKind, Root, Topology
from mothr.generators.recipe.shapes import parents_of
from mothr.generators.values.laundered_sizes import result_model
from mothr.generators.values.laundering import Decoy, Diluted, LaunderingTable
from mothr.generators.values.seeds import derive, numpy_generator
from mothr.generators.values.training import check_heads
from mothr.generators.values.transforms import Merge

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class DrawnTree:
    """The drawn values of one tree, and its nodes so far."""

    number: int
    """Number of the tree."""
    model: Mapping[str, Any]
    """The root's model configuration."""
    values: TreeValues
    """Storage, and the numbers of strangers and of withheld nodes."""
    root: Root
    """The root."""
    drawn: Mapping[str, Any]
    """Path -> value of the fields that were drawn for the tree."""
    tree_numbers: Iterator[int]
    """Numbers for further trees: strangers and decoys."""
    nodes: list[PlannedNode] = field(default_factory=list)
    """The nodes, in the order of their numbers."""
    outside: list[PlannedNode] = field(default_factory=list)
    """A stranger that is left out of the data set, for laundered copies that are diluted with it; or none."""
    above: dict[NodeId, frozenset[NodeId]] = field(default_factory=dict)
    """Node -> the node and all of its ancestors."""

    def add(self, node: PlannedNode) -> None:
        """Adds ``node`` to the tree."""
        self.nodes.append(node)
        self.above[node.id] = frozenset({node.id}).union(*(self.above.get(source, ()) for source in node.sources))


def plan_drawn(recipe: DrawnRecipe) -> list[PlannedNode]:
    """Returns the nodes of ``recipe``; every node comes after its sources.

    Raises:
        MothrError: Drawn values contradict each other, for example a LoRA rank above the width. The message names
            the node and the field.
    """
    tree_numbers, nodes = count(recipe.trees), []
    drawer = _drawer(recipe, "recipe", "tree", "")
    template = drawer.draw(recipe.model_dump(exclude_none=True))
    kinds = [_drawer(recipe, "kind", "edge", f"kind {index}") for index in range(len(recipe.edges))]
    template["edges"] = [kind.draw(template["edges"][index], f"edges[{index}]") for index, kind in enumerate(kinds)]
    _check_shares(recipe, template["edges"])
    template["drawn"] = {path: value for part in (drawer, *kinds) for path, value in part.drawn.items()}
    for number in range(recipe.trees):
        tree = _draw_tree(recipe, template, number, tree_numbers)
        nodes += [*tree.outside, *_withhold(recipe, tree)]
        nodes += [_stranger(recipe, template, tree, next(tree_numbers)) for _ in range(tree.values.strangers)]
    return nodes


def _drawer(
    recipe: DrawnRecipe,
    scope: Scope,
    default: Scope,
    place: str,
    model: Mapping[str, Any] | None = None,
    label: str = "",
) -> Drawer:
    """Returns the drawer of the tree, edge or kind of edges at ``place``; ``label`` names it in error messages."""

    def generator(path: str) -> np.random.Generator:
        return numpy_generator(recipe.own_seed, "field", scope, place, path)

    return Drawer(scope, default, generator, model or {}, {}, f"recipe {recipe.name}: {label}")


def _check_shares(recipe: DrawnRecipe, kinds: Sequence[Mapping[str, Any]]) -> None:
    """Checks the relative frequencies of the kinds of edges.

    Raises:
        MothrError: One of them is no number above 0, or is still a distribution.
    """
    for index, kind in enumerate(kinds):
        share = kind.get("share", 1.0)
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1e6:
            raise MothrError(
                f"recipe {recipe.name}: edges[{index}].share: {share!r} is not a number above 0 and at most 1e6; "
                "give a number, or a distribution with per = 'recipe'"
            )


def _validated(kind: type[T], values: Any, place: str) -> T:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        text = "; ".join(faults(error, kind))
        tables = {entry["type"] for entry in error.errors() if isinstance(entry["input"], Mapping)}
        if "union_tag_not_found" in tables:
            text += "; give it a kind"
        elif any(name.endswith("_type") for name in tables):
            text += f"; a distribution has one of the keys {', '.join(KINDS)}"
        raise MothrError(f"{place}: {text}") from None


# Trees


def _draw_tree(recipe: DrawnRecipe, template: Mapping[str, Any], number: int, tree_numbers: Iterator[int]) -> DrawnTree:
    """Returns one tree with all of its nodes."""
    place = f"recipe {recipe.name}: tree {number}"
    drawer = _drawer(recipe, "tree", "tree", str(number), label=f"tree {number}: ")
    model = drawer.draw(template["model"], "model")
    _family(recipe, model, place)
    drawer = replace(drawer, model=model)
    topology = _validated(Topology, drawer.draw(template["topology"], "topology"), f"{place}: topology")
    values = _validated(
        TreeValues, {name: drawer.draw(template[name], name) for name in TreeValues.model_fields}, place
    )
    root = _root(recipe, drawer, template, str(number), place)
    edge_drawer = replace(drawer, default="edge")
    edges = [edge_drawer.draw(kind, f"edges[{index}]") for index, kind in enumerate(template["edges"])]
    tree = DrawnTree(number, model, values, root, {**template["drawn"], **drawer.drawn}, tree_numbers)
    tree.add(_root_node(recipe, tree, str(number), number))
    children: list[int] = []
    parents = parents_of(topology, numpy_generator(recipe.own_seed, str(number), "shape"), len(edges))
    for child, parent in enumerate(parents, start=1):
        path = f"{tree.nodes[parent].path}/{children.count(parent)}"
        children.append(parent)
        tree.add(_child(recipe, tree, edges, path, parent, is_leaf=child not in parents))
    if any(isinstance(node.edge.transform, Diluted) for node in tree.nodes if node.edge):
        tree.outside.append(_outsider(recipe, template, tree))
    return tree


def _family(recipe: DrawnRecipe, model: Mapping[str, Any], place: str) -> Family:
    kind = FAMILIES[recipe.family]
    try:
        return kind(**model)
    except ValidationError as error:
        fields: Any = kind  # every family is a pydantic model; the protocol does not say so
        raise MothrError(f"{place}: model: {'; '.join(faults(error, fields))}") from None


def _root(recipe: DrawnRecipe, drawer: Drawer, template: Mapping[str, Any], path: str, place: str) -> Root:
    values = drawer.draw(template["root"], "root")
    own = {"name": path, "seed": derive(recipe.own_seed, path, "root")}
    root = _validated(Root, {**values, **own}, f"{place}: root")
    _check_training(_family(recipe, drawer.model, place), root, f"{place}: root")
    return root


def _root_node(recipe: DrawnRecipe, tree: DrawnTree, path: str, number: int) -> PlannedNode:
    return PlannedNode(
        id=id_of(recipe.own_seed, recipe.name, path),
        path=path,
        parents=(),
        sources=(),
        root_number=number,
        tree=number,
        depth=0,
        tasks=tree.root.tasks,
        seed=derive(tree.root.seed, "root"),
        root=tree.root,
        model=tree.model,
        stored=tree.values.stored,
        drawn=tree.drawn,
    )


def _stranger(recipe: DrawnRecipe, template: Mapping[str, Any], tree: DrawnTree, number: int) -> PlannedNode:
    """Returns an unrelated model with the architecture of ``tree``, and with a drawn training of its own."""
    path = f"{tree.number}~{number}"
    drawer = _drawer(recipe, "tree", "tree", path, tree.model, f"stranger {path}: ")
    root = _root(recipe, drawer, template, path, f"recipe {recipe.name}: stranger {path}")
    return _root_node(recipe, replace(tree, root=root, drawn=drawer.drawn), path, number)


def _outsider(recipe: DrawnRecipe, template: Mapping[str, Any], tree: DrawnTree) -> PlannedNode:
    """Returns an unrelated model that is left out of the data set. Laundered copies are diluted with it."""
    path = _outsider_path(tree.number)
    drawer = _drawer(recipe, "tree", "tree", path, tree.model, f"outsider {path}: ")
    root = _root(recipe, drawer, template, path, f"recipe {recipe.name}: outsider {path}")
    node = _root_node(recipe, replace(tree, root=root, drawn=drawer.drawn), path, tree.number)
    return replace(node, withheld=True)


def _outsider_path(tree: int) -> str:
    return f"{tree}~outside"


def _withhold(recipe: DrawnRecipe, tree: DrawnTree) -> list[PlannedNode]:
    """Returns the nodes of ``tree``, with the drawn number of inner nodes marked as withheld.

    A parent of a merge is never withheld, because the parents of the merge would then be undefined. If a tree has
    too few suitable nodes, fewer are withheld.
    """
    merged = {source for node in tree.nodes if len(node.sources) > 1 for source in node.sources}
    inner = {source for node in tree.nodes for source in node.sources} - merged
    suitable = [node.id for node in tree.nodes if node.edge is not None and node.id in inner and len(node.parents) == 1]
    order = numpy_generator(recipe.own_seed, str(tree.number), "withheld").permutation(len(suitable))
    withheld = {suitable[index] for index in order[: tree.values.withheld]}
    by_id, result = {node.id: node for node in tree.nodes}, []
    for node in tree.nodes:
        parents, gap = node.parents, 0
        while len(parents) == 1 and parents[0] in withheld:
            parents, gap = by_id[parents[0]].parents, gap + 1
        result.append(replace(node, parents=parents, withheld_ancestors=gap, withheld=node.id in withheld))
    return result


# Children


def _child(
    recipe: DrawnRecipe, tree: DrawnTree, kinds: Sequence[Mapping[str, Any]], path: str, parent: int, is_leaf: bool
) -> PlannedNode:
    """Draws one child: its kind of edge, the fields of this kind, further parents of a merge, and its task."""
    parent_node = tree.nodes[parent]
    rng = numpy_generator(recipe.own_seed, path, "kind")
    for index in _order_of_kinds(kinds, rng):
        label = f"node {path}: edges[{index}]"
        place = f"recipe {recipe.name}: {label}"
        drawer = _drawer(recipe, "edge", "edge", path, parent_node.model, f"{label}.")
        edge = _validated(EdgeKind, drawer.draw(kinds[index]), place)
        _check_training(_family(recipe, parent_node.model or {}, place), edge, place)
        if not parent_node.tasks and (edge.tasks is None or edge.task_rule == "parent"):
            raise MothrError(
                f"{place}: the child has the tasks of its parent, a root with a source and no training, which has none; "
                "give the root a training, or the edge a training with tasks and another task_rule"
            )
        sources = _sources(tree, edge, parent_node, rng)
        if sources is None or (edge.leaf_only and not is_leaf):
            continue  # this kind is impossible at this place of the tree; the next one in the drawn order is taken
        try:
            model = _model_after(recipe, edge, parent_node, place)
            _check_sizes(_family(recipe, model, place), edge, place)
        except MothrError:
            if parent_node.model == tree.model:
                raise
            continue  # an earlier laundering left sizes that this kind cannot have, such as a single block
        tasks = _tasks(tree, edge, parent_node, numpy_generator(recipe.own_seed, path, "tasks"))
        node = _child_node(recipe, tree, edge, sources, tasks, path, drawer.drawn)
        return _as_laundered(recipe, tree, replace(node, model=model))
    raise MothrError(
        f"recipe {recipe.name}: node {path}: no kind of edges is possible here; add an [[edges]] entry without a transform"
    )


def _order_of_kinds(kinds: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> list[int]:
    """Returns the kinds of edges in random order; the first is drawn by the shares."""
    shares = np.array([float(kind.get("share", 1.0)) for kind in kinds])
    order = rng.choice(len(kinds), size=len(kinds), replace=False, p=shares / shares.sum())
    return [int(index) for index in order]


def _check_training(family: Family, part: Root | EdgeKind, place: str) -> None:
    """Checks the drawn tasks and training settings of a root or an edge.

    Raises:
        MothrError: An unknown task, or a learning rate of heads for a family without heads.
    """
    try:
        family.check_tasks(part.tasks or ())
        check_heads(part.training, family.has_heads)
    except (MothrError, ValueError) as error:
        raise MothrError(f"{place}: {error}") from None


def _check_sizes(family: Family, edge: EdgeKind, place: str) -> None:
    """Checks the drawn low-rank update of an edge.

    Raises:
        MothrError: A rank or a target that the model cannot have.
    """
    if edge.lora is not None:
        try:
            family.check_lora(edge.lora.ranks, edge.lora.targets)
        except ValueError as error:
            raise MothrError(f"{place}: {error}") from None


def _model_after(recipe: DrawnRecipe, edge: EdgeKind, parent: PlannedNode, place: str) -> Mapping[str, Any]:
    """Returns the model configuration of a child; a laundering may change it."""
    if not isinstance(edge.transform, LaunderingTable):
        return parent.model or {}
    try:
        return result_model(edge.transform, recipe.family, parent.model or {})
    except ValueError as error:
        raise MothrError(f"{place}: {error}") from None


def _as_laundered(recipe: DrawnRecipe, tree: DrawnTree, node: PlannedNode) -> PlannedNode:
    """Returns ``node`` with the second source of a diluted copy, or, for a decoy, as a tree of its own."""
    assert node.edge is not None
    spec = node.edge.transform
    if isinstance(spec, Diluted):
        return replace(node, sources=(*node.sources, id_of(recipe.own_seed, recipe.name, _outsider_path(tree.number))))
    if isinstance(spec, Decoy):
        return replace(node, parents=(), depth=0, tree=next(tree.tree_numbers))
    return node


def _sources(
    tree: DrawnTree, edge: EdgeKind, parent: PlannedNode, rng: np.random.Generator
) -> tuple[PlannedNode, ...] | None:
    """Returns the models that a child is made from: its parent, and the further parents of a merge.

    No parent of a merge is an ancestor of another one. Returns None if the tree has too few such models so far.
    """
    if isinstance(edge.transform, Diluted) and parent.model != tree.model:
        return None  # the stranger that is mixed in has the sizes of the root
    if not isinstance(edge.transform, Merge):
        return (parent,)
    sources = [parent]
    while len(sources) < edge.transform.parents:
        suitable = [
            node
            for node in tree.nodes
            if node.model == parent.model
            and not (node.edge is not None and node.edge.leaf_only)
            and not any(node.id in tree.above[source.id] or source.id in tree.above[node.id] for source in sources)
        ]
        if not suitable:
            return None
        sources.append(suitable[int(rng.integers(len(suitable)))])
    return tuple(sources)


def _tasks(tree: DrawnTree, edge: EdgeKind, parent: PlannedNode, rng: np.random.Generator) -> tuple[str, ...]:
    """Returns the tasks of a child by the rule of its edge; of a copy without training, those of its parent."""
    if edge.tasks is None or edge.task_rule == "parent":
        return parent.tasks
    siblings = [node.tasks[0] for node in tree.nodes if parent.id in node.sources and node.edge and node.edge.tasks]
    if edge.task_rule == "sibling" and siblings:
        return (siblings[int(rng.integers(len(siblings)))],)
    others = [task for task in edge.tasks if task not in parent.tasks] or list(edge.tasks)
    unused = [task for task in others if task not in siblings] or others
    return (unused[int(rng.integers(len(unused)))],)


def _child_node(
    recipe: DrawnRecipe,
    tree: DrawnTree,
    edge: EdgeKind,
    sources: Sequence[PlannedNode],
    tasks: tuple[str, ...],
    path: str,
    drawn: Mapping[str, Any],
) -> PlannedNode:
    ids = tuple(source.id for source in sources)
    duplicate = edge.transform is not None and edge.transform.kind == "duplicate"
    common = frozenset.intersection(*(tree.above[source] for source in ids))
    nearest = max((node for node in tree.nodes if node.id in common), key=lambda node: node.depth)
    return PlannedNode(
        id=id_of(recipe.own_seed, recipe.name, path),
        path=path,
        parents=sources[0].parents if duplicate else ids,
        sources=ids,
        root_number=tree.number,
        tree=tree.number,
        depth=sources[0].depth if duplicate else 1 + max(source.depth for source in sources),
        tasks=tasks,
        seed=derive(recipe.own_seed, path, "training"),
        edge=edge,
        rank=edge.lora.ranks[0] if edge.lora else None,
        common_ancestor=nearest.id,
        model=sources[0].model,
        stored=edge.stored or tree.values.stored,
        drawn=drawn,
    )
