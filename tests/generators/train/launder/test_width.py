"""Dummy neurons add nothing, and wider layers hold copies of the old ones."""

import pytest
import torch

from mothr.generators.train.launder.layout import layout_of


def mlps(source):
    layout = layout_of(source.family_name, source.model)
    return [mlp for block in layout.blocks for mlp in block.mlps]


def old_places(before, after):
    """Returns the places in ``after`` of the rows of ``before``, in their order."""
    return [next(place for place, row in enumerate(after) if torch.equal(row, old)) for old in before]


@pytest.mark.parametrize(("fraction", "new"), [(0.01, 2), (0.05, 2), (0.2, 4), (0.5, 12), (1.0, 24)])
@pytest.mark.parametrize("how", ["zero", "cancelling", "split"])
def test_the_number_of_dummy_neurons_is_even_and_the_old_ones_keep_their_order(fraction, new, how, plain):
    result = plain.launder(kind="dummy-neurons", fraction=fraction, how=how)
    assert result.model["mlp_size"] == 24 + new
    places = [
        old_places(plain.weights[f"{mlp.inputs[0]}.weight"], result.weights[f"{mlp.inputs[0]}.weight"])
        for mlp in mlps(plain)
    ]
    assert how == "split" or all(rows == sorted(rows) for rows in places)
    assert any(rows != list(range(24)) for rows in places)
    outside = [name for name in result.weights if "attention" in name or "embed" in name or "norm" in name]
    assert outside
    assert all(torch.equal(result.weights[name], plain.weights[name]) for name in outside)


def test_dummy_neurons_look_like_the_others_and_add_nothing(source):
    for how in ("zero", "cancelling"):
        weights = source.launder(kind="dummy-neurons", fraction=1.0, how=how).weights
        for mlp in mlps(source):
            old = set(old_places(source.weights[f"{mlp.inputs[0]}.weight"], weights[f"{mlp.inputs[0]}.weight"]))
            new = [place for place in range(48) if place not in old]
            rows, columns = weights[f"{mlp.inputs[0]}.weight"][new], weights[f"{mlp.output}.weight"][:, new]
            assert float(rows.std()) == pytest.approx(float(source.weights[f"{mlp.inputs[0]}.weight"].std()), rel=0.25)
            if how == "zero":
                assert (columns == 0).all()
                assert len({tuple(row.tolist()) for row in rows}) == 24
            else:
                groups = {}
                for row, column in zip(rows, columns.T, strict=True):
                    groups.setdefault(tuple(row.tolist()), []).append(column)
                assert {len(group) for group in groups.values()} == {2}
                assert all(torch.equal(first, -second) for first, second in groups.values())
                assert float(columns.std()) == pytest.approx(
                    float(source.weights[f"{mlp.output}.weight"].std()), rel=0.25
                )


def test_a_split_neuron_becomes_two_that_share_its_output(source):
    weights = source.launder(kind="dummy-neurons", fraction=0.5, how="split").weights
    for mlp in mlps(source):
        before, after = (given[f"{mlp.inputs[0]}.weight"] for given in (source.weights, weights))
        copies = [[place for place, row in enumerate(after) if torch.equal(row, old)] for old in before]
        assert sorted(len(places) for places in copies) == [1] * 12 + [2] * 12
        for neuron, places in enumerate(copies):
            column, parts = (
                source.weights[f"{mlp.output}.weight"][:, neuron],
                weights[f"{mlp.output}.weight"][:, places],
            )
            assert torch.allclose(parts.sum(dim=1), column, rtol=1e-5, atol=1e-7)
            share = parts[:, 0] / column
            assert len(places) == 1 or (share.min() >= 0.25 and share.max() <= 0.75 and share.std() < 1e-5)


@pytest.mark.parametrize(("factor", "size"), [(1.25, 30), (1.5, 36), (2.0, 48)])
def test_a_wider_mlp_repeats_neurons_and_divides_what_reads_them(factor, size, source):
    result = source.launder(kind="widened", factor=factor, noise=0.0)
    assert result.model == {**source.model, "mlp_size": size}
    for mlp in mlps(source):
        before, after = (given[f"{mlp.inputs[0]}.weight"] for given in (source.weights, result.weights))
        assert torch.equal(after[:24], before)
        assert len({tuple(row.tolist()) for row in after}) == 24
        output = result.weights[f"{mlp.output}.weight"]
        assert output.sum(dim=1).allclose(source.weights[f"{mlp.output}.weight"].sum(dim=1), atol=1e-5)


@pytest.mark.parametrize("factor", [1.25, 1.5, 1.75, 2.0])
def test_a_llama_is_widened_as_a_whole_by_any_factor_that_gives_whole_heads(factor, sources):
    source = sources("llama")
    result = source.launder(kind="widened", factor=factor, part="all", noise=0.0)
    assert [result.model[name] for name in ("hidden_size", "heads", "kv_heads")] == [
        16 * factor,
        4 * factor,
        4 * factor,
    ]
    assert source.change(result) < 1e-5


def test_query_heads_are_copied_where_key_heads_would_not_be_whole(sources):
    source = sources("llama-grouped", kv_heads=1)
    result = source.launder(kind="widened", factor=1.5, part="all", noise=0.0)
    assert [result.model[name] for name in ("hidden_size", "heads", "kv_heads")] == [24, 6, 1]
    assert source.change(result) < 1e-5


def test_noise_is_on_the_widened_matrices_and_of_the_size_asked_for(plain):
    exact, noisy = (plain.launder(kind="widened", factor=2.0, noise=noise) for noise in (0.0, 0.01))
    widened = {f"{layer}.weight" for mlp in mlps(plain) for layer in (*mlp.inputs, mlp.output)}
    for name, tensor in exact.weights.items():
        noise = noisy.weights[name] - tensor
        if name in widened:
            assert float(noise.std() / tensor.std()) == pytest.approx(0.01, rel=0.15)
        else:
            assert (noise == 0).all()
    assert 1e-4 < plain.change(noisy) < 0.2
