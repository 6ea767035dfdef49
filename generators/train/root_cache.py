"""The cache of trained roots. The address of an entry is a hash of everything that the root's weights depend
on.

Recipes that hold the same root share its weights, so that each root is trained once on a machine.
"""

import fcntl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mothr.benchmark.storage import cache_folder, canonical_sha256, read_json, sha256_of, write_bytes, write_json
from mothr.generators.recipe.node import PlannedNode
from mothr.generators.sources.source import identity
from mothr.generators.train.context import Context
from mothr.generators.train.machine import machine

ROOT_CACHE_VERSION = 1  # raise it whenever the same root recipe gives other weights
RECORD = "record.json"


def entry_of(node: PlannedNode, context: Context) -> Path:
    """Returns the folder of the cache entry of the root ``node``; it may not exist yet."""
    root, family = node.root, context.family
    assert root is not None
    digests = family.data_digests(node.tasks)
    key = {
        "cache": ROOT_CACHE_VERSION,
        "family": context.family_name,
        "model": context.model,
        "root": root.model_dump(exclude={"name", "source"}, exclude_none=True),
        **machine(context.device),
        "packages": {name: version(name) for name in family.packages},
        **({"data": digests} if digests else {}),
        **({"heads": True} if family.has_heads else {}),
        **({"source": identity(root.source)} if root.source else {}),
    }
    return cache_folder("roots") / canonical_sha256(key)


def companions_entry(settings: Mapping[str, Any], context: Context) -> Path:
    """Returns the folder of the cache entry of frozen parts that several trees share; it may not exist yet.

    Args:
        settings: What decides them, from the family's ``companions_key``.
        context: The settings of the data set.
    """
    key = {
        "cache": ROOT_CACHE_VERSION,
        "family": context.family_name,
        "companions": settings,
        **machine(context.device),
        "packages": {name: version(name) for name in context.family.packages},
    }
    return cache_folder("companions") / canonical_sha256(key)


@contextmanager
def locked(entry: Path) -> Iterator[Path]:
    """Yields ``entry`` while no other process works on it."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    with entry.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield entry


def store(entry: Path, files: Mapping[str, Path], training: Mapping[str, Any]) -> None:
    """Copies ``files`` (name in the entry -> path) and the training record into the cache.

    Two processes that store the same root at the same time write the same bytes.
    """
    for name, path in files.items():
        write_bytes(entry / name, path.read_bytes())
    digests = {name: sha256_of(path) for name, path in files.items()}
    write_json(entry / RECORD, {"training": training, "files": digests})


def restore(entry: Path, destination: Callable[[str], Path]) -> dict[str, Any] | None:
    """Copies the files of a complete cache entry to ``destination(name)`` and returns the training record.

    Returns None, and copies nothing, if the entry is absent or a file of it is absent or changed.
    """
    if not (entry / RECORD).is_file():
        return None
    record = read_json(entry / RECORD)
    for name, digest in record["files"].items():
        if not (entry / name).is_file() or sha256_of(entry / name) != digest:
            return None
    for name in record["files"]:
        write_bytes(destination(name), (entry / name).read_bytes())
    return dict(record["training"])
