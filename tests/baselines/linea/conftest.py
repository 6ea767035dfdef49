"""A small tree, and children of any weights."""

import pytest
import torch


@pytest.fixture
def grown_tree(grown, contents):
    """The weights of a tree of seven models, its nodes by depth, and its true graph."""
    models, truth = grown()
    order = list(truth.roots)
    for node in order:
        order += truth.children(node)
    return contents(models), order, truth


@pytest.fixture
def child():
    """Returns a function that adds a Gaussian update to weights by name."""

    def add_update(weights, seed=9, size=0.02):
        generator = torch.Generator().manual_seed(seed)
        return {name: value + size * torch.randn(value.shape, generator=generator) for name, value in weights.items()}

    return add_update
