"""Text domains that need no download: bytes of real and generated documents.
 The documents of a domain are files that Python and the packages of the ``generate`` extra contain, entries
of such files, or pages generated here. A hash of its name assigns each document to one subset, so no document
is in both. The content of a domain depends only on the installed versions.
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

import numpy as np
import torch

from mothr.benchmark.errors import MothrError
from mothr.generators.data import registry
from mothr.generators.data.registry import Registry, Subset, Task, check_subset

Documents = Mapping[str, Callable[[], bytes]]
"""Document name -> function that reads it. Most documents are never read, because a subset is full before."""
SIZES: dict[Subset, int] = {"train": 1 << 20, "test": 1 << 17}
"""Largest size of a subset, in bytes."""
LEAST = 1 << 13
"""Smallest size of a subset, in bytes."""
TEST_SHARE = 8
"""One document in this number is in the test subset."""
LONGEST = 1 << 15
"""Largest number of bytes taken from one document, so that no large file dominates."""


@dataclass(frozen=True, slots=True)
class TextDomain(Task):
    """Text of one kind."""

    documents: Callable[[], Documents]
    """Returns the documents, in any order."""
    package: str | None = None
    """The installed package that contains the text; None if it comes with Python or is generated here."""


def load(name: str, subset: Subset) -> torch.Tensor:
    """Returns the text of a domain, uint8 (n,): documents joined by newlines. All calls share this tensor: do
    not modify it.

    Raises:
        MothrError: no domain, or no subset, has this name, or the package that contains the text is absent.
    """
    DOMAINS.find(name)
    check_subset(subset)
    return _subsets(name)[subset]


def digest(name: str) -> str:
    """Returns the SHA-256, in hex, of both subsets of a domain. It changes with the versions of Python and of
    the packages."""
    return registry.digest(load(name, subset) for subset in SIZES)


@lru_cache(maxsize=16)
def _subsets(name: str) -> dict[Subset, torch.Tensor]:
    """Returns both subsets of a domain."""
    documents = DOMAINS.find(name).documents()
    ranked = sorted((hashlib.sha256(f"{name}/{document}".encode()).digest(), document) for document in documents)
    subsets: dict[Subset, torch.Tensor] = {}
    seen: set[bytes] = set()  # some files are copies of others: no text may be in both subsets, or twice in one
    for subset in ("test", "train"):
        pages: list[bytes] = []
        room = SIZES[subset]
        for rank, document in ranked:
            if (rank[-1] % TEST_SHARE == 0) != (subset == "test"):
                continue
            page = documents[document]().replace(b"\r\n", b"\n").strip()[:LONGEST]
            if page and page not in seen:
                seen.add(page)
                pages.append(page)
                room -= len(page) + 1
            if room <= 0:
                break
        joined = b"\n".join(pages)[: SIZES[subset]]
        if len(joined) < LEAST:
            package = DOMAINS.find(name).package or "Python"
            raise MothrError(
                f"{name}: the installed {package} contains too little of this text; install the versions of constraints.txt"
            )
        subsets[subset] = torch.from_numpy(np.frombuffer(joined, np.uint8).copy())
    return subsets


# Files


def _files(root: Path, *patterns: str) -> Documents:
    """Returns the files below ``root`` that match a pattern, by their relative paths, without the packages'
    own tests."""
    paths = {path.relative_to(root): path for pattern in patterns for path in root.glob(pattern)}
    return {
        place.as_posix(): path.read_bytes
        for place, path in paths.items()
        if path.is_file() and "tests" not in place.parts
    }


def _stdlib() -> Path:
    return Path(os.__file__).parent


def _folder(module: str) -> Path:
    """Returns the folder of an installed module without importing it, because some imports take seconds.

    Raises:
        MothrError: the module is not installed.
    """
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise MothrError(f"{module}: not installed, but it contains text to train on; install mothr[generate]")
    return Path(spec.submodule_search_locations[0])


PYTHON = (
    "asyncio", "collections", "concurrent", "email", "html", "http", "importlib", "json", "logging", "multiprocessing", "unittest",
    "urllib", "wsgiref", "xml", "xmlrpc",
)  # fmt: skip
"""Packages of the standard library that are part of every distribution of Python."""


def _python() -> Documents:
    return _files(
        _stdlib(), "[a-z]*.py", *(f"{package}/**/*.py" for package in PYTHON)
    )  # some files named _* are written when Python is built


def _licences() -> Documents:
    files = [file for file in distribution("torch").files or () if "licenses" in file.parts]
    return {file.as_posix().split("licenses/", 1)[1]: Path(str(file.locate())).read_bytes for file in files}


# Parts of files


def _manual() -> Documents:
    from pydoc_data.topics import topics

    return {name: topic.encode for name, topic in topics.items()}


def _operators() -> Documents:
    """Returns the entries of torch's native_functions.yaml, forty per document."""
    text = (_folder("torchgen") / "packaged/ATen/native/native_functions.yaml").read_bytes()
    entries = re.split(rb"\n(?=- func:)", text)
    return {
        f"entries from {first}": partial(b"\n".join, entries[first : first + 40])
        for first in range(0, len(entries), 40)
    }


def _docstrings(path: Path) -> bytes:
    """Returns the docstrings of the functions, classes and methods in a Python file."""
    body = ast.parse(path.read_bytes()).body
    named = [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    methods = [inner for node in named for inner in node.body if isinstance(inner, ast.FunctionDef)]
    return "\n\n".join(filter(None, map(ast.get_docstring, [*named, *methods]))).encode()


def _documentation() -> Documents:
    root = _folder("scipy")
    return {name: partial(_docstrings, root / name) for name in _files(root, "**/*.py")}


# Generated pages


def _page(seed: int) -> bytes:
    """Returns a page of 150 correct sums, differences, products and quotients."""
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
DOMAINS: Registry[TextDomain] = Registry(
    "text domain",
    [
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
    ],
)  # fmt: skip
"""Every domain by name."""
