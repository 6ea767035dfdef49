"""Tests of drawn recipes: what is drawn at which scope, that a draw repeats, and contradictions."""

from collections import Counter

import pytest

from mothr.benchmark.errors import MothrError
from mothr.generators.recipe.drawn import DrawnRecipe, numbered
from mothr.generators.recipe.node import relation_of
from mothr.generators.recipe.topology import family_of, plan

TASKS = ["digits", "glyph-letter", "glyph-family", "shape-count"]
TRAINING = {"steps": {"log_uniform": [5, 50]}, "batch_size": 8, "learning_rate": {"log_uniform": [1e-5, 1e-3]}}
VALUES = {
    "name": "drawn",
    "version": 1,
    "purpose": "demo",
    "description": "A test.",
    "family": "vit",
    "seed": 5,
    "trees": 6,
    "model": {
        "hidden_size": {"choice": [16, 32]},
        "layers": {"uniform": [2, 3]},
        "heads": 2,
        "mlp_size": 32,
        "patch_size": 8,
    },
    "topology": {"shape": {"choice": ["chain", "star", "recursive"]}, "nodes": {"uniform": [4, 9]}},
    "root": {
        "init": {"choice": ["normal", "orthogonal"]},
        "tasks": {"sample": ["glyph-digit", "shape-x", "shape-y"], "size": 2},
        "training": TRAINING,
    },
    "edges": [{"tasks": TASKS, "task_rule": "new", "training": TRAINING}],
}
MERGE = {"share": 1, "transform": {"kind": "merge", "method": "linear", "parents": 2}}


def recipe(**values):
    return DrawnRecipe.model_validate({**VALUES, **values})


def test_a_draw_repeats_and_another_draw_shares_no_node_and_no_root():
    first, again, second = plan(recipe()), plan(recipe()), plan(numbered(recipe(), 2))
    assert first == again
    assert not {node.id for node in first} & {node.id for node in second}
    assert not {node.root.seed for node in first if node.root} & {node.root.seed for node in second if node.root}
    assert numbered(recipe(), 2).name == "drawn-draw-2"
    assert numbered(recipe(), 1) == recipe()


def test_every_tree_has_its_own_sizes_shape_and_root_and_every_edge_its_own_training():
    nodes = plan(recipe(trees=20))
    roots = [node for node in nodes if node.root]
    assert {node.model["hidden_size"] for node in roots} == {16, 32}
    assert {node.model["layers"] for node in roots} == {2, 3}
    assert {node.root.init for node in roots} == {"normal", "orthogonal"}
    assert len({len([node for node in nodes if node.tree == root.tree]) for root in roots}) > 3
    for root in roots:
        tree = [node for node in nodes if node.tree == root.tree]
        assert all(node.model == root.model for node in tree)
        assert len(tree) == root.drawn["topology.nodes"]
    rates = [node.training.learning_rate for node in nodes if node.edge]
    assert len(set(rates)) == len(rates)
    assert all(node.drawn["training.learning_rate"] == node.training.learning_rate for node in nodes if node.edge)


def test_a_field_may_be_drawn_once_a_recipe_a_kind_or_a_tree():
    def steps(per):
        training = {**TRAINING, "steps": {"uniform": [1, 10**6], "per": per}}
        kinds = [{"tasks": TASKS, "task_rule": "new", "training": training}] * 2
        nodes = plan(recipe(edges=kinds, topology={"shape": "star", "nodes": 9}))
        return [(node.tree, node.training.steps) for node in nodes if node.edge]

    assert len(set(dict(enumerate(value for _, value in steps("kind"))).values())) == 2
    assert len({value for _, value in steps("edge")}) == 6 * 8
    for tree in range(6):
        assert len({value for number, value in steps("tree") if number == tree}) == 2  # one for each of the two kinds
    once = {**VALUES["model"], "hidden_size": {"choice": [16, 32, 48, 64], "per": "recipe"}}
    assert len({node.model["hidden_size"] for node in plan(recipe(model=once, trees=12))}) == 1


def test_what_is_drawn_once_a_recipe_or_a_kind_stands_with_every_root():
    training = {**TRAINING, "steps": {"uniform": [1, 10**6], "per": "kind"}}
    kinds = [{"tasks": TASKS, "task_rule": "new", "training": training}]
    model = {**VALUES["model"], "hidden_size": {"choice": [16, 32], "per": "recipe"}}
    nodes = plan(recipe(edges=kinds, model=model))
    roots = [node for node in nodes if node.root]
    assert {node.drawn["model.hidden_size"] for node in roots} == {roots[0].model["hidden_size"]}
    assert {node.drawn["edges[0].training.steps"] for node in roots} == {
        node.training.steps for node in nodes if node.edge
    }


def test_kinds_of_edges_have_their_shares():
    kinds = [
        {"share": 3, "tasks": TASKS, "task_rule": "new", "training": TRAINING},
        {"share": 1, "task_rule": "continued", "training": TRAINING},
    ]
    nodes = plan(recipe(edges=kinds, trees=60, topology={"shape": "star", "nodes": 9}))
    counts = Counter(node.edge.subtype for node in nodes if node.edge)
    assert counts["full"] / sum(counts.values()) == pytest.approx(0.75, abs=0.06)


