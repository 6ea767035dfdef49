"""Blocks that are repeated, added or left out, and MLPs that become mixtures of experts."""

import pytest
import torch

from mothr.generators.train.launder.layout import layout_of


def of_block(source, weights, number):
    prefix = layout_of(source.family_name, {**source.model, "layers": number + 1}).blocks[number].prefix
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def is_equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def order(source, result):
    """Returns the number of the source's block that each block of the result equals, or None."""
    blocks = [of_block(source, source.weights, number) for number in range(source.model["layers"])]
    blocks_of_result = [of_block(source, result.weights, number) for number in range(result.model["layers"])]
    assert not of_block(source, result.weights, result.model["layers"])
    return [
        next((number for number, block in enumerate(blocks) if is_equal(block, result_block)), None)
        for result_block in blocks_of_result
    ]


@pytest.mark.parametrize(
    ("layers", "fraction", "expected"),
    [
        (4, 0.5, [0, 1, 2, 1, 2, 3]),
        (3, 0.3, [0, 1, 1, 2]),
        (2, 0.5, [0, 1, 1]),
        (1, 0.5, [0, 0]),
        (3, 1.0, [0, 1, 2, 0, 1, 2]),
    ],
)
def test_middle_blocks_are_repeated_as_in_depth_up_scaling(layers, fraction, expected, sources):
    for name in ("vit", "llama-grouped"):
        source = sources(name, layers=layers)
        result = source.launder(kind="blocks-repeated", fraction=fraction)
        assert result.model["layers"] == len(expected)
        assert order(source, result) == expected


@pytest.mark.parametrize(
    ("layers", "fraction", "expected"),
    [(4, 0.5, [0, 1, None, 2, 3, None]), (3, 0.1, [0, 1, 2, None]), (2, 1.0, [0, None, 1, None])],
)
def test_added_blocks_are_copies_with_zero_output_layers(layers, fraction, expected, sources):
    for name in ("vit", "llama-grouped", "llama-experts"):
        source = sources(name, layers=layers)
        result = source.launder(kind="blocks-added", fraction=fraction)
        assert order(source, result) == expected
        for place in (place for place, number in enumerate(expected) if number is None):
            added = of_block(source, result.weights, place)
            copied = of_block(source, source.weights, expected[place - 1])
            changed = {entry for entry, tensor in added.items() if not torch.equal(tensor, copied[entry])}
            assert changed == {
                entry for entry in added if "o_proj" in entry or "down" in entry or "w2" in entry or "output" in entry
            }
            assert all((added[entry] == 0).all() for entry in changed)


@pytest.mark.parametrize(("fraction", "left"), [(0.25, 3), (0.5, 2), (0.9, None)])
def test_random_blocks_are_dropped_and_the_others_keep_their_order(fraction, left, sources):
    source = sources("llama-grouped", layers=4)
    if left is None:
        with pytest.raises(ValueError, match="leaves no block"):
            source.launder(kind="blocks-dropped", fraction=fraction)
        return
    orders = [order(source, source.launder(seed, kind="blocks-dropped", fraction=fraction)) for seed in range(12)]
    assert all(len(places) == left and places == sorted(set(places)) for places in orders)
    assert len({tuple(places) for places in orders}) > 2


def test_every_expert_is_a_copy_of_the_mlp_and_routers_differ(sources):
    source = sources("llama-grouped")
    result = source.launder(kind="upcycled", experts=5)
    assert result.model == {**source.model, "experts": 5}
    for number in range(3):
        block, old = of_block(source, result.weights, number), of_block(source, source.weights, number)
        for stored, name in (("w1", "gate"), ("w2", "down"), ("w3", "up")):
            experts = [block[f"block_sparse_moe.experts.{expert}.{stored}.weight"] for expert in range(5)]
            assert all(torch.equal(expert, old[f"mlp.{name}_proj.weight"]) for expert in experts)
        assert block["block_sparse_moe.gate.weight"].shape == (5, 16)
    routers = [of_block(source, result.weights, number)["block_sparse_moe.gate.weight"] for number in range(3)]
    assert float(torch.stack(routers).std()) == pytest.approx(0.02, rel=0.2)
    assert not torch.equal(routers[0], routers[1])
