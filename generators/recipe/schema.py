"""The schema of a recipe: everything that a split is made from, checked before anything is trained."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mothr.generators.families import FAMILIES
from mothr.generators.sources.source import Source
from mothr.generators.values.training import Count, Lora, Table, Training, check_heads, check_update
from mothr.generators.values.transforms import EdgeTransform, Merge, Quantize, Transform

Precision = Literal["float32", "bfloat16", "float16"]
"""Precision in which a model is stored."""
FamilyName = Literal["vit", "dinov2", "llama", "sd", "bert"]
TaskRule = Literal["shared", "continued", "new", "sibling", "parent"]
Shape = Literal["balanced", "chain", "caterpillar", "star", "two-level", "recursive"]


class Root(Table):
    """One root: the start of one Model Tree. Two recipes that hold the same root get the same weights."""

    name: str
    """A name for the card; the weights do not depend on it."""
    seed: int
    """Seed of the root's weights and batches."""
    source: Source | None = None
    """An existing model that the root starts from, instead of fresh weights."""
    tasks: tuple[str, ...] = ()
    """The mixture of tasks of the pre-training; none for a root with a source that is left unchanged."""
    init: Literal["normal", "truncated-normal", "xavier-uniform", "orthogonal", "kaiming-uniform"] | None = None
    """Distribution of the fresh matrices; absent for a root with a source."""
    init_std: Annotated[float, Field(gt=0)] = 0.02
    """Standard deviation of ``normal`` and ``truncated-normal``; the other distributions set their own
    scale."""
    training: Training | None = None
    """Settings of the pre-training. A root with a source is trained further with them, or is left unchanged
    without them."""

    @model_validator(mode="after")
    def _check_start(self) -> "Root":
        if self.source is None:
            missing = [name for name in ("init", "tasks", "training") if not getattr(self, name)]
            if missing:
                raise ValueError(f"{missing[0]}: missing; only a root with a source can omit it")
        elif self.init is not None:
            raise ValueError("init: a root with a source has weights already; remove init or source")
        elif bool(self.tasks) != (self.training is not None):
            raise ValueError(
                "training: a root with a source needs both tasks and training, to be trained further, or neither, to be left unchanged"
            )
        return self


