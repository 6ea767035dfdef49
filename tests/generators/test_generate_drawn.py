"""A data set of a drawn recipe: trees of several sizes, copies, merges, launderings, strangers and stored precisions."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mothr.benchmark.data.dataset import open_models, open_truth
from mothr.benchmark.data.verify import verify
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph
from mothr.generators.generate import generate
from mothr.generators.recipe.loading import load_recipe
from mothr.generators.recipe.topology import plan

TRAINING = "training = { steps = { uniform = [2, 4] }, batch_size = 8, learning_rate = { log_uniform = [1e-3, 1e-2] }, head_rate = 0.01 }"
RECIPE = f"""
name = "drawn"
version = 1
purpose = "demo"
description = "Small trees of several sizes."
family = "vit"
seed = 13
trees = 4
stored = {{ choice = ["float32", "bfloat16", "float16"] }}
strangers = {{ choice = [0, 1] }}
withheld = {{ choice = [0, 1] }}

[model]
hidden_size = {{ choice = [16, 32] }}
layers = {{ uniform = [1, 2] }}
heads = 2
mlp_size = 32
patch_size = 16

[topology]
shape = "recursive"
nodes = {{ uniform = [4, 6] }}

[root]
init = {{ choice = ["normal", "orthogonal"] }}
tasks = ["shape-colour"]
{TRAINING}

[[edges]]
share = 4
tasks = ["shape-size", "shape-kind"]
task_rule = "new"
{TRAINING}
lora = {{ chance = 0.4, value = {{ ranks = [2], targets = ["q_proj", "fc1"] }} }}

[[edges]]
share = 2
transform = {{ choice = [
    {{ kind = "rotated" }},
    {{ kind = "widened", factor = 2.0, part = "all" }},
    {{ kind = "diluted", share = 0.2 }},
] }}

[[edges]]
share = 2
transform = {{ choice = [
    {{ kind = "merge", method = "dare" }},
    {{ kind = "quantized", precision = "int8" }},
    {{ kind = "dummy-neurons", fraction = 0.5, how = "split" }},
] }}
task_rule = "continued"
{TRAINING}
stored = "bfloat16"

[[edges]]
share = 1
transform = {{ kind = "decoy", shared = "embeddings" }}
tasks = ["shape-size", "shape-kind"]
task_rule = "new"
{TRAINING}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "drawn.toml"
    path.write_text(RECIPE)
    return load_recipe(str(path))


