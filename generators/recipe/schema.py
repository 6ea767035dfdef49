"""A recipe: everything a split is made from, read from TOML and checked before anything is trained."""

import tomllib
from collections import Counter
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from mothr.benchmark.errors import MothrError, unknown_name
from mothr.benchmark.faults import faults
from mothr.generators.families import FAMILIES
from mothr.generators.sources.source import Source
from mothr.generators.values.training import Count, Lora, Table, Training
from mothr.generators.values.transforms import Transform


class Root(Table):
    """One root: the start of one Model Tree, trained from fresh weights or given. Two recipes that hold the same root share its weights."""

    name: str
    """A name for the card; the weights do not depend on it."""
    seed: int
    """Seed of its weights and batches."""
    source: Source | None = None
    """Where its weights come from, if they are not trained from fresh ones."""
    tasks: tuple[str, ...] = ()
    """The mixture of tasks that it is pre-trained on; none for a given root that is left as it is."""
    init: Literal["normal", "truncated-normal", "xavier-uniform", "orthogonal", "kaiming-uniform"] | None = None
    """Distribution of its fresh matrices; absent for a given root."""
    init_std: Annotated[float, Field(gt=0)] = 0.02
    """Standard deviation of the two normal initialisations (the others scale themselves)."""
    training: Training | None = None
    """How it is pre-trained; a given root goes on training this way, or is left as it is."""

    @model_validator(mode="after")
    def _has_a_start(self) -> "Root":
        if self.source is None:
            missing = [name for name in ("init", "tasks", "training") if not getattr(self, name)]
            if missing:
                raise ValueError(f"{missing[0]}: missing; only a root with a source can do without")
        elif self.init is not None:
            raise ValueError("init: a root with a source has weights already; drop one of the two")
        elif bool(self.tasks) != (self.training is not None):
            raise ValueError(
                "training: a given root that goes on training needs tasks and training, one that is left as it is neither"
            )
        return self


class EdgeKind(Table):
    """One kind of edge: how a child is made from its parent."""

    tasks: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """What a child's task is drawn from; absent where it goes on with its parent's."""
    task_rule: Literal["shared", "continued"] | None = None
    """Absent: never the parent's task, never a sibling's. ``shared``: one task for all children of a node, never the parent's.
    ``continued``: the parent's own tasks, so that its training goes on."""
    training: Training
    """How the child is trained."""
    lora: Lora | None = None
    """Absent for full fine-tuning."""
    share: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Relative frequency among the recipe's kinds of edges."""

    @model_validator(mode="after")
    def _has_tasks(self) -> "EdgeKind":
        if (self.tasks is None) != (self.task_rule == "continued"):
            raise ValueError("tasks: name the tasks to draw from, or say task_rule = 'continued' and name none")
        return self

    @property
    def subtype(self) -> Literal["full", "lora", "continued", "lora-continued"]:
        """What the truth calls this kind of fine-tuning."""
        if self.task_rule == "continued":
            return "lora-continued" if self.lora else "continued"
        return "lora" if self.lora else "full"


class Derived(Table):
    """Models made from finished ones without a task of their own: merges, copies that were quantized, pruned, permuted and so on."""

    transform: Transform
    """What is done; its ``kind`` says which of the transforms it is."""
    per_tree: Count
    """How many a tree."""
    of: Literal["any", "leaf", "inner", "root"] = "any"
    """Which trained nodes they are made from, none twice."""
    training: Training | None = None
    """How a distilled student is trained; for that kind only."""

    @model_validator(mode="after")
    def _fits(self) -> "Derived":
        kind = self.transform.kind
        if (self.training is not None) != (kind == "distilled"):
            raise ValueError(f"training: a distilled student needs one, and no other kind has one (kind: {kind})")
        if kind == "duplicate" and self.of != "leaf":
            raise ValueError(
                "of: duplicates are made of leaves only (of = 'leaf'): nobody could say which copy a child came from"
            )
        return self


