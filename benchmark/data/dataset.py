"""The folder format of a data set: writes the manifest, opens the models, opens the truth."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationError, model_serializer

from mothr.benchmark.errors import MothrError
from mothr.benchmark.faults import faults
from mothr.benchmark.graph import ModelGraph, NodeId
from mothr.benchmark.prediction import Prediction, Relation
from mothr.benchmark.storage import canonical_json, is_inside, read_json, sha256_of, write_bytes, write_json

if TYPE_CHECKING:
    from mothr.benchmark.weights.model_set import ModelSet

MANIFEST, TRUTH, MODELS, COMPANIONS = "manifest.json", "truth.json", "models", "companions"
"""Names in the folder of a data set: manifest, truth, folder of models, folder of parts that models share."""
RECIPE, CROISSANT, LINEAGE = "recipe.toml", "croissant.json", "lineage"
"""The recipe of the data set, its machine-readable description, and the table of the truth in it."""
SALT = "salt"
"""The file with the salt of the commitment of a hidden split: 64 hex digits. It is stored beside the truth."""
MAX_PATH_BYTES = 1000
"""Largest number of bytes of a path in a manifest."""
ID = re.compile(r"[0-9a-f]{12}")
"""The form of a model id."""
FETCHED = "fetch-1"
"""What ``mothr_version`` of a manifest is if the data set holds real networks, which no recipe made. It counts changes
of the conversion, so that the manifest is the same in every release."""
FILE_TIME = 315532800
"""Modification time of every model file: 1980-01-01, the earliest time that every archive format can store."""

T = TypeVar("T", bound=BaseModel)


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Record):
    """The manifest entry of one file."""

    path: str
    """Path relative to the folder of the model."""
    bytes: int
    """Size of the file."""
    sha256: str
    """SHA-256 of the bytes of the file, in hex."""


class ModelEntry(_Record):
    """The manifest entry of one model."""

    id: NodeId
    """12 hex digits."""
    files: tuple[FileEntry, ...]
    """The files of the model, sorted by path."""


class Manifest(_Record):
    """The list of all files of a data set. It is written last, so a data set with a manifest is complete."""

    schema_version: Literal[1] = 1
    """Version of this format."""
    name: str
    """Name of the split."""
    version: int
    """Version of the split."""
    family: str
    """Family of the models."""
    mothr_version: str
    """Version of this package that made the data set."""
    recipe_sha256: str
    """SHA-256 of the canonical JSON of the recipe."""
    environment: dict[str, str]
    """Versions of torch and Python, and the processor, that made the data set."""
    models: tuple[ModelEntry, ...]
    """The models, sorted by id."""
    companions: tuple[FileEntry, ...] = ()
    """Files below ``companions/<tree>/``: frozen parts that the models of a tree share. Methods are not given them."""
    commitment: str | None = None
    """For a hidden split: the hash of its labels (see :func:`commitment`). So nobody can change the labels later."""

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out ``companions`` and ``commitment`` if they are empty, as older manifests do."""
        return {key: value for key, value in handler(self).items() if value or key not in ("companions", "commitment")}


