"""Forests with known truth that are drawn, not trained; copies with reordered neurons and heads; small data sets."""

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
import typer
from safetensors.numpy import save_file
from typer.testing import CliRunner

from mothr.baselines.cli import commands
from mothr.benchmark import __version__
from mothr.benchmark.data.dataset import fix_times, write_manifest
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.run.forests import grow

TREE = (None, 0, 0, 1, 1, 2, 2)
LAYERS, HEADS, WIDTH = 2, 4, 24
SHAPES = {
    **{f"layers.{layer}.self_attn.{part}_proj.weight": (WIDTH, WIDTH) for layer in range(LAYERS) for part in "qkvo"},
    **{f"layers.{layer}.mlp.up_proj.weight": (40, WIDTH) for layer in range(LAYERS)},
    **{f"layers.{layer}.mlp.down_proj.weight": (WIDTH, 40) for layer in range(LAYERS)},
    "embed_tokens.weight": (50, WIDTH),
}


def ids_of(count, seed):
    """Returns names in random order, so that they do not reveal the order of the models."""
    return [f"{number:03d}" for number in np.random.default_rng(seed).permutation(900)[:count]]


@pytest.fixture
def grown(write_models) -> Callable:
    """Returns a function that draws a forest (heavy-tailed roots, independent updates) and returns its models and its graph."""

    def draw(parents=TREE, rank=None, seed=0):
        weights = grow(np.random.default_rng(seed), parents, SHAPES, rank)
        ids = ids_of(len(parents), seed)
        contents = {
            node: {name: torch.from_numpy(value) for name, value in held.items()}
            for node, held in zip(ids, weights, strict=True)
        }
        return write_models(contents), ModelGraph(
            {node: () if p is None else (ids[p],) for node, p in zip(ids, parents, strict=True)}
        )

    return draw


@pytest.fixture
def permuted() -> Callable:
    """Returns a function that reorders the heads and neurons of weights by name. The network computes the same function."""

    def copy(weights, seed=0):
        rng, reordered = np.random.default_rng(seed), dict(weights)
        for layer in range(LAYERS):
            block = f"layers.{layer}."
            heads = torch.arange(WIDTH).roll(WIDTH // HEADS * int(rng.integers(1, HEADS)))  # none stays where it was
            neurons = torch.from_numpy(rng.permutation(40))
            for part in "qkv":
                name = f"{block}self_attn.{part}_proj.weight"
                reordered[name] = weights[name][heads]
            reordered[f"{block}self_attn.o_proj.weight"] = weights[f"{block}self_attn.o_proj.weight"][:, heads]
            reordered[f"{block}mlp.up_proj.weight"] = weights[f"{block}mlp.up_proj.weight"][neurons]
            reordered[f"{block}mlp.down_proj.weight"] = weights[f"{block}mlp.down_proj.weight"][:, neurons]
        return reordered

    return copy


@pytest.fixture
def contents() -> Callable:
    """Returns a function that maps models to {id: {name: tensor}}."""
    return lambda models: {checkpoint.id: dict(checkpoint.read_all()) for checkpoint in models.checkpoints}


@pytest.fixture(scope="session")
def write_dataset() -> Callable:
    """Returns a function that writes nodes ({name: weights}, places of the parents, other fields of the truth) as a data set.

    It gives the ids of the nodes.
    """

    def write(folder, nodes, seed=0):
        rng = np.random.default_rng(seed)
        ids, truth = [rng.bytes(6).hex() for _ in nodes], {}
        for node, (weights, above, fields) in zip(ids, nodes, strict=True):
            model_folder = folder / "models" / node
            model_folder.mkdir(parents=True)
            save_file(
                {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in weights.items()},
                model_folder / "model.safetensors",
            )
            truth[node] = {"parents": [ids[parent] for parent in above], **fields}
        (folder / "truth.json").write_text(
            json.dumps({"schema_version": 1, "split": folder.name, "version": 1, "nodes": truth})
        )
        fix_times(folder / "models")
        write_manifest(
            folder,
            name=folder.name,
            version=1,
            family="toy",
            mothr_version=__version__,
            recipe_sha256="0" * 64,
            environment={},
        )
        return ids

    return write


@pytest.fixture
def call(request):
    """A function that runs ``mothr COMMAND WORDS``, COMMAND being the test module's own; raises the MothrError that would be printed."""
    app = typer.Typer()
    [command] = [item.function for item in commands if item.function.__name__ == request.module.COMMAND]
    app.command()(command)

    def run(*words):
        called = CliRunner().invoke(app, [str(word) for word in words])
        if called.exception is not None and not isinstance(called.exception, SystemExit):
            raise called.exception
        assert called.exit_code == 0, called.output
        return called

    return run
