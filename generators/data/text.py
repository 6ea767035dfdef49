"""Real and drawn text to learn from: domains of bytes that need no download.

A domain is a set of documents: files that Python and the packages of the ``generate`` extra carry, entries of such files, or
pages drawn by the project. Whole documents go to one part, by a hash of their names, so train and test never share one, and
what a domain holds depends on the installed versions alone.
"""

import ast
import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from mothr.benchmark.errors import MothrError, unknown_name

Part = Literal["train", "test"]
Documents = Mapping[str, Callable[[], bytes]]
"""Each document's name and what reads it; most are never read, since a part is full before."""
SIZES: dict[Part, int] = {"train": 1 << 20, "test": 1 << 17}
"""The most bytes a part has."""
LEAST = 1 << 13
"""The fewest bytes a part has."""
TEST_SHARE = 8
"""One document in so many is seen in the test part only."""
LONGEST = 1 << 15
"""Bytes that are taken of one document, so that no large file outweighs the others."""


@dataclass(frozen=True)
class TextDomain:
    """One kind of text."""

    name: str
    """As recipes write it."""
    description: str
    """One sentence on what the text is."""
    source: str
    """Where it comes from, and its licence: dataset cards repeat it."""
    documents: Callable[[], Documents]
    """Gives its documents, in any order."""
    package: str | None = None
    """The installed package that carries it; none for what comes with Python or is drawn."""


def find(name: str) -> TextDomain:
    """Returns the domain called ``name``.

    Raises:
        MothrError: there is none.
    """
    if name not in DOMAINS:
        raise unknown_name("text domain", name, DOMAINS)
    return DOMAINS[name]


def load(name: str, part: Part) -> torch.Tensor:
    """Returns the text of a domain, uint8 (n,), documents joined by newlines; calls share it, so do not write to it.

    Raises:
        MothrError: no domain, or no part, has this name, or the package that carries the text is absent.
    """
    find(name)
    if part not in SIZES:
        raise unknown_name("part", part, get_args(Part))
    return _parts(name)[part]


def digest(name: str) -> str:
    """Returns the SHA-256 of both parts of a domain in hex: other versions of Python or of a package give another."""
    return hashlib.sha256(b"".join(load(name, part).numpy().tobytes() for part in SIZES)).hexdigest()


@lru_cache(maxsize=16)
def _parts(name: str) -> dict[Part, torch.Tensor]:
    documents = find(name).documents()
    ranked = sorted((hashlib.sha256(f"{name}/{document}".encode()).digest(), document) for document in documents)
    found: dict[Part, torch.Tensor] = {}
    seen: set[bytes] = set()  # files come in copies: none may be in both parts, or twice in one
    for part in ("test", "train"):
        pages: list[bytes] = []
        room = SIZES[part]
        for rank, document in ranked:
            if (rank[-1] % TEST_SHARE == 0) != (part == "test"):
                continue
            page = documents[document]().replace(b"\r\n", b"\n").strip()[:LONGEST]
            if page and page not in seen:
                seen.add(page)
                pages.append(page)
                room -= len(page) + 1
            if room <= 0:
                break
        joined = b"\n".join(pages)[: SIZES[part]]
        if len(joined) < LEAST:
            where = find(name).package or "Python"
            raise MothrError(
                f"{name}: the installed {where} carries too little of this text; install the versions of constraints.txt"
            )
        found[part] = torch.from_numpy(np.frombuffer(joined, np.uint8).copy())
    return found


# Files


def _files(root: Path, *patterns: str) -> Documents:
    """Returns the files below ``root`` that match a pattern, by their relative paths; packages' own tests are left out."""
    paths = {path.relative_to(root): path for pattern in patterns for path in root.glob(pattern)}
    return {
        place.as_posix(): path.read_bytes
        for place, path in paths.items()
        if path.is_file() and "tests" not in place.parts
    }


def _stdlib() -> Path:
    return Path(os.__file__).parent


def _folder(module: str) -> Path:
    """Returns the folder of an installed module, without importing it, which takes seconds for some.

    Raises:
        MothrError: it is not installed.
    """
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise MothrError(f"{module}: not installed, and it carries text to train on; install mothr[generate]")
    return Path(spec.submodule_search_locations[0])


PYTHON = (
    "asyncio", "collections", "concurrent", "email", "html", "http", "importlib", "json", "logging", "multiprocessing", "unittest",
    "urllib", "wsgiref", "xml", "xmlrpc",
)  # fmt: skip
"""Packages of the standard library that every distribution of Python installs."""


def _python() -> Documents:
    return _files(
        _stdlib(), "[a-z]*.py", *(f"{package}/**/*.py" for package in PYTHON)
    )  # some named _* are written when Python is built


