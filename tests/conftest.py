"""Fixtures of all tests: a separate cache, one thread, and model sets written to disk."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mothr.benchmark.weights.discovery import open_folder
from mothr.benchmark.weights.model_set import ModelSet


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs the longest file first, so that no process waits for it at the end."""
    items.sort(key=lambda item: item.path.name != "test_readme.py")


@pytest.fixture(autouse=True, scope="session")
def _not_the_users_cache(tmp_path_factory):
    """Fixtures of modules use a cache of the session, never the cache of the user. Torch uses one thread."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTHR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """Each test has its own cache."""
    monkeypatch.setenv("MOTHR_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def write_models(tmp_path_factory) -> Callable[[Mapping[str, Mapping[str, torch.Tensor]]], ModelSet]:
    """Returns a function that writes {model id: {tensor name: tensor}} to a new folder and opens it."""

    def write(contents: Mapping[str, Mapping[str, torch.Tensor]]) -> ModelSet:
        folder: Path = tmp_path_factory.mktemp("models")
        for name, tensors in contents.items():
            save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / f"{name}.safetensors")
        return open_folder(folder)

    return write
