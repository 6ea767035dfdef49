"""The folder format of a data set: write it, open its models, open its truth."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationError, model_serializer

from mothr.benchmark.errors import MothrError
from mothr.benchmark.faults import faults
from mothr.benchmark.graph import ModelGraph, NodeId
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.storage import canonical_json, read_json, sha256_of, write_bytes, write_json
from mothr.benchmark.weights.discovery import align_names, is_inside, open_checkpoint, open_folder
from mothr.benchmark.weights.model_set import ModelSet

MANIFEST, TRUTH, MODELS, COMPANIONS = "manifest.json", "truth.json", "models", "companions"
RECIPE, CROISSANT, LINEAGE = "recipe.toml", "croissant.json", "lineage"
"""The recipe as run, the description for machines, and the table in it that holds the truth, where it is not hidden."""
SALT = "salt"
"""The file beside the truth of a hidden split that its commitment is made with: 64 hex digits."""
LONGEST_PATH = 1000
"""Bytes of a path in a manifest."""
ID = re.compile(r"[0-9a-f]{12}")
FILE_TIME = 315532800
"""Modification time of every model file: 1980-01-01, the earliest that every archive format can hold."""

T = TypeVar("T", bound=BaseModel)


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Record):
    """One file of a model, as the manifest lists it."""

    path: str
    """Relative to the model's folder."""
    bytes: int
    """Its size."""
    sha256: str
    """Hash of its bytes."""


class ModelEntry(_Record):
    """One model, as the manifest lists it."""

    id: NodeId
    """12 hex digits."""
    files: tuple[FileEntry, ...]
    """Its files, sorted by path."""


class Manifest(_Record):
    """The list of everything in a data set. It is written last, so its presence means that the data set is whole."""

    schema_version: Literal[1] = 1
    """Version of this format."""
    name: str
    """The split."""
    version: int
    """The split's version."""
    family: str
    """The family of its models."""
    mothr_version: str
    """The version that made it."""
    recipe_sha256: str
    """Hash of the recipe's canonical JSON."""
    environment: dict[str, str]
    """torch, python and processor it was made with."""
    models: tuple[ModelEntry, ...]
    """Its models, sorted by id."""
    companions: tuple[FileEntry, ...] = ()
    """Files below ``companions/<tree>/``: frozen parts that the models of a tree share. Methods never see them."""
    commitment: str | None = None
    """Of a hidden split: what its labels must hash to (see :func:`commitment`), so that nobody can change them later."""

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves ``companions`` and ``commitment`` out where there are none, as in manifests that were written before there were any."""
        return {key: value for key, value in handler(self).items() if value or key not in ("companions", "commitment")}


class TruthNode(_Record):
    """What is true of one model. A reader needs only ``parents``."""

    parents: tuple[NodeId, ...]
    """None for a root."""
    relation: Literal["finetune", "adapter", "merge", "quantized"] | None = None
    """How it came from its parents."""
    subtype: str | None = None
    """A finer kind of the relation: ``full`` or ``lora``."""
    tree: int | None = None
    """Its Model Tree."""
    depth: int | None = None
    """Edges above it."""
    task: str | None = None
    """What it was trained on."""
    training: dict[str, Any] | None = None
    """How it was trained, and what it learned."""
    transform: dict[str, Any] | None = None
    """How it was made from finished models without training: ``kind``, its settings, and a metric before and after; a distilled
    student has its ``teacher`` here."""
    withheld: int | None = None
    """Number of models between it and its parent that are not in the data set."""

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves the rare fields out where they say nothing, as in truths that were written before there were any."""
        return {
            key: value
            for key, value in handler(self).items()
            if value is not None or key not in ("transform", "withheld")
        }


class Truth(_Record):
    """The answer to a data set."""

    schema_version: Literal[1] = 1
    """Version of this format."""
    split: str
    """The split."""
    version: int
    """The split's version."""
    nodes: dict[NodeId, TruthNode]
    """Every model."""

    @cached_property
    def graph(self) -> ModelGraph:
        """The Model Graph."""
        return ModelGraph({node: value.parents for node, value in self.nodes.items()})

    @cached_property
    def trees(self) -> dict[NodeId, int]:
        """The partition into Model Trees, by position among the graph's trees."""
        return {node: label for label, tree in enumerate(self.graph.trees) for node in tree}

    @cached_property
    def prediction(self) -> Prediction:
        """What would be right to say: the graph, and how models came from the parents that they have in it."""
        relations = {node: value.relation for node, value in self.nodes.items() if value.relation and value.parents}
        return Prediction(self.graph, relations=relations)