def _licences() -> Documents:
    files = [file for file in distribution("torch").files or () if "licenses" in file.parts]
    return {file.as_posix().split("licenses/", 1)[1]: Path(str(file.locate())).read_bytes for file in files}


# Parts of files


def _manual() -> Documents:
    from pydoc_data.topics import topics

    return {name: topic.encode for name, topic in topics.items()}


def _operators() -> Documents:
    """Returns the entries of torch's native_functions.yaml, forty a document."""
    text = (_folder("torchgen") / "packaged/ATen/native/native_functions.yaml").read_bytes()
    entries = re.split(rb"\n(?=- func:)", text)
    return {f"entries from {at}": partial(b"\n".join, entries[at : at + 40]) for at in range(0, len(entries), 40)}


def _docstrings(path: Path) -> bytes:
    """Returns the docstrings of the functions, classes and methods in a Python file."""
    body = ast.parse(path.read_bytes()).body
    named = [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    methods = [inner for node in named for inner in node.body if isinstance(inner, ast.FunctionDef)]
    return "\n\n".join(filter(None, map(ast.get_docstring, [*named, *methods]))).encode()


def _documentation() -> Documents:
    root = _folder("scipy")
    return {name: partial(_docstrings, root / name) for name in _files(root, "**/*.py")}


# Drawn pages


def _page(seed: int) -> bytes:
    """Returns a page of 150 sums, differences, products and quotients, all of them right."""
    rng = np.random.default_rng(seed)
    kinds, (first, second) = rng.integers(4, size=150), rng.integers(2, 100, size=(2, 150)).tolist()
    lines = [
        (f"{a} + {b} = {a + b}", f"{a + b} - {a} = {b}", f"{a} * {b} = {a * b}", f"{a * b} / {b} = {a}")[kind]
        for kind, a, b in zip(kinds, first, second, strict=True)
    ]
    return "; ".join(lines).encode()


def _arithmetic() -> Documents:
    return {f"page {seed}": partial(_page, seed) for seed in range(600)}


_PYTHON, _TORCH = "of the installed Python, PSF-2.0", "of the installed torch, BSD-3-Clause"
DOMAINS: dict[str, TextDomain] = {
    domain.name: domain
    for domain in [
        TextDomain("text-python", "Source code in Python.", f"standard library {_PYTHON}", _python),
        TextDomain(
            "text-charmap", "Tables of character encodings.", f"encodings {_PYTHON}",
            lambda: _files(_stdlib() / "encodings", "cp*.py", "iso8859*.py", "koi8*.py", "mac_*.py"),
        ),
        TextDomain("text-manual", "The reference manual of a programming language, in English.", f"help topics {_PYTHON}", _manual),
        TextDomain(
            "text-cpp", "C++ headers written by hand.", f"headers of c10 {_TORCH}",
            lambda: _files(_folder("torch"), "include/c10/**/*.h"), "torch",
        ),
        TextDomain(
            "text-operators", "C++ declarations written by a program.", f"headers of ATen/ops {_TORCH}",
            lambda: _files(_folder("torch"), "include/ATen/ops/*.h"), "torch",
        ),
        TextDomain("text-schema", "Signatures of functions in YAML.", f"native_functions.yaml {_TORCH}", _operators, "torch"),
        TextDomain(
            "text-cmake", "Build scripts in CMake.", f"share/cmake {_TORCH}, in part MIT",
            lambda: _files(_folder("torch"), "share/cmake/**/*.cmake"), "torch",
        ),
        TextDomain(
            "text-licence", "Licences of software, in English.", "licences of the installed torch and of what it contains, as each permits",
            _licences, "torch",
        ),
        TextDomain(
            "text-stubs", "Type stubs in Python.", "stubs of the installed numpy, BSD-3-Clause",
            lambda: _files(_folder("numpy"), "**/*.pyi"), "numpy",
        ),
        TextDomain(
            "text-cython", "Source code in Cython.", "sources of the installed scikit-learn, BSD-3-Clause",
            lambda: _files(_folder("sklearn"), "**/*.pyx", "**/*.pxd", "**/*.tp"), "scikit-learn",
        ),
        TextDomain(
            "text-docstrings", "Documentation of numerical functions, in English.", "docstrings of the installed scipy, BSD-3-Clause",
            _documentation, "scipy",
        ),
        TextDomain(
            "text-fonts", "Tables of the metrics of fonts.",
            "in the installed matplotlib: Computer Modern (BaKoMa Fonts Licence), the PDF core fonts (Adobe: any use, with its notice), "
            "and others whose files carry copyright notices alone",
            lambda: _files(_folder("matplotlib"), "mpl-data/fonts/*/*.afm"), "matplotlib",
        ),
        TextDomain(
            "text-arithmetic", "Sums, differences, products and quotients of whole numbers.",
            "drawn by this project, Apache-2.0", _arithmetic,
        ),
    ]
}  # fmt: skip
"""Every domain by name."""
