"""The Stable Diffusion family: a UNet alone as a model, its training, and the share of the noise that it explains."""

import copy
import json

import pytest
import torch
from pydantic import ValidationError

from mothr.benchmark.errors import MothrError
from mothr.generators.families.stable_diffusion import StableDiffusion
from mothr.generators.train.train import train
from mothr.generators.train.trainable import trained_names
from mothr.generators.values.seeds import torch_generator
from mothr.generators.values.training import Lora, Training

SIZES = {"channels": (8, 16), "layers": 1, "heads": 2, "groups": 4, "text_size": 8, "vae_steps": 3, "text_steps": 2}
FAMILY = StableDiffusion(**SIZES)
CPU = torch.device("cpu")
SHORT = Training(steps=6, batch_size=8, learning_rate=3e-3)


def built(init="xavier-uniform", seed=0):
    return FAMILY.build(init, 0.05, torch_generator(seed))


def objective(folder, *tasks):
    return FAMILY.objective(tasks or ("scene-plain",), torch_generator(0), CPU, folder)


# The model


@pytest.mark.parametrize("init", ["normal", "truncated-normal", "xavier-uniform", "orthogonal", "kaiming-uniform"])
def test_a_fresh_unet_has_drawn_kernels_norms_of_one_and_biases_of_zero(init):
    for name, value in built(init).named_parameters():
        if name.endswith("bias"):
            assert (value == 0).all()
        elif value.ndim == 1:
            assert (value == 1).all()
        else:
            assert 0.02 < value.std() < 0.4, name


def test_a_fresh_unet_depends_on_its_generator_alone():
    torch.manual_seed(1)
    first = built(seed=3)
    torch.manual_seed(2)
    second, other = built(seed=3), built(seed=4)
    weights = [torch.cat([value.flatten() for value in model.parameters()]) for model in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_saved_unet_loads_equal_in_the_layout_of_diffusers(tmp_path):
    model = built()
    FAMILY.save(model, tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]
    assert json.loads((tmp_path / "model" / "config.json").read_text())["_class_name"] == "UNet2DConditionModel"
    loaded = FAMILY.load(tmp_path / "model").state_dict()
    assert loaded.keys() == model.state_dict().keys()
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": (8, 18)}, r"model\.channels 18 is not a multiple of model\.groups 4"),
        ({"heads": 3}, r"model\.channels 8 is not a multiple of model\.heads 3"),
        ({"text_size": 6}, r"model\.text_size 6 is not a multiple of 4"),
        ({"channels": (8,)}, "at least 2"),
        ({"channels": (8, 8, 8, 8, 8)}, "at most 4"),
        ({"hidden_size": 8}, "hidden_size"),
    ],
)
def test_inconsistent_sizes_are_an_error(change, message):
    with pytest.raises(ValidationError, match=message):
        StableDiffusion(**{**SIZES, **change})


def test_an_unknown_domain_is_an_error_with_near_names():
    with pytest.raises(MothrError, match=r"unknown caption domain 'scene-strip'; did you mean .*scene-striped"):
        FAMILY.check_tasks(["scene-plain", "scene-strip"])


@pytest.mark.parametrize(
    ("ranks", "target", "message"),
    [
        (
            (4,),
            "conv1",
            "'conv1' is not a linear layer of this family; choose from to_q, to_k, to_v, to_out.0",
        ),
        ((4, 9), "to_q", "rank 9 is above 8, the largest rank of to_q"),
    ],
)
def test_an_update_with_a_wrong_target_or_rank_is_an_error(ranks, target, message):
    with pytest.raises(ValueError, match=message):
        FAMILY.check_lora(ranks, (target,))


# What a UNet is trained and tested on


def test_missing_companions_are_an_error(tmp_path):
    with pytest.raises(MothrError, match=r"vae: missing.*generate the data set again"):
        objective(tmp_path)
    with pytest.raises(MothrError, match="needs its tree's companions"):
        objective(None)


def test_companions_of_another_configuration_are_an_error(folder):
    with pytest.raises(MothrError, match="text of width 8; this UNet needs 4 and 12"):
        StableDiffusion(**{**SIZES, "text_size": 12}).objective(("scene-plain",), torch_generator(0), CPU, folder)


