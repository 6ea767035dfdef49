"""The plan of a forest: its shape, its ids, and the rule that gives each child a task of its own."""

import re
from collections import defaultdict
from itertools import pairwise

import pytest

from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph
from mothr.generators.recipe.loading import load_recipe, recipe_names, resolved
from mothr.generators.recipe.node import relation_of
from mothr.generators.recipe.schema import Recipe
from mothr.generators.recipe.topology import plan


@pytest.mark.parametrize("name", [name for name in recipe_names() if isinstance(load_recipe(name), Recipe)])
def test_tasks_follow_the_rule_of_each_kind_of_edge(name):
    nodes = plan(load_recipe(name))
    by_id = {node.id: node for node in nodes}
    siblings = defaultdict(list)
    for node in nodes:
        if node.edge is None or node.checkpoint_of:
            continue
        parent = by_id[node.sources[0]]
        if node.edge.task_rule == "continued":
            assert node.tasks == parent.tasks
        else:
            assert not set(node.tasks) & set(parent.tasks)
            siblings[parent.id, node.edge.task_rule, node.edge.tasks].append(node.tasks)
    for (_, rule, _), tasks in siblings.items():
        assert len(set(tasks)) == (1 if rule == "shared" else len(tasks))


def test_the_vthr_shape_is_five_trees_of_1_4_16():
    nodes = plan(load_recipe("vthr-ft"))
    counts = defaultdict(int)
    for node in nodes:
        counts[node.tree, node.depth] += 1
    assert counts == {(tree, depth): 4**depth for tree in range(5) for depth in range(3)}


def test_parents_come_before_children_and_ids_are_opaque():
    nodes = plan(load_recipe("vthr-ft"))
    seen = set()
    for node in nodes:
        assert seen.issuperset(node.sources)
        assert re.fullmatch(r"[0-9a-f]{12}", node.id)
        seen.add(node.id)
    assert len(seen) == 105
    assert [node.id for node in nodes] != sorted(node.id for node in nodes)


def test_the_plan_is_the_same_every_time_and_another_with_another_seed():
    recipe = load_recipe("vthr-lora-v")
    assert plan(recipe) == plan(recipe)
    second = recipe.model_copy(update={"seed": recipe.seed + 1})
    assert not {node.id for node in plan(recipe)} & {node.id for node in plan(second)}


def test_shared_roots_have_the_same_seed_and_other_ids_in_each_split():
    full, lora = (plan(load_recipe(name)) for name in ("vthr-ft", "vthr-lora-f"))
    roots = [[node for node in nodes if node.root] for nodes in (full, lora)]
    assert [node.seed for node in roots[0]] == [node.seed for node in roots[1]]
    assert not {node.id for node in roots[0]} & {node.id for node in roots[1]}


def test_all_ranks_of_the_variable_split_are_drawn():
    nodes = plan(load_recipe("vthr-lora-v"))
    assert {node.rank for node in nodes if node.edge} == {2, 4, 8, 16}
    assert {node.rank for node in nodes if node.root} == {None}


def test_too_few_tasks_for_the_children_are_an_error(edited):
    recipe = load_recipe(edited("branching = [2, 1]", "branching = [4]"))
    with pytest.raises(MothrError, match=r"node 0 has 4 children but only 3 tasks are left"):
        plan(recipe)


# Other shapes


def changed(recipe, **values):
    """Returns ``recipe`` with other values, checked as if they had been read."""
    return Recipe.model_validate({**resolved(recipe), **values})


def graph(nodes):
    shown = [node for node in nodes if not node.withheld]
    return ModelGraph({node.id: node.parents for node in shown})


@pytest.fixture
def recipe(tiny):
    return load_recipe(str(tiny))


def test_a_chain_is_one_child_after_the_other(recipe):
    nodes = plan(changed(recipe, topology={"branching": [1] * 8}))
    assert sorted((node.tree, node.depth) for node in nodes) == [
        (tree, depth) for tree in range(2) for depth in range(9)
    ]


def test_each_tree_can_have_a_shape_of_its_own(recipe):
    nodes = plan(changed(recipe, shapes=[{"parents": [0, 0, 1]}, {"branching": [0]}]))
    assert [len(tree) for tree in graph(nodes).trees] == [4, 1]
    assert sorted(node.depth for node in nodes if node.tree == 0) == [0, 1, 1, 2]


def test_more_or_fewer_shapes_than_roots_are_an_error(recipe):
    with pytest.raises(ValueError, match="1 shapes for 2 roots"):
        changed(recipe, shapes=[{"branching": [2]}])


@pytest.mark.parametrize(
    ("topology", "message"),
    [
        ({}, "exactly one of"),
        ({"branching": [2], "random": 4}, "exactly one of"),
        ({"parents": [0, 2]}, "node 2 names 2 as its parent"),
        ({"branching": [2, 0, 1]}, "no node follows a level without children"),
    ],
)
def test_an_inconsistent_topology_is_an_error(recipe, topology, message):
    with pytest.raises(ValueError, match=message):
        changed(recipe, topology=topology)


