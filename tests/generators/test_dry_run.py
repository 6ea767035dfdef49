"""The estimate of a recipe's cost: counted exactly, measured where it can be, and made without doing anything else."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mothr.benchmark.cli.command import table
from mothr.generators.commands import generate as command
from mothr.generators.dry_run.cost import BASE_BYTES, rows
from mothr.generators.dry_run.drawn import estimate_drawn
from mothr.generators.dry_run.estimate import downloads, estimate
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
def result(recipe):
    return estimate(recipe, "cpu", 2)


def test_models_trees_and_steps_are_counted(result):
    assert (result.models, result.trees, result.steps) == (10, 2, 12 + 10 + 8 * 8)
    assert {kind.name: (kind.models, kind.steps) for kind in result.kinds} == {
        "root": (2, 22),
        "full fine-tuning": (8, 64),
    }


def test_parameters_and_disk_are_those_of_the_model(result, recipe):
    model = FAMILIES["vit"](**recipe.model).build("normal", 0.02, torch_generator(0, "x"))
    count = sum(value.numel() for value in model.parameters())
    assert result.parameters == count
    assert result.disk_bytes == 10 * 4 * count


def test_the_estimated_disk_is_within_a_fifth_of_the_real_one(result, recipe, tmp_path):
    with ThreadPoolExecutor(1) as executor:
        generate(recipe, tmp_path / "data", executor=executor, progress=False)
    taken = sum(path.stat().st_size for path in (tmp_path / "data" / "models").rglob("*.safetensors"))
    assert 0.8 < result.disk_bytes / taken < 1.2


def test_the_estimated_time_is_within_a_factor_of_four_of_the_real_one(recipe, tmp_path):
    """The processor's time, since tests share it; a few tiny steps are mostly overhead, so more cannot be asked of them."""
    longer = recipe.model_copy(update={"edges": tuple(
        edge.model_copy(update={"training": edge.training.model_copy(update={"steps": 60})}) for edge in recipe.edges
    )})  # fmt: skip
    node_truth = 3600 * estimate(longer, "cpu", 1).hours
    start = time.process_time()
    with ThreadPoolExecutor(1) as executor:
        generate(longer, tmp_path / "data", executor=executor, progress=False)
    taken = time.process_time() - start
    assert node_truth / 4 < taken < node_truth * 4


def test_memory_is_the_documented_sum(result):
    for kind in result.kinds:
        assert kind.trained == result.parameters
        assert (
            kind.activation_bytes > 16 * 17 * 16 * 4
        )  # batch x positions x width: the states after one block at least
    largest = max(kind.activation_bytes for kind in result.kinds)
    assert result.peak_bytes == BASE_BYTES + 4 * (result.parameters + 3 * result.parameters) + largest


def test_lora_trains_only_its_updates(edited):
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


def test_the_estimate_for_a_root_with_a_source_downloads_nothing(monkeypatch, recipe):
    monkeypatch.setattr(packages, "download", lambda package: pytest.fail("fetched something"))
    monkeypatch.setattr(sources, "_open_folder", lambda source: pytest.fail("fetched something"))
    given = recipe.roots[0].model_copy(
        update={"source": sources.Source(hub="someone/vit"), "training": None, "tasks": (), "init": None}
    )
    result = estimate(recipe.model_copy(update={"roots": (given, given)}), "cpu", 1)
    assert [kind.name for kind in result.kinds] == ["full fine-tuning"]
    assert result.steps == 64
    assert result.downloads == ("root one: someone/vit", "root one: someone/vit")


def test_the_downloads_of_a_full_size_recipe_are_listed():
    listed = downloads(load_recipe("paper-lora-v"))
    assert len(listed) == 5 + 15
    assert any(line.startswith("task vtab-clevr-count: CLEVR, CC BY 4.0") for line in listed)


def test_the_command_prints_the_estimate_and_writes_nothing(tiny, tmp_path, capsys):
    command(str(tiny), tmp_path / "data", workers=2, dry_run=True)
    shown = capsys.readouterr().out
    assert "peak memory per process" in shown
    assert "weights + gradients + optimizer + activations" in shown
    command(str(tiny), tmp_path / "data", workers=2, dry_run=True, as_json=True)
    value = json.loads(capsys.readouterr().out)
    assert (value["models"], value["steps"]) == (10, 86)
    assert not (tmp_path / "data").exists()


def test_the_table_has_every_figure(result):
    assert table(rows(result)).count("\n") >= 8


def test_a_copy_counts_as_a_model_of_its_own_size_but_not_as_steps(edited):
    derived = (
        '[[derived]]\ntransform = { kind = "quantized", precision = "int8" }\nper_tree = 1\nof = "leaf"\n[[edges]]'
    )
    result = estimate(load_recipe(edited("[[edges]]", derived)), "cpu", 1)
    assert (result.models, result.steps) == (12, 86)
    assert result.disk_bytes == (10 * 4 + 2) * result.parameters


def test_a_drawn_recipe_counts_every_model_and_times_some_of_them(tmp_path):
    text = (Path(__file__).parents[2] / "generators" / "README.md").read_text(encoding="utf-8")
    (tmp_path / "drawn.toml").write_text(re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[3])
    recipe = load_recipe(str(tmp_path / "drawn.toml")).model_copy(update={"trees": 2})
    nodes = plan(recipe)
    cost = estimate_drawn(recipe, "cpu", 1)
    assert cost.models == len(nodes)
    assert cost.trees == len({node.tree for node in nodes})
    assert cost.steps == sum(node.steps for node in nodes if node.training)
    assert sum(kind.models for kind in cost.kinds) == sum(node.training is not None for node in nodes)
    assert cost.hours * 3600 >= sum(kind.steps * kind.seconds_a_step for kind in cost.kinds) > 0
    assert any(row["what"] == "root" for row in rows(cost))
