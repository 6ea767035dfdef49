"""Hidden splits: all seeds of a recipe are derived from a secret, and the labels are written to a folder of
their own.
 The public data set holds the models, the recipe without seeds, and a commitment to the labels. The owner of
the secret can make everything again. Roots are not cached, and the seeds are wide (see
:mod:`mothr.generators.values.seeds`).
"""

import os
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from mothr.benchmark.data.dataset import (
    COMPANIONS,
    CROISSANT,
    MODELS,
    RECIPE,
    SALT,
    TRUTH,
    Truth,
    commitment,
    read_truth,
)
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import NodeId
from mothr.benchmark.storage import write_error, write_json, write_text
from mothr.generators.cards.card import hidden_card
from mothr.generators.cards.croissant import checksum, croissant, hashes
from mothr.generators.recipe.drawn import AnyRecipe, DrawnRecipe
from mothr.generators.recipe.loading import resolved
from mothr.generators.recipe.schema import Recipe
from mothr.generators.recipe.topology import sources_of
from mothr.generators.values.seeds import derive


@dataclass(frozen=True, slots=True)
class Hidden:
    """The secret and the place of the labels of a hidden split."""

    secret: str = field(repr=False)
    """64 hex digits from which all seeds are derived; see :func:`read_secret`."""
    labels: Path
    """The folder for truth and salt, and for companions, which would reveal the models of each tree."""


def read_secret(path: Path, out: Path) -> str:
    """Returns the secret in the file ``path``. If there is no file, a secret is drawn and written to it,
    readable by its owner only.

    Raises:
        MothrError: the file holds something else, is inside the data set ``out``, can be read by others, or
            cannot be written.
    """
    if path.resolve().is_relative_to(out.resolve()):
        raise MothrError(f"--hidden {path}: everybody with {out} would have the secret; choose a file outside of it")
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "x", encoding="ascii", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write(f"{secrets.token_hex(32)}\n")
        except OSError as error:
            raise write_error(path, error) from error
    try:
        secret, rights = path.read_text(encoding="ascii").strip(), path.stat().st_mode
    except (OSError, ValueError) as error:
        raise MothrError(f"{path}: cannot read the secret ({error})") from None
    if rights & 0o077:
        raise MothrError(f"{path}: other users can read this secret; run: chmod 600 {path}")
    if not re.fullmatch(r"[0-9a-f]{64}", secret):
        raise MothrError(
            f"{path}: a secret is 64 hex digits; name a file that does not exist, and a secret is drawn and written to it"
        )
    return secret


def hide(recipe: AnyRecipe, secret: str) -> AnyRecipe:
    """Returns ``recipe`` with ``-hidden`` after its name, and with all seeds derived from ``secret``.

    Raises:
        MothrError: the recipe describes single models so precisely that they could be recognised.
    """
    if sources_of(recipe):
        raise MothrError(
            f"recipe {recipe.name}: its roots are public models, which everybody can recognise; hide a recipe whose roots are trained"
        )
    for topology in recipe.trees if isinstance(recipe, Recipe) else ():
        for name in ("tasks", "ranks", "seeds"):
            if getattr(topology, name) is not None:
                raise MothrError(
                    f"recipe {recipe.name}: topology.{name} distinguishes single nodes; hide a recipe that draws them"
                )

    def seed(*words: str | int) -> int:
        return derive(int(f"1{secret}", 16), recipe.name, recipe.version, *words)

    if isinstance(recipe, DrawnRecipe):
        return recipe.model_copy(update={"name": f"{recipe.name}-hidden", "seed": seed("recipe")})
    roots = tuple(root.model_copy(update={"seed": seed("root", number)}) for number, root in enumerate(recipe.roots))
    return recipe.model_copy(update={"name": f"{recipe.name}-hidden", "seed": seed("recipe"), "roots": roots})


def check_folders(out: Path, hidden: Hidden, ids: set[NodeId]) -> None:
    """Checks, before anything is made, that the labels are outside of the data set and that no other labels
    are there.

    Raises:
        MothrError: one of the two folders contains the other, or the folder holds the labels of other models.
    """
    data, labels = out.resolve(), hidden.labels.resolve()
    if data.is_relative_to(labels) or labels.is_relative_to(data):
        raise MothrError(
            f"--labels {hidden.labels}: everybody with {out} would have the labels; choose a folder outside of it"
        )
    path = hidden.labels / TRUTH
    if path.is_file() and set(read_truth(path).nodes) != ids:
        raise MothrError(f"{path}: holds the labels of other models; choose another --labels")


def publish(recipe: AnyRecipe, secret: str, truth: Truth, out: Path, labels: Path) -> str:
    """Writes the labels, and all files of the data set ``out`` except models and manifest; returns the
    commitment to the labels.

    Raises:
        MothrError: a file cannot be written.
    """
    try:
        labels.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (out / COMPANIONS).is_dir():
            shutil.rmtree(labels / COMPANIONS, ignore_errors=True)  # an interrupted run may have left half of them
            shutil.move(out / COMPANIONS, labels / COMPANIONS)
    except OSError as error:
        raise write_error(labels, error) from error
    write_text(labels / SALT, f"{derive(int(f'1{secret}', 16), recipe.name, recipe.version, 'salt'):064x}\n")
    write_json(labels / TRUTH, truth.model_dump(mode="json"))
    bare = _bare(recipe)
    write_text(out / RECIPE, f"# Hidden: the seeds are withheld.\n{tomli_w.dumps(_without_seeds(resolved(bare)))}")
    files = hashes(out)
    write_text(out / "README.md", hidden_card(bare, len(list((out / MODELS).iterdir())), checksum(files)))
    write_json(out / CROISSANT, croissant(bare, out, files, None))
    return commitment(labels)


def _bare(recipe: AnyRecipe) -> AnyRecipe:
    """Returns ``recipe`` with all seeds replaced by 0."""
    if isinstance(recipe, DrawnRecipe):
        return recipe.model_copy(update={"seed": 0})
    roots = tuple(root.model_copy(update={"seed": 0}) for root in recipe.roots)
    return recipe.model_copy(update={"seed": 0, "roots": roots})


def _without_seeds(value: Mapping[str, Any]) -> dict[str, Any]:
    roots = [{key: item for key, item in root.items() if key != "seed"} for root in value.get("roots", ())]
    return {key: item for key, item in value.items() if key != "seed"} | ({"roots": roots} if roots else {})