def test_random_trees_have_the_given_size_and_differ(recipe):
    tasks = [{**resolved(recipe)["edges"][0], "task_rule": "shared"}]
    nodes = plan(changed(recipe, topology={"random": 12}, edges=tasks))
    shapes = [sorted(node.depth for node in nodes if node.tree == tree) for tree in range(2)]
    assert [len(shape) for shape in shapes] == [12, 12]
    assert shapes[0] != shapes[1]


def test_arms_are_one_chain_per_kind_of_edge(recipe):
    edge = {**resolved(recipe)["edges"][0], "task_rule": "shared"}
    kinds = [{**edge, "training": {**edge["training"], "steps": steps}} for steps in (3, 4, 5)]
    nodes = plan(changed(recipe, topology={"arms": 2}, edges=kinds))
    by_id = {node.id: node for node in nodes}
    first = [node for node in nodes if node.tree == 0]
    assert [node.depth for node in first] == [0, 1, 1, 1, 2, 2, 2]
    assert [node.training.steps for node in first[1:4]] == [3, 4, 5]
    assert all(node.edge == by_id[node.parents[0]].edge for node in first[4:])


def test_checkpoints_form_a_chain_in_time_from_fresh_weights_to_the_last(recipe):
    values = resolved(recipe)
    for entry in (*values["roots"], *values["edges"]):
        entry["training"]["keep_every"] = 4
    nodes = plan(changed(recipe, **{**values, "topology": {"branching": [1]}}))
    by_path = {node.path: node for node in nodes}
    way = ["0@0", "0@4", "0@8", "0", "0/0@4", "0/0"]
    for before, after in pairwise(way):
        assert by_path[after].parents == (by_path[before].id,)
    assert [by_path[path].depth for path in way] == list(range(6))
    assert by_path["0"].checkpoints == ((0, by_path["0@0"].id), (4, by_path["0@4"].id), (8, by_path["0@8"].id))
    assert by_path["0/0"].sources == (by_path["0"].id,)
    assert len(graph(nodes).trees) == 2


def test_no_parent_of_a_merge_is_an_ancestor_of_another(recipe):
    merge = {"transform": {"kind": "merge", "method": "ties", "parents": 2}, "per_tree": 3}
    nodes = plan(changed(recipe, derived=[merge]))
    result = graph(nodes)
    merges = [node for node in nodes if node.derived]
    assert len(merges) == 6
    for node in merges:
        first, second = node.parents
        assert first not in result.ancestors(second) | {second}
        assert second not in result.ancestors(first)
        assert node.common_ancestor in result.ancestors(first) & result.ancestors(second)
        assert relation_of(node) == ("merge", "ties")


def test_a_duplicate_has_the_parents_of_its_original(recipe):
    nodes = plan(changed(recipe, derived=[{"transform": {"kind": "duplicate"}, "per_tree": 2, "of": "leaf"}]))
    by_id = {node.id: node for node in nodes}
    copies = [node for node in nodes if node.derived]
    assert len({node.sources for node in copies}) == len(copies) == 4
    for node in copies:
        assert node.parents == by_id[node.sources[0]].parents
        assert node.depth == by_id[node.sources[0]].depth


def test_duplicates_of_inner_nodes_are_an_error(recipe):
    with pytest.raises(ValueError, match="duplicates are made of leaves only"):
        changed(recipe, derived=[{"transform": {"kind": "duplicate"}, "per_tree": 1}])


def test_a_student_has_no_parents_and_a_tree_of_its_own(recipe):
    training = resolved(recipe)["edges"][0]["training"]
    nodes = plan(changed(recipe, derived=[{"transform": {"kind": "distilled"}, "per_tree": 2, "training": training}]))
    students = [node for node in nodes if node.derived]
    assert [node.parents for node in students] == [()] * 4
    assert [node.tree for node in students] == [2, 3, 4, 5]
    assert all(node.sources and relation_of(node) == (None, "distilled") for node in students)


def test_more_derived_nodes_than_possible_sources_are_an_error(recipe):
    with pytest.raises(MothrError, match=r"tree 0 has too few nodes for derived\.per_tree = 6 of kind pruned"):
        plan(changed(recipe, derived=[{"transform": {"kind": "pruned", "share": 0.5}, "per_tree": 6}]))


def test_the_parent_of_a_withheld_nodes_child_is_the_nearest_ancestor_in_the_data_set(recipe):
    whole = plan(
        changed(
            recipe, topology={"branching": [2, 1, 1]}, edges=[{**resolved(recipe)["edges"][0], "task_rule": "shared"}]
        )
    )
    part = plan(
        changed(
            recipe,
            topology={"branching": [2, 1, 1]},
            withheld=0.5,
            edges=[{**resolved(recipe)["edges"][0], "task_rule": "shared"}],
        )
    )
    full, left = graph(whole), graph(part)
    hidden = set(full.nodes) - set(left.nodes)
    assert len(hidden) == 2 * 2
    assert not hidden & set(full.roots)
    for node in part:
        if not node.withheld and node.parents:
            assert left.ancestors(node.id) == full.ancestors(node.id) - hidden
            way = [node.sources[0]]
            while way[-1] in hidden:
                way.append(full.parents[way[-1]][0])
            assert node.parents == (way[-1],)
            assert node.withheld_ancestors == len(way) - 1
    assert len(left.trees) == len(full.trees) == 2