class EdgeKind(Table):
    """One kind of edge: how a child is made from its parent."""

    tasks: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """The tasks from which the child's task is drawn; absent if the child continues its parent's training."""
    task_rule: TaskRule | None = None
    """Absent: a child's task differs from its parent's and from its siblings'. ``shared``: all children of a
    node have the same task, which is not the node's. ``continued``: the parent's tasks, so that its training
    continues. The other rules are for drawn recipes. ``new``: as absent, but a task is used again once all are used.
    ``sibling``: the task of an earlier sibling. ``parent``: the parent's tasks, with fresh heads."""
    transform: EdgeTransform | None = None
    """In a drawn recipe: what is done to the parent's weights, or to the weights of several parents, before the
    training."""
    training: Training | None = None
    """Training settings of the child; absent for a copy that is not trained."""
    lora: Lora | None = None
    """The low-rank update; absent for full fine-tuning."""
    stored: Precision | None = None
    """The precision in which the child is stored; absent: that of its tree."""
    share: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Relative frequency among the kinds of edges of the recipe."""

    @model_validator(mode="after")
    def _check_tasks(self) -> "EdgeKind":
        if self.training is None:
            if self.transform is None or self.transform.kind == "decoy":
                raise ValueError("training: missing; only an edge with a transform can omit it, and a decoy cannot")
            if self.tasks is not None or self.task_rule is not None or self.lora is not None:
                raise ValueError(
                    "training: missing; tasks, task_rule and lora belong to a training, remove them or add it"
                )
        elif self.transform is not None and self.transform.kind == "decoy" and self.tasks is None:
            raise ValueError("tasks: a decoy is trained from fresh weights, so it needs tasks of its own")
        elif (self.tasks is None) != (self.task_rule == "continued"):
            raise ValueError("tasks: name the tasks to draw from, or set task_rule = 'continued' and name none")
        else:
            check_update(self.training, self.lora)
        return self

    @property
    def leaf_only(self) -> bool:
        """Whether a model with such an edge cannot have children: a child of a duplicate would have two possible
        parents, and integers with scales are not trained further."""
        transform = self.transform
        if isinstance(transform, Quantize):
            return self.training is None and transform.stored == "as-is" and transform.precision == "int8"
        return transform is not None and transform.kind in ("duplicate", "decoy")

    @property
    def subtype(self) -> str:
        """The subtype of these edges in ``truth.json``, such as ``lora-continued`` or ``pruned-tuned``."""
        if self.transform is not None:
            kind = self.transform.method if isinstance(self.transform, Merge) else self.transform.kind
            return kind if self.training is None else f"{kind}-tuned"
        assert self.training is not None
        averaged = self.training.ema is not None or self.training.tail_average is not None
        update = "lora" if self.lora else self.training.trained or ("averaged" if averaged else "full")
        if self.task_rule == "continued":
            return "continued" if update == "full" else f"{update}-continued"
        return update


class Derived(Table):
    """Models made from finished models: merges, distilled students, and quantized, pruned, noised, permuted
    or identical copies."""

    transform: Transform
    """What is done; its ``kind`` selects the transform."""
    per_tree: Count
    """Number of such models per tree."""
    of: Literal["any", "leaf", "inner", "root"] = "any"
    """Which trained nodes are the sources. No node is the source of two copies of one entry."""
    training: Training | None = None
    """Training settings of a distilled student; for that kind only."""

    @model_validator(mode="after")
    def _check_kind(self) -> "Derived":
        kind = self.transform.kind
        if (self.training is not None) != (kind == "distilled"):
            raise ValueError(f"training: the kind 'distilled' needs it, and no other kind may have it (kind: {kind})")
        if kind == "duplicate" and self.of != "leaf":
            raise ValueError(
                "of: duplicates are made of leaves only, because a child of a duplicated node would have two possible parents; "
                "set of = 'leaf'"
            )
        return self


class Topology(Table):
    """The shape of a Model Tree, given by exactly one of ``branching``, ``random``, ``parents``, ``arms`` and
    ``shape``."""

    branching: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | None = None
    """Number of children of each node at depth 0, 1, ... (4, 4) gives 1 + 4 + 16 nodes, (1, 1, 1) a chain,
    (0,) a single node."""
    random: Count | None = None
    """Number of nodes of a random recursive tree: the parent of each node is any earlier node with equal
    probability."""
    parents: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """The parent of node 1, 2, ... by number; node 0 is the root."""
    arms: Count | None = None
    """Length, in edges, of one chain per kind of edge. All chains start at the root."""
    shape: Shape | None = None
    """With ``nodes``. ``balanced``: two levels with equal branching, as in VTHR. ``chain``: each node has one child.
    ``caterpillar``: a chain of half of the nodes, with a leaf at each of them. ``star``: all nodes are children of
    the root. ``two-level``: 2 to 4 children of the root, and the other nodes are children of random ones of these.
    ``recursive``: the parent of each node is any earlier node with equal probability."""
    nodes: Annotated[int, Field(ge=2)] | None = None
    """With ``shape``: number of nodes of the tree, the root included."""
    tasks: tuple[str, ...] | None = None
    """With ``parents``: the task of node 1, 2, ..., instead of a drawn one."""
    ranks: tuple[Count, ...] | None = None
    """With ``parents``: the LoRA rank of node 1, 2, ..., instead of a drawn one."""
    seeds: tuple[int, ...] | None = None
    """With ``parents``: the seed of node 1, 2, ..., instead of one derived from the recipe's seed."""

    @model_validator(mode="after")
    def _check_shape(self) -> "Topology":
        given = (self.branching, self.random, self.parents, self.arms, self.shape)
        if sum(value is not None for value in given) != 1:
            raise ValueError("topology: give exactly one of branching, random, parents, arms and shape")
        if (self.shape is None) != (self.nodes is None):
            raise ValueError("topology: shape and nodes belong together; give both or neither")
        if self.branching is not None and 0 in self.branching[:-1]:
            raise ValueError(
                "topology.branching: no node follows a level without children; remove the rest or raise the 0"
            )
        for child, parent in enumerate(self.parents or (), start=1):
            if parent >= child:
                raise ValueError(
                    f"topology.parents: node {child} names {parent} as its parent, which is not an earlier node"
                )
        for name in ("tasks", "ranks", "seeds"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.parents or ()):
                raise ValueError(
                    f"topology.{name}: {len(values)} for {len(self.parents or ())} parents; give one for each parent, or none"
                )
        return self


