"""The card says what the recipe and the truth say."""

import re
import tomllib

import pytest

from mothr.benchmark.data.dataset import Truth, TruthNode
from mothr.generators.cards.card import RECOMPUTE, card, describe
from mothr.generators.families import FAMILIES
from mothr.generators.recipe.loading import load_recipe, recipe_names, resolved
from mothr.generators.recipe.node import relation_of
from mothr.generators.recipe.schema import EdgeKind, Recipe
from mothr.generators.recipe.topology import plan
from mothr.generators.values.training import Lora, Training


def written(name):
    recipe = load_recipe(name)
    learned = {"before": 0.1, "after": 0.75, "chance": 0.1, "tested_on": 100}
    nodes = {
        node.id: TruthNode(
            parents=node.parents,
            relation=relation_of(node)[0],
            subtype=relation_of(node)[1],
            tree=node.tree,
            depth=node.depth,
            task="+".join(node.tasks),
            training=learned,
            withheld=node.withheld_ancestors or None,
        )
        for node in plan(recipe)
        if not node.withheld
    }
    return recipe, card(recipe, Truth(split=recipe.name, version=recipe.version, nodes=nodes))


def test_it_counts_models_trees_and_what_was_learned():
    _, text = written("vthr-lora-f")
    assert "105 models of the family vit in 5 Model Trees with 100 edges" in text
    assert "| finetune | lora | 2 | 80 | 0.100 | 0.750 | 0.750 |" in text
    assert "| none | root | 0 | 5 | 0.100 | 0.750 | 0.750 |" in text


@pytest.mark.parametrize("name", ["vthr-ft", "llama-ft"])
def test_it_names_every_task_with_its_licence(name):
    recipe, text = written(name)
    family = FAMILIES[recipe.family](**recipe.model)
    for task in {task for root in recipe.roots for task in root.tasks}:
        description, source = family.data(task)
        assert f"- `{task}`: {description} ({source})" in text


def test_it_describes_the_files_and_the_metric_of_each_family():
    vit, llama = written("vthr-ft")[1], written("llama-gqa-ft")[1]
    assert "Only backbones are stored" in vit
    assert "Each child gets a fresh head, which is not stored.\n" in vit
    assert "Models are stored whole" in llama
    assert "kv_heads 2" in llama
    assert "next-byte accuracy" in llama
    assert "fresh head" not in llama


def test_it_names_the_shortcuts_that_lora_leaves():
    assert "bit-identical throughout a tree" in written("vthr-lora-v")[1]
    assert "bit-identical throughout a tree" not in written("vthr-ft")[1]


def test_it_names_the_shortcut_of_bytes_that_never_occur():
    assert "bytes that a model never reads" in written("llama-ft")[1]
    assert "bytes that a model never reads" not in written("llama-lora-f")[1]


def test_its_front_matter_is_closed():
    _, text = written("quickstart")
    assert text.startswith("---\n")
    assert text.count("\n---\n") == 1


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_has_a_card_with_all_its_sections_and_kinds(name):
    recipe, text = written(name)
    for section in (
        "How it was made",
        "Models and what they learned",
        "Data",
        "Known shortcuts in the weights",
    ):
        assert text.count(f"\n## {section}\n") == 1
    if isinstance(recipe, Recipe):
        for kind in (*recipe.edges, *(recipe.derived or ())):
            assert f"- {describe(kind)}\n" in text
    else:  # a drawn recipe is shown as it is, without its seed
        [block] = re.findall(r"```toml\n(.*?)\n```", text, flags=re.DOTALL)
        shown = tomllib.loads(block)
        assert shown["edges"] == resolved(recipe)["edges"]
        assert "seed" not in shown
    truth_table = [line for line in text.splitlines() if re.match(r"\| (none|finetune|merge|quantized) \| ", line)]
    assert sum(int(line.split(" | ")[3]) for line in truth_table) == sum(not node.withheld for node in plan(recipe))


def test_derived_models_are_described_by_kind_and_settings():
    _, text = written("llama-quantized")
    assert "- Quantized, precision int4, stored float16: 2 per tree, of any nodes.\n" in text
    assert "| quantized | int8 |" in text
    assert "checkpoint kept every 300 steps" in written("llama-trajectory")[1]
    assert "they are not in the data set" in written("llama-missing")[1]
    assert "A child continues its parent's training, on the same tasks." in written("llama-continued")[1]


def test_the_metric_before_and_after_a_transform_is_shown():
    nodes = {
        "a" * 12: TruthNode(parents=(), training={"before": 0.1, "after": 0.9}),
        "b" * 12: TruthNode(
            parents=("a" * 12,),
            relation="quantized",
            subtype="int4",
            depth=1,
            transform={"before": [0.9, 0.8], "after": [0.7, 0.6]},
        ),
    }
    text = card(load_recipe("quickstart"), Truth(split="s", version=1, nodes=nodes))
    assert "| quantized | int4 | 1 | 1 | 0.850 | 0.650 | 0.650 |" in text


def test_measured_lines_and_the_checksum_come_in_their_sections():
    recipe, _ = written("quickstart")
    text = card(recipe, Truth(split="s", version=1, nodes={"a" * 12: TruthNode(parents=())}), ["- measured"], "0" * 64)
    assert text.endswith("- measured\n")
    assert "`" + "0" * 64 + "`" in text
    assert RECOMPUTE in text


def test_options_of_a_training_and_of_an_update_are_named():
    training = Training(
        steps=10, batch_size=8, learning_rate=1e-3, optimizer="sign", schedule="linear", label_noise=0.2, ema=0.9
    )
    full = describe(EdgeKind(tasks=("digits",), training=training))
    assert "10 steps of 8, Lion, learning rate 0.001, weight decay 0.01, warm-up 10% then linear" in full
    assert "label noise 0.2, ema 0.9" in full
    lora = Lora(ranks=(4,), targets=("q_proj",), dora=True, rslora=True)
    assert describe(EdgeKind(tasks=("digits",), training=training, lora=lora)).startswith("rsDoRA of rank 4 on q_proj")
    plain = describe(EdgeKind(tasks=("digits",), training=Training(steps=10, batch_size=8, learning_rate=1e-3)))
    assert "AdamW, learning rate 0.001, weight decay 0.01, warm-up 10% then cosine." in plain
