"""Edits: exactly what they say is changed, by as much as they say."""

import pytest
import torch

from mothr.generators.train.launder.layout import layout_of


def written(source, weights):
    """Returns all that is written to the residual stream, float64 (hidden_size, n)."""
    layout = layout_of(source.family_name, source.model)
    tensors = [weights[name].movedim(axis, 0) for name, axis in layout.embeddings]
    for layer in layout.writers():
        tensors += [weights[name] for name in (f"{layer}.weight", f"{layer}.bias") if name in weights]
    return torch.cat(
        [tensor.double().flatten(1) if tensor.ndim > 1 else tensor.double()[:, None] for tensor in tensors], dim=1
    )


@pytest.mark.parametrize("strength", [0.3, 1.0, 2.0])
def test_the_part_along_one_direction_is_scaled_in_all_that_is_written(strength, source):
    result = source.launder(kind="projected", strength=strength).weights
    before, after = written(source, source.weights), written(source, result)
    left, sizes, _ = torch.linalg.svd(before - after, full_matrices=False)
    assert sizes[1] < 1e-5 * sizes[0]  # the change has one direction
    direction = left[:, 0]
    assert torch.allclose(direction @ after, (1 - strength) * (direction @ before), atol=1e-5)
    readers = [name for name in result if "query" in name or "q_proj" in name or "norm" in name]
    assert readers
    assert all(torch.equal(result[name], source.weights[name]) for name in readers)


def test_norms_of_rows_can_be_preserved(source):
    plain, preserving = (
        source.launder(kind="projected", strength=1.0, norm_preserving=preserving).weights
        for preserving in (False, True)
    )
    layout = layout_of(source.family_name, source.model)
    for name in [name for name, axis in layout.embeddings if axis > 0] + [
        f"{layer}.weight" for layer in layout.writers()
    ]:
        norms = [weights[name].double().norm(dim=-1) for weights in (source.weights, preserving, plain)]
        assert torch.allclose(norms[0], norms[1], rtol=1e-5)
        assert not torch.allclose(norms[0], norms[2], rtol=1e-3)
        assert torch.allclose(
            torch.nn.functional.normalize(plain[name].double(), dim=-1),
            torch.nn.functional.normalize(preserving[name].double(), dim=-1),
            atol=1e-5,
        )


def test_one_row_of_one_matrix_of_the_blocks_is_drawn_anew(source):
    layers = set(layout_of(source.family_name, source.model).layers())
    changed_layers = set()
    for seed in range(20):
        result = source.launder(seed, kind="row-changed").weights
        changed = [name for name, tensor in result.items() if not torch.equal(tensor, source.weights[name])]
        (name,) = changed
        assert name.removesuffix(".weight") in layers
        rows = (result[name] != source.weights[name]).any(dim=1)
        assert rows.sum() == 1
        assert result[name][rows].abs().max() < 6 * source.weights[name].std()
        changed_layers.add(name)
    assert len(changed_layers) > 5


@pytest.mark.parametrize(("fraction", "new"), [(0.3, 77), (0.001, 1), (0.999, 255)])
def test_the_same_tokens_are_replaced_in_embeddings_and_head(fraction, new, sources):
    source = sources("llama-grouped")
    result = source.launder(kind="vocabulary-replaced", fraction=fraction).weights
    changed = {name for name, tensor in result.items() if not torch.equal(tensor, source.weights[name])}
    assert changed == {"model.embed_tokens.weight", "lm_head.weight"}
    rows = [(result[name] != source.weights[name]).any(dim=1) for name in sorted(changed)]
    assert torch.equal(*rows)
    assert rows[0].sum() == new


def test_new_tokens_have_the_statistics_of_the_others(sources):
    source = sources("llama-tied")
    weights = dict(source.weights)
    name = "model.embed_tokens.weight"
    source.weights = {**weights, name: weights[name] * torch.linspace(0.1, 2, 16) + torch.linspace(-1, 1, 16)}
    try:
        result = source.launder(kind="vocabulary-replaced", fraction=0.5).weights
        assert [entry for entry in result if not torch.equal(result[entry], source.weights[entry])] == [name]
        new = (result[name] != source.weights[name]).any(dim=1)
        assert torch.allclose(result[name][new].std(dim=0), result[name][~new].std(dim=0), rtol=0.35)
        assert torch.allclose(result[name][new].mean(dim=0), result[name][~new].mean(dim=0), atol=0.2)
    finally:
        source.weights = weights


def test_noise_is_relative_to_the_mean_size_of_each_tensor(source):
    result = source.launder(kind="noise-added", level=0.1)
    assert all(torch.equal(tensor, source.head[name]) for name, tensor in result.head.items())
    for name, tensor in result.weights.items():
        noise = tensor - source.weights[name]
        assert (noise != 0).any()
        if tensor.numel() > 500:
            assert float(noise.std() / source.weights[name].abs().mean()) == pytest.approx(0.1, rel=0.15)