class Topology(Table):
    """The shape of a Model Tree, said in one of four ways."""

    branching: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | None = None
    """Children of each node at depth 0, 1, ...; (4, 4) makes 1 + 4 + 16 nodes, (1, 1, 1) a chain, (0,) a single node."""
    random: Count | None = None
    """So many nodes, each but the root a child of any earlier one with equal chance (a random recursive tree)."""
    parents: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """The parent of node 1, 2, ... by number; node 0 is the root."""
    arms: Count | None = None
    """For each kind of edge one chain of so many edges, all from the root."""
    tasks: tuple[str, ...] | None = None
    """With ``parents``: the task of node 1, 2, ..., instead of one drawn."""
    ranks: tuple[Count, ...] | None = None
    """With ``parents``: the LoRA rank of node 1, 2, ..., instead of one drawn."""
    seeds: tuple[int, ...] | None = None
    """With ``parents``: the seed of node 1, 2, ..., instead of one derived from the recipe's."""

    @model_validator(mode="after")
    def _is_one_shape(self) -> "Topology":
        if sum(value is not None for value in (self.branching, self.random, self.parents, self.arms)) != 1:
            raise ValueError("topology: say exactly one of branching, random, parents and arms")
        if self.branching is not None and 0 in self.branching[:-1]:
            raise ValueError(
                "topology.branching: no node follows a level without children; drop the rest or raise the 0"
            )
        for child, parent in enumerate(self.parents or (), start=1):
            if parent >= child:
                raise ValueError(
                    f"topology.parents: node {child} names {parent} as its parent, which is no earlier node"
                )
        for name in ("tasks", "ranks", "seeds"):
            given = getattr(self, name)
            if given is not None and len(given) != len(self.parents or ()):
                raise ValueError(
                    f"topology.{name}: {len(given)} for {len(self.parents or ())} parents; say one for each, or none"
                )
        return self


class Recipe(Table):
    """What a generator is given: the whole description of one split."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    """The split's name."""
    version: Count
    """The split's version."""
    purpose: Literal["dev", "test", "demo"]
    """``dev`` to tune on, ``test`` to report on, ``demo`` to look at."""
    description: str
    """One or two sentences for the card."""
    family: Literal["vit", "dinov2", "llama", "sd"]
    """The family of models."""
    seed: int
    """Seed of ids, tasks, ranks and the training of all children."""
    model: dict[str, Any]
    """The family's model configuration."""
    topology: Topology
    """The shape of every tree, unless ``shapes`` says otherwise."""
    shapes: tuple[Topology, ...] | None = None
    """The shape of each tree, in the order of the roots."""
    roots: Annotated[tuple[Root, ...], Field(min_length=1)]
    """One a tree."""
    edges: Annotated[tuple[EdgeKind, ...], Field(min_length=1)]
    """The kinds of edges."""
    derived: tuple[Derived, ...] | None = None
    """Models made from the trained ones."""
    withheld: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the inner nodes below the roots that is left out of the data set; their children's truth is the nearest ancestor left."""
    superseded_by: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*-v[1-9][0-9]*$")] | None = None
    """The split and version, as ``vthr-ft-v2``, that mends what is wrong with this one. It is no part of what the models are made
    from: of a published recipe this line alone is ever added."""

    @model_validator(mode="after")
    def _fits_together(self) -> "Recipe":
        if self.shapes is not None and len(self.shapes) != len(self.roots):
            raise ValueError(
                f"shapes: {len(self.shapes)} shapes for {len(self.roots)} roots; say one a root, or none and use topology"
            )
        family = FAMILIES[self.family](**self.model)
        for root in self.roots:
            family.check_tasks(root.tasks)
        for edge in self.edges:
            family.check_tasks(edge.tasks or ())
            if edge.lora:
                family.check_lora(edge.lora.ranks, edge.lora.targets)
                for topology in self.trees:
                    family.check_lora(topology.ranks or (), edge.lora.targets)
        for topology in self.trees:
            family.check_tasks(topology.tasks or ())
        if any(root.source for root in self.roots):
            self._check_given_roots()
        return self

    def _check_given_roots(self) -> None:
        if any(derived.transform.kind == "distilled" for derived in self.derived or ()):
            raise ValueError(
                "derived: a student starts from fresh weights as its root did, and a root with a source has none"
            )
        if any(root.training is None for root in self.roots):
            if any(edge.tasks is None for edge in self.edges):
                raise ValueError(
                    "edges: children cannot go on with the task of a given root that is left as it is; give it a training"
                )
            if any(derived.of != "leaf" for derived in self.derived or ()):
                raise ValueError(
                    "derived.of: a given root that is left as it is has no test to measure copies with; say of = 'leaf'"
                )

    @property
    def tasks(self) -> tuple[str, ...]:
        """Every task that it names, sorted."""
        parts: tuple[Root | EdgeKind | Topology, ...] = (*self.roots, *self.edges, *self.trees)
        named = {task for part in parts for task in part.tasks or ()}
        return tuple(sorted(named))

    @property
    def trees(self) -> tuple[Topology, ...]:
        """The shape of each tree, in the order of the roots."""
        return self.shapes or (self.topology,) * len(self.roots)


