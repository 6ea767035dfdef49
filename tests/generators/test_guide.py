"""The guide names every field of a recipe, and its examples are valid."""

import re
from pathlib import Path
from typing import get_args

import pytest
import torch

from mothr.generators.data import captions, images, text, text_tasks
from mothr.generators.families import FAMILIES, llama, stable_diffusion, vit
from mothr.generators.families.encoders import bert
from mothr.generators.recipe.drawn import DrawnRecipe
from mothr.generators.recipe.loading import load_recipe
from mothr.generators.recipe.schema import Derived, EdgeKind, Recipe, Root, Topology
from mothr.generators.recipe.topology import plan
from mothr.generators.sources.source import Source
from mothr.generators.values import transforms
from mothr.generators.values.laundering import AnyLaundering
from mothr.generators.values.training import Lora, Training

GUIDE = (Path(__file__).parents[2] / "generators" / "README.md").read_text(encoding="utf-8")
SECTIONS = {
    "Recipe": Recipe,
    "Drawn recipe": DrawnRecipe,
    "Topology": Topology,
    "Roots": Root,
    "Source": Source,
    "Edges": EdgeKind,
    "Training": Training,
    "Lora": Lora,
}
TRANSFORMS = (
    transforms.Merge,
    transforms.Quantize,
    transforms.Prune,
    transforms.Noise,
    transforms.Permute,
    transforms.Duplicate,
    transforms.Distil,
)


def section(name: str) -> str:
    """Returns the text below the heading ``name``, up to the next heading."""
    match = re.search(rf"^#+ {re.escape(name)}\n(.*?)(?=^#+ |\Z)", GUIDE, re.MULTILINE | re.DOTALL)
    assert match, f"the guide has no section {name}"
    return match[1]


def rows(text: str) -> list[list[str]]:
    """Returns the cells of all table rows in ``text`` whose first cell is code or a family."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not re.match(r"\|[-|]+$", line)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", SECTIONS)
def test_the_guide_names_exactly_the_fields_of_each_table(name):
    named = [row[0].strip("`") for row in rows(section(name))[1:]]
    assert named == list(SECTIONS[name].model_fields)


def test_the_guide_names_the_fields_of_derived_models_and_of_every_transform():
    table = rows(section("Derived"))
    derived = [row[0].strip("`") for row in table if len(row) == 4][1:]
    assert derived == list(Derived.model_fields)
    for transform in TRANSFORMS:
        (kind,) = transform.model_fields["kind"].annotation.__args__
        named = [row[1].strip("`") for row in table if len(row) == 5 and row[0] == f"`{kind}`"]
        assert named == (list(transform.model_fields)[1:] or ["-"])


def test_the_guide_names_every_laundering_and_its_fields():
    table = rows(section("Laundering"))[1:]
    for kind in get_args(AnyLaundering):
        (name,) = kind.model_fields["kind"].annotation.__args__
        named = [row[1].strip("`") for row in table if row[0] == f"`{name}`"]
        assert named == ["-", *(field for field in kind.model_fields if field != "kind")]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_guide_names_the_model_fields_of_every_family(family):
    table = rows(section("Models"))[1:]
    named = {row[1].strip("`") for row in table if row[0] == "all" or f"`{family}`" in row[0]}
    assert named == set(FAMILIES[family].model_fields)


@pytest.mark.parametrize(
    ("family", "tasks", "layers"),
    [
        ("vit", images.TASKS, vit.LINEAR_LAYERS),
        ("llama", text.DOMAINS, llama.LINEAR_LAYERS),
        ("sd", captions.DOMAINS, stable_diffusion.LINEAR_LAYERS),
        ("bert", text_tasks.TASKS, bert.LINEAR_LAYERS),
    ],
)
def test_the_guide_names_the_tasks_and_the_linear_layers_of_every_family(family, tasks, layers):
    ((_, named, targets),) = [row for row in rows(section("Tasks")) if f"`{family}`" in row[0]]
    assert re.findall(r"`([a-z-]+)`", named) == list(tasks)
    assert re.findall(r"`(.+?)`", targets) == list(layers)


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The complete recipe of the guide, as ``my.toml``."""
    path = tmp_path / "my.toml"
    path.write_text(blocks("toml")[0])
    return path


def test_the_example_recipe_is_valid_and_can_be_planned(example):
    recipe = load_recipe(str(example))
    nodes = plan(recipe)
    assert len(nodes) == 2 * (1 + 2 + 2)
    assert {node.edge.subtype for node in nodes if node.edge} <= {"full", "lora"}


def test_the_example_with_derived_models_adds_four_models_to_each_tree(example):
    derived = blocks("toml")[2]
    example.write_text(example.read_text() + derived)
    nodes = plan(load_recipe(str(example)))
    assert len(nodes) == 2 * (1 + 2 + 2 + 4)
    assert sum(node.derived is not None for node in nodes) == 2 * 4


def test_the_example_that_extends_another_recipe_makes_chains(tmp_path):
    (tmp_path / "chains.toml").write_text(blocks("toml")[1])
    nodes = plan(load_recipe(str(tmp_path / "chains.toml")))
    assert len(nodes) == 5 * 4
    assert max(node.depth for node in nodes) == 3


def test_the_example_of_a_drawn_recipe_has_trees_that_differ(tmp_path):
    (tmp_path / "drawn.toml").write_text(blocks("toml")[3])
    nodes = plan(load_recipe(str(tmp_path / "drawn.toml")))
    assert len({node.drawn["root.training.learning_rate"] for node in nodes if node.root}) >= 4
    other = plan(load_recipe(str(tmp_path / "drawn.toml"), draw=2))
    assert not {node.id for node in nodes} & {node.id for node in other}


def test_the_example_task_can_be_loaded_and_used_in_a_recipe(example):
    names = set(images.TASKS)
    (code,) = blocks("python")
    try:
        exec(code, {})
        pictures, labels = images.load("shape-half", "train")
        assert pictures.shape == (images.SIZES["train"], 3, 32, 32)
        assert torch.equal(torch.bincount(labels), torch.tensor([2048, 2048]))
        example.write_text(example.read_text().replace('"shape-count"', '"shape-half"'))
        assert "shape-half" in load_recipe(str(example)).tasks
    finally:
        for name in set(images.TASKS) - names:
            del images.TASKS[name]


def test_every_link_of_the_guide_leads_to_a_file():
    folder = Path(__file__).parents[2] / "generators"
    links = re.findall(r"\]\(([^)#]+)\)", GUIDE)
    assert links
    assert not [link for link in links if not (folder / link).exists()]


def test_every_recipe_that_the_guide_names_is_in_the_package():
    for name in re.findall(r"mothr generate ([a-z0-9-]+) ", GUIDE):
        assert load_recipe(name).name == name
