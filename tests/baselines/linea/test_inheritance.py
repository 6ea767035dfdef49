import numpy as np
import pytest
import torch

from mothr.baselines.linea.inheritance import update_loss
from mothr.benchmark.weights.layers import Layers

BODY = Layers("body")
NAMES = [f"layers.{layer}.mlp.{part}_proj.weight" for layer in range(4) for part in ("up", "down")]
SIDE = 64


def draw(seed, size=1.0, names=NAMES):
    generator = torch.Generator().manual_seed(seed)
    return {name: size * torch.randn(SIDE, SIDE, generator=generator) for name in names}


def add(weights, *updates):
    return {name: value + sum(update.get(name, 0.0) for update in updates) for name, value in weights.items()}


def fractions(write_models, ancestor, parent, child):
    models = write_models({"ancestor": ancestor, "parent": parent, "child": child})
    triple = [models.ids.index(name) for name in ("child", "parent", "ancestor")]
    missing, reverted = update_loss(models, np.array([triple]), BODY)
    return missing[0], reverted[0]


def missing_fraction(*weights):
    return fractions(*weights)[0]


def reverted_fraction(*weights):
    return fractions(*weights)[1]


@pytest.mark.parametrize("length", [0.1, 1.0, 4.0])
def test_a_child_has_its_parents_update_for_any_length_of_its_own(write_models, length):
    root, step = draw(0), draw(1, 0.1)
    parent = add(root, step)
    assert missing_fraction(write_models, root, parent, add(parent, draw(2, 0.1 * length))) < 0.1
    assert (
        missing_fraction(write_models, root, parent, add(parent, draw(2, 0.1 * length, NAMES[:2]))) < 0.1
    )  # as LoRA, in a few tensors


def test_a_child_that_reverts_a_little_of_the_update_or_continues_it_has_it(write_models):
    root, step = draw(0), draw(1, 0.1)
    parent = add(root, step)
    for share in (-0.15, 0.5, 2.0):
        onward = {name: share * value for name, value in step.items()}
        assert missing_fraction(write_models, root, parent, add(parent, onward, draw(2, 0.1))) == 0


def test_a_sibling_lacks_the_update_or_has_unequal_shares_of_it(write_models):
    root, weak = draw(0), draw(1, 0.02)
    assert missing_fraction(write_models, root, add(root, weak), add(root, draw(2, 0.1))) > 0.9
    same_data = {
        name: share * weak[name] for name, share in zip(NAMES, np.linspace(0.2, 1.6, len(NAMES)).tolist(), strict=True)
    }
    result = missing_fraction(write_models, root, add(root, weak), add(root, same_data, draw(2, 0.05)))
    assert 0.2 < result < 0.6


def test_a_sibling_below_a_missing_parent_has_too_little_of_the_update(write_models):
    root = draw(0)
    missing = add(root, draw(1, 0.1))
    assert missing_fraction(write_models, root, add(missing, draw(2, 0.1)), add(missing, draw(3, 0.1))) > 0.9


def test_without_an_update_nothing_is_missing(write_models):
    root = draw(0)
    assert missing_fraction(write_models, root, root, add(root, draw(1))) == 0


@pytest.mark.filterwarnings("ignore::mothr.benchmark.errors.MothrWarning")
def test_tensors_that_one_of_the_three_models_lacks_are_left_out(write_models):
    root = draw(0)
    others = {name.replace("mlp", "attn"): value for name, value in draw(2).items()}
    assert missing_fraction(write_models, root, add(root, draw(1)), others) == 0
    assert reverted_fraction(write_models, root, add(root, draw(1)), others) == 0
    assert [
        result.shape for result in update_loss(write_models({"a": root}), np.zeros((0, 3), dtype=np.intp), BODY)
    ] == [
        (0,),
        (0,),
    ]


def test_each_triple_is_tested_alone(write_models):
    root, step = draw(0), draw(1, 0.1)
    models = write_models(
        {"a": root, "b": add(root, step), "c": add(root, step, draw(2, 0.1)), "d": add(root, draw(3, 0.1))}
    )
    at = {name: place for place, name in enumerate(models.ids)}
    for child, stranger in update_loss(
        models, np.array([[at["c"], at["b"], at["a"]], [at["d"], at["b"], at["a"]]]), BODY
    ):
        assert child < 0.05
        assert stranger > 0.4


