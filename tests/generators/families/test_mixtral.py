"""Llamas with experts: saved and loaded the same, drawn expert by expert, trained, permuted without a change of outputs."""

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from mothr.generators.families.llama import LanguageModelling, Llama
from mothr.generators.train.train import train
from mothr.generators.train.transforms import permuted
from mothr.generators.values.seeds import torch_generator
from mothr.generators.values.training import Lora, Training

FAMILY = Llama(hidden_size=32, layers=2, heads=4, kv_heads=2, mlp_size=48, context=16, experts=4)


def built(init="normal", seed=0):
    return FAMILY.build(init, 0.02, torch_generator(seed)).eval()


def saved(model, folder):
    FAMILY.save(model, folder)
    return load_file(folder / "model.safetensors")


def outputs(model):
    windows = torch.arange(16 * 8).reshape(8, 16) * 7 % 256
    with torch.no_grad():
        return model(input_ids=windows, use_cache=False).logits


@pytest.mark.parametrize(
    ("init", "spread"), [("normal", 0.02), ("xavier-uniform", (2 / 80) ** 0.5), ("orthogonal", 48**-0.5)]
)
def test_each_matrix_of_each_expert_is_drawn_with_the_scale_of_its_own_sides(init, spread, tmp_path):
    weights = saved(built(init), tmp_path)
    drawn = {name: value for name, value in weights.items() if ".experts." in name}
    assert len(drawn) == 2 * 4 * 3
    for value in drawn.values():
        assert float(value.std()) == pytest.approx(spread, rel=0.1)
    first, second = (drawn[f"model.layers.0.block_sparse_moe.experts.{expert}.w1.weight"] for expert in (0, 1))
    assert not torch.equal(first, second)


def test_a_model_is_the_same_after_it_is_saved_and_loaded(tmp_path):
    model = built()
    FAMILY.save(model, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    loaded = FAMILY.load(tmp_path)
    assert loaded.config.rms_norm_eps == 1e-6
    assert loaded.config.rope_parameters["rope_theta"] == 10_000
    assert torch.equal(outputs(loaded), outputs(model))


def test_permuting_the_neurons_of_experts_and_the_heads_keeps_the_outputs(tmp_path):
    weights = saved(built("xavier-uniform"), tmp_path)
    moved = permuted(weights, FAMILY.symmetries(), torch_generator(1))
    assert sum(not torch.equal(moved[name], value) for name, value in weights.items()) == 2 * (4 + 3 * 4)
    before = outputs(FAMILY.load(tmp_path))
    from safetensors.torch import save_file

    save_file(moved, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert torch.allclose(outputs(FAMILY.load(tmp_path)), before, atol=1e-5 * float(before.abs().max()))


def test_training_moves_experts_and_routers_and_gives_the_same_bytes_twice():
    training = Training(steps=3, batch_size=4, learning_rate=1e-2)
    runs = []
    for _ in range(2):
        model, _ = train(built(), LanguageModelling(["text-arithmetic"], 16, torch.device("cpu")), training, 5)
        runs.append({name: value.detach() for name, value in model.named_parameters()})
    fresh = dict(built().named_parameters())
    assert all(torch.equal(value, runs[1][name]) for name, value in runs[0].items())
    moved = {name for name, value in runs[0].items() if not torch.equal(value, fresh[name])}
    assert {name for name in fresh if "experts" in name or "mlp.gate" in name} <= moved


def test_low_rank_updates_are_for_attention_only_and_one_expert_is_an_error():
    FAMILY.check_lora([4], ["q_proj"])
    with pytest.raises(ValueError, match="'up_proj' is not a linear layer of this family; choose from q_proj"):
        FAMILY.check_lora([4], ["up_proj"])
    model, _ = train(
        built(), LanguageModelling(["text-arithmetic"], 16, torch.device("cpu")),
        Training(steps=1, batch_size=2, learning_rate=1e-3), 0, lora=Lora(ranks=(2,), targets=("q_proj",)), rank=2,
    )  # fmt: skip
    assert outputs(model).shape == (8, 16, 256)
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        Llama(hidden_size=32, layers=2, heads=4, kv_heads=2, mlp_size=48, context=16, experts=1)
