"""Recipes: what is wrong with one is said before anything is trained, with the file, the value and the remedy."""

import tomllib

import pytest
import tomli_w

from mothr.benchmark.errors import MothrError
from mothr.generators.recipe import catalogue, load_recipe, recipe_names, resolved, tree_size


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_of_the_package_loads_and_survives_writing(name, tmp_path):
    recipe = load_recipe(name)
    assert recipe.name == name
    path = tmp_path / "again.toml"
    path.write_text(tomli_w.dumps(resolved(recipe)))
    assert load_recipe(str(path)) == recipe


def test_unknown_recipe_offers_near_names():
    with pytest.raises(MothrError, match=r"unknown recipe 'vthr-fd'; did you mean .*vthr-ft"):
        load_recipe("vthr-fd")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seed = 5", "seed = = 5", r"edited\.toml: not valid TOML: .*line 7"),
        ("seed = 5", "seed = 5\nsede = 6", r"edited\.toml: sede: unknown key 'sede'; did you mean seed"),
        ("heads = 2", "heads = 2\nhaeds = 2", r"edited\.toml: .*haeds"),
        ("branching = [2, 1]", "branching = []", r"edited\.toml: topology\.branching: .*at least 1 item"),
        ("branching = [2, 1]", "branching = [0, 1]", r"topology\.branching: no node follows"),
        ("branching = [2, 1]", "branching = [-1]", r"topology\.branching\.0: .*greater than or equal to 0 \(given: -1\)"),
        ("heads = 2", "heads = 3", r"model\.hidden_size 16 is no multiple of model\.heads 3"),
        ("patch_size = 8", "patch_size = 7", r"model\.patch_size 7 does not divide"),
        ('"digits"', '"digit"', r"unknown picture task 'digit'; did you mean .*digits"),
        ('family = "vit"', 'family = "vitt"', r"family: Input should be 'vit' \(given: 'vitt'\)"),
        ("steps = 8", "steps = 0", r"edges\.0\.training\.steps: .*greater than or equal to 1 \(given: 0\)"),
        ("steps = 8,", "steps = 8, lerning_rate = 1,", r"unknown key 'lerning_rate'; did you mean learning_rate"),
        ('init = "xavier-uniform"', 'init = "uniform"', r"roots\.1\.init: .*given: 'uniform'"),
        ("version = 1", "", r"version: Field required"),
    ],
)
def test_a_wrong_recipe_is_refused_by_file_value_and_remedy(edited, old, new, said):
    with pytest.raises(MothrError, match=said):
        load_recipe(edited(old, new))


def test_a_rank_above_the_width_is_refused(edited):
    path = edited("[[edges]]", '[[edges]]\nlora = { ranks = [4, 17], targets = ["q_proj"] }')
    with pytest.raises(MothrError, match=r"rank 17 is above the model's width 16"):
        load_recipe(path)


def test_a_lora_target_that_does_not_exist_is_refused(edited):
    path = edited("[[edges]]", '[[edges]]\nlora = { ranks = [4], targets = ["query"] }')
    with pytest.raises(MothrError, match=r"'query' is no linear layer of this family; choose from q_proj"):
        load_recipe(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MothrError, match=r"absent\.toml: cannot read"):
        load_recipe(str(tmp_path / "absent.toml"))


def test_extends_takes_over_what_it_does_not_replace(tmp_path, tiny):
    path = tmp_path / "child.toml"
    path.write_text('extends = "tiny.toml"\nname = "child"\n[topology]\nbranching = [3]\n')
    child, base = load_recipe(str(path)), load_recipe(str(tiny))
    assert child.topology.branching == (3,)
    assert child.roots == base.roots


def test_recipes_that_extend_each_other_in_a_circle_are_refused(tmp_path):
    for one, other in (("a", "b"), ("b", "a")):
        (tmp_path / f"{one}.toml").write_text(f'extends = "{other}.toml"\n')
    with pytest.raises(MothrError, match=r"circle: .*a\.toml -> b\.toml -> a\.toml"):
        load_recipe(str(tmp_path / "a.toml"))


@pytest.mark.parametrize("kind", ["ft", "lora-f", "lora-v"])
def test_the_vthr_splits_have_its_shape_and_a_dev_split_with_nothing_in_common(kind):
    test, dev = load_recipe(f"vthr-{kind}"), load_recipe(f"vthr-{kind}-dev")
    assert tree_size(test.topology) * len(test.roots) == 105
    assert (test.purpose, dev.purpose) == ("test", "dev")
    assert test.seed != dev.seed
    assert not {root.seed for root in test.roots} & {root.seed for root in dev.roots}
    assert test.edges[0].training == dev.edges[0].training


def test_the_lora_splits_share_the_roots_of_the_full_one():
    full = load_recipe("vthr-ft")
    assert load_recipe("vthr-lora-f").roots == load_recipe("vthr-lora-v").roots == full.roots
    assert [edge.lora.ranks for name in ("f", "v") for edge in load_recipe(f"vthr-lora-{name}").edges] == [(4,), (2, 4, 8, 16)]


def test_the_catalogue_lists_every_recipe():
    assert [row["name"] for row in catalogue()] == recipe_names()


def test_tree_size_counts_all_levels():
    recipe = load_recipe("vthr-ft")
    assert tree_size(recipe.topology) == 21


def test_resolved_is_plain_toml(tiny):
    assert tomllib.loads(tomli_w.dumps(resolved(load_recipe(str(tiny)))))["topology"] == {"branching": [2, 1]}
