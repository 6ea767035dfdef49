"""Diluted models lie between their two sources, and decoys share some tensors and nothing else."""

import pytest
import torch
from safetensors.torch import load_file

from mothr.benchmark.errors import MothrError
from mothr.generators.families import FAMILIES
from mothr.generators.train.launder import freeze
from mothr.generators.train.launder.layout import layout_of
from mothr.generators.train.model_files import save_model, weight_file
from mothr.generators.train.train import train
from mothr.generators.values.training import Training


def test_a_diluted_model_is_the_weighted_mean(source):
    generator = torch.Generator().manual_seed(2)
    other = {name: tensor + torch.randn(tensor.shape, generator=generator) for name, tensor in source.weights.items()}
    result = source.launder(other=other, kind="diluted", share=0.3)
    for name, tensor in result.weights.items():
        assert torch.allclose(tensor, 0.7 * source.weights[name] + 0.3 * other[name], atol=1e-6)
    assert all(torch.equal(tensor, source.head[name]) for name, tensor in result.head.items())


def test_a_second_model_that_is_absent_or_of_other_sizes_is_an_error(sources):
    source = sources("llama-grouped")
    with pytest.raises(MothrError, match="needs the weights of a second model"):
        source.launder(kind="diluted", share=0.3)
    with pytest.raises(MothrError, match=r"experts.0.w1.weight' is absent in the source and has shape \(24, 16\)"):
        source.launder(other=sources("llama-experts").weights, kind="diluted", share=0.3)
    with pytest.raises(MothrError, match=r"k_proj.weight' has shape \(8, 16\) in the source and has shape \(16, 16\)"):
        source.launder(other=sources("llama").weights, kind="diluted", share=0.3)
    with pytest.raises(MothrError, match="NaN"):
        source.launder(
            other={**source.weights, "model.norm.weight": torch.full((16,), torch.nan)}, kind="diluted", share=0.3
        )


def shared_names(source, shared):
    layout = layout_of(source.family_name, source.model)
    if shared == "embeddings":
        return {name for name, _ in layout.embeddings}
    if shared == "first-block":
        return {name for name in source.weights if name.startswith(layout.blocks[0].prefix)}
    return {name for name in source.weights if "norm" in name}


@pytest.mark.parametrize("shared", ["embeddings", "first-block", "norms"])
def test_a_decoy_shares_what_it_says_and_the_rest_is_fresh(shared, source):
    result = source.launder(kind="decoy", shared=shared, init="normal", init_std=0.05)
    assert set(result.fixed) == shared_names(source, shared)
    for name, tensor in result.weights.items():
        if name in result.fixed:
            assert torch.equal(tensor, source.weights[name])
        elif tensor.ndim > 1 and tensor.numel() > 200:
            assert float(tensor.std()) == pytest.approx(0.05, rel=0.2)
            assert abs(float(torch.cosine_similarity(tensor.flatten(), source.weights[name].flatten(), dim=0))) < 0.3
    for name, tensor in result.head.items():
        assert tensor.shape == source.head[name].shape
        assert float(tensor.abs().max()) < 0.1


@pytest.mark.parametrize("shared", ["embeddings", "first-block", "norms"])
def test_training_leaves_the_shared_tensors_as_they_are_and_moves_the_others(shared, source, tmp_path):
    result = source.launder(kind="decoy", shared=shared, init_std=0.3)
    network = source.network(result)
    freeze(network, result.fixed)
    family = FAMILIES[source.family_name](**source.model)
    task = "text-arithmetic" if source.family_name == "llama" else "digits"
    objective = family.objective([task], torch.Generator().manual_seed(0), torch.device("cpu"))
    trained, _ = train(network, objective, Training(steps=3, batch_size=8, learning_rate=1e-2, weight_decay=0.1), 0)
    save_model(family, trained, tmp_path)
    weights = load_file(weight_file(tmp_path))
    unchanged = {name for name, tensor in weights.items() if torch.equal(tensor, result.weights[name])}
    assert unchanged == set(result.fixed)


def test_freezing_tensors_of_another_model_is_an_error(sources):
    source = sources("vit")
    with pytest.raises(MothrError, match=r"no parameter of the model holds the tensor 'model\.norm\.weight'"):
        freeze(source.source_network(), ["model.norm.weight"])
