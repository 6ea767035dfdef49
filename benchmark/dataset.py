"""The folder format of a data set: write it, open its models, open its truth, verify it."""

import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph, NodeId
from mothr.benchmark.storage import read_json, sha256_of, write_bytes, write_json
from mothr.benchmark.weights import Checkpoint, ModelSet, aligned, open_checkpoint, open_folder

MANIFEST, TRUTH, MODELS = "manifest.json", "truth.json", "models"
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

    @property
    def graph(self) -> ModelGraph:
        """The Model Graph."""
        return ModelGraph({node: value.parents for node, value in self.nodes.items()})

    @property
    def trees(self) -> dict[NodeId, int]:
        """The partition into Model Trees, by position among the graph's trees."""
        return {node: label for label, tree in enumerate(self.graph.trees) for node in tree}


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
            raise MothrError(f"{path}: lists the model {model.id} {counts[model.id]} times; generate or download the data set again")
        if not ID.fullmatch(model.id):
            raise MothrError(f"{path}: model id {model.id!r} is not 12 hex digits; generate or download the data set again")
        for file in model.files:
            if Path(file.path).is_absolute() or ".." in Path(file.path).parts:
                raise MothrError(f"{path}: the file {file.path!r} of model {model.id} lies outside the data set; remove the entry")
    return manifest


def _parse(kind: type[T], path: Path) -> T:
    try:
        return kind.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise MothrError(f"{path}: {place}: {first['msg']} (given: {str(first['input'])[:80]!r})") from None


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
        for problem in _file_problems(folder, manifest):
            raise MothrError(problem)
    return ModelSet(aligned([open_checkpoint(folder / MODELS / model.id, model.id) for model in manifest.models]))


def open_manifest(folder: Path) -> Manifest:
    """Returns the manifest of the data set in ``folder``.

    Raises:
        MothrError: there is none, so the data set is unfinished or no data set.
    """
    path = folder / MANIFEST
    if not path.is_file():
        what = "the data set is unfinished or damaged; run the same 'mothr generate' again" if is_dataset(folder) else "not a data set"
        raise MothrError(f"{path}: missing manifest; {what}")
    return read_manifest(path)


def open_truth(folder: Path) -> Truth:
    """Returns the truth of the data set in ``folder``.

    Raises:
        MothrError: the split's labels are hidden, or the truth does not belong to these models.
    """
    path = folder / TRUTH
    if not path.is_file():
        raise MothrError(f"{path}: no truth here; a hidden split or a plain folder can be predicted on, but not scored")
    truth = read_truth(path)
    listed = {model.id for model in open_manifest(folder).models}
    for kind, ids in (("lacks", listed - truth.nodes.keys()), ("names the unknown", truth.nodes.keys() - listed)):
        if ids:
            raise MothrError(f"{path}: {kind} model {min(ids)}; truth and manifest are not of one data set")
    return truth


def write_manifest(folder: Path, **values: Any) -> Manifest:
    """Hashes every model of ``folder`` and writes the manifest; ``values`` are its other fields."""
    models = []
    for place in sorted((folder / MODELS).iterdir()):
        files = sorted(path for path in place.rglob("*") if path.is_file())
        entries = [FileEntry(path=path.relative_to(place).as_posix(), bytes=path.stat().st_size, sha256=sha256_of(path)) for path in files]
        models.append(ModelEntry(id=place.name, files=tuple(entries)))
    manifest = Manifest(models=tuple(models), **values)
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def keep_beside_results(folder: Path, place: Path) -> None:
    """Copies manifest and truth of a data set to the results folder of its split, so that results re-score without weights.

    Raises:
        MothrError: results of other weights under the same split and version are there already.
    """
    contents = {name: (folder / name).read_bytes() for name in (TRUTH, MANIFEST)}
    for name, content in contents.items():
        if (place / name).is_file() and (place / name).read_bytes() != content:
            raise MothrError(f"{place / name}: belongs to other weights than {folder}; raise the recipe's version or choose another --out")
    for name, content in contents.items():
        write_bytes(place / name, content)


def fix_times(folder: Path) -> None:
    """Gives ``folder`` and everything below it one modification time, so that times tell no order."""
    for place, _, names in os.walk(folder):
        for name in names:
            os.utime(Path(place, name), (FILE_TIME, FILE_TIME))
        os.utime(place, (FILE_TIME, FILE_TIME))


@dataclass(frozen=True)
class Verdict:
    """What ``verify`` found."""

    models: int
    """Number of models."""
    problems: tuple[str, ...]
    """Sentences about what is wrong; empty for a sound data set."""
    notes: tuple[str, ...]
    """What was checked, with figures."""


