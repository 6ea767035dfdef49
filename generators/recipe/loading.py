"""Reads recipes from the package or from a TOML file, and lists the recipes of the package."""

import tomllib
from collections import Counter
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mothr.benchmark.errors import MothrError, unknown_name
from mothr.benchmark.faults import faults
from mothr.generators.recipe.drawn import AnyRecipe, DrawnRecipe, numbered
from mothr.generators.recipe.schema import Recipe, Topology


def _folder() -> Any:
    return files("mothr.generators") / "recipes"


def recipe_names() -> list[str]:
    """Returns the names of the recipes in the package, sorted."""
    return sorted(entry.name.removesuffix(".toml") for entry in _folder().iterdir() if entry.name.endswith(".toml"))


def load_recipe(name: str, draw: int | None = None) -> AnyRecipe:
    """Returns the recipe called ``name``, or the recipe in the TOML file with that path.

    A recipe with ``trees`` is a drawn recipe. ``draw`` selects one of its draws; absent, the first.

    A drawn recipe may contain a table ``define`` of named values. The string ``"$name"`` then stands for the value
    called ``name``, wherever it occurs.

    A recipe may contain ``extends = "<name or path>"``. It then starts from the other recipe, and each of its
    own top-level entries replaces the entry of the other recipe.

    Raises:
        MothrError: unknown name, malformed TOML, an unknown key, a malformed distribution, or values that do not fit
            together. The message names each. Or ``draw`` is given for a recipe that draws nothing.
    """
    values, place = _read(name)
    named = values.pop("define", {})
    if not isinstance(named, Mapping):
        raise MothrError(f"{place}: define: {named!r} is not a table of named values; write [define]")
    values = _substituted(values, named, place)
    kind: type[Recipe] | type[DrawnRecipe] = DrawnRecipe if "trees" in values else Recipe
    try:
        recipe = kind.model_validate(values)
    except ValidationError as error:
        raise MothrError(f"{place}: {'; '.join(faults(error, kind))}") from None
    except MothrError as error:
        raise MothrError(f"{place}: {error}") from None
    if isinstance(recipe, DrawnRecipe):
        return recipe if draw is None else numbered(recipe, draw)
    if draw is not None:
        raise MothrError(
            f"{place}: draws nothing, so it has no draw {draw}; leave out --draw, or name a recipe with 'trees'"
        )
    return recipe


def _read(name: str, extended_by: tuple[str, ...] = (), folder: Path | None = None) -> tuple[dict[str, Any], str]:
    """Returns the values of a recipe, with those that it extends, and the place that error messages name.

    Args:
        name: Name of a recipe, or a path that ends in ``.toml``.
        extended_by: The recipes that led here by ``extends``.
        folder: The folder that a relative path starts from.
    """
    if name in extended_by:
        raise MothrError(f"{name}: recipes extend each other in a circle: {' -> '.join((*extended_by, name))}")
    if name.endswith(".toml"):
        path = (folder or Path()) / name
        place = str(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:  # no such file, not UTF-8, not a path
            raise MothrError(f"{place}: cannot read this recipe ({error})") from None
    else:
        if name not in recipe_names():
            raise unknown_name("recipe", name, recipe_names())
        path, place = None, f"{name}.toml"
        text = (_folder() / place).read_text(encoding="utf-8")
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # an integer with too many digits is a plain ValueError
        raise MothrError(f"{place}: not valid TOML: {error}") from None
    base = values.pop("extends", None)
    if base is None:
        return values, place
    if not isinstance(base, str):
        raise MothrError(f"{place}: extends must be the name of a recipe, not {base!r}")
    inherited, _ = _read(base, (*extended_by, name), path.parent if path else folder)
    return {**inherited, **values}, place


def _substituted(value: Any, named: Mapping[str, Any], place: str, inside: tuple[str, ...] = ()) -> Any:
    """Returns ``value`` with every string ``"$name"`` replaced by the value called ``name`` in ``named``.

    Args:
        value: A part of a recipe.
        named: The table ``define``.
        place: The recipe, for messages.
        inside: The named values that ``value`` is a part of.
    """
    if isinstance(value, str) and value.startswith("$"):
        name = value[1:]
        if name not in named:
            raise MothrError(f"{place}: {unknown_name('name in the table define', name, list(named))}")
        if name in inside:
            raise MothrError(
                f"{place}: define.{name}: contains itself: {' -> '.join((*inside, name))}; break the circle"
            )
        return _substituted(named[name], named, place, (*inside, name))
    if isinstance(value, Mapping):
        return {key: _substituted(part, named, place, inside) for key, part in value.items()}
    if isinstance(value, list):
        return [_substituted(part, named, place, inside) for part in value]
    return value


def resolved(recipe: AnyRecipe) -> Mapping[str, Any]:
    """Returns ``recipe`` as plain values without absent fields, as ``recipe.toml`` of a data set holds them.

    The manifest's ``recipe_sha256`` is the hash of these values. ``superseded_by`` is not among them.
    """
    return recipe.model_dump(mode="json", exclude_none=True, exclude={"superseded_by"})


def newer(recipe: AnyRecipe) -> str | None:
    """Returns the split and version that supersedes ``recipe``, or None.

    This is what the recipe itself says, or a later version of the recipe of that name in the package.
    """
    if recipe.superseded_by is not None or recipe.name not in recipe_names():
        return recipe.superseded_by
    latest = load_recipe(recipe.name)
    return f"{latest.name}-v{latest.version}" if latest.version > recipe.version else latest.superseded_by


def catalogue() -> list[dict[str, str]]:
    """Returns one row per recipe for ``mothr list recipes``."""
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


def _shape(recipe: AnyRecipe) -> str:
    """Returns the number of trees and of trained nodes in each, e.g. ``5 x 21`` or ``2 x 9 + 3 x 1``."""
    if isinstance(recipe, DrawnRecipe):
        nodes = recipe.topology.get("nodes")
        ends = nodes.get("uniform") if isinstance(nodes, Mapping) else None
        return f"{recipe.trees} x {f'{ends[0]}-{ends[1]}' if ends else 'drawn'}"
    sizes = Counter(tree_size(topology, len(recipe.edges)) for topology in recipe.trees)
    return " + ".join(f"{trees} x {nodes}" for nodes, trees in sorted(sizes.items(), reverse=True))


def tree_size(topology: Topology, edge_kinds: int = 1) -> int:
    """Returns the number of trained nodes of one tree, in a recipe with that number of kinds of edges."""
    if topology.random is not None or topology.nodes is not None:
        return topology.random or topology.nodes or 0
    if topology.parents is not None:
        return 1 + len(topology.parents)
    if topology.arms is not None:
        return 1 + edge_kinds * topology.arms
    total = level = 1
    for children in topology.branching or ():
        level *= children
        total += level
    return total
