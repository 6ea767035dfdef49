"""A recipe small enough to be trained in a test: two trees of 1 + 2 + 2 models, 16 wide, a few steps each."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from mothr.generators.data import captions

TINY = """
name = "tiny"
version = 1
purpose = "demo"
description = "Two small trees."
family = "vit"
seed = 5

[model]
hidden_size = 16
layers = 1
heads = 2
mlp_size = 32
patch_size = 8

[topology]
branching = [2, 1]

[[roots]]
name = "one"
seed = 1
init = "truncated-normal"
tasks = ["shape-colour"]
training = { steps = 12, batch_size = 16, learning_rate = 1e-3 }

[[roots]]
name = "two"
seed = 2
init = "xavier-uniform"
tasks = ["shape-colour"]
training = { steps = 10, batch_size = 16, learning_rate = 1e-3 }

[[edges]]
tasks = ["digits", "shape-size", "shape-kind"]
training = { steps = 8, batch_size = 16, learning_rate = 1e-3 }
"""


@pytest.fixture(scope="session")
def tiny_text() -> str:
    return TINY


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture
def edited(tmp_path: Path):
    """Returns a function that writes the tiny recipe with some text replaced, and returns its path."""

    def edit(old: str, new: str) -> str:
        assert old in TINY
        path = tmp_path / "edited.toml"
        path.write_text(TINY.replace(old, new))
        return str(path)

    return edit


@pytest.fixture(scope="module")
def few_captions():
    """Draws few pictures of each domain of captioned pictures."""
    sizes = dict(captions.SIZES)
    captions.SIZES.update(train=24, test=16)
    captions.load.cache_clear()
    yield
    captions.SIZES.update(sizes)
    captions.load.cache_clear()


@pytest.fixture(scope="session")
def file_hashes() -> Callable[[Path], dict[str, str]]:
    """Returns a function that returns relative path -> SHA-256 of all files below a folder."""

    def hashes(folder: Path) -> dict[str, str]:
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    return hashes
