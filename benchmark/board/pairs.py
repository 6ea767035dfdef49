"""Distances and direction scores between the models of each true Model Tree. The page shows them beside a prediction.

They are in ``results/<split>-v<k>/pairs.json``, which ``mothr pairs`` writes. No method reads the file, and no metric
uses it.
"""

from math import comb
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mothr.benchmark.errors import MothrError
from mothr.benchmark.faults import faults
from mothr.benchmark.graph import ModelGraph, NodeId
from mothr.benchmark.records.record import Name, Sha256
from mothr.benchmark.records.store import PAIRS, folder_name
from mothr.benchmark.storage import read_json, sha256_of, write_json

REMEDY = "make it again with `mothr pairs DATASET`"
"""The remedy that each error message names."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class TreePairs(_Model):
    """The pairs of the n models of one tree: n (n - 1) / 2, in the order (0, 1), (0, 2), ..., (1, 2), ..."""

    ids: list[NodeId]
    """The models, sorted."""
    distances: list[Annotated[float, Field(ge=0)] | None]
    """The distance of each pair; None if the two models share no tensor."""
    evidence: list[float | None]
    """The direction score of each pair. It is positive if the first model is more likely the parent than the second."""


class SplitPairs(_Model):
    """The pairs of all trees of a split."""

    schema_version: Literal[1] = 1
    """The version of this format."""
    split: Name
    """The split's name."""
    version: Annotated[int, Field(ge=1)]
    """The split's version."""
    manifest_sha256: Sha256
    """SHA-256 of the split's ``manifest.json``, which lists the weights that were compared."""
    distance: str
    """The distance: a name of ``mothr list distances``."""
    direction: str
    """The direction score: a name of ``mothr list directions``."""
    layers: str
    """The group of tensors that both are computed on."""
    trees: list[TreePairs]
    """The trees, in the order of :attr:`mothr.benchmark.graph.ModelGraph.trees`."""


def write(pairs: SplitPairs, place: Path) -> Path:
    """Writes ``pairs`` atomically into the results folder ``place`` of their split; returns the path of the file."""
    write_json(place / PAIRS, pairs.model_dump(mode="json"))
    return place / PAIRS


def read(place: Path, truth: ModelGraph) -> SplitPairs | None:
    """Returns the pairs of the split whose results are in ``place``; None if there is no file of pairs.

    Args:
        place: the results folder of the split, with its manifest.
        truth: the true graph of the split.

    Raises:
        MothrError: the file is malformed, or is of another split, of other weights or of other models.
    """
    path = place / PAIRS
    if not path.is_file():
        return None
    try:
        pairs = SplitPairs.model_validate(read_json(path))
    except ValidationError as error:
        raise MothrError(f"{path}: {next(faults(error, SplitPairs))}; {REMEDY}") from None
    if (home := folder_name(pairs.split, pairs.version)) != place.resolve().name:
        raise MothrError(f"{path}: its content belongs into {home}; move it there, or {REMEDY}")
    if (manifest := sha256_of(place / "manifest.json")) != pairs.manifest_sha256:
        raise MothrError(
            f"{path}: is of the manifest {pairs.manifest_sha256[:12]}, but the one beside it is {manifest[:12]}; "
            f"{REMEDY}"
        )
    if len(pairs.trees) != len(truth.trees):
        raise MothrError(f"{path}: has {len(pairs.trees)} trees, but the truth has {len(truth.trees)}; {REMEDY}")
    for number, (tree, nodes) in enumerate(zip(pairs.trees, truth.trees, strict=True)):
        _check(tree, sorted(nodes), f"{path}: trees.{number}")
    return pairs


def _check(tree: TreePairs, nodes: list[NodeId], where: str) -> None:
    """Raises MothrError unless ``tree`` has the models ``nodes``, and one number for each pair of them."""
    for node in sorted(set(tree.ids) ^ set(nodes)):
        fault = "names the unknown model" if node in tree.ids else "lacks the model"
        raise MothrError(f"{where}.ids: {fault} {node!r}; {REMEDY}")
    if tree.ids != nodes:
        raise MothrError(f"{where}.ids: not sorted, or a model is named twice; {REMEDY}")
    count = comb(len(nodes), 2)
    for name, values in (("distances", tree.distances), ("evidence", tree.evidence)):
        if len(values) != count:
            raise MothrError(
                f"{where}.{name}: {len(values)} numbers for the {count} pairs of {len(nodes)} models; {REMEDY}"
            )
