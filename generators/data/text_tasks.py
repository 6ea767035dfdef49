"""Classification tasks over windows of text: from which domains is a window? They need no download."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from mothr.generators.data import registry, text
from mothr.generators.data.registry import Registry, Subset, Task, check_subset, subset_generator

WINDOW = 256
"""Length of a window in bytes. A model reads as much of its start as its context holds."""
SIZES: dict[Subset, int] = {"train": 2400, "test": 480}
"""Number of windows in each subset, of all classes together; divisible by 2, 3, 4, 5, 6 and 8."""


@dataclass(frozen=True, slots=True)
class TextTask(Task):
    """One task. Class i has windows of the domains ``domains[i]``, all equally often."""

    classes: tuple[str, ...]
    """Names of the classes."""
    domains: tuple[tuple[str, ...], ...]
    """Text domains of each class."""


def load(name: str, subset: Subset) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns windows, uint8 (n, WINDOW), and labels, int64 (n,). All calls share these tensors: do not modify them.

    Raises:
        MothrError: no task, or no subset, has this name, or a package that contains the text is absent.
    """
    TASKS.find(name)
    check_subset(subset)
    return _load(name, subset)


def digest(name: str) -> str:
    """Returns the SHA-256, in hex, of both subsets. It changes with the versions of Python and of the packages."""
    return registry.digest(tensor for subset in SIZES for tensor in load(name, subset))


@lru_cache(maxsize=32)
def _load(name: str, subset: Subset) -> tuple[torch.Tensor, torch.Tensor]:
    task, rng = TASKS.find(name), subset_generator(name, subset)
    labels = rng.permutation(np.arange(SIZES[subset]) % len(task.classes))
    windows = np.empty((len(labels), WINDOW), np.uint8)
    for row, label in enumerate(labels):
        group = task.domains[label]
        windows[row] = _window(group[rng.integers(len(group))], subset, rng)
    return torch.from_numpy(windows), torch.from_numpy(labels.astype(np.int64))


def _window(domain: str, subset: Subset, rng: np.random.Generator) -> np.ndarray:
    """Returns WINDOW bytes from a random place of a domain, uint8 (n,). Training windows that are also in the test
    text, as parts of licences are, are drawn again."""
    page, test = text.load(domain, subset).numpy(), _test_bytes(domain)
    while True:
        start = int(rng.integers(len(page) - WINDOW + 1))
        window = page[start : start + WINDOW]
        if subset == "test" or window.tobytes() not in test:
            return window


@lru_cache(maxsize=16)
def _test_bytes(domain: str) -> bytes:
    return text.load(domain, "test").numpy().tobytes()


_CODE, _PROSE = ("text-python", "text-cpp", "text-cython"), ("text-manual", "text-docstrings", "text-licence")


def _task(name: str, description: str, classes: Sequence[str], domains: Sequence[tuple[str, ...]]) -> TextTask:
    used = dict.fromkeys(text.DOMAINS.find(domain).source for group in domains for domain in group)
    return TextTask(name, description, "; ".join(used), tuple(classes), tuple(domains))


TASKS: Registry[TextTask] = Registry(
    "text task",
    [
        _task(
            "sort-languages", "In which language is a piece of code?", ["Python", "C++", "CMake", "YAML", "Cython"],
            [("text-python",), ("text-cpp",), ("text-cmake",), ("text-schema",), ("text-cython",)],
        ),
        _task(
            "sort-english", "From which kind of English document is a text?", ["manual", "docstring", "licence"],
            [("text-manual",), ("text-docstrings",), ("text-licence",)],
        ),
        _task(
            "sort-python", "From which kind of Python file is a text?", ["source", "stub", "table of characters"],
            [("text-python",), ("text-stubs",), ("text-charmap",)],
        ),
        _task("sort-cpp", "Did a person or a program write a C++ header?", ["person", "program"], [("text-cpp",), ("text-operators",)]),
        _task(
            "sort-tables", "What does a table contain?", ["fonts", "characters", "sums"],
            [("text-fonts",), ("text-charmap",), ("text-arithmetic",)],
        ),
        _task("sort-prose", "Is a text code or English?", ["code", "English"], [_CODE, _PROSE]),
        _task(
            "sort-writer", "Did a person or a program write a text?", ["person", "program"],
            [(*_CODE, *_PROSE), ("text-operators", "text-charmap", "text-fonts", "text-arithmetic")],
        ),
        _task(
            "sort-build", "From which part of a C++ project is a text?", ["header", "build script", "signatures", "licence"],
            [("text-cpp", "text-operators"), ("text-cmake",), ("text-schema",), ("text-licence",)],
        ),
        _task(
            "sort-typed", "From which dialect of Python is a text?", ["Python", "stub", "Cython", "docstring"],
            [("text-python",), ("text-stubs",), ("text-cython",), ("text-docstrings",)],
        ),
        _task(
            "sort-domains", "From which of eight domains is a text?",
            ["Python", "C++", "CMake", "YAML", "manual", "licence", "fonts", "sums"],
            [(f"text-{name}",) for name in ("python", "cpp", "cmake", "schema", "manual", "licence", "fonts", "arithmetic")],
        ),
    ],
)  # fmt: skip
"""Every task by name."""
