"""The estimate of a recipe's cost: counted exactly, measured where it can be, and made without doing anything else."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mothr.benchmark.cli.command import table
from mothr.generators.commands import generate as command
from mothr.generators.dry_run import BASE_BYTES, downloads, estimate, rows
from mothr.generators.families import FAMILIES
from mothr.generators.generate import generate
from mothr.generators.recipe.loading import load_recipe
from mothr.generators.recipe.topology import plan
from mothr.generators.sources import packages
from mothr.generators.sources import source as sources
from mothr.generators.values.seeds import torch_generator


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, tiny_text):
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(tiny_text)
    return load_recipe(str(path))


@pytest.fixture(scope="module")
def found(recipe):
    return estimate(recipe, "cpu", 2)


def test_models_trees_and_steps_are_counted(found):
    assert (found.models, found.trees, found.steps) == (10, 2, 12 + 10 + 8 * 8)
    assert {kind.name: (kind.models, kind.steps) for kind in found.kinds} == {
        "root": (2, 22),
        "full fine-tuning": (8, 64),
    }


def test_parameters_and_disk_are_those_of_the_model(found, recipe):
    model = FAMILIES["vit"](**recipe.model).build("normal", 0.02, torch_generator(0, "x"))
    count = sum(value.numel() for value in model.parameters())
    assert found.parameters == count
    assert found.disk_bytes == 10 * 4 * count


def test_the_disk_that_a_data_set_takes_is_told_within_a_fifth(found, recipe, tmp_path):
    with ThreadPoolExecutor(1) as executor:
        generate(recipe, tmp_path / "data", executor=executor, progress=False)
    taken = sum(path.stat().st_size for path in (tmp_path / "data" / "models").rglob("*.safetensors"))
    assert 0.8 < found.disk_bytes / taken < 1.2


def test_the_time_that_training_takes_is_told_within_a_factor_of_four(recipe, tmp_path):
    """The processor's time, since tests share it; a few tiny steps are mostly overhead, so more cannot be asked of them."""
    longer = recipe.model_copy(update={"edges": tuple(
        edge.model_copy(update={"training": edge.training.model_copy(update={"steps": 60})}) for edge in recipe.edges
    )})  # fmt: skip
    told = 3600 * estimate(longer, "cpu", 1).hours
    start = time.process_time()
    with ThreadPoolExecutor(1) as executor:
        generate(longer, tmp_path / "data", executor=executor, progress=False)
    taken = time.process_time() - start
    assert told / 4 < taken < told * 4


def test_memory_is_the_sum_that_is_stated(found):
    for kind in found.kinds:
        assert kind.trained == found.parameters
        assert (
            kind.activation_bytes > 16 * 17 * 16 * 4
        )  # batch x positions x width: the states after one block at least
    largest = max(kind.activation_bytes for kind in found.kinds)
    assert found.peak_bytes == BASE_BYTES + 4 * (found.parameters + 3 * found.parameters) + largest


def test_lora_trains_little(edited):
    recipe = load_recipe(edited(
        "training = { steps = 8, batch_size = 16, learning_rate = 1e-3 }",
        'training = { steps = 8, batch_size = 16, learning_rate = 1e-3 }\nlora = { ranks = [2, 4], targets = ["q_proj"] }',
    ))  # fmt: skip
    kinds = {kind.name: kind for kind in estimate(recipe, "cpu", 1).kinds}
    assert kinds["LoRA"].trained == 4 * (16 + 16)
    assert kinds["root"].trained > kinds["LoRA"].trained


def test_more_processes_share_the_work_but_not_a_chain(recipe):
    chain = recipe.model_copy(
        update={"roots": recipe.roots[:1], "topology": recipe.topology.model_copy(update={"branching": (1, 1)})}
    )
    alone, many = estimate(chain, "cpu", 1), estimate(chain, "cpu", 8)
    assert many.workers == len(plan(chain)) == 3
    assert many.hours == pytest.approx(alone.hours, rel=0.9)  # each model waits for its parent


def test_nothing_is_fetched_for_the_estimate_of_a_given_root(monkeypatch, recipe):
    monkeypatch.setattr(packages, "download", lambda package: pytest.fail("fetched something"))
    monkeypatch.setattr(sources, "_open_folder", lambda source: pytest.fail("fetched something"))
    given = recipe.roots[0].model_copy(
        update={"source": sources.Source(hub="someone/vit"), "training": None, "tasks": (), "init": None}
    )
    found = estimate(recipe.model_copy(update={"roots": (given, given)}), "cpu", 1)
    assert [kind.name for kind in found.kinds] == ["full fine-tuning"]
    assert found.steps == 64
    assert found.downloads == ("root one: someone/vit", "root one: someone/vit")


def test_what_a_recipe_at_paper_scale_fetches_is_listed():
    listed = downloads(load_recipe("paper-lora-v"))
    assert len(listed) == 5 + 15
    assert any(line.startswith("task vtab-clevr-count: CLEVR, CC BY 4.0") for line in listed)


def test_the_command_prints_and_writes_nothing(tiny, tmp_path, capsys):
    command(str(tiny), tmp_path / "data", workers=2, dry_run=True)
    shown = capsys.readouterr().out
    assert "peak memory per process" in shown
    assert "weights + gradients + optimizer + activations" in shown
    command(str(tiny), tmp_path / "data", workers=2, dry_run=True, as_json=True)
    value = json.loads(capsys.readouterr().out)
    assert (value["models"], value["steps"]) == (10, 86)
    assert not (tmp_path / "data").exists()


def test_people_see_every_figure(found):
    assert table(rows(found)).count("\n") >= 8


def test_a_copy_counts_as_a_model_of_its_own_size_but_not_as_steps(edited):
    derived = (
        '[[derived]]\ntransform = { kind = "quantized", precision = "int8" }\nper_tree = 1\nof = "leaf"\n[[edges]]'
    )
    found = estimate(load_recipe(edited("[[edges]]", derived)), "cpu", 1)
    assert (found.models, found.steps) == (12, 86)
    assert found.disk_bytes == (10 * 4 + 2) * found.parameters