def test_a_merge_has_parents_of_one_tree_of_which_none_descends_from_another():
    kinds = [{"share": 2, "tasks": TASKS, "task_rule": "new", "training": TRAINING}, MERGE]
    nodes = {node.id: node for node in plan(recipe(edges=kinds, trees=20))}

    def ancestors(node):
        return {node}.union(*(ancestors(parent) for parent in nodes[node].parents))

    merges = [node for node in nodes.values() if len(node.parents) > 1]
    assert merges
    for node in merges:
        first, second = node.parents
        assert first not in ancestors(second)
        assert second not in ancestors(first)
        assert {nodes[parent].tree for parent in node.parents} == {node.tree}
        assert node.common_ancestor in ancestors(first) & ancestors(second)
        assert relation_of(node) == ("merge", "linear")


def test_an_impossible_kind_gives_way_to_another_one():
    kinds = [{"share": 1, "tasks": TASKS, "task_rule": "new", "training": TRAINING}, {**MERGE, "share": 1000}]
    nodes = plan(recipe(edges=kinds, topology={"shape": "chain", "nodes": 5}))
    assert all(len(node.parents) < 2 for node in nodes)


def test_a_recipe_without_a_possible_kind_is_an_error():
    with pytest.raises(MothrError, match=r"node 0/0: no kind of edges is possible here"):
        plan(recipe(edges=[MERGE]))


def test_duplicates_are_leaves_and_have_the_parents_of_their_original():
    kinds = [
        {"tasks": TASKS, "task_rule": "new", "training": TRAINING},
        {"share": 2, "transform": {"kind": "duplicate"}},
    ]
    nodes = plan(recipe(edges=kinds, trees=20))
    duplicates = [node for node in nodes if node.edge and node.edge.transform]
    sources = {source for node in nodes for source in node.sources}
    by_id = {node.id: node for node in nodes}
    assert duplicates
    for node in duplicates:
        assert node.id not in sources
        assert node.parents == by_id[node.sources[0]].parents


def test_strangers_are_trees_of_their_own_with_the_architecture_of_a_tree():
    nodes = plan(recipe(strangers=1))
    strangers = [node for node in nodes if "~" in node.path]
    assert len(strangers) == 6
    assert len({node.tree for node in nodes}) == 12
    for node in strangers:
        assert node.parents == ()
        original = next(root for root in nodes if root.path == node.path.split("~")[0])
        assert node.model == original.model
        assert node.root.seed != original.root.seed


def test_withheld_nodes_are_inner_nodes_and_their_children_get_the_nearest_ancestor():
    nodes = plan(recipe(withheld=1, topology={"shape": "chain", "nodes": 5}))
    included = {node.id for node in nodes if not node.withheld}
    assert len(included) == len(nodes) - 6
    assert all(set(node.parents) <= included for node in nodes if node.id in included)
    assert sum(node.withheld_ancestors for node in nodes if node.id in included) == 6


def test_storage_is_that_of_the_tree_unless_the_edge_names_one():
    kinds = [{"tasks": TASKS, "task_rule": "new", "training": TRAINING, "stored": "float16"}]
    assert {node.stored for node in plan(recipe(stored="bfloat16"))} == {"bfloat16"}
    assert {node.stored for node in plan(recipe(stored="bfloat16", edges=kinds)) if node.edge} == {"float16"}


def test_task_rules():
    def tasks(rule):
        kinds = [{"tasks": TASKS, "task_rule": rule, "training": TRAINING}]
        nodes = plan(recipe(edges=kinds, topology={"shape": "star", "nodes": 6}))
        return [[node.tasks for node in nodes if node.tree == tree] for tree in range(6)]

    for root, *children in tasks("parent"):
        assert set(children) == {root}
    for _, *children in tasks("sibling"):
        assert len(set(children)) == 1
    for root, *children in tasks("new"):  # four tasks for five children: one is used again
        assert len(set(children)) == 4
        assert not {task for child in children for task in child} & set(root)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"topology": {"shape": "chain", "nodes": 1}}, r"tree 0: topology: nodes: .*greater than or equal to 2"),
        ({"model": {**VALUES["model"], "heads": 3}}, r"tree 0: model: .*not a multiple of model\.heads 3"),
        ({"stored": "int3"}, r"tree 0: stored: .*'float32', 'bfloat16' or 'float16'"),
        (
            {"edges": [{**VALUES["edges"][0], "lora": {"ranks": [{"choice": [64]}], "targets": ["q_proj"]}}]},
            r"node 0/0: edges\[0\]: lora\.ranks: rank 64 is above",
        ),
        ({"edges": [{**VALUES["edges"][0], "shre": 1}]}, r"node 0/0: edges\[0\]: shre: .*share"),
        (
            {"edges": [{**VALUES["edges"][0], "training": {**TRAINING, "steps": {"uniform": [2, 1]}}}]},
            r"edges\[0\]\.training\.steps: uniform: the range \[2, 1\] is empty",
        ),
        (
            {
                "family": "sd",
                "model": {
                    "channels": [16, 32],
                    "layers": 1,
                    "heads": 2,
                    "groups": 8,
                    "text_size": 32,
                    "vae_steps": 1,
                    "text_steps": 1,
                },
                "root": {"init": "normal", "tasks": ["scene-plain"], "training": {**TRAINING, "head_rate": 0.1}},
            },
            r"tree 0: root: training\.head_rate: 0\.1 is a rate of heads, but this family of models has no heads",
        ),
        ({"root": {**VALUES["root"], "seed": 3}}, r"root\.seed: every tree has a root of its own"),
    ],
)
def test_a_contradiction_is_an_error_before_anything_is_trained(values, message):
    with pytest.raises((MothrError, ValueError), match=message):
        plan(recipe(**values))


def test_the_family_of_a_drawn_recipe_is_that_of_its_first_tree():
    assert family_of(recipe()).hidden_size == plan(recipe())[0].model["hidden_size"]