class Answer(torch.nn.Module):
    """Predicts no noise, and keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = []

    def forward(self, noised, times, encoder_hidden_states):
        self.seen.append((noised, times, encoder_hidden_states))
        self.sample = torch.zeros_like(noised)
        return self


def test_predicting_zero_explains_nothing_and_the_test_is_deterministic(folder):
    result, model = objective(folder, "scene-plain", "scene-few"), Answer()
    assert result.evaluate(model) == 0 == result.chance
    result.evaluate(model)
    half = len(model.seen) // 2
    for first, second in zip(model.seen[:half], model.seen[half:], strict=True):
        assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))
    assert sum(len(times) for _, times, _ in model.seen[:half]) == result.tested_on == 2 * 2 * 16


def test_a_tenth_of_the_captions_is_dropped(folder):
    result, model = objective(folder), Answer()
    assert result.loss(model, 4000, torch_generator(1)) == pytest.approx(1, abs=0.01)  # the variance of the noise
    texts = model.seen[0][2]
    left_out = (texts == result._texts[0]).all(-1).all(-1)
    assert 0.08 < left_out.float().mean() < 0.12


def test_wrong_captions_are_those_of_other_pictures(folder):
    result = objective(folder, "scene-plain", "scene-few")
    noisy, again, other = (result.with_label_noise(0.5, torch_generator(seed)) for seed in (1, 1, 2))
    (latents, captions_of), (same_latents, wrong) = result._train, noisy._train
    assert torch.equal(latents, same_latents)
    assert torch.equal(captions_of.sort().values, wrong.sort().values)
    assert 0.3 * len(wrong) < int((captions_of != wrong).sum()) <= round(0.5 * len(wrong))
    assert torch.equal(wrong, again._train[1])
    assert not torch.equal(wrong, other._train[1])
    assert noisy.measure(Answer()) == result.measure(Answer())


def test_the_test_loss_is_the_mean_squared_error_of_the_noise(folder):
    result = objective(folder)
    noise = torch.cat([noise for _, _, _, noise in result._probe()])
    assert result.measure(Answer()) == (0, pytest.approx(float(noise.square().mean()), rel=1e-6))
    assert result.test_loss(Answer()) == result.measure(Answer())[1]


def test_only_what_is_chosen_is_trained_and_the_rest_keeps_its_bits(folder):
    for part in ("last-layers", "alternate-layers", "vectors"):
        model = built()
        before = copy.deepcopy(model.state_dict())
        chosen = trained_names({name: value.ndim for name, value in model.named_parameters()}, part)
        training = SHORT.model_copy(update={"steps": 2, "trained": part, "tail_average": 1.0, "l2_sp": 0.1})
        model, _ = train(model, objective(folder), training, 1)
        moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        assert moved <= chosen
        assert len(moved) > 0.9 * len(chosen)


def test_training_explains_more_of_the_noise_and_gives_the_same_bits_again(folder):
    results = []
    for noise, seed in ((1, 7), (2, 7), (3, 8)):
        torch.manual_seed(noise)
        results.append(train(built(), objective(folder), SHORT.model_copy(update={"steps": 20}), seed))
    weights = [torch.cat([value.flatten() for value in model.state_dict().values()]) for model, _ in results]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert results[0][1] == results[1][1]
    record = results[0][1]
    assert record["metric"] == "noise explained"
    assert record["before"] + 0.05 < record["after"] < 1


def test_lora_changes_its_targets_alone_by_an_update_of_its_rank_and_keeps_names(folder):
    model = built()
    before = copy.deepcopy(model.state_dict())
    lora = Lora(ranks=(2,), targets=("to_q", "to_k", "to_v", "to_out.0"))
    model, _ = train(model, objective(folder), SHORT, 1, lora=lora, rank=2)
    after = model.state_dict()
    assert list(after) == list(before)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if name.endswith(tuple(f"{target}.weight" for target in lora.targets))}
    for name in moved:
        values = torch.linalg.svdvals((after[name] - before[name]).double())
        assert values[1] > 1e-7 > values[2]


def test_a_student_approaches_its_teacher(folder):
    result, teacher, student = objective(folder), built(seed=1), built(seed=2)
    loss = result.distillation_loss(teacher, result)
    assert loss(teacher, 8, torch_generator(1)) == 0
    apart = (result.outputs(teacher) - result.outputs(student)).square().mean()
    student, _ = train(student, result, SHORT.model_copy(update={"steps": 20}), 1, loss=loss)
    assert (result.outputs(teacher) - result.outputs(student)).square().mean() < 0.8 * apart
