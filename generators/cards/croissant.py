"""croissant.json: the metadata of a data set in the format MLCommons Croissant 1.0, for search engines and
loaders.

Source: https://docs.mlcommons.org/croissant/docs/croissant-spec-1.0.html.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from mothr.benchmark.data.dataset import COMPANIONS, LINEAGE, MODELS, RECIPE, TRUTH, Truth
from mothr.benchmark.storage import sha256_of
from mothr.generators.recipe.drawn import AnyRecipe
from mothr.generators.recipe.topology import sources_of

CONTEXT = {
    "@language": "en", "@vocab": "https://schema.org/", "sc": "https://schema.org/", "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/", "dct": "http://purl.org/dc/terms/", "conformsTo": "dct:conformsTo",
    "citeAs": "cr:citeAs", "column": "cr:column", "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract", "field": "cr:field", "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet", "format": "cr:format", "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath", "key": "cr:key", "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path",
    "recordSet": "cr:recordSet", "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated",
    "replace": "cr:replace", "samplingRate": "cr:samplingRate", "separator": "cr:separator", "source": "cr:source",
    "subField": "cr:subField", "transform": "cr:transform",
}  # fmt: skip
"""The context that the standard prescribes."""
FORMATS = {
    ".json": "application/json",
    ".toml": "application/toml",
    ".md": "text/markdown",
    ".safetensors": "application/octet-stream",
}
LICENCE = "https://spdx.org/licenses/Apache-2.0.html"


def hashes(out: Path) -> dict[str, str]:
    """Returns path -> SHA-256 of every file of the models and companions in the data set ``out``, sorted by
    the bytes of the path."""
    paths = [path for part in (MODELS, COMPANIONS) for path in (out / part).rglob("*") if path.is_file()]
    names = sorted((path.relative_to(out).as_posix() for path in paths), key=str.encode)
    return {name: sha256_of(out / name) for name in names}


def checksum(files: Mapping[str, str]) -> str:
    """Returns one SHA-256 for all files: the hash of the lines that ``sha256sum`` prints for them, sorted by
    path."""
    return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in files.items()).encode()).hexdigest()


def croissant(recipe: AnyRecipe, out: Path, files: Mapping[str, str], truth: Truth | None) -> dict[str, Any]:
    """Returns the content of croissant.json.

    Args:
        recipe: The recipe of the data set.
        out: The data set's folder.
        files: Path -> SHA-256 of the model files (see :func:`hashes`).
        truth: The truth; None for a hidden split. Only the models are then described.
    """
    known = {name: sha256_of(out / name) for name in (TRUTH, RECIPE) if truth is not None} | dict(files)
    rows = [{"files/path": name, "files/model": _model(name), "files/sha256": digest} for name, digest in files.items()]
    records = [
        _records(
            "files",
            "Every file of the models and of their companions.",
            {"path": "", "model": "", "sha256": ""},
            "path",
            rows,
        )
    ]
    if truth is not None:
        records.append(_lineage(truth))
    existing = bool(sources_of(recipe))
    return {
        "@context": deepcopy(CONTEXT),  # readers modify the value that they get
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": recipe.name,
        "description": recipe.description,
        "version": f"{recipe.version}.0.0",
        "license": "as the existing models say; see README.md" if existing else LICENCE,
        "keywords": ["model-lineage", "model-tree", "weight-space", recipe.family],
        "isLiveDataset": False,
        "distribution": [_file(name, digest, out) for name, digest in known.items()],
        "recordSet": records,
    }


def _file(name: str, digest: str, out: Path) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject", "@id": name, "name": name, "contentUrl": name, "contentSize": f"{(out / name).stat().st_size} B",
        "encodingFormat": FORMATS.get(Path(name).suffix, "application/octet-stream"), "sha256": digest,
    }  # fmt: skip


def _model(name: str) -> str:
    match = re.match(rf"{MODELS}/([^/]+)/", name)
    return match[1] if match else ""


def _lineage(truth: Truth) -> dict[str, Any]:
    columns = {
        "model": "Its id.", "parents": "The ids of its parents, separated by spaces; empty for a root.",
        "relation": "The relation to its parents.", "subtype": "A finer kind of the relation.", "tree": "Its Model Tree.",
        "depth": "Number of edges between the root and the model.", "task": "Its training tasks.",
    }  # fmt: skip
    rows = [
        {
            "model": node, "parents": " ".join(value.parents), "relation": value.relation or "", "subtype": value.subtype or "",
            "tree": str(value.tree), "depth": str(value.depth), "task": value.task or "",
        }
        for node, value in truth.nodes.items()
    ]  # fmt: skip
    named = [{f"{LINEAGE}/{key}": text for key, text in row.items()} for row in rows]
    return _records(LINEAGE, "The truth: the parents of every model.", columns, "model", named)


def _records(
    name: str, description: str, columns: Mapping[str, str], key: str, rows: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    """Returns a table of strings. ``columns`` holds the name of each column and its description, which may be
    empty."""
    fields = [
        {"@type": "cr:Field", "@id": f"{name}/{column}", "name": column, "dataType": "sc:Text"}
        | ({"description": text} if text else {})
        for column, text in columns.items()
    ]
    return {
        "@type": "cr:RecordSet", "@id": name, "name": name, "description": description, "key": {"@id": f"{name}/{key}"},
        "field": fields, "data": list(rows),
    }  # fmt: skip