def read_truth(path: Path) -> Truth:
    """Returns the truth in the file at ``path``.

    Raises:
        MothrError: missing, malformed, a cycle, or an unknown parent.
    """
    truth = _parse(Truth, path)
    try:
        _ = truth.graph
    except MothrError as error:
        raise MothrError(f"{path}: {error}") from None
    return truth


def read_manifest(path: Path) -> Manifest:
    """Returns the manifest in the file at ``path``.

    Raises:
        MothrError: missing, malformed, or naming a path outside the data set.
    """
    manifest = _parse(Manifest, path)
    counts = Counter(model.id for model in manifest.models)
    for model in manifest.models:
        if counts[model.id] > 1:
            raise MothrError(
                f"{path}: lists the model {model.id} {counts[model.id]} times; generate or download the data set again"
            )
        if not ID.fullmatch(model.id):
            raise MothrError(
                f"{path}: model id {model.id!r} is not 12 hex digits; generate or download the data set again"
            )
    for file in [file for model in manifest.models for file in model.files] + list(manifest.companions):
        if Path(file.path).is_absolute() or ".." in Path(file.path).parts:
            raise MothrError(f"{path}: the file {file.path[:80]!r} lies outside the data set; remove the entry")
        if not file.path or "\0" in file.path or len(file.path.encode()) > LONGEST_PATH:
            raise MothrError(f"{path}: {file.path[:80]!r} is no path of a file; remove the entry")
    return manifest


def _parse(kind: type[T], path: Path) -> T:
    try:
        return kind.model_validate(read_json(path))
    except ValidationError as error:
        raise MothrError(f"{path}: {next(faults(error, kind))}") from None


def is_dataset(folder: Path) -> bool:
    """Returns whether ``folder`` has the layout of a data set (whole or not) rather than of a plain folder of models."""
    return (folder / MANIFEST).exists() or (folder / MODELS).is_dir()


def open_models(folder: Path, *, check: bool = True) -> ModelSet:
    """Returns the models of a data set or of a plain folder: weights and nothing else.

    Args:
        folder: the data set, or a folder of models.
        check: compare the files of a data set with its manifest's hashes first.

    Raises:
        MothrError: nothing to open, no manifest, a hash that does not match, or a file that cannot be read.
    """
    if not is_dataset(folder):
        return open_folder(folder)
    manifest = open_manifest(folder)
    if check:
        for problem in file_problems(folder, manifest):
            raise MothrError(problem)
    return ModelSet(align_names([open_checkpoint(folder / MODELS / model.id, model.id) for model in manifest.models]))


def open_manifest(folder: Path) -> Manifest:
    """Returns the manifest of the data set in ``folder``.

    Raises:
        MothrError: there is none, so the data set is unfinished or no data set.
    """
    path = folder / MANIFEST
    if not path.is_file():
        what = (
            "the data set is unfinished or damaged; run the same 'mothr generate' again"
            if is_dataset(folder)
            else "not a data set"
        )
        raise MothrError(f"{path}: missing manifest; {what}")
    return read_manifest(path)


def open_truth(folder: Path, labels: Path | None = None) -> Truth:
    """Returns the truth of the data set in ``folder``.

    Args:
        folder: the data set, or the results folder of its split.
        labels: of a hidden split, the folder that its labels were written to.

    Raises:
        MothrError: the split's labels are hidden, or the truth does not belong to these models, or is not what was committed to.
    """
    place = folder if labels is None else labels
    path = place / TRUTH
    if not path.is_file():
        if labels is not None:
            raise MothrError(f"{path}: no truth here; name the folder that 'mothr generate --labels' wrote")
        raise MothrError(f"{path}: no truth here; a hidden split or a plain folder can be predicted on, but not scored")
    truth, manifest = read_truth(path), open_manifest(folder)
    listed = {model.id for model in manifest.models}
    for kind, ids in (("lacks", listed - truth.nodes.keys()), ("names the unknown", truth.nodes.keys() - listed)):
        if ids:
            raise MothrError(f"{path}: {kind} model {min(ids)}; truth and manifest are not of one data set")
    if manifest.commitment is not None and commitment(place) != manifest.commitment:
        raise MothrError(
            f"{path}: is not the truth that {folder / MANIFEST} commits to; the labels or their salt were changed"
        )
    return truth


