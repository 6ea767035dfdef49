"""Parts of a model that are trained, penalties, averages, and low-rank updates."""

import copy

import pytest
import torch
from torch import nn

from mothr.benchmark.errors import MothrError
from mothr.generators.families import FAMILIES
from mothr.generators.train.train import train
from mothr.generators.train.trainable import Average, StartPenalty, merged, restrict, with_lora
from mothr.generators.values.seeds import torch_generator
from mothr.generators.values.training import Lora, Training

PICTURES = {"hidden_size": 16, "layers": 4, "heads": 2, "mlp_size": 32, "patch_size": 8}
TEXT = {"hidden_size": 16, "layers": 4, "heads": 2, "kv_heads": 1, "mlp_size": 24, "context": 8}
MODELS = {
    "vit": ("vit", PICTURES, "layers.{}."),
    "dinov2": ("dinov2", PICTURES, "encoder.layer.{}."),
    "llama": ("llama", TEXT, "model.layers.{}."),
    "tied": ("llama", {**TEXT, "tied": True}, "model.layers.{}."),
    "sd": (
        "sd",
        {"channels": (8, 16), "layers": 1, "heads": 2, "groups": 4, "text_size": 8, "vae_steps": 1, "text_steps": 1},
        "",
    ),
}
UNET_BLOCKS = ("down_blocks.0.", "down_blocks.1.", "mid_block.", "up_blocks.0.", "up_blocks.1.")
FINAL_NORMS = {
    "vit": "layernorm.",
    "dinov2": "layernorm.",
    "llama": "model.norm.",
    "tied": "model.norm.",
    "sd": "conv_norm_out.",
}
TASKS = {"vit": "shape-colour", "dinov2": "shape-colour", "llama": "text-fonts", "tied": "text-fonts"}
SHORT = {"steps": 3, "batch_size": 4, "learning_rate": 1e-2}


def built(name):
    family, sizes, _ = MODELS[name]
    return FAMILIES[family](**sizes).build("normal", 0.02, torch_generator(1))


def blocks_of(name):
    pattern = MODELS[name][2]
    return [pattern.format(number) for number in range(4)] if pattern else UNET_BLOCKS


def trained_parts(name, part):
    model = built(name)
    restrict(model, part)
    return {key for key, value in model.named_parameters() if value.requires_grad}, dict(model.named_parameters())


def objective_of(name, seed=0):
    family, sizes, _ = MODELS[name]
    return FAMILIES[family](**sizes).objective((TASKS[name],), torch_generator(seed), torch.device("cpu"))


# Parts


@pytest.mark.parametrize("name", MODELS)
def test_last_layers_are_the_last_third_of_the_blocks_and_the_final_norm(name):
    trained, parameters = trained_parts(name, "last-layers")
    expected = (*blocks_of(name)[-2:], FINAL_NORMS[name])
    assert trained == {key for key in parameters if key.startswith(expected)}
    assert all(any(key.startswith(start) for key in trained) for start in expected)


@pytest.mark.parametrize("name", MODELS)
def test_of_alternate_layers_every_other_block_is_frozen_beginning_with_the_first(name):
    trained, parameters = trained_parts(name, "alternate-layers")
    frozen = tuple(blocks_of(name)[::2])
    assert trained == {key for key in parameters if not key.startswith(frozen)}
    assert len(trained) < len(parameters)


@pytest.mark.parametrize("name", MODELS)
def test_vectors_are_biases_and_norm_weights_and_in_a_llama_norm_weights_alone(name):
    trained, parameters = trained_parts(name, "vectors")
    assert trained == {key for key, value in parameters.items() if value.ndim == 1}
    assert trained
    if name in ("llama", "tied"):
        assert all("norm" in key for key in trained)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("part", ["last-layers", "alternate-layers", "vectors"])
