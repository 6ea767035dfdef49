"""Verifies a data set: files, values, training records, and that only weights carry information on lineage."""

import re
import tomllib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mothr.benchmark.data.dataset import (
    CROISSANT,
    FETCHED,
    LINEAGE,
    MANIFEST,
    MODELS,
    RECIPE,
    TRUTH,
    FileEntry,
    Manifest,
    ModelEntry,
    Truth,
    file_problems,
    open_manifest,
    open_models,
    open_truth,
)
from mothr.benchmark.data.learning import FIGURES, has_figures, learned
from mothr.benchmark.graph import NodeId
from mothr.benchmark.storage import read_json
from mothr.benchmark.weights.checkpoint import Checkpoint

SIZES = ("dtype", "block_out_channels", "layer_types", "attention_head_dim")
"""Keys of config.json, beside numbers, that say how large a model is and how it is stored."""


@dataclass(frozen=True)
class Verdict:
    """The result of :func:`verify`."""

    models: int
    """Number of models."""
    problems: tuple[str, ...]
    """A message for each problem; empty for a valid data set."""
    notes: tuple[str, ...]
    """What was checked, with numbers."""


def verify(folder: Path, labels: Path | None = None) -> Verdict:
    """Checks a data set and returns all problems.

    It checks hashes, finite values, equal shapes and the truth. It checks that training improved each node.
    File names, sizes, times and configurations must be the same for all models. The trees of a drawn recipe may
    differ in sizes and storage. Real networks, which ``mothr fetch`` wrote, may have other shapes and sizes.

    Args:
        folder: The data set.
        labels: For a hidden split, the folder of its labels. They are checked against the commitment in the
            manifest.

    Raises:
        MothrError: The data set cannot be opened.
    """
    manifest = open_manifest(folder)
    problems = [*file_problems(folder, manifest), *_stray_files(folder, manifest)]
    notes = [f"{len(manifest.models)} models, {sum(f.bytes for m in manifest.models for f in m.files) / 1e6:.1f} MB"]
    if problems:
        return Verdict(len(manifest.models), tuple(problems), tuple(notes))
    models = open_models(folder, check=False)
    formats = {checkpoint.id: storage_format(checkpoint) for checkpoint in models.checkpoints}
    kinds = sorted(set(formats.values()))
    if len(kinds) > 1:
        counts = ", ".join(f"{list(formats.values()).count(kind)} as {kind}" for kind in kinds)
        notes.append(f"{len(kinds)} storage formats ({counts}): models are compared within their own")
    fetched, drawn = manifest.mothr_version == FETCHED, is_drawn(folder)
    for kind in kinds:
        stored_alike = [checkpoint for checkpoint in models.checkpoints if formats[checkpoint.id] == kind]
        problems += _value_problems(stored_alike, equal_shapes=not (fetched or drawn))
    problems += _time_problems(folder)
    if fetched:
        notes.append("real networks: their shapes and sizes are those of the sources, and are not compared")
    elif drawn:
        notes.append("drawn recipe: models are compared with those of the same tensors, shapes and storage format")
        groups = {item.id: (item.shapes, formats[item.id]) for item in models.checkpoints}
        problems += _leak_problems(manifest, groups, equal_configs=False)
        problems += _text_problems(folder, manifest)
    else:
        problems += _leak_problems(manifest, formats, equal_configs=True)
    hidden = not (folder / TRUTH).is_file()
    if hidden:
        notes.append("no truth (hidden split)")
        problems += _hidden_split_problems(folder)
    if labels is not None or not hidden:
        truth = open_truth(folder, labels)
        if manifest.commitment is not None:
            notes.append("the labels are those that the manifest commits to")
        learned_count, training_problems = _training_problems(truth)
        problems += training_problems
        if len(kinds) > 1 and not (fetched or drawn) and not formats_are_declared(truth):
            problems.append(
                f"models are stored in {len(kinds)} formats ({', '.join(kinds)}), though the truth has no quantized model"
            )
        notes.append(f"{len(truth.graph.trees)} trees, {len(truth.graph.edges)} edges; {learned_count} nodes learned")
    return Verdict(len(manifest.models), tuple(problems), tuple(notes))


def storage_format(checkpoint: Checkpoint) -> str:
    """Returns the number formats of a model, such as ``F32`` or ``F32+I8``."""
    return "+".join(sorted({info.dtype for info in checkpoint.tensors.values()}))


def formats_are_declared(truth: Truth) -> bool:
    """Returns whether models may have different storage formats: they may if the truth has a quantized model."""
    return any(node.relation == "quantized" for node in truth.nodes.values())


def _stray_files(folder: Path, manifest: Manifest) -> list[str]:
    listed = {f"{model.id}/{file.path}" for model in manifest.models for file in model.files}
    home = folder / MODELS
    present = {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_symlink() or not path.is_dir()}
    return [f"{home / name}: not in the manifest; remove it" for name in sorted(present - listed)]


