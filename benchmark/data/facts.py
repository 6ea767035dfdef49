"""Facts: everything that the files of models contain beside weights, as comparable numbers and words."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mothr.benchmark.data.dataset import MODELS, Manifest
from mothr.benchmark.errors import MothrError
from mothr.benchmark.storage import parse_json, sha256_of

Row = dict[str, float | tuple[str, ...]]
"""Name of a fact -> a number or a sequence of words, such as the letters of a name or the order of tensors."""
NAMED = "names the other's id"
"""The fact that a file of one model holds the id of another model."""
MENTION = re.compile(r"(?=([0-9a-f]{12}))")


@dataclass(frozen=True)
class Facts:
    """The facts about n models."""

    numbers: Mapping[str, NDArray[np.float64]]
    """Name -> (n,) numbers, NaN if a model has none."""
    words: Mapping[str, tuple[tuple[str, ...], ...]]
    """Name -> the words of each model, an empty tuple if it has none."""
    named: NDArray[np.bool_]
    """(n, n): whether the files of model j hold the id of model i."""

    def __len__(self) -> int:
        return len(self.numbers) + len(self.words) + 1

    def varying(self, groups: NDArray[np.intp]) -> "Facts":
        """Returns the facts that differ between some two models of the same group; ``groups`` is (n,)."""

        def varies(values: Sequence[object]) -> bool:
            return len(set(zip(groups.tolist(), values, strict=True))) > len(set(groups.tolist()))

        numbers = {
            name: values for name, values in self.numbers.items() if varies([repr(value) for value in values.tolist()])
        }
        return Facts(numbers, {name: values for name, values in self.words.items() if varies(values)}, self.named)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all facts that can differ."""
        return (*self.numbers, *self.words, *((NAMED,) if self.named.any() else ()))

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns of :meth:`compare`."""
        names = [f"{name}, {column}" for name in self.numbers for column in ("difference", "distance")]
        names += [
            f"{name}, {column}" for name in self.words for column in ("order", "equal places", "common beginning")
        ]
        return (*names, *((f"the child {NAMED}", f"the parent {NAMED}") if self.named.any() else ()))

    @cached_property
    def _codes(self) -> dict[str, tuple[NDArray[np.float64], NDArray[np.int64]]]:
        """Name -> (n,) alphabetical ranks of the words of models, and (n, longest) number of each word, else -1."""
        by_name = {}
        for name, values in self.words.items():
            ranks = {words: rank for rank, words in enumerate(sorted(set(values)))}
            numbers = {word: number for number, word in enumerate(sorted({word for words in values for word in words}))}
            codes = np.full((len(values), max(map(len, values))), -1)
            for row, words in enumerate(values):
                codes[row, : len(words)] = [numbers[word] for word in words]
            by_name[name] = np.array([float(ranks[words]) for words in values]), codes
        return by_name

    def compare(self, first: NDArray[np.intp], second: NDArray[np.intp]) -> NDArray[np.float64]:
        """Returns (m, columns) comparisons of model ``first[k]`` with model ``second[k]``, for each of m pairs.

        For a number: difference and absolute difference. For words: difference of ranks, share of equal words
        at the same position, and length of the common beginning.
        """
        comparisons: list[NDArray[Any]] = []
        for values in self.numbers.values():
            difference = values[first] - values[second]
            comparisons += [difference, np.abs(difference)]
        for ranks, codes in self._codes.values():
            same = codes[first] == codes[second]
            comparisons += [ranks[first] - ranks[second], same.mean(axis=1), np.cumprod(same, axis=1).sum(axis=1)]
        if self.named.any():
            comparisons += [self.named[first, second], self.named[second, first]]
        return np.column_stack(comparisons).astype(np.float64) if comparisons else np.empty((len(first), 0))


def facts_of_files(folder: Path, manifest: Manifest) -> Facts:
    """Returns the facts that every copy of a data set has: names, sizes, times, rights, headers, configurations.

    Raises:
        MothrError: The header of a weight file cannot be read.
    """
    ids = [model.id for model in manifest.models]
    known = set(ids)
    rows: list[Row] = []
    named = np.zeros((len(ids), len(ids)), bool)
    position = {node: index for index, node in enumerate(ids)}
    for index, node in enumerate(ids):
        row: Row = {
            "id, read as a number": float(int(node, 16)),
            "id": tuple(node),
            "place in the manifest": float(index),
        }
        text = ""
        for path in _paths(folder / MODELS / node):
            name = _name(path, folder / MODELS / node)
            row |= {f"{name}, {key}": value for key, value in _stat(path).items()}
            if path.is_file():
                contained, content = _content(path)
                row |= {f"{name}, {key}": value for key, value in contained.items()}
                text += f"{name} {content} "
        rows.append(row)
        for mentioned in set(MENTION.findall(text)) & known - {node}:
            named[position[mentioned], index] = True
    return _collected(rows, named)


def facts_of_this_copy(folder: Path, manifest: Manifest) -> Facts:
    """Returns the facts that only this copy on this disk has: order of entries, inodes, change times.

    No archive stores them.
    """
    entries = {name: float(index) for index, name in enumerate(os.listdir(folder / MODELS))}
    rows: list[Row] = []
    for model in manifest.models:
        home = folder / MODELS / model.id
        row: Row = {"place in the folder": entries[model.id], "order of files": tuple(os.listdir(home))}
        for path in _paths(home):
            name, status = _name(path, home), path.stat()
            row |= {f"{name}, inode": float(status.st_ino), f"{name}, change time": status.st_ctime_ns / 1e9}
        rows.append(row)
    return _collected(rows, np.zeros((len(rows), len(rows)), bool))


def _paths(home: Path) -> list[Path]:
    return [home, *sorted(home.rglob("*"))]


def _name(path: Path, home: Path) -> str:
    return path.relative_to(home).as_posix() if path != home else "the folder"


def _stat(path: Path) -> Row:
    status = path.stat()
    row: Row = {"modification time": status.st_mtime_ns / 1e9, "rights": float(status.st_mode)}
    return row | {"bytes": float(status.st_size)} if path.is_file() else row


def _content(path: Path) -> tuple[Row, str]:
    """Returns the facts in a file, without weights, and its text."""
    if path.suffix == ".safetensors":
        return _header(path)
    content = path.read_bytes()
    row: Row = {"content": (sha256_of(path),)}
    if path.suffix == ".json":
        try:
            for name, value in _leaves(parse_json(content.decode())):
                number = isinstance(value, int | float) and not isinstance(value, bool)
                row[f"field {name}"] = float(value) if number else tuple(str(value))
        except (ValueError, RecursionError):
            row["is JSON"] = 0.0
    return row, content.decode(errors="replace")


def _header(path: Path) -> tuple[Row, str]:
    """Returns the facts in the header of a safetensors file, and its metadata as text.

    The header is parsed here, because the reader of the format hides the order and the offsets of tensors.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        try:
            if size > path.stat().st_size - 8:
                raise ValueError("the header would be longer than the file")
            header = parse_json(file.read(size).decode())
            tensors = {name: value for name, value in header.items() if name != "__metadata__"}
            row: Row = {
                "length of the header": float(size),
                "order of names": tuple(header),
                "order of data": tuple(sorted(tensors, key=lambda name: tensors[name]["data_offsets"])),
                "types": tuple(tensors[name]["dtype"] for name in sorted(tensors)),
                "offsets": tuple(str(tensors[name]["data_offsets"]) for name in sorted(tensors)),
            }
            metadata = header.get("__metadata__", {})
            row |= {f"metadata {name}": tuple(str(value)) for name, value in metadata.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise MothrError(
                f"{path}: not a whole safetensors file ({error!r}); download or generate it again"
            ) from None
    return row, json.dumps(metadata)


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (path, value) of every number, text, boolean and null in a JSON value."""
    if isinstance(value, dict | list) and value:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def _collected(rows: Sequence[Row], named: NDArray[np.bool_]) -> Facts:
    """Returns the facts of all models. If only some models have a fact, its presence is one more fact."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    numbers: dict[str, NDArray[np.float64]] = {}
    words: dict[str, tuple[tuple[str, ...], ...]] = {}
    for name in names:
        values = [row.get(name, ()) for row in rows]
        if all(isinstance(value, float) or value == () for value in values):
            numbers[name] = np.array([value if isinstance(value, float) else np.nan for value in values])
        else:
            words[name] = tuple(value if isinstance(value, tuple) else tuple(repr(value)) for value in values)
        if any(name not in row for row in rows):
            numbers[f"{name}, present"] = np.array([float(name in row) for row in rows])
    return Facts(numbers, words, named)