class TruthNode(_Record):
    """The truth about one model. A reader needs only ``parents``."""

    parents: tuple[NodeId, ...]
    """The parents; empty for a root."""
    relation: Relation | None = None
    """How the model was made from its parents."""
    subtype: str | None = None
    """A finer kind of the relation, such as ``full`` or ``lora``."""
    tree: int | None = None
    """Label of the Model Tree."""
    depth: int | None = None
    """Number of edges on the longest path from a root."""
    task: str | None = None
    """The task that the model was trained on."""
    training: dict[str, Any] | None = None
    """Settings of the training, and the metric before and after it."""
    transform: dict[str, Any] | None = None
    """How the model was made from finished models without training.

    It holds ``kind``, the settings of this kind, and a metric before and after. For a distilled student it
    names the ``teacher``.
    """
    drawn: dict[str, Any] | None = None
    """In a drawn recipe: path -> value of every field that was drawn for this model; for a root, for its tree."""
    withheld: int | None = None
    """Number of models between this model and its parent that are not in the data set."""
    evidence: str | None = None
    """For a model that was not made by a recipe: the document that names its parents, or says that it has none."""

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out ``transform``, ``drawn``, ``withheld`` and ``evidence`` if they are empty, as older truths do."""
        return {
            key: value
            for key, value in handler(self).items()
            if value is not None or key not in ("transform", "drawn", "withheld", "evidence")
        }


class Truth(_Record):
    """The true Model Graph of a data set, with the history of each model."""

    schema_version: Literal[1] = 1
    """Version of this format."""
    split: str
    """Name of the split."""
    version: int
    """Version of the split."""
    nodes: dict[NodeId, TruthNode]
    """Id of each model -> the truth about it."""

    @cached_property
    def graph(self) -> ModelGraph:
        """The true Model Graph."""
        return ModelGraph({node: value.parents for node, value in self.nodes.items()})

    @cached_property
    def trees(self) -> dict[NodeId, int]:
        """The partition: the position of the Model Tree of each model in ``graph.trees``."""
        return {node: label for label, tree in enumerate(self.graph.trees) for node in tree}

    @cached_property
    def prediction(self) -> Prediction:
        """The perfect prediction: the true graph, and the relation of each model that has parents in it."""
        relations = {node: value.relation for node, value in self.nodes.items() if value.relation and value.parents}
        return Prediction(self.graph, relations=relations)


def read_truth(path: Path) -> Truth:
    """Returns the truth in the file at ``path``.

    Raises:
        MothrError: The file is missing or malformed, or the graph has a cycle or an unknown parent.
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
        MothrError: The file is missing or malformed, or it names a path outside the data set.
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
        if not file.path or "\0" in file.path or len(file.path.encode()) > MAX_PATH_BYTES:
            raise MothrError(f"{path}: {file.path[:80]!r} is not a path of a file; remove the entry")
    return manifest


def _parse(kind: type[T], path: Path) -> T:
    try:
        return kind.model_validate(read_json(path))
    except ValidationError as error:
        raise MothrError(f"{path}: {next(faults(error, kind))}") from None


def is_dataset(folder: Path) -> bool:
    """Returns whether ``folder`` has the layout of a data set, complete or not; a plain folder of models has not."""
    return (folder / MANIFEST).exists() or (folder / MODELS).is_dir()