def commitment(labels: Path) -> str:
    """Returns what binds the labels of a hidden split and tells nothing of them: SHA-256 of the salt and the truth's canonical JSON.

    Raises:
        MothrError: the folder ``labels`` lacks one of the two, or the salt is none.
    """
    path = labels / SALT
    try:
        salt = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise MothrError(f"{path}: cannot read the salt of these labels ({error})") from None
    if not re.fullmatch(r"[0-9a-f]{64}", salt):
        raise MothrError(f"{path}: a salt is 64 hex digits; take the file that 'mothr generate --labels' wrote")
    return hashlib.sha256((salt + canonical_json(read_json(labels / TRUTH))).encode()).hexdigest()


def write_manifest(folder: Path, **values: Any) -> Manifest:
    """Hashes every model of ``folder`` and writes the manifest; ``values`` are its other fields."""
    models = tuple(ModelEntry(id=place.name, files=_entries(place)) for place in sorted((folder / MODELS).iterdir()))
    manifest = Manifest(models=models, companions=_entries(folder / COMPANIONS), **values)
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def _entries(place: Path) -> tuple[FileEntry, ...]:
    files = sorted(path for path in place.rglob("*") if path.is_file())
    return tuple(
        FileEntry(path=path.relative_to(place).as_posix(), bytes=path.stat().st_size, sha256=sha256_of(path))
        for path in files
    )


def keep_beside_results(folder: Path, place: Path) -> None:
    """Copies manifest and truth of a data set to the results folder of its split, so that results re-score without weights.

    The truth of a hidden split does not lie in ``folder`` and is not copied.

    Raises:
        MothrError: results of other weights under the same split and version are there already.
    """
    contents = {
        name: (folder / name).read_bytes()
        for name in (TRUTH, MANIFEST)
        if name == MANIFEST or (folder / name).is_file()
    }
    for name, content in contents.items():
        if (place / name).is_file() and (place / name).read_bytes() != content:
            raise MothrError(
                f"{place / name}: belongs to other weights than {folder}; raise the recipe's version or choose another folder"
            )
    for name, content in contents.items():
        write_bytes(place / name, content)


def fix_times(folder: Path) -> None:
    """Gives ``folder`` and everything below it one modification time, so that times tell no order."""
    for place, _, names in os.walk(folder):
        for name in names:
            os.utime(Path(place, name), (FILE_TIME, FILE_TIME))
        os.utime(place, (FILE_TIME, FILE_TIME))


def file_problems(folder: Path, manifest: Manifest) -> list[str]:
    """Returns a sentence for each file of the data set that is missing, leads out of it, or has another hash than its manifest's."""
    problems = []
    homes = [(folder / MODELS / model.id, model.files) for model in manifest.models] + [
        (folder / COMPANIONS, manifest.companions)
    ]
    for home, files in homes:
        for file in files:
            path = home / file.path
            if not path.is_file():
                problems.append(f"{path}: missing, though the manifest lists it; generate the data set again")
            elif not is_inside(path, folder):
                problems.append(f"{path}: leads out of the data set; copy the file itself to where the link is")
            elif path.stat().st_size != file.bytes or sha256_of(path) != file.sha256:
                problems.append(
                    f"{path}: its hash differs from the manifest's; the file has changed: generate or download it again"
                )
    return problems


def metadata(folder: Path, ids: Iterable[NodeId]) -> Mapping[NodeId, Mapping[str, Any]]:
    """Returns what the files of the models ``ids`` say beside weights, for methods that declare they read it."""
    home = folder / MODELS if is_dataset(folder) else folder
    found: dict[NodeId, Mapping[str, Any]] = {}
    for node in sorted(ids):
        place = home / node if (home / node).is_dir() else home / f"{node}.safetensors"
        files = sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]
        config = next(
            (path.read_text(encoding="utf-8", errors="replace") for path in files if path.name == "config.json"), ""
        )
        found[node] = {
            "name": place.name,
            "bytes": sum(path.stat().st_size for path in files),
            "mtime": max((path.stat().st_mtime for path in files), default=0.0),
            "files": [path.name for path in files],
            "config": config,
        }
    return found