def verify(folder: Path) -> Verdict:
    """Checks a data set: hashes, finite values, equal shapes, a truth that fits, nodes that learned, files that tell nothing.

    Raises:
        MothrError: it cannot be opened at all.
    """
    manifest = open_manifest(folder)
    problems = [*_file_problems(folder, manifest), *_stray_files(folder, manifest)]
    notes = [f"{len(manifest.models)} models, {sum(f.bytes for m in manifest.models for f in m.files) / 1e6:.1f} MB"]
    if problems:
        return Verdict(len(manifest.models), tuple(problems), tuple(notes))
    models = open_models(folder, check=False)
    problems += _value_problems(models.checkpoints)
    problems += _leak_problems(folder, manifest)
    if (folder / TRUTH).is_file():
        truth = open_truth(folder)
        learned, unlearned = _learning(truth)
        problems += unlearned
        notes.append(f"{len(truth.graph.trees)} trees, {len(truth.graph.edges)} edges; {learned} nodes learned")
    else:
        notes.append("no truth (hidden split)")
    return Verdict(len(manifest.models), tuple(problems), tuple(notes))


def _file_problems(folder: Path, manifest: Manifest) -> list[str]:
    problems = []
    for model in manifest.models:
        for file in model.files:
            path = folder / MODELS / model.id / file.path
            if not path.is_file():
                problems.append(f"{path}: missing, though the manifest lists it; generate the data set again")
            elif not path.resolve().is_relative_to(folder.resolve()):
                problems.append(f"{path}: leads out of the data set; copy the file itself to where the link is")
            elif path.stat().st_size != file.bytes or sha256_of(path) != file.sha256:
                problems.append(f"{path}: its hash differs from the manifest's; the file has changed: generate or download it again")
    return problems


def _stray_files(folder: Path, manifest: Manifest) -> list[str]:
    listed = {f"{model.id}/{file.path}" for model in manifest.models for file in model.files}
    home = folder / MODELS
    found = {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_symlink() or not path.is_dir()}
    return [f"{home / name}: not in the manifest; remove it" for name in sorted(found - listed)]


def _value_problems(checkpoints: Sequence[Checkpoint]) -> list[str]:
    problems = []
    shapes = {name: info.shape for name, info in checkpoints[0].tensors.items()}
    for checkpoint in checkpoints:
        if {name: info.shape for name, info in checkpoint.tensors.items()} != shapes:
            problems.append(f"model {checkpoint.id}: its tensors or shapes differ from those of model {checkpoints[0].id}")
        for name in checkpoint.tensors:
            if not torch.isfinite(checkpoint.read(name).double()).all():  # eight-bit floats have no isfinite
                problems.append(f"model {checkpoint.id}: tensor {name!r} holds NaN or infinite values")
    return problems


def _leak_problems(folder: Path, manifest: Manifest) -> list[str]:
    """Everything beside weights must be the same for all models: config bytes, file names, sizes, times."""
    problems = []
    first = manifest.models[0]
    for model in manifest.models:
        if [(f.path, f.bytes) for f in model.files] != [(f.path, f.bytes) for f in first.files]:
            problems.append(f"model {model.id}: its files or their sizes differ from those of {first.id}, which can tell lineage")
        for file, other in zip(model.files, first.files, strict=False):
            if not file.path.endswith(".safetensors") and file.sha256 != other.sha256:
                problems.append(f"model {model.id}: {file.path} differs from that of {first.id}, which can tell lineage")
    times = {int(path.stat().st_mtime) for path in (folder / MODELS).rglob("*") if path.is_file()}
    if len(times) > 1:
        problems.append(f"{folder / MODELS}: files have {len(times)} different modification times, which can tell lineage")
    return problems


def _learning(truth: Truth) -> tuple[int, list[str]]:
    """Returns how many nodes learned, and a sentence for each that did not."""
    learned, problems = 0, []
    for node, value in truth.nodes.items():
        record = value.training or {}
        if not {"before", "after", "chance", "tested_on"} <= record.keys():
            if value.training is not None:
                problems.append(f"model {node}: its training records no metric before and after")
            continue
        try:
            before, after, chance, count = (float(record[key]) for key in ("before", "after", "chance", "tested_on"))
        except (TypeError, ValueError):
            before = after = chance = count = math.nan
        if not (math.isfinite(before + after + chance) and 0 < count < math.inf):
            problems.append(f"model {node}: its training's metric before and after, its chance and its count are not numbers")
            continue
        noise = 2 * (max(chance * (1 - chance), 0.0) / count) ** 0.5
        if after <= max(before, chance + noise):
            figures = f"{record.get('metric')} {before:.3f} -> {after:.3f}, chance {chance:.3f}"
            problems.append(f"model {node}: training on {value.task} taught nothing ({figures})")
        else:
            learned += 1
    return learned, problems


def metadata(folder: Path, ids: Iterable[NodeId]) -> Mapping[NodeId, Mapping[str, Any]]:
    """Returns what the files of the models ``ids`` say beside weights, for methods that declare they read it."""
    home = folder / MODELS if is_dataset(folder) else folder
    found: dict[NodeId, Mapping[str, Any]] = {}
    for node in sorted(ids):
        place = home / node if (home / node).is_dir() else home / f"{node}.safetensors"
        files = sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]
        config = next((path.read_text(encoding="utf-8", errors="replace") for path in files if path.name == "config.json"), "")
        found[node] = {
            "name": place.name,
            "bytes": sum(path.stat().st_size for path in files),
            "mtime": max((path.stat().st_mtime for path in files), default=0.0),
            "files": [path.name for path in files],
            "config": config,
        }
    return found
