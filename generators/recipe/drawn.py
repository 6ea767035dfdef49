"""The schema of a drawn recipe: any of its fields may be a distribution, and each tree is drawn on its own."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mothr.generators.recipe.distribution import check_distributions
from mothr.generators.recipe.schema import FamilyName, Precision, Recipe
from mothr.generators.values.seeds import derive
from mothr.generators.values.training import Count, Table


class DrawnRecipe(Table):
    """The description of a split whose fields are drawn. One draw gives one split.

    The tables ``model``, ``topology``, ``root`` and each entry of ``edges`` have the fields of an ordinary recipe.
    Every value in them may be a distribution (see :mod:`mothr.generators.recipe.distribution`).
    """

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
    """Seed of everything that is drawn."""
    draw: Count = 1
    """Number of the draw. Two draws have the same distributions, and no other model in common."""
    trees: Count
    """Number of Model Trees, without the unrelated models of ``strangers``."""
    model: dict[str, Any]
    """The family's model configuration, drawn once a tree."""
    topology: dict[str, Any]
    """Shape of the tree, drawn once a tree."""
    root: dict[str, Any]
    """The root, drawn once a tree. ``name`` and ``seed`` are left out, because each root has its own."""
    edges: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)]
    """The kinds of edges. The kind of each edge is drawn by the shares, and then its other fields."""
    strangers: Any = 0
    """Number of unrelated models of the tree's architecture, each with a root of its own."""
    withheld: Any = 0
    """Number of inner nodes of a tree that are left out of the data set."""
    stored: Any = "float32"
    """Precision in which the models of a tree are stored: ``float32``, ``bfloat16`` or ``float16``."""
    superseded_by: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*-v[1-9][0-9]*$")] | None = None
    """The split and version that corrects an error of this one."""

    @model_validator(mode="after")
    def _check_parts(self) -> "DrawnRecipe":
        for part in ("model", "topology", "root", "strangers", "withheld", "stored"):
            check_distributions(getattr(self, part), part, scopes=("recipe", "tree"))
        check_distributions(self.edges, "edges")
        for name in ("name", "seed"):
            if name in self.root:
                raise ValueError(f"root.{name}: every tree has a root of its own, so that it is derived; remove it")
        return self

    @property
    def own_seed(self) -> int:
        """The seed of this draw."""
        return derive(self.seed, "draw", self.draw)


class TreeValues(Table):
    """The values of one tree that belong to no single model, after they were drawn."""

    strangers: Annotated[int, Field(ge=0)]
    """Number of unrelated models."""
    withheld: Annotated[int, Field(ge=0)]
    """Number of inner nodes that are left out."""
    stored: Precision
    """Precision of the stored models."""


def numbered(recipe: DrawnRecipe, draw: int) -> DrawnRecipe:
    """Returns the recipe of another draw. The name of every draw but the first ends with its number."""
    suffix = "" if draw == 1 else f"-draw-{draw}"
    return DrawnRecipe.model_validate({**recipe.model_dump(), "name": f"{recipe.name}{suffix}", "draw": draw})


AnyRecipe = Recipe | DrawnRecipe
"""A recipe whose values are given, or one whose values are drawn."""
