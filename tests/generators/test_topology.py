"""The plan of a forest: its shape, its ids, and the rule that gives each child a task of its own."""

import re
from collections import defaultdict

import pytest

from mothr.benchmark.errors import MothrError
from mothr.generators.recipe import load_recipe, recipe_names
from mothr.generators.topology import plan


@pytest.mark.parametrize("name", recipe_names())
def test_a_child_never_uses_its_parents_task_and_siblings_never_share_one(name):
    nodes = plan(load_recipe(name))
    by_id = {node.id: node for node in nodes}
    siblings = defaultdict(list)
    for node in nodes:
        if node.parent is not None:
            assert not set(node.tasks) & set(by_id[node.parent].tasks)
            siblings[node.parent].append(node.tasks)
    assert siblings
    assert all(len(set(tasks)) == len(tasks) for tasks in siblings.values())


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
        assert node.parent is None or node.parent in seen
        assert re.fullmatch(r"[0-9a-f]{12}", node.id)
        seen.add(node.id)
    assert len(seen) == 105
    assert [node.id for node in nodes] != sorted(node.id for node in nodes)


def test_the_plan_is_the_same_every_time_and_another_with_another_seed():
    recipe = load_recipe("vthr-lora-v")
    assert plan(recipe) == plan(recipe)
    other = recipe.model_copy(update={"seed": recipe.seed + 1})
    assert not {node.id for node in plan(recipe)} & {node.id for node in plan(other)}


def test_shared_roots_have_the_same_seed_and_other_ids_in_each_split():
    full, lora = (plan(load_recipe(name)) for name in ("vthr-ft", "vthr-lora-f"))
    roots = [[node for node in nodes if node.root] for nodes in (full, lora)]
    assert [node.seed for node in roots[0]] == [node.seed for node in roots[1]]
    assert not {node.id for node in roots[0]} & {node.id for node in roots[1]}


def test_all_ranks_of_the_variable_split_are_drawn():
    nodes = plan(load_recipe("vthr-lora-v"))
    assert {node.rank for node in nodes if node.edge} == {2, 4, 8, 16}
    assert {node.rank for node in nodes if node.root} == {None}


def test_too_few_tasks_for_the_children_is_an_error_that_says_so(edited):
    recipe = load_recipe(edited("branching = [2, 1]", "branching = [4]"))
    with pytest.raises(MothrError, match=r"node 0 has 4 children but only 3 tasks are left"):
        plan(recipe)
