"""The file of pairs: it is read as it was written, and a faulty file is refused."""

import json
import re

import pytest

from mothr.benchmark.board.pairs import SplitPairs, TreePairs, read, write
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.records.store import read_all
from mothr.benchmark.storage import sha256_of

TRUTH = ModelGraph({"a": ("d",), "b": (), "c": ("a",), "d": (), "e": ("b",), "f": ()})
"""Three trees: a c d, b e, and f."""


@pytest.fixture
def folder(tmp_path):
    """The results folder of the split, with a manifest."""
    folder = tmp_path / "results" / "tiny-v1"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}\n")
    return folder


@pytest.fixture
def pairs(folder):
    """Pairs of the split."""
    return SplitPairs(
        split="tiny", version=1, manifest_sha256=sha256_of(folder / "manifest.json"), distance="relative",
        direction="residual_independence", layers="body",
        trees=[
            TreePairs(ids=["a", "c", "d"], distances=[0.03125, 0.5, 1e-07], evidence=[0.0123, -0.5, 0]),
            TreePairs(ids=["b", "e"], distances=[None], evidence=[None]),
            TreePairs(ids=["f"], distances=[], evidence=[]),
        ],
    )  # fmt: skip


def test_a_file_is_read_as_it_was_written(folder, pairs):
    assert read(folder, TRUTH) is None
    assert write(pairs, folder) == folder / "pairs.json"
    assert read(folder, TRUTH) == pairs
    value = json.loads((folder / "pairs.json").read_text())
    assert list(value) == [
        "schema_version",
        "split",
        "version",
        "manifest_sha256",
        "distance",
        "direction",
        "layers",
        "trees",
    ]
    assert value["trees"][0] == {
        "ids": ["a", "c", "d"],
        "distances": [0.03125, 0.5, 1e-07],
        "evidence": [0.0123, -0.5, 0],
    }
    assert value["trees"][1] == {"ids": ["b", "e"], "distances": [None], "evidence": [None]}


def test_the_file_is_no_record(folder, pairs):
    write(pairs, folder)
    assert read_all(folder.parent) == []


def tree(number, **changes):
    """A change to one tree of the file."""
    return lambda value: value["trees"][number].update(changes)


FAULTS = {
    "of another version": (lambda value: value.update(schema_version=2), "schema_version: Input should be 1"),
    "without a field": (lambda value: value.pop("layers"), "field 'layers' is missing"),
    "with a misspelt field": (lambda value: value.update(layer="body"), "unknown field 'layer'; did you mean layers"),
    "of a number that is text": (
        tree(0, evidence=[0.1, "0.2", 0.3]),
        r"trees\.0\.evidence\.1: .* a valid number \(given: '0\.2'\)",
    ),
    "with a distance below 0": (
        tree(0, distances=[0.1, -0.2, 0.3]),
        r"trees\.0\.distances\.1: .* or equal to 0 \(given: -0\.2\)",
    ),
    "of another split": (
        lambda value: value.update(split="other"),
        "its content belongs into other-v1; move it there, or",
    ),
    "of another version of the split": (lambda value: value.update(version=2), "its content belongs into tiny-v2"),
    "of other weights": (
        lambda value: value.update(manifest_sha256="0" * 64),
        "of the manifest 000000000000, but the one beside it is ",
    ),
    "with a tree too few": (lambda value: value["trees"].pop(), "has 2 trees, but the truth has 3"),
    "with a tree too many": (
        lambda value: value["trees"].append(value["trees"][2]),
        "has 4 trees, but the truth has 3",
    ),
    "with trees in another order": (lambda value: value["trees"].reverse(), r"trees\.0\.ids: lacks the model 'a'"),
    "with a model of none": (tree(1, ids=["b", "z"]), r"trees\.1\.ids: lacks the model 'e'"),
    "with a model too many": (tree(2, ids=["f", "z"]), r"trees\.2\.ids: names the unknown model 'z'"),
    "with a model twice": (tree(1, ids=["b", "b", "e"]), r"trees\.1\.ids: not sorted, or a model is named twice"),
    "with models unsorted": (tree(0, ids=["c", "a", "d"]), r"trees\.0\.ids: not sorted"),
    "with too few distances": (
        tree(0, distances=[0.1, 0.2]),
        r"trees\.0\.distances: 2 numbers for the 3 pairs of 3 models",
    ),
    "with too much evidence": (tree(2, evidence=[0.1]), r"trees\.2\.evidence: 1 numbers for the 0 pairs of 1 models"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_file_is_refused_by_name_with_the_remedy(folder, pairs, kind):
    spoil, message = FAULTS[kind]
    path = write(pairs, folder)
    value = json.loads(path.read_text())
    spoil(value)
    path.write_text(json.dumps(value))
    with pytest.raises(
        MothrError, match=rf"{re.escape(str(path))}: .*{message}.*make it again with `mothr pairs DATASET`"
    ):
        read(folder, TRUTH)


@pytest.mark.parametrize("content", ["", "[1", "[]", '{"split": NaN}'])
def test_other_content_is_refused_by_the_name_of_the_file(folder, content):
    (folder / "pairs.json").write_text(content)
    with pytest.raises(MothrError, match=r"tiny-v1.pairs\.json: "):
        read(folder, TRUTH)


def test_a_file_without_a_manifest_is_refused(folder, pairs):
    write(pairs, folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(MothrError, match=r"manifest\.json: cannot read"):
        read(folder, TRUTH)


def test_numbers_that_are_not_finite_cannot_be_written():
    with pytest.raises(ValueError, match="finite"):
        TreePairs(ids=["a", "b"], distances=[float("inf")], evidence=[0.0])
    with pytest.raises(ValueError, match="finite"):
        TreePairs(ids=["a", "b"], distances=[1.0], evidence=[float("nan")])