def test_what_is_not_trained_keeps_its_bits_and_what_is_trained_moves(name, part):
    model = built(name)
    before = copy.deepcopy(dict(model.named_parameters()))
    chosen, _ = trained_parts(name, part)
    training = Training(**SHORT, trained=part, weight_decay=0.3, ema=0.5)
    result, record = train(model, objective_of(name), training, seed=1)
    after = dict(result.named_parameters())
    moved = {key for key in after if not torch.equal(before[key], after[key])}
    assert moved <= chosen
    # The bias of a key changes no attention weight, and a mask token is not used.
    assert chosen - moved <= {key for key in chosen if key.endswith(("k_proj.bias", "mask_token"))}
    assert record["trained"] == part
    assert all(value.requires_grad for value in after.values())


def test_a_model_without_numbered_blocks_has_no_last_layers():
    with pytest.raises(MothrError, match="'last-layers' needs numbered blocks"):
        restrict(nn.Linear(2, 2), "last-layers")


# Penalty


def test_the_penalty_is_half_the_coefficient_times_the_squared_distance():
    weights = [nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.ones(2, 2))]
    penalty = StartPenalty(weights, 0.5)
    assert penalty().item() == 0
    with torch.no_grad():
        weights[0] += torch.tensor([3.0, 0.0])
        weights[1] -= 1
    value = penalty()
    assert value.item() == pytest.approx(0.25 * (9 + 4))
    value.backward()
    assert torch.equal(weights[0].grad, torch.tensor([1.5, 0.0]))


def test_with_l2_sp_a_training_ends_nearer_to_its_start():
    distances = []
    for coefficient in (None, 30.0):
        model = built("vit")
        start = copy.deepcopy(model.state_dict())
        training = Training(steps=30, batch_size=8, learning_rate=3e-3, optimizer="sgd", l2_sp=coefficient)
        model, record = train(model, objective_of("vit"), training, seed=1)
        distances.append(sum(float((value - start[key]).square().sum()) for key, value in model.state_dict().items()))
        assert record.get("l2_sp") == coefficient
    assert 0 < distances[1] < 0.8 * distances[0]


# Averages


def trajectory(name, **fields):
    """Returns the parameters of a model and its heads before a training and after each step, and its result."""
    model, objective = built(name), objective_of(name)
    parameters = [*model.parameters(), *objective.parameters()]
    states = [[value.detach().clone() for value in parameters]]
    training = Training(batch_size=4, learning_rate=1e-2, **fields)

    def keep(step):
        states.append([value.detach().clone() for value in parameters])

    train(model, objective, training, seed=1, on_step=keep)
    return states, [value.detach() for value in parameters]


@pytest.mark.parametrize(("decay", "decays"), [(0.9, (2 / 11, 3 / 12, 4 / 13)), (0.2, (2 / 11, 0.2, 0.2))])
def test_what_is_stored_is_the_exponential_moving_average_of_weights_and_heads(decay, decays):
    states, last = trajectory("vit", steps=3)
    assert all(torch.equal(one, other) for one, other in zip(states[-1], last, strict=True))
    expected = states[0]
    for state, share in zip(states[1:], decays, strict=True):
        expected = [share * old + (1 - share) * new for old, new in zip(expected, state, strict=True)]
    _, averaged = trajectory("vit", steps=3, ema=decay)
    assert all(torch.allclose(one, other, atol=1e-7) for one, other in zip(expected, averaged, strict=True))
    assert any(not torch.equal(other, end) for other, end in zip(averaged, last, strict=True))


@pytest.mark.parametrize(("fraction", "steps"), [(0.5, 2), (0.6, 2), (1.0, 4), (0.01, 1)])
def test_what_is_stored_is_the_mean_over_the_last_steps(fraction, steps):
    states, _ = trajectory("llama", steps=4)
    _, averaged = trajectory("llama", steps=4, tail_average=fraction)
    for place, value in enumerate(averaged):
        expected = torch.stack([state[place] for state in states[-steps:]]).mean(0)
        assert torch.allclose(value, expected, atol=1e-7)


def test_an_average_of_constant_weights_has_the_same_bits():
    weights = [nn.Parameter(torch.randn(50, generator=torch_generator(1)))]
    before = weights[0].detach().clone()
    for fields in ({"ema": 0.7}, {"tail_average": 0.5}):
        average = Average(weights, Training(**{**SHORT, "steps": 20}, **fields))
        for step in range(1, 21):
            average.update(step)
        average.apply()
        assert torch.equal(weights[0].detach(), before)