def test_tensors_that_differ_by_rounding_hardly_count(write_models):
    root = draw(0)
    step, own = draw(1, 0.1, NAMES[:2]), draw(2, 0.1, NAMES[:2])
    parent = {name: value.half() for name, value in add(root, step).items()}
    child = {name: value.bfloat16() for name, value in add(add(root, step), own).items()}
    assert missing_fraction(write_models, {name: value.bfloat16() for name, value in root.items()}, parent, child) < 0.1
    sibling = {name: value.bfloat16() for name, value in add(root, own).items()}
    assert (
        missing_fraction(write_models, {name: value.bfloat16() for name, value in root.items()}, parent, sibling) > 0.9
    )


def low_rank(seed, rank, size):
    """Updates of few components, each tensor with the squared norm of ``draw(seed, size)``."""
    generator = torch.Generator().manual_seed(seed)
    scale = size / rank**0.5
    return {
        name: scale * torch.randn(SIDE, rank, generator=generator) @ torch.randn(rank, SIDE, generator=generator)
        for name in NAMES
    }


def scaled(weights, share):
    return {name: share * value for name, value in weights.items()}


def test_a_child_that_reverts_the_large_components_still_has_the_update(write_models):
    root, large, small = draw(0), low_rank(1, 4, 0.1), draw(2, 0.05)
    parent = add(root, large, small)
    assert missing_fraction(write_models, root, parent, add(parent, scaled(large, -0.5), draw(3, 0.05))) < 0.1
    assert (
        missing_fraction(write_models, root, parent, add(parent, scaled(large, -1.5), draw(3, 0.05))) > 0.9
    )  # the whole of it, and more


def test_a_sibling_with_the_same_large_components_lacks_the_update(write_models):
    root, large = draw(0), low_rank(1, 4, 0.1)
    alike = [add(root, large, draw(seed, 0.05)) for seed in (2, 3)]
    assert missing_fraction(write_models, root, *alike) > 0.9


def test_all_components_of_a_low_rank_update_count(write_models):
    root, generator = draw(0), torch.Generator().manual_seed(9)
    left = {name: torch.randn(SIDE, 4, generator=generator) * torch.tensor([1.0, 0.6, 0.3, 0.1]) for name in NAMES}

    def learned():  # in the same output directions, as what was fine-tuned on like data
        return {name: 0.05 * left[name] @ torch.randn(4, SIDE, generator=generator) for name in NAMES}

    parent = add(root, learned())
    children = [missing_fraction(write_models, root, parent, add(parent, scaled(learned(), 1.5))) for _ in range(8)]
    assert max(children) < 0.1
    assert min(missing_fraction(write_models, root, parent, add(root, learned())) for _ in range(8)) > 0.9


@pytest.mark.parametrize("columns", [2, 3])
def test_an_update_of_rank_one_in_a_matrix_of_few_columns_has_a_tail(write_models, columns):
    def matrix(seed):
        generator = torch.Generator().manual_seed(seed)
        return {NAMES[0]: torch.randn(SIDE, 1, generator=generator) @ torch.randn(1, columns, generator=generator)}

    root, parent = matrix(0), add(matrix(0), matrix(1))
    assert fractions(write_models, root, parent, add(parent, scaled(matrix(2), 0.01))) == (0, 0)


def test_an_update_whose_square_underflows_is_none(write_models):
    root = {NAMES[0]: torch.zeros(SIDE, SIDE, dtype=torch.float64)}
    step = {NAMES[0]: 1e-170 * draw(1)[NAMES[0]].double()}
    assert fractions(write_models, root, add(root, step), add(root, step, scaled(step, 2.0))) == (0, 0)


def test_a_part_of_a_large_matrix_suffices(write_models):
    def matrix(seed, size):
        return {NAMES[0]: size * torch.randn(600, 300, generator=torch.Generator().manual_seed(seed))}

    root, step = matrix(0, 1.0), matrix(1, 0.1)
    assert missing_fraction(write_models, root, add(root, step), add(root, step, matrix(2, 0.1))) == 0
    assert missing_fraction(write_models, root, add(root, step), add(root, matrix(2, 0.1))) == 1


