"""Recipes of trees below real roots: four draws each, one tree a draw, sizes of the packages, trainings that are possible."""

import pytest

from mothr.generators.families import FAMILIES
from mothr.generators.recipe.drawn import DrawnRecipe, numbered
from mothr.generators.recipe.loading import load_recipe, recipe_names
from mothr.generators.recipe.topology import plan
from mothr.generators.sources import source
from mothr.generators.sources.packages import PACKAGES

NAMES = [name for name in recipe_names() if name.startswith("real-") and isinstance(load_recipe(name), DrawnRecipe)]
DRAWS = (1, 2, 3, 4)


def test_there_are_five_roots_or_more():
    roots = {load_recipe(name).root["source"]["package"] for name in NAMES}
    assert len(roots) >= 5
    assert roots <= set(PACKAGES)


@pytest.mark.parametrize("name", NAMES)
def test_four_draws_are_four_trees_of_one_root_with_full_and_low_rank_edges(name):
    trees = [plan(numbered(load_recipe(name), draw)) for draw in DRAWS]
    nodes = [node for tree in trees for node in tree]
    assert len({node.id for node in nodes}) == len(nodes)
    for tree in trees:
        assert 7 <= len(tree) <= 10
        assert [node.path for node in tree if not node.parents] == ["0"]
        assert len({str(node.root.source) for node in tree if node.root}) == 1
    edges = [node.edge for node in nodes if node.edge]
    assert any(edge.lora for edge in edges)
    assert any(edge.lora is None and edge.training.trained is None for edge in edges)


@pytest.mark.parametrize("name", NAMES)
def test_the_sizes_are_those_of_the_package_and_every_training_is_possible(name):
    for draw in DRAWS:
        nodes = plan(numbered(load_recipe(name), draw))
        family = FAMILIES[load_recipe(name).family](**nodes[0].model)
        root = nodes[0].root
        package = PACKAGES.find(root.source.package)
        source._check_fit(root.source, family, {"model_type": package.model_type, **package.sizes})
        for node in nodes:
            assert node.tasks or node.root, "a child needs a task, and a root as it was released has none"
            if node.training is not None and node.training.head_rate is not None:
                assert family.has_heads