def test_the_average_of_a_low_rank_update_has_its_rank():
    model = built("vit")
    before = copy.deepcopy(model.state_dict())
    lora = Lora(ranks=(2,), targets=("v_proj",))
    model, _ = train(model, objective_of("vit"), Training(**SHORT, ema=0.9), seed=1, lora=lora, rank=2)
    for key, value in model.state_dict().items():
        values = torch.linalg.svdvals((value - before[key]).double()) if key.endswith("v_proj.weight") else None
        assert torch.equal(value, before[key]) if values is None else values[1] > 1e-7 > values[2]


# Low-rank updates


def filled(adapted):
    """Gives the matrices B, and the row lengths of DoRA, drawn values; returns all values of an update by layer."""
    layers = {}
    generator = torch_generator("filled")
    with torch.no_grad():
        for name, value in adapted.named_parameters():
            if "lora_B" in name or "magnitude" in name:
                value.copy_(0.1 * torch.randn(value.shape, generator=generator) + ("magnitude" in name))
            if "lora_" in name:
                layer, kind = name.removeprefix("base_model.model.").split(".lora_")
                layers.setdefault(layer, {})[kind.split(".")[0]] = value.detach().clone()
    return layers


@pytest.mark.parametrize("name", ["vit", "llama", "sd"])
@pytest.mark.parametrize("dora", [None, True])
@pytest.mark.parametrize(("rslora", "factor"), [(None, 3.0), (True, 6.0)])
def test_a_merged_update_is_the_product_times_its_factor_and_dora_sets_the_length_of_rows(name, dora, rslora, factor):
    model = built(name)
    before = copy.deepcopy(model.state_dict())
    target = "to_q" if name == "sd" else "v_proj"
    lora = Lora(ranks=(4,), targets=(target,), alpha_over_rank=3.0, dora=dora, rslora=rslora)
    assert lora.factor(4) == factor
    adapted = with_lora(model, lora, 4, seed=1)
    layers = filled(adapted)
    after = merged(adapted).state_dict()
    assert after.keys() == before.keys()
    assert layers
    for key, value in after.items():
        update = layers.get(key.removesuffix(".weight"))
        if update is None:
            assert torch.equal(value, before[key])
            continue
        expected = before[key] + factor * update["B"] @ update["A"]
        if dora:
            expected = expected * (update["magnitude_vector"] / expected.norm(dim=1))[:, None]
        assert torch.allclose(value, expected, atol=1e-5)


@pytest.mark.parametrize("options", [{"dora": True}, {"rslora": True}, {"dora": True, "rslora": True}])
def test_a_fresh_update_changes_no_bit_and_is_the_same_whatever_the_global_generator_holds(options):
    lora = Lora(ranks=(4,), targets=("q_proj", "v_proj"), **options)
    drawn = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        adapted = with_lora(built("vit"), lora, 4, seed=7)
        drawn.append({name: value.detach().clone() for name, value in adapted.named_parameters()})
        after = merged(adapted).state_dict()
        assert all(torch.equal(after[key], value) for key, value in built("vit").state_dict().items())
    assert all(torch.equal(value, drawn[1][name]) for name, value in drawn[0].items())


@pytest.mark.parametrize("options", [{"dora": True}, {"rslora": True}, {"dora": False}, {}])
def test_the_record_names_the_options_of_an_update_that_are_set(options):
    lora = Lora(ranks=(4,), targets=("v_proj",), **options)
    model = built("vit")
    before = copy.deepcopy(model.state_dict())
    model, record = train(model, objective_of("vit"), Training(**SHORT), seed=1, lora=lora, rank=4)
    assert {key: record[key] for key in ("dora", "rslora") if key in record} == options
    assert (record["rank"], record["alpha"]) == (4, 8)
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == {key for key in before if key.endswith("v_proj.weight")}