def open_models(folder: Path, *, check: bool = True) -> "ModelSet":
    """Returns the models of a data set or of a plain folder, without side information.

    Args:
        folder: The data set, or a folder of models.
        check: Whether to compare the files of a data set with the hashes in its manifest first.

    Raises:
        MothrError: There are no models or no manifest, a hash differs, or a file cannot be read.
    """
    # These modules load torch, which reading a truth does not need.
    from mothr.benchmark.weights.discovery import align_names, open_checkpoint, open_folder
    from mothr.benchmark.weights.model_set import ModelSet

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
        MothrError: There is no manifest, so the data set is unfinished, or the folder is not a data set.
    """
    path = folder / MANIFEST
    if not path.is_file():
        unfinished = "the data set is unfinished or damaged; run the same 'mothr generate' again"
        reason = unfinished if is_dataset(folder) else "not a data set"
        raise MothrError(f"{path}: missing manifest; {reason}")
    return read_manifest(path)


def open_truth(folder: Path, labels: Path | None = None) -> Truth:
    """Returns the truth of the data set in ``folder``.

    Args:
        folder: The data set, or the results folder of its split.
        labels: For a hidden split, the folder of its labels.

    Raises:
        MothrError: The truth is hidden, it belongs to other models, or it differs from the commitment in the
            manifest.
    """
    home = folder if labels is None else labels
    path = home / TRUTH
    if not path.is_file():
        if labels is not None:
            raise MothrError(f"{path}: no truth here; name the folder that 'mothr generate --labels' wrote")
        raise MothrError(f"{path}: no truth here; a hidden split or a plain folder can be predicted on, but not scored")
    truth, manifest = read_truth(path), open_manifest(folder)
    listed = {model.id for model in manifest.models}
    for kind, ids in (("lacks", listed - truth.nodes.keys()), ("names the unknown", truth.nodes.keys() - listed)):
        if ids:
            raise MothrError(f"{path}: {kind} model {min(ids)}; truth and manifest must belong to the same data set")
    if manifest.commitment is not None and commitment(home) != manifest.commitment:
        raise MothrError(
            f"{path}: is not the truth that {folder / MANIFEST} commits to; the labels or their salt were changed"
        )
    return truth


def commitment(labels: Path) -> str:
    """Returns the commitment of a hidden split: the SHA-256 of the salt followed by the canonical JSON of the truth.

    The commitment is published. It fixes the labels, and it does not reveal them.

    Args:
        labels: The folder with the truth and the salt.

    Raises:
        MothrError: One of both files is missing, or the salt has another form.
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
    """Writes the manifest of the data set in ``folder`` and returns it.

    Files are hashed; ``values`` are the other fields.
    """
    models = tuple(ModelEntry(id=home.name, files=_entries(home)) for home in sorted((folder / MODELS).iterdir()))
    manifest = Manifest(models=models, companions=_entries(folder / COMPANIONS), **values)
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def _entries(home: Path) -> tuple[FileEntry, ...]:
    """Returns the manifest entries of all files below ``home``, sorted by path."""
    files = sorted(path for path in home.rglob("*") if path.is_file())
    return tuple(
        FileEntry(path=path.relative_to(home).as_posix(), bytes=path.stat().st_size, sha256=sha256_of(path))
        for path in files
    )


def copy_to_results(folder: Path, results: Path) -> None:
    """Copies manifest and truth of a data set to the results folder of its split.

    So results can be scored without weights.

    The truth of a hidden split is not in ``folder``, so it is not copied.

    Args:
        folder: The data set.
        results: The results folder of its split.

    Raises:
        MothrError: The results folder belongs to other weights with the same split and version.
    """
    contents = {
        name: (folder / name).read_bytes()
        for name in (TRUTH, MANIFEST)
        if name == MANIFEST or (folder / name).is_file()
    }
    for name, content in contents.items():
        if (results / name).is_file() and (results / name).read_bytes() != content:
            raise MothrError(
                f"{results / name}: belongs to other weights than {folder}; raise the recipe's version or choose another folder"
            )
    for name, content in contents.items():
        write_bytes(results / name, content)


def fix_times(folder: Path) -> None:
    """Gives ``folder`` and everything below it the same modification time, so that times carry no information."""
    for parent, _, names in os.walk(folder):
        for name in names:
            os.utime(Path(parent, name), (FILE_TIME, FILE_TIME))
        os.utime(parent, (FILE_TIME, FILE_TIME))


def file_problems(folder: Path, manifest: Manifest) -> list[str]:
    """Returns a message for each file that is missing, leads out of the data set, or has another hash."""
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
    """Returns name, sizes, times and configuration of the files of each model, for methods that declare this need.

    Args:
        folder: The data set, or a folder of models.
        ids: The models.
    """
    home = folder / MODELS if is_dataset(folder) else folder
    by_model: dict[NodeId, Mapping[str, Any]] = {}
    for node in sorted(ids):
        model = home / node if (home / node).is_dir() else home / f"{node}.safetensors"
        files = sorted(path for path in model.rglob("*") if path.is_file()) if model.is_dir() else [model]
        configs = (path.read_text(encoding="utf-8", errors="replace") for path in files if path.name == "config.json")
        by_model[node] = {
            "name": model.name,
            "bytes": sum(path.stat().st_size for path in files),
            "mtime": max((path.stat().st_mtime for path in files), default=0.0),
            "files": [path.name for path in files],
            "config": next(configs, ""),
        }
    return by_model
