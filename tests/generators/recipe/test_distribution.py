"""Tests of distributions: ranges, options, samples, chances, scopes and faulty tables."""

import numpy as np
import pytest

from mothr.benchmark.errors import MothrError
from mothr.generators.recipe.distribution import ABSENT, Distribution, Drawer, check_distributions, is_distribution


def generator(seed=0):
    return np.random.default_rng(seed)


def drawer(scope="edge", default="edge", model=None):
    return Drawer(scope, default, lambda path: np.random.default_rng(list(path.encode())), model or {}, {})


def draws(count=400, **table):
    distribution = Distribution.model_validate(table)
    return [distribution.draw(generator(seed)) for seed in range(count)]


def test_a_range_of_integers_gives_every_integer_in_it_and_no_other_number():
    assert set(draws(uniform=[2, 6])) == {2, 3, 4, 5, 6}


def test_a_range_of_real_numbers_stays_inside_and_is_even():
    values = draws(2000, uniform=[0.1, 0.5])
    assert min(values) >= 0.1
    assert max(values) <= 0.5
    assert np.mean(values) == pytest.approx(0.3, abs=0.01)


def test_the_logarithm_of_a_log_uniform_number_is_even():
    values = draws(2000, log_uniform=[1e-5, 1e-3])
    assert np.mean(np.log10(values)) == pytest.approx(-4, abs=0.05)
    assert all(float(f"{value:.4g}") == value for value in values)


def test_a_log_uniform_range_of_integers_gives_integers_and_reaches_both_ends():
    values = draws(3000, log_uniform=[2, 64])
    assert all(isinstance(value, int) for value in values)
    assert {2, 64} <= set(values) <= set(range(2, 65))


def test_options_have_their_weights():
    values = draws(2000, choice=["a", "b"], weights=[3, 1])
    assert values.count("a") / len(values) == pytest.approx(0.75, abs=0.03)


def test_a_sample_has_different_items():
    for items in draws(50, sample=["a", "b", "c", "d"], size=3):
        assert len(items) == len(set(items)) == 3


def test_a_chance_leaves_the_field_out_or_gives_its_value():
    values = draws(2000, chance=0.1, value=7)
    assert set(values) == {7, ABSENT}
    assert values.count(7) / len(values) == pytest.approx(0.1, abs=0.03)


def test_a_drawer_draws_nested_tables_lists_and_distributions_and_records_the_values():
    table = {
        "steps": {"chance": 1.0, "value": {"uniform": [3, 5]}},
        "ranks": [{"choice": [4]}],
        "plain": 1,
        "decay": {"chance": 0.0, "value": 1},
        "transform": {"choice": [{"kind": "pruned", "share": {"uniform": [0.2, 0.3]}}]},
    }
    draw = drawer()
    result = draw.draw(table)
    assert result["steps"] in {3, 4, 5}
    assert result["ranks"] == [4]
    assert result["plain"] == 1
    assert "decay" not in result
    assert result["transform"]["kind"] == "pruned"
    assert draw.drawn == {
        "steps.value": result["steps"],
        "ranks[0]": 4,
        "transform.share": result["transform"]["share"],
    }


def test_a_draw_depends_on_the_field_and_not_on_other_fields():
    alone = drawer().draw({"steps": {"uniform": [0, 10**6]}})
    beside = drawer().draw({"rate": {"uniform": [0, 10**6]}, "steps": {"uniform": [0, 10**6]}})
    assert alone["steps"] == beside["steps"] != beside["rate"]


def test_fields_of_another_scope_are_left():
    table = {"steps": {"uniform": [1, 2], "per": "tree"}, "rate": {"uniform": [1, 2]}}
    assert drawer("edge").draw(table)["steps"] == table["steps"]
    assert drawer("tree").draw(table)["rate"] == table["rate"]
    assert drawer("tree").draw(table)["steps"] in {1, 2}


def test_numbers_are_at_most_the_named_size_of_the_model():
    table = {"log_uniform": [2, 64], "at_most": "hidden_size"}
    limited = Distribution.model_validate(table)
    assert max(limited.draw(generator(seed), 8) for seed in range(300)) == 8
    assert drawer(model={"hidden_size": 2}).draw({"rank": table})["rank"] == 2
    assert drawer(model={"hidden_size": 5}).draw({"rank": {"choice": [4, 8], "at_most": "hidden_size"}})["rank"] == 4


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"uniform": [3, 2]}, r"\[3, 2\] is empty"),
        ({"log_uniform": [0, 2]}, "0 has no logarithm"),
        ({"choice": []}, "choice"),
        ({"choice": [1, 2], "weights": [1]}, "1 weights for 2 options"),
        ({"choice": [1, 2], "weights": [1, 0]}, "greater than 0"),
        ({"choice": [1], "uniform": [1, 2]}, "exactly one of"),
        ({"chance": 2.0, "value": 1}, "less than or equal to 1"),
        ({"chance": 0.5}, "belong together"),
        ({"sample": ["a"]}, "belong together"),
        ({"choice": [1], "wieghts": [1]}, "weights"),
        ({"sample": ["a"], "size": 1, "at_most": "layers"}, "remove it"),
    ],
)
def test_a_faulty_distribution_is_named_with_its_place(table, message):
    with pytest.raises(MothrError, match=message) as error:
        check_distributions({"training": {"steps": table}}, "edges")
    assert str(error.value).startswith("edges.training.steps")


def test_what_cannot_be_drawn_is_an_error():
    with pytest.raises(MothrError, match=r"size: 3 items cannot be drawn from 2"):
        drawer().draw({"tasks": {"sample": ["a", "b"], "size": 3}})
    with pytest.raises(MothrError, match=r"rank: the smallest number, 8, is above hidden_size = 4"):
        drawer(model={"hidden_size": 4}).draw({"rank": {"uniform": [8, 16], "at_most": "hidden_size"}})
    with pytest.raises(MothrError, match=r"every option is above hidden_size = 4"):
        drawer(model={"hidden_size": 4}).draw({"rank": {"choice": [8], "at_most": "hidden_size"}})
    with pytest.raises(MothrError, match=r"at_most names 'width', which is not a number of \[model\]"):
        drawer(model={"hidden_size": 4}).draw({"rank": {"choice": [8], "at_most": "width"}})


def test_a_plain_table_is_no_distribution():
    assert not is_distribution({"steps": 3})
    assert not is_distribution([1])
    assert is_distribution({"choice": [1]})
