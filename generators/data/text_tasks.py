"""Classification tasks over windows of text: from which domain a window is, whether its halves belong together,
whether its words are in order. They need no download.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

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
    """One task. ``sort``: class i has windows of the domains ``domains[i]``. The two other kinds have one group of
    domains, and class 0 has unchanged windows. In class 1 of ``halves`` the second half is from another place of the
    domain. In class 1 of ``words`` the words have a random order.
    """

    classes: tuple[str, ...]
    """Names of the classes."""
    domains: tuple[tuple[str, ...], ...]
    """Groups of text domains."""
    kind: Literal["sort", "halves", "words"] = "sort"
    """What distinguishes the classes."""


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
        group = task.domains[label] if task.kind == "sort" else task.domains[0]
        domain = group[rng.integers(len(group))]
        windows[row] = _window(domain, subset, rng)
        if label and task.kind == "halves":
            windows[row, WINDOW // 2 :] = _window(domain, subset, rng)[: WINDOW // 2]
        elif label and task.kind == "words":
            windows[row] = _scrambled(windows[row], rng)
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


def _scrambled(window: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the same bytes with the words, separated by spaces, in a random order."""
    words = window.tobytes().split(b" ")
    return np.frombuffer(b" ".join(words[index] for index in rng.permutation(len(words))), np.uint8)


_CODE, _PROSE = ("text-python", "text-cpp", "text-cython"), ("text-manual", "text-docstrings", "text-licence")


def _task(
    name: str,
    description: str,
    classes: Sequence[str],
    domains: Sequence[tuple[str, ...]],
    kind: Literal["sort", "halves", "words"] = "sort",
) -> TextTask:
    used = dict.fromkeys(text.DOMAINS.find(domain).source for group in domains for domain in group)
    return TextTask(name, description, "; ".join(used), tuple(classes), tuple(domains), kind)


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
        _task("halves-english", "Do both halves of an English text belong together?", ["yes", "no"], [_PROSE], "halves"),
        _task("halves-tables", "Do both halves of a table or declaration belong together?", ["yes", "no"],
              [("text-fonts", "text-operators", "text-schema")], "halves"),
        _task("words-english", "Are the words of an English text in order?", ["yes", "no"], [_PROSE], "words"),
        _task("words-code", "Are the words of a piece of code in order?", ["yes", "no"], [_CODE], "words"),
    ],
)  # fmt: skip
"""Every task by name."""