class Recipe(Table):
    """The complete description of one split."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    """Name of the split."""
    version: Count
    """Version of the split."""
    purpose: Literal["dev", "test", "demo"]
    """``dev``: to tune methods. ``test``: to report results. ``demo``: to look at."""
    description: str
    """One or two sentences for the card."""
    family: FamilyName
    """Family of the models."""
    seed: int
    """Seed of ids, tasks, ranks, and of the training of all children."""
    model: dict[str, Any]
    """The family's model configuration."""
    topology: Topology
    """Shape of every tree, unless ``shapes`` is given."""
    shapes: tuple[Topology, ...] | None = None
    """Shape of each tree, in the order of the roots."""
    roots: Annotated[tuple[Root, ...], Field(min_length=1)]
    """The roots, one per tree."""
    edges: Annotated[tuple[EdgeKind, ...], Field(min_length=1)]
    """The kinds of edges."""
    derived: tuple[Derived, ...] | None = None
    """Models made from the trained models."""
    withheld: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Fraction of the inner nodes below the roots that is left out of the data set. The true parent of their
    children is then the nearest ancestor in the data set."""
    superseded_by: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*-v[1-9][0-9]*$")] | None = None
    """The split and version, e.g. ``vthr-ft-v2``, that corrects an error of this one. The models do not
    depend on this field, and it is the only line that may be added to a published recipe."""

    @model_validator(mode="after")
    def _check_consistency(self) -> "Recipe":
        if self.shapes is not None and len(self.shapes) != len(self.roots):
            raise ValueError(
                f"shapes: {len(self.shapes)} shapes for {len(self.roots)} roots; give one per root, or none and use topology"
            )
        family = FAMILIES[self.family](**self.model)
        parts: tuple[Root | EdgeKind | Derived, ...] = (*self.roots, *self.edges, *(self.derived or ()))
        for part in parts:
            check_heads(part.training, family.has_heads)
        for root in self.roots:
            family.check_tasks(root.tasks)
        for edge in self.edges:
            if edge.transform is not None or edge.task_rule in ("new", "sibling", "parent") or edge.stored is not None:
                raise ValueError(
                    "edges: transform, stored, and the task rules new, sibling and parent belong to drawn recipes; "
                    "give 'trees' and '[root]' instead of '[[roots]]'"
                )
            family.check_tasks(edge.tasks or ())
            if edge.lora:
                family.check_lora(edge.lora.ranks, edge.lora.targets)
                for topology in self.trees:
                    family.check_lora(topology.ranks or (), edge.lora.targets)
        for topology in self.trees:
            family.check_tasks(topology.tasks or ())
        if any(root.source for root in self.roots):
            self._check_roots_with_sources()
        return self

    def _check_roots_with_sources(self) -> None:
        if any(derived.transform.kind == "distilled" for derived in self.derived or ()):
            raise ValueError(
                "derived: a distilled student is initialised like its root, and a root with a source has no initialisation; "
                "remove the student or the source"
            )
        if any(root.training is None for root in self.roots):
            if any(edge.tasks is None for edge in self.edges):
                raise ValueError(
                    "edges: task_rule = 'continued' needs a parent with tasks, and a root with a source and no training has none; "
                    "give the root a training"
                )
            if any(derived.of != "leaf" for derived in self.derived or ()):
                raise ValueError(
                    "derived.of: a root with a source and no training has no test to measure copies with; set of = 'leaf'"
                )

    @property
    def tasks(self) -> tuple[str, ...]:
        """Every task that the recipe names, sorted."""
        tables: tuple[Root | EdgeKind | Topology, ...] = (*self.roots, *self.edges, *self.trees)
        return tuple(sorted({task for table in tables for task in table.tasks or ()}))

    @property
    def trees(self) -> tuple[Topology, ...]:
        """The shape of each tree, in the order of the roots."""
        return self.shapes or (self.topology,) * len(self.roots)
