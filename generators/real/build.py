"""Converts a family of real networks into a data set: models, truth, card, and the manifest last."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from mothr.benchmark.data.dataset import (
    FETCHED,
    MANIFEST,
    MODELS,
    TRUTH,
    Manifest,
    Truth,
    TruthNode,
    fix_times,
    open_manifest,
    write_manifest,
)
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.storage import canonical_sha256, write_error, write_json, write_text
from mothr.generators.real.archives import Opened, open_archive
from mothr.generators.real.card import card
from mothr.generators.real.family import Content, Convert, Network, Options, RealFamily
from mothr.generators.real.readers.tensors import Tensors, no_library
from mothr.generators.train.model_files import write_tensors

VERSION = 1
"""Version of every split of real networks."""
SALT = "mothr-real-1"
"""A part of the hash that gives the ids. It is public, since the truth of these splits is public, too."""
VERSIONS = "revisions.json"
"""Name of the file with the revision or hash of everything that was downloaded online."""
WEIGHTS = "model.safetensors"
"""Name of the file of each model."""


def fetch(family: RealFamily, out: Path, options: Options | None = None) -> Manifest:
    """Downloads a family and writes it as a data set; returns its manifest.

    All archives are downloaded and checked before anything is written. A complete data set of this family is
    left as it is.

    Args:
        family: The family.
        out: The folder of the data set: new or empty.
        options: How the files are obtained.

    Raises:
        Skipped: an archive cannot be downloaded, or an optional library is missing.
        MothrError: a hash is wrong, a file is damaged, or ``out`` holds other files.
    """
    options = options or Options()
    if (out / MANIFEST).is_file():
        manifest = open_manifest(out)
        if (manifest.name, manifest.version) != (family.split, VERSION):
            raise MothrError(
                f"{out}: holds {manifest.name} v{manifest.version}; choose a new folder for {family.split}"
            )
        return manifest
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MothrError(f"{out}: holds other files; choose an empty or new folder")
    for library in family.missing_libraries():
        raise no_library(family.name, library)
    content, convert = family.obtain(options) if family.obtain else _from_archives(family, options)
    return _write(family, content, convert, out, options.progress)


def _from_archives(family: RealFamily, options: Options) -> tuple[Content, Convert]:
    """Downloads all archives of a family; returns its networks, and how the weights of one are read."""
    opened: dict[str, Opened] = {}
    for archive in family.archives:
        options.progress(f"{archive.file}: {archive.bytes / 1e6:.1f} MB")
        opened[archive.file] = open_archive(archive, options.archives, options.download)

    def convert(network: Network, folder: Path) -> Tensors:
        del folder  # the tensors are small enough to be returned
        assert network.read is not None
        files = opened[network.archive].read_all(network.members)
        return network.read(files, f"{network.archive}: {network.name}")

    assert family.content is not None
    return family.content(opened), convert


def id_of(split: str, name: str) -> str:
    """Returns the id of a network: 12 hex digits of a salted hash."""
    return hashlib.sha256("\x1f".join((SALT, split, name)).encode()).hexdigest()[:12]


def truth_of(family: RealFamily, content: Content) -> Truth:
    """Returns the truth of a family.

    Raises:
        MothrError: a network names an unknown parent, or the parents have a cycle.
    """
    names = {network.name: id_of(family.split, network.name) for network in content.networks}
    if len(set(names.values())) != len(content.networks):
        raise MothrError(f"{family.split}: two networks have one name; please report this")
    for network in content.networks:
        for parent in network.parents:
            if parent not in names:
                raise MothrError(
                    f"{family.split}: {network.name} names the unknown parent {parent}; please report this"
                )
    graph = ModelGraph({names[network.name]: tuple(names[p] for p in network.parents) for network in content.networks})
    trees = {node: number for number, tree in enumerate(graph.trees) for node in tree}
    nodes = {}
    for network in sorted(content.networks, key=lambda network: names[network.name]):
        node = names[network.name]
        nodes[node] = TruthNode(
            parents=graph.parents[node],
            relation=network.relation,
            subtype=network.subtype,
            tree=trees[node],
            depth=_depth(graph, node),
            task=network.name,
            evidence=network.evidence or None,
        )
    return Truth(split=family.split, version=VERSION, nodes=nodes)


def _depth(graph: ModelGraph, node: str) -> int:
    depth = 0
    while graph.parents[node]:
        node, depth = graph.parents[node][0], depth + 1
    return depth


def recipe_of(family: RealFamily, content: Content) -> dict[str, object]:
    """Returns what the data set is made from: the hashes of the archives, and each network's files and parents."""
    recipe: dict[str, object] = {
        "name": family.split,
        "version": VERSION,
        "archives": {} if content.versions else {archive.file: archive.sha256 for archive in family.archives},
        "networks": {
            network.name: {
                "archive": network.archive,
                "members": list(network.members),
                "parents": list(network.parents),
            }
            for network in content.networks
        },
    }
    return {**recipe, "versions": dict(content.versions)} if content.versions else recipe


def _write(
    family: RealFamily, content: Content, convert: Convert, out: Path, progress: Callable[[str], None]
) -> Manifest:
    """Writes the data set to a temporary folder beside ``out`` and renames this folder."""
    truth = truth_of(family, content)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    except OSError as error:
        raise write_error(out, error) from error
    try:
        formats = {}
        for number, network in enumerate(content.networks, 1):
            progress(f"{number}/{len(content.networks)} {network.name}")
            folder = work / MODELS / id_of(family.split, network.name)
            folder.mkdir(parents=True)
            tensors = convert(network, folder)
            if tensors is not None:
                formats[network.name] = _save(tensors, f"{network.archive}: {network.name}", folder)
        fix_times(work / MODELS)
        if family.scored:
            write_json(work / TRUTH, truth.model_dump(mode="json"))
        if content.versions:
            write_json(work / VERSIONS, dict(content.versions))
        write_text(work / "README.md", card(family, content, formats))
        manifest = write_manifest(
            work,
            name=family.split,
            version=VERSION,
            family=family.name,
            mothr_version=FETCHED,
            recipe_sha256=canonical_sha256(recipe_of(family, content)),
            environment={},
        )
        work.chmod(0o755)
        if out.is_dir():
            out.rmdir()
        os.rename(work, out)
    except OSError as error:
        raise write_error(out, error) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return manifest


def _save(tensors: Tensors, name: str, folder: Path) -> str:
    """Writes the weights of one network; returns its number of parameters and its tensors as text for the card."""
    for key, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise MothrError(f"{name}: tensor {key!r} holds NaN or infinite values")
    write_tensors(tensors, folder / WEIGHTS)
    kinds = ", ".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()}))
    return f"{sum(tensor.numel() for tensor in tensors.values()):,} parameters in {len(tensors)} tensors, {kinds}"
