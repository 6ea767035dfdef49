"""The fields of a record that say by which code, with which packages and when it was made."""

import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any

from mothr.benchmark import __version__

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "pandas", "safetensors", "transformers", "diffusers", "peft")
"""Packages whose versions a record names, if they are installed."""


def environment(device: str = "cpu") -> dict[str, Any]:
    """Returns the fields of a record for the device, the versions, the commit and the date.

    Args:
        device: the device that features were computed on: cpu, cuda, ...
    """
    commit, dirty = _checkout(Path(__file__))
    return {
        "device": device,
        "mothr_version": __version__,
        "commit": commit,
        "dirty": dirty,
        "packages": dict(_packages()),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


# Both are looked up once a process: the loaded code does not change, and the look-up takes longer than a small run.
@cache
def _packages() -> dict[str, str]:
    """Returns package -> installed version for the installed ones of :data:`PACKAGES`, and Python's own version."""
    packages = {"python": python_version()}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return packages


@cache
def _checkout(file: Path) -> tuple[str | None, bool | None]:
    """Returns the commit of the checkout that tracks ``file``, and whether the checkout was edited since.

    Both are None if no checkout tracks the file.
    """

    def git(*words: str) -> str:
        done = subprocess.run(("git", *words), cwd=file.parent, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)
        commit = git("rev-parse", "HEAD")
        return commit, bool(git("status", "--porcelain", "--", ":(top)", ":(top,exclude)results"))
    except (OSError, subprocess.SubprocessError):
        return None, None
