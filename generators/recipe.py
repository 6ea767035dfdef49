"""A recipe: everything a split is made from, read from TOML and checked before anything is trained."""

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mothr.benchmark.errors import MothrError, unknown_name
from mothr.generators.families import FAMILIES

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]


class Part(BaseModel):
    """A table of a recipe: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Training(Part):
    """How one model is trained."""

    steps: Positive
    """Optimizer steps."""
    batch_size: Positive
    """Examples a step."""
    learning_rate: Annotated[float, Field(gt=0)]
    """Peak learning rate."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """``sgd`` has momentum 0.9."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Applied to matrices only, as is usual."""
    warmup: Fraction = 0.1
    """Share of the steps over which the learning rate rises linearly; then it falls to zero along a cosine."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of the gradient."""


class Root(Part):
    """One root: the start of one Model Tree. Two recipes that hold the same root share its weights."""

    name: str
    """A name for the card; the weights do not depend on it."""
    seed: int
    """Seed of its weights and batches."""
    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    """The mixture of tasks that it is pre-trained on."""
    init: Literal["normal", "truncated-normal", "xavier-uniform", "orthogonal"]
    """Distribution of its fresh matrices."""
    init_std: Annotated[float, Field(gt=0)] = 0.02
    """Standard deviation of the two normal initialisations (the others scale themselves)."""
    training: Training
    """How it is pre-trained."""


class Lora(Part):
    """A low-rank update (LoRA, Hu et al. 2022), merged into the dense weights after training."""

    ranks: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """Each child draws one of these."""
    alpha_over_rank: Annotated[float, Field(gt=0)] = 2.0
    """LoRA's alpha divided by its rank: the factor of the update."""
    targets: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of the linear layers that get an update."""


class EdgeKind(Part):
    """One kind of edge: how a child is made from its parent."""

    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    """A child draws its task from these, never its parent's, never a sibling's."""
    training: Training
    """How the child is trained."""
    lora: Lora | None = None
    """Absent for full fine-tuning."""
    share: Annotated[float, Field(gt=0)] = 1.0
    """Relative frequency among the recipe's kinds of edges."""

    @property
    def subtype(self) -> Literal["full", "lora"]:
        """What the truth calls this kind of fine-tuning."""
        return "lora" if self.lora else "full"


class Topology(Part):
    """The shape that every Model Tree of the split has."""

    branching: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    """Children of each node at depth 0, 1, ...; (4, 4) makes 1 + 4 + 16 nodes."""


class Recipe(Part):
    """What a generator is given: the whole description of one split."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    """The split's name."""
    version: Positive
    """The split's version."""
    purpose: Literal["dev", "test", "demo"]
    """``dev`` to tune on, ``test`` to report on, ``demo`` to look at."""
    description: str
    """One or two sentences for the card."""
    family: Literal["vit", "llama"]
    """The family of models."""
    seed: int
    """Seed of ids, tasks, ranks and the training of all children."""
    model: dict[str, Any]
    """The family's model configuration."""
    topology: Topology
    """The shape of every tree."""
    roots: Annotated[tuple[Root, ...], Field(min_length=1)]
    """One a tree."""
    edges: Annotated[tuple[EdgeKind, ...], Field(min_length=1)]
    """The kinds of edges."""

    @model_validator(mode="after")
    def _fits_together(self) -> "Recipe":
        if self.topology.branching[0] == 0 and len(self.topology.branching) > 1:
            raise ValueError("topology.branching: no node follows a level without children; drop the rest or raise the 0")
        family = FAMILIES[self.family](**self.model)
        for root in self.roots:
            family.check_tasks(root.tasks)
        for edge in self.edges:
            family.check_tasks(edge.tasks)
            if edge.lora:
                family.check_lora(edge.lora.ranks, edge.lora.targets)
        return self


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
        raise MothrError(f"{where}: {_explain(error)}") from None


def _read(name: str, seen: tuple[str, ...] = (), beside: Path | None = None) -> tuple[dict[str, Any], str]:
    if name in seen:
        raise MothrError(f"{name}: recipes extend each other in a circle: {' -> '.join((*seen, name))}")
    if name.endswith(".toml"):
        path = (beside or Path()) / name
        where = str(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise MothrError(f"{where}: cannot read this recipe ({error})") from None
    else:
        if name not in recipe_names():
            raise unknown_name("recipe", name, recipe_names())
        path, where = None, f"{name}.toml"
        text = (_folder() / where).read_text(encoding="utf-8")
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise MothrError(f"{where}: not valid TOML: {error}") from None
    base = values.pop("extends", None)
    if base is None:
        return values, where
    if not isinstance(base, str):
        raise MothrError(f"{where}: extends must be the name of a recipe, not {base!r}")
    inherited, _ = _read(base, (*seen, name), path.parent if path else beside)
    return {**inherited, **values}, where


def _explain(error: ValidationError) -> str:
    """Returns the problems that pydantic found, with near names for unknown keys."""
    found = []
    for problem in error.errors():
        place = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            known = _keys_at(Recipe, problem["loc"][:-1])
            found.append(f"{place}: {unknown_name('key', str(problem['loc'][-1]), known)}")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            given = "" if problem["type"] in ("missing", "value_error") else f" (given: {problem['input']!r})"
            found.append(f"{place + ': ' if place else ''}{message}{given}")
    return "; ".join(found)


def _keys_at(model: Any, place: tuple[int | str, ...]) -> list[str]:
    for step in place:
        if isinstance(step, int):
            continue
        hint = model.model_fields[step].annotation
        while not (isinstance(hint, type) and issubclass(hint, BaseModel)):
            hint = next(part for part in hint.__args__ if part not in (type(None), Ellipsis))
        model = hint
    return list(model.model_fields)


def resolved(recipe: Recipe) -> Mapping[str, Any]:
    """Returns the recipe as plain values without the absent ones, as written to ``recipe.toml``."""
    return recipe.model_dump(mode="json", exclude_none=True)


def catalogue() -> list[dict[str, str]]:
    """Returns one row a recipe for ``mothr list recipes``."""
    rows = []
    for name in recipe_names():
        recipe = load_recipe(name)
        nodes = tree_size(recipe.topology)
        shape = f"{len(recipe.roots)} x {nodes}"
        rows.append({"name": name, "family": recipe.family, "purpose": recipe.purpose, "trees x nodes": shape,
                     "description": recipe.description})
    return rows


def tree_size(topology: Topology) -> int:
    """Returns the number of nodes of one tree."""
    total = level = 1
    for children in topology.branching:
        level *= children
        total += level
    return total