@pytest.fixture(scope="module", autouse=True)
def brief():
    """Every training counts as one that taught something. So none is repeated with more steps, which would take long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mothr.generators.train.make.learned", lambda record: True)
        yield


@pytest.fixture(scope="module")
def dataset(recipe, tmp_path_factory) -> Path:
    """The data set, made in this process by one thread."""
    out = tmp_path_factory.mktemp("drawn") / "data"
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as executor:
        patch.setenv("MOTHR_CACHE", str(out.parent / "cache"))
        generate(recipe, out, executor=executor, progress=False, device="cpu")
    return out


def weights(dataset, node):
    return load_file(dataset / "models" / node / "model.safetensors")


def test_the_data_set_holds_the_planned_models_without_withheld_ones(dataset, recipe):
    nodes = plan(recipe)
    truth = open_truth(dataset)
    assert set(truth.nodes) == {node.id for node in nodes if not node.withheld}
    assert any(node.withheld for node in nodes)
    assert truth.graph == ModelGraph({node.id: node.parents for node in nodes if not node.withheld})
    assert len(open_models(dataset)) == len(truth.nodes)


def test_the_truth_holds_what_was_drawn(dataset, recipe):
    nodes = {node.id: node for node in plan(recipe)}
    for id, value in open_truth(dataset).nodes.items():
        assert value.drawn == nodes[id].drawn
        if value.training:
            assert value.training["steps"] == nodes[id].training.steps
    assert json.loads((dataset / "manifest.json").read_text())["name"] == "drawn"


def test_every_model_has_its_own_sizes_and_its_stored_precision(dataset, recipe):
    stored = set()
    for node in plan(recipe):
        if node.withheld:
            continue
        tensors = weights(dataset, node.id)
        assert tensors["embeddings.cls_token"].shape[-1] == node.model["hidden_size"]
        assert {tensor.dtype for tensor in tensors.values()} == {getattr(torch, node.stored)}
        stored.add(node.stored)
        config = json.loads((dataset / "models" / node.id / "config.json").read_text())
        assert config["hidden_size"] == node.model["hidden_size"]
        assert config["dtype"] == node.stored
    assert len(stored) > 1


def test_trees_differ_in_sizes_and_a_laundering_changes_them_inside_a_tree(recipe):
    nodes = [node for node in plan(recipe) if node.edge]
    by_id = {node.id: node for node in plan(recipe)}
    assert len({node.model["hidden_size"] for node in by_id.values() if node.root}) > 1
    assert any(node.model != by_id[node.sources[0]].model for node in nodes)


def test_a_decoy_is_a_tree_of_its_own_and_shares_fixed_tensors_with_its_source(dataset, recipe):
    decoys = [node for node in plan(recipe) if node.edge and node.edge.subtype == "decoy-tuned"]
    assert decoys
    truth = open_truth(dataset)
    for node in decoys:
        assert truth.nodes[node.id].parents == ()
        assert sum(value.tree == node.tree for value in truth.nodes.values()) == 1
        source = node.sources[0]
        if source not in truth.nodes:
            continue
        own, other = weights(dataset, node.id), weights(dataset, source)
        assert torch.equal(own["embeddings.position_embeddings"], other["embeddings.position_embeddings"])
        name = "encoder.layer.0.intermediate.dense.weight"
        assert not torch.equal(own[name], other[name])


def test_a_copy_that_keeps_the_function_keeps_the_metric(dataset):
    copies = [value.transform for value in open_truth(dataset).nodes.values() if value.subtype == "rotated"]
    assert copies
    for copy in copies:
        assert copy["after"] == pytest.approx(copy["before"], abs=0.01)


def test_trained_models_record_the_loss_on_test_examples(dataset):
    for value in open_truth(dataset).nodes.values():
        if value.parents and value.training:
            assert value.training["test_loss_before"] > 0
            assert value.training["test_loss_after"] > 0


def test_an_interrupted_run_and_a_second_run_give_the_same_bytes(dataset, recipe, file_hashes, tmp_path, monkeypatch):
    from mothr.generators.generate import make

    monkeypatch.setenv("MOTHR_CACHE", str(tmp_path / "cache"))
    made, out = [], tmp_path / "again"

    def stopping(*arguments):
        made.append(arguments)
        if len(made) == 9:
            raise KeyboardInterrupt
        return make(*arguments)

    with ThreadPoolExecutor(1) as executor:
        monkeypatch.setattr("mothr.generators.generate.make", stopping)
        with pytest.raises(KeyboardInterrupt):
            generate(recipe, out, executor=executor, progress=False, device="cpu")
        monkeypatch.setattr("mothr.generators.generate.make", make)
        generate(recipe, out, executor=executor, progress=False, device="cpu")
        assert file_hashes(out) == file_hashes(dataset)
        generate(recipe, out, executor=executor, progress=False, device="cpu")
    assert file_hashes(out) == file_hashes(dataset)


def test_a_contradiction_is_an_error_before_anything_is_written(tmp_path):
    path = tmp_path / "wrong.toml"
    path.write_text(RECIPE.replace("ranks = [2]", "ranks = [64]").replace("chance = 0.4", "chance = 1.0"))
    with pytest.raises(MothrError, match=r"recipe drawn: node .*: lora\.ranks: rank 64 is above"):
        generate(load_recipe(str(path)), tmp_path / "out", progress=False, device="cpu")
    assert not (tmp_path / "out").exists()


def test_a_training_that_diverges_is_repeated_with_a_tenth_of_its_rate(recipe, tmp_path, monkeypatch):
    """The loss of the first training at each of the highest rates is set to NaN, as a diverged training gives it."""
    from mothr.generators.train import make as module

    rates, train = [], module.train

    def failing(model, objective, training, *arguments, **options):
        rates.append(training.learning_rate)
        if len(rates) == 1:
            raise module.Diverged("training: the loss is nan at step 1 of 2")
        return train(model, objective, training, *arguments, **options)

    monkeypatch.setattr(module, "train", failing)
    monkeypatch.setenv("MOTHR_CACHE", str(tmp_path / "cache"))
    value = lone_root(recipe, tmp_path / "data")
    assert rates[1] == pytest.approx(rates[0] / 10, rel=1e-3)
    assert value.training["learning_rate"] == rates[1]


def test_a_training_that_teaches_nothing_is_repeated_with_more_steps_and_then_at_a_higher_rate(
    recipe, tmp_path, monkeypatch
):
    from mothr.generators.train import make as module

    tried, train = [], module.train

    def counting(model, objective, training, *arguments, **options):
        tried.append((training.steps, training.learning_rate))
        return train(model, objective, training.model_copy(update={"steps": 4}), *arguments, **options)

    monkeypatch.setattr(module, "train", counting)
    monkeypatch.setattr(module, "learned", lambda record: len(tried) > 2)
    monkeypatch.setattr(module, "MAX_STEPS", 16)  # the recipe draws 2 to 4
    monkeypatch.setenv("MOTHR_CACHE", str(tmp_path / "cache"))
    value = lone_root(recipe, tmp_path / "data")
    (steps, rate), (more_steps, same_rate), (same_steps, higher_rate) = tried
    assert (more_steps, same_rate) == (4 * steps, rate)
    assert (same_steps, higher_rate) == (more_steps, pytest.approx(4 * rate, rel=1e-3))
    assert value.training["learning_rate"] == higher_rate


def test_a_drawn_data_set_passes_every_check_but_that_of_learning(dataset):
    verdict = verify(dataset)
    assert [problem for problem in verdict.problems if "taught nothing" not in problem] == []
    assert any("drawn recipe" in note for note in verdict.notes)


def lone_root(recipe, out):
    """Returns the truth of the only model of a data set: the first root of ``recipe``."""
    small = recipe.model_copy(update={"trees": 1, "strangers": 0, "withheld": 0, "topology": {"branching": [0]}})
    with ThreadPoolExecutor(1) as executor:
        generate(small, out, executor=executor, progress=False, device="cpu")
    (value,) = open_truth(out).nodes.values()
    return value
