"""Distances and evidence of direction between the models of each true Model Tree, which the page shows beside an answer.

They lie in ``results/<split>-v<k>/pairs.json``; ``mothr pairs`` writes them. No method is given them and no metric uses them.
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


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class TreePairs(_Record):
    """What lies between the n models of one tree; their n (n - 1) / 2 pairs are in the order (0, 1), (0, 2), ..., (1, 2), ..."""

    ids: list[NodeId]
    """The models, sorted."""
    distances: list[Annotated[float, Field(ge=0)] | None]
    """The distance of each pair; none where the two share no tensor."""
    evidence: list[float | None]
    """Positive where the first of a pair looks like the parent of the second, negative where the second does; 0 cannot tell."""


class SplitPairs(_Record):
    """What lies between the models of a split, tree by tree."""

    schema_version: Literal[1] = 1
    """Version of this format."""
    split: Name
    """The split."""
    version: Annotated[int, Field(ge=1)]
    """The split's version."""
    manifest_sha256: Sha256
    """SHA-256 of the split's ``manifest.json``: of the very weights that were compared."""
    distance: str
    """A name of ``mothr list distances``."""
    direction: str
    """A name of ``mothr list directions``."""
    layers: str
    """The tensors that both look at."""
    trees: list[TreePairs]
    """The trees, in the order of :attr:`mothr.benchmark.graph.ModelGraph.trees`."""


def write(found: SplitPairs, place: Path) -> Path:
    """Returns the path of the file that ``found`` was written to, atomically, in the results folder ``place`` of its split."""
    write_json(place / PAIRS, found.model_dump(mode="json"))
    return place / PAIRS


def read(place: Path, truth: ModelGraph) -> SplitPairs | None:
    """Returns what lies between the models of the split whose results are in ``place``; None where nobody has computed it.

    Args:
        place: The results folder of the split, with its manifest.
        truth: The true graph of the split.

    Raises:
        MothrError: the file is malformed, is of another split, of other weights or of other models, or says too little or too much.
    """
    path = place / PAIRS
    if not path.is_file():
        return None
    try:
        found = SplitPairs.model_validate(read_json(path))
    except ValidationError as error:
        raise MothrError(f"{path}: {next(faults(error, SplitPairs))}; {REMEDY}") from None
    if (home := folder_name(found.split, found.version)) != place.resolve().name:
        raise MothrError(f"{path}: its content belongs into {home}; move it there, or {REMEDY}")
    if (real := sha256_of(place / "manifest.json")) != found.manifest_sha256:
        raise MothrError(
            f"{path}: is of the manifest {found.manifest_sha256[:12]}, but the one beside it is {real[:12]}; {REMEDY}"
        )
    if len(found.trees) != len(truth.trees):
        raise MothrError(f"{path}: has {len(found.trees)} trees, but the truth has {len(truth.trees)}; {REMEDY}")
    for number, (tree, nodes) in enumerate(zip(found.trees, truth.trees, strict=True)):
        _check(tree, sorted(nodes), f"{path}: trees.{number}")
    return found


def _check(tree: TreePairs, nodes: list[NodeId], where: str) -> None:
    """Raises MothrError unless ``tree`` is of the models ``nodes`` and speaks of each pair of them once."""
    for node in sorted(set(tree.ids) ^ set(nodes)):
        fault = "names the unknown model" if node in tree.ids else "lacks the model"
        raise MothrError(f"{where}.ids: {fault} {node!r}; {REMEDY}")
    if tree.ids != nodes:
        raise MothrError(f"{where}.ids: not sorted, or one is named twice; {REMEDY}")
    pairs = comb(len(nodes), 2)
    for name, values in (("distances", tree.distances), ("evidence", tree.evidence)):
        if len(values) != pairs:
            raise MothrError(
                f"{where}.{name}: {len(values)} numbers for the {pairs} pairs of {len(nodes)} models; {REMEDY}"
            )
