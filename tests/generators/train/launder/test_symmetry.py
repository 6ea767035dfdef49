"""Symmetries: what each of them changes, and what it must leave as it is."""

import pytest
import torch

from mothr.generators.train.launder.layout import layout_of
from mothr.generators.train.launder.symmetry import _rotation


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def channels(source, weights):
    """Returns all embeddings with the residual stream's channels on the last axis, float64 (n, hidden_size)."""
    embeddings = layout_of(source.family_name, source.model).embeddings
    return torch.cat(
        [weights[name].double().movedim(axis, -1).reshape(-1, source.model["hidden_size"]) for name, axis in embeddings]
    )


@pytest.mark.parametrize("keeps_mean", [False, True])
@pytest.mark.parametrize("size", [1, 2, 7, 16])
def test_a_rotation_is_orthogonal_and_keeps_the_mean_if_it_must(size, keeps_mean):
    matrix = _rotation(size, keeps_mean, seeded(size))
    assert torch.allclose(matrix @ matrix.T, torch.eye(size, dtype=torch.float64), atol=1e-12)
    ones = torch.ones(size, dtype=torch.float64)
    assert not keeps_mean or torch.allclose(matrix @ ones, ones, atol=1e-12)


@pytest.mark.parametrize("keeps_mean", [False, True])
def test_rotations_are_spread_evenly(keeps_mean):
    """An entry of a Haar rotation of n dimensions has mean 0 and variance 1 / n; with the mean kept, this holds for n - 1."""
    matrices = torch.stack([_rotation(4, keeps_mean, seeded(seed)) for seed in range(3000)])
    mean = torch.full((4, 4), 0.25 if keeps_mean else 0.0, dtype=torch.float64)
    assert torch.allclose(matrices.mean(dim=0), mean, atol=0.04)
    variance = matrices.var(dim=0)
    assert variance.mean() == pytest.approx((0.75**2 / 3) if keeps_mean else 0.25, rel=0.05)


def test_a_rotation_folds_the_norms_and_changes_every_matrix_of_the_stream(source):
    result = source.launder(kind="rotated").weights
    for name, tensor in result.items():
        if "norm" in name:
            assert (tensor == (0 if name.endswith("bias") else 1)).all()
        elif tensor.ndim > 1 and name in source.weights:
            cosine = torch.cosine_similarity(tensor.flatten(), source.weights[name].flatten(), dim=0)
            assert abs(float(cosine)) < 0.7
    before, after = channels(source, source.weights), channels(source, result)
    if source.family_name == "vit":  # the mean over channels, which no output depends on, is taken away
        before = before - before.mean(dim=1, keepdim=True)
    assert torch.allclose(after @ after.T, before @ before.T, atol=1e-4)


def test_scales_are_powers_of_two_within_the_spread_and_cancel(source):
    result = source.launder(kind="rescaled", spread=2.0).weights
    changed = {name for name, tensor in result.items() if not torch.equal(tensor, source.weights[name])}
    layout = layout_of(source.family_name, source.model)
    first = layout.blocks[0]
    inner = [f"{layer}.weight" for layer in (first.query, first.key, first.value, first.output)]
    neurons = [f"{name}.weight" for mlp in first.mlps for name in (mlp.inputs[-1], mlp.output)] if layout.gated else []
    assert {name for name in changed if name.startswith(first.prefix) and name.endswith("weight")} == {*inner, *neurons}
    assert changed
    assert all(name.startswith(tuple(block.prefix for block in layout.blocks)) for name in changed)
    for layer in (first.key, first.value):
        factors = (result[f"{layer}.weight"] / source.weights[f"{layer}.weight"]).double()
        exponents = factors.log2()
        assert exponents.abs().max() <= 2 + 1e-5
        assert exponents.std(dim=1).max() < 1e-5  # one factor for each row
        assert exponents[:, 0].std() > 0.2


def test_pairs_of_rotated_channels_have_one_scale_and_gelu_neurons_none(sources):
    llama = sources("llama-grouped")
    name = "model.layers.0.self_attn.k_proj.weight"
    factors = (llama.launder(kind="rescaled").weights[name] / llama.weights[name])[:, 0].reshape(2, 2, 2)
    assert torch.allclose(factors[:, 0], factors[:, 1], rtol=1e-5)
    assert not torch.allclose(factors[:, 0, 0], factors[:, 0, 1], rtol=0.01)
    vit = sources("vit")
    result = vit.launder(kind="rescaled").weights
    assert all(
        torch.equal(result[name], vit.weights[name]) for name in result if "mediate" in name or "layer.0.output" in name
    )


def test_signs_change_no_magnitude_and_the_stream_below_rms_norms_only(source):
    result = source.launder(kind="sign-flipped").weights
    assert all(torch.equal(tensor.abs(), source.weights[name].abs()) for name, tensor in result.items())
    stream = {name for name, _ in layout_of(source.family_name, source.model).embeddings}
    unchanged = {name for name in stream if torch.equal(result[name], source.weights[name])}
    assert unchanged == (stream if source.family_name == "vit" else set())
    norms = [name for name in result if "norm" in name]
    assert norms
    assert all(torch.equal(result[name], source.weights[name]) for name in norms)


def test_a_new_order_keeps_the_values_of_every_tensor_and_moves_every_matrix(source):
    result = source.launder(kind="reordered")
    before, after = {**source.weights, **source.head}, {**result.weights, **result.head}
    everything = [torch.cat([tensor.flatten() for tensor in weights.values()]) for weights in (before, after)]
    assert torch.equal(everything[0].sort().values, everything[1].sort().values)
    for name, tensor in after.items():
        moved_between_experts = "experts" in name
        assert moved_between_experts or torch.equal(
            tensor.flatten().sort().values, before[name].flatten().sort().values
        )
        assert tensor.ndim == 1 or not torch.equal(tensor, before[name])


def test_channels_of_rotated_keys_keep_their_places(sources):
    source = sources("llama-grouped")
    name = "model.layers.1.self_attn.k_proj.weight"
    before, after = (
        weights[name].sort(dim=1).values for weights in (source.weights, source.launder(kind="reordered").weights)
    )
    heads = [before[:4], before[4:]]
    assert all(any(torch.equal(part, head) for head in heads) for part in (after[:4], after[4:]))


def test_all_symmetries_leave_no_matrix_alike(source):
    result = source.launder(kind="all-symmetries").weights
    for name, tensor in result.items():
        if tensor.ndim > 1 and name in source.weights:
            cosine = torch.cosine_similarity(tensor.flatten(), source.weights[name].flatten(), dim=0)
            assert abs(float(cosine)) < 0.5
