"""The card says what the recipe and the truth say."""

import pytest

from mothr.benchmark.dataset import Truth, TruthNode
from mothr.generators.card import card
from mothr.generators.families import FAMILIES
from mothr.generators.recipe import load_recipe
from mothr.generators.topology import plan


def written(name):
    recipe = load_recipe(name)
    learned = {"before": 0.1, "after": 0.75, "chance": 0.1, "tested_on": 100}
    nodes = {
        node.id: TruthNode(
            parents=(node.parent,) if node.parent else (), relation="finetune" if node.parent else None,
            subtype=node.edge.subtype if node.edge else None, tree=node.tree, depth=node.depth, task="+".join(node.tasks), training=learned,
        )
        for node in plan(recipe)
    }
    return recipe, card(recipe, Truth(split=recipe.name, version=recipe.version, nodes=nodes))


def test_it_counts_models_trees_and_what_was_learned():
    _, text = written("vthr-lora-f")
    assert "105 models of the family vit in 5 Model Trees with 100 edges" in text
    assert "| 2 | 80 | 0.100 | 0.750 | 0.750 |" in text
    assert "finetune (lora): 100" in text


@pytest.mark.parametrize("name", ["vthr-ft", "llama-ft"])
def test_it_names_every_task_with_its_licence(name):
    recipe, text = written(name)
    family = FAMILIES[recipe.family](**recipe.model)
    for task in {task for root in recipe.roots for task in root.tasks}:
        description, source = family.data(task)
        assert f"- `{task}`: {description} ({source})" in text


def test_it_says_of_each_family_what_is_stored_and_what_was_measured():
    vit, llama = written("vthr-ft")[1], written("llama-gqa-ft")[1]
    assert "Only backbones are stored" in vit
    assert "Each child gets a fresh head, which is not stored.\n" in vit
    assert "Models are stored whole" in llama
    assert "kv_heads 2" in llama
    assert "Next-byte accuracy" in llama
    assert "fresh head" not in llama


def test_it_names_the_shortcuts_that_lora_leaves():
    assert "bit-identical throughout a tree" in written("vthr-lora-v")[1]
    assert "bit-identical throughout a tree" not in written("vthr-ft")[1]


def test_it_names_the_shortcut_that_bytes_which_never_occur_leave():
    assert "bytes that a model never reads" in written("llama-ft")[1]
    assert "bytes that a model never reads" not in written("llama-lora-f")[1]


def test_its_front_matter_is_closed():
    _, text = written("quickstart")
    assert text.startswith("---\n")
    assert text.count("\n---\n") == 1
