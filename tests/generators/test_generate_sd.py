"""generate() of a Stable Diffusion recipe, end to end: UNets as models, their shared parts, pipelines and pictures."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from PIL import Image

from mothr.benchmark.data.dataset import open_truth
from mothr.benchmark.data.verify import verify
from mothr.generators.families import samples
from mothr.generators.generate import generate
from mothr.generators.hidden import Hidden
from mothr.generators.recipe.loading import load_recipe

TINY = """
name = "tiny-sd"
version = 1
purpose = "demo"
description = "One small tree."
family = "sd"
seed = 5
model = { channels = [8, 16], layers = 1, heads = 2, groups = 4, text_size = 8, vae_steps = 3, text_steps = 2 }
topology = { branching = [2] }

[[roots]]
name = "one"
seed = 1
init = "kaiming-uniform"
tasks = ["scene-plain", "scene-few"]
training = { steps = 12, batch_size = 8, learning_rate = 3e-3 }

[[edges]]
tasks = ["scene-bright", "scene-inverse"]
training = { steps = 6, batch_size = 8, learning_rate = 3e-3 }
"""
pytestmark = pytest.mark.usefixtures("few_captions")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, few_captions):
    """A data set of one root and two children."""
    home = tmp_path_factory.mktemp("generated")
    (home / "tiny.toml").write_text(TINY)
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as executor:
        patch.setenv("MOTHR_CACHE", str(home / "cache"))
        for name, value in (("READ", 8), ("READER_STEPS", 2), ("SAMPLING_STEPS", 2)):
            patch.setattr(samples, name, value)
        generate(load_recipe(str(home / "tiny.toml")), home / "out", device="cpu", executor=executor, progress=False)
    return home / "out"


def test_a_data_set_holds_unets_as_models_and_the_rest_beside_them(dataset):
    models = sorted((dataset / "models").iterdir())
    assert len(models) == 3
    for model in models:
        assert sorted(path.name for path in model.iterdir()) == ["config.json", "diffusion_pytorch_model.safetensors"]
    assert sorted(path.name for path in (dataset / "companions" / "0").iterdir()) == [
        "scheduler",
        "text_encoder",
        "tokenizer",
        "vae",
    ]
    records = [node.training for node in open_truth(dataset).nodes.values()]
    assert all(record["after"] > record["before"] for record in records)


def test_a_pipeline_loads_from_the_data_set_and_draws_the_same_again(dataset):
    model = sorted((dataset / "models").iterdir())[0].name
    pipeline = samples.open_pipeline(dataset, model, 0)
    drawn = samples.draw(pipeline, ["one large red star on a plain ground", "one small blue ring at night"], 1)
    assert drawn.shape == (2, 3, 32, 32)
    assert drawn.dtype == torch.uint8
    torch.manual_seed(5)
    again = samples.draw(
        samples.open_pipeline(dataset, model, 0),
        ["one large red star on a plain ground", "one small blue ring at night"],
        1,
    )
    assert torch.equal(drawn, again)
    assert not torch.equal(
        drawn, samples.draw(pipeline, ["one large red star on a plain ground", "one small blue ring at night"], 2)
    )


def test_a_pipeline_saved_whole_loads_with_diffusers_alone(dataset, tmp_path):
    from diffusers import StableDiffusionPipeline

    pipeline = samples.open_pipeline(dataset, sorted((dataset / "models").iterdir())[0].name, 0)
    pipeline.save_pretrained(tmp_path)
    again = StableDiffusionPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    prompts = ["one large red star on a plain ground"]
    assert torch.equal(samples.draw(pipeline, prompts, 1), samples.draw(again, prompts, 1))


def test_the_card_shows_figures_and_a_picture_of_the_root_and_its_children(dataset):
    text = (dataset / "README.md").read_text()
    assert "## What the models draw" in text
    assert "\n| 0 | 4 | " in text
    assert f"]({samples.PICTURE})" in text
    width, height = Image.open(dataset / samples.PICTURE).size
    assert (width, height) == (9 * 66, 3 * 66)


def test_companions_of_a_hidden_split_are_stored_with_the_labels(tmp_path, monkeypatch):
    """Each tree has companions of its own, so that they would tell how many there are, and which UNet answers to which."""
    (tmp_path / "tiny.toml").write_text(TINY)
    monkeypatch.setenv("MOTHR_CACHE", str(tmp_path / "cache"))
    data, labels = tmp_path / "data", tmp_path / "labels"
    with ThreadPoolExecutor(1) as executor:
        generate(
            load_recipe(str(tmp_path / "tiny.toml")),
            data,
            executor=executor,
            progress=False,
            hidden=Hidden("5" * 64, labels),
        )
    assert sorted(entry.name for entry in data.iterdir()) == [
        "README.md",
        "croissant.json",
        "manifest.json",
        "models",
        "recipe.toml",
    ]
    assert sorted(entry.name for entry in (labels / "companions" / "0").iterdir()) == [
        "scheduler",
        "text_encoder",
        "tokenizer",
        "vae",
    ]
    assert "companions/" not in (data / "croissant.json").read_text()
    assert verify(data).problems == ()
    assert not [problem for problem in verify(data, labels).problems if "taught nothing" not in problem]
    shutil.move(labels / "companions", data)
    assert any("companions" in problem for problem in verify(data).problems)