def _folder() -> Any:
    return files("mothr.generators") / "recipes"


def recipe_names() -> list[str]:
    """Returns the names of the recipes that come with the package, sorted."""
    return sorted(entry.name.removesuffix(".toml") for entry in _folder().iterdir() if entry.name.endswith(".toml"))


def load_recipe(name: str) -> Recipe:
    """Returns the recipe called ``name``, or the one in the TOML file at that path.

    A recipe may say ``extends = "<name>"``: it then starts from that recipe, and its own tables replace the other's.

    Raises:
        MothrError: unknown name, malformed TOML, unknown key, or values that make no sense, each named.
    """
    values, where = _read(name)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise MothrError(f"{where}: {'; '.join(faults(error, Recipe))}") from None


def _read(name: str, seen: tuple[str, ...] = (), beside: Path | None = None) -> tuple[dict[str, Any], str]:
    if name in seen:
        raise MothrError(f"{name}: recipes extend each other in a circle: {' -> '.join((*seen, name))}")
    if name.endswith(".toml"):
        path = (beside or Path()) / name
        where = str(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:  # no such file, not UTF-8, no path
            raise MothrError(f"{where}: cannot read this recipe ({error})") from None
    else:
        if name not in recipe_names():
            raise unknown_name("recipe", name, recipe_names())
        path, where = None, f"{name}.toml"
        text = (_folder() / where).read_text(encoding="utf-8")
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of too many digits is a plain ValueError
        raise MothrError(f"{where}: not valid TOML: {error}") from None
    base = values.pop("extends", None)
    if base is None:
        return values, where
    if not isinstance(base, str):
        raise MothrError(f"{where}: extends must be the name of a recipe, not {base!r}")
    inherited, _ = _read(base, (*seen, name), path.parent if path else beside)
    return {**inherited, **values}, where


def resolved(recipe: Recipe) -> Mapping[str, Any]:
    """Returns what the models are made from as plain values, without absent ones, as written to ``recipe.toml``."""
    return recipe.model_dump(mode="json", exclude_none=True, exclude={"superseded_by"})


def newer(recipe: Recipe) -> str | None:
    """Returns the split and version that supersedes ``recipe``: as it says, or as the package's recipe of that name and a later version."""
    if recipe.superseded_by is not None or recipe.name not in recipe_names():
        return recipe.superseded_by
    latest = load_recipe(recipe.name)
    return f"{latest.name}-v{latest.version}" if latest.version > recipe.version else latest.superseded_by


def catalogue() -> list[dict[str, str]]:
    """Returns one row a recipe for ``mothr list recipes``."""
    rows = []
    for name in recipe_names():
        recipe = load_recipe(name)
        rows.append(
            {
                "name": name,
                "family": recipe.family,
                "purpose": recipe.purpose,
                "trees x nodes": _shape(recipe),
                "description": recipe.description,
            }
        )
    return rows


def _shape(recipe: Recipe) -> str:
    """Returns the trees and how many nodes their training makes, e.g. ``5 x 21`` or ``2 x 9 + 3 x 1``."""
    sizes = Counter(tree_size(topology, len(recipe.edges)) for topology in recipe.trees)
    return " + ".join(f"{trees} x {nodes}" for nodes, trees in sorted(sizes.items(), reverse=True))


def tree_size(topology: Topology, kinds: int = 1) -> int:
    """Returns the number of nodes of one tree in a recipe with so many ``kinds`` of edges."""
    if topology.random is not None:
        return topology.random
    if topology.parents is not None:
        return 1 + len(topology.parents)
    if topology.arms is not None:
        return 1 + kinds * topology.arms
    total = level = 1
    for children in topology.branching or ():
        level *= children
        total += level
    return total