def _value_problems(checkpoints: Sequence[Checkpoint], *, equal_shapes: bool) -> list[str]:
    """Returns a message for each value that is not finite and, if shapes must be equal, for each other shape."""
    problems = []
    shapes = {name: info.shape for name, info in checkpoints[0].tensors.items()}
    for checkpoint in checkpoints:
        if equal_shapes and {name: info.shape for name, info in checkpoint.tensors.items()} != shapes:
            problems.append(
                f"model {checkpoint.id}: its tensors or shapes differ from those of model {checkpoints[0].id}"
            )
        for name in checkpoint.tensors:
            if not torch.isfinite(checkpoint.read(name).double()).all():  # isfinite is not defined for 8-bit floats
                problems.append(f"model {checkpoint.id}: tensor {name!r} holds NaN or infinite values")
    return problems


def is_drawn(folder: Path) -> bool:
    """Returns whether the data set was made from a drawn recipe, whose trees differ in sizes and storage."""
    path = folder / RECIPE
    return path.is_file() and "trees" in tomllib.loads(path.read_text(encoding="utf-8"))


def _leak_problems(manifest: Manifest, groups: Mapping[NodeId, Hashable], *, equal_configs: bool) -> list[str]:
    """Returns a message for each file name, size or configuration that differs between models of one group.

    Args:
        manifest: The manifest.
        groups: Group of each model.
        equal_configs: Whether the configurations of a group must be equal; if not, neither are their sizes compared.
    """

    def sizes(model: ModelEntry) -> list[tuple[str, int | None]]:
        return [(file.path, file.bytes if equal_configs or _is_weights(file) else None) for file in model.files]

    problems = []
    for first, model in _with_first(manifest, groups):
        if sizes(model) != sizes(first):
            problems.append(
                f"model {model.id}: its files or their sizes differ from those of {first.id}, which can tell lineage"
            )
        for file, file_of_first in zip(model.files, first.files, strict=False):
            if equal_configs and not _is_weights(file) and file.sha256 != file_of_first.sha256:
                problems.append(
                    f"model {model.id}: {file.path} differs from that of {first.id}, which can tell lineage"
                )
    return problems


def _is_weights(file: FileEntry) -> bool:
    return file.path.endswith(".safetensors")


def _with_first(manifest: Manifest, groups: Mapping[NodeId, Hashable]) -> Iterator[tuple[ModelEntry, ModelEntry]]:
    """Yields each model of a group after the first one, behind the first one."""
    first: dict[Hashable, ModelEntry] = {}
    for model in sorted(manifest.models, key=lambda model: model.id):
        if first.setdefault(groups[model.id], model) is not model:
            yield first[groups[model.id]], model


def _text_problems(folder: Path, manifest: Manifest) -> list[str]:
    """Returns a message for each text in a configuration that is not the same in all models of its architecture.

    The models of a drawn recipe differ in sizes, which are numbers, and in their storage format.
    """
    problems: list[str] = []
    first: dict[str, object] = {}
    for model in manifest.models:
        for path in sorted((folder / MODELS / model.id).rglob("config.json")):
            config = read_json(path)
            texts = {key: value for key, value in config.items() if isinstance(value, str | list) and key not in SIZES}
            architecture = str(config.get("model_type", config.get("_class_name")))
            if first.setdefault(architecture, texts) != texts:
                problems.append(
                    f"model {model.id}: a text in {path.name} differs from that of others, which can tell lineage"
                )
    return problems


def _time_problems(folder: Path) -> list[str]:
    times = {int(path.stat().st_mtime) for path in (folder / MODELS).rglob("*") if path.is_file()}
    return (
        [f"{folder / MODELS}: files have {len(times)} different modification times, which can tell lineage"]
        if len(times) > 1
        else []
    )


def _hidden_split_problems(folder: Path) -> list[str]:
    """Returns a message for each file that can reveal the truth of a hidden split."""
    expected = {MODELS, MANIFEST, RECIPE, CROISSANT, "README.md"}
    strays = sorted(entry.name for entry in folder.iterdir() if entry.name not in expected)
    problems = [f"{folder / name}: may tell the labels of this hidden split; remove it" for name in strays]
    path = folder / RECIPE
    if path.is_file() and re.search(
        r"\b(seeds?|extends)\b['\"]?\s*=", path.read_text(encoding="utf-8", errors="replace")
    ):
        problems.append(
            f"{path}: reveals ids and parents of this hidden split to everyone who plans it again; remove its seeds"
        )
    path = folder / CROISSANT
    if path.is_file() and f'"{LINEAGE}"' in path.read_text(encoding="utf-8", errors="replace"):
        problems.append(f"{path}: its table {LINEAGE!r} is the truth of this hidden split; remove the table")
    return problems


def _training_problems(truth: Truth) -> tuple[int, list[str]]:
    """Returns the number of nodes that learned something, and a message for each other trained node."""
    count, problems = 0, []
    for node, value in truth.nodes.items():
        record = value.training
        if record is None:
            continue
        if not record.keys() >= set(FIGURES):
            problems.append(f"model {node}: its training records no metric before and after")
        elif not has_figures(record):
            problems.append(
                f"model {node}: metric before and after, chance level and count in its training are not numbers"
            )
        elif not learned(record):
            figures = (
                f"{record.get('metric')} {record['before']:.3f} -> {record['after']:.3f}, chance {record['chance']:.3f}"
            )
            problems.append(f"model {node}: training on {value.task} taught nothing ({figures})")
        else:
            count += 1
    return count, problems