def test_a_model_with_more_than_the_whole_update_must_have_it_evenly(write_models):
    root, step = draw(0), draw(1, 0.02)
    even = {name: 1.5 * value for name, value in step.items()}
    assert missing_fraction(write_models, root, add(root, step), add(root, even, draw(2, 0.02))) == 0
    uneven = {
        name: share * step[name] for name, share in zip(NAMES, np.linspace(0.75, 4.0, len(NAMES)).tolist(), strict=True)
    }
    assert missing_fraction(write_models, root, add(root, step), add(root, uneven, draw(2, 0.02))) > 0.2


@pytest.mark.parametrize("own", [0.02, 0.05, 0.2])
def test_a_sibling_reverts_one_half_whatever_both_learned_alike(write_models, own):
    root, common = draw(0), draw(1, 0.1)
    one, other = (add(root, common, draw(seed, own)) for seed in (2, 3))
    assert 0.38 < reverted_fraction(write_models, root, one, other) <= 0.5
    assert reverted_fraction(write_models, root, one, add(one, draw(4, own))) < 0.05


def test_a_nephew_reverts_one_third(write_models):
    root, common = draw(0), draw(1, 0.1)
    uncle, parent = (add(root, common, draw(seed, 0.05)) for seed in (2, 3))
    assert 0.25 < reverted_fraction(write_models, root, uncle, add(parent, draw(4, 0.05))) <= 0.34


def test_the_reverted_fraction_of_a_child_is_a_lower_bound(write_models):
    root, step = draw(0), draw(1, 0.1)
    parent = add(root, step)
    for share in (0.1, 0.3):
        expected = share / (share**2 + 1)
        result = reverted_fraction(write_models, root, parent, add(parent, scaled(step, -share), draw(2, 0.1)))
        assert expected - 0.1 < result <= expected


def test_a_child_that_trains_all_tensors_reverts_little_of_an_update_of_few_tensors(write_models):
    root = draw(0)
    generator = torch.Generator().manual_seed(9)
    step = {
        name: torch.randn(SIDE, 4, generator=generator) @ torch.randn(4, SIDE, generator=generator)
        for name in NAMES[:2]
    }  # as LoRA's
    parent = add(root, step)
    child = add(parent, scaled(step, -0.05), draw(2, 0.1))
    assert reverted_fraction(write_models, root, parent, child) < 0.2
    few = {
        name: child[name] if name in step else root[name] for name in NAMES
    }  # the same, where it stayed on the way back
    assert reverted_fraction(write_models, root, parent, few) > 0.3


def test_rounding_reverts_nothing(write_models):
    root, step = draw(0), draw(1, 0.1)
    parent = {name: value.half() for name, value in add(root, step).items()}
    rounded = {name: value.bfloat16() for name, value in parent.items()}
    assert reverted_fraction(write_models, root, parent, rounded) == 0
    in_few_bits = {name: value.bfloat16() for name, value in add(root, step, draw(2, 0.05)).items()}
    assert (
        reverted_fraction(write_models, {name: value.bfloat16() for name, value in root.items()}, parent, in_few_bits)
        < 0.05
    )


def test_a_long_update_of_the_child_scatters_coefficients_of_a_short_one_and_removes_nothing(write_models):
    for seed in range(0, 30, 3):
        root, step = draw(seed), draw(seed + 1, 0.002)
        parent = add(root, step)
        assert missing_fraction(write_models, root, parent, add(parent, draw(seed + 2, 0.05))) < 0.1
    assert (
        missing_fraction(write_models, root, parent, add(root, draw(1, 0.02))) > 0.2
    )  # a shorter update of the child shows that it has none


@pytest.mark.parametrize("decay", [0.3, 0.7, 0.9])
def test_weight_decay_removes_no_update_from_a_child_and_adds_none_to_a_sibling(write_models, decay):
    root, step = draw(0), draw(1, 0.1)
    for parent in (add(root, step), add(scaled(root, decay), step)):
        share, part = fractions(write_models, root, parent, add(scaled(parent, decay), draw(2, 0.1)))
        assert share < 0.1
        assert part < 0.05
        assert missing_fraction(write_models, root, parent, add(scaled(root, decay), draw(2, 0.1))) > 0.9
    assert fractions(write_models, root, scaled(root, decay), add(scaled(root, decay**2), draw(2, 0.1))) == (
        0,
        0,
    )  # nothing was learned
