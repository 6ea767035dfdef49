"""Optimizers and schedules: steps as their papers define them, decay of matrices alone, rates of heads."""

import math

import pytest
import torch
from torch import nn

from mothr.generators.train.optimizers import Lion, optimizer, schedule
from mothr.generators.values.training import OPTIMIZER_NAMES, Training


def training(**fields):
    return Training(**{"steps": 10, "batch_size": 1, "learning_rate": 0.5, "warmup": 0.0, **fields})


def moved(steps=1, gradient=0.0, **fields):
    """Returns a matrix and a vector of twos after some steps with a constant gradient."""
    weights = [nn.Parameter(torch.full(shape, 2.0)) for shape in ((2, 3), (3,))]
    result, _ = optimizer(weights, [], training(**fields))
    for _ in range(steps):
        for weight in weights:
            weight.grad = torch.full_like(weight, gradient)
        result.step()
    return [float(weight.detach().flatten()[0]) for weight in weights]


def test_lion_steps_along_the_sign_of_the_momentum_as_in_its_paper():
    start, gradients = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([[3.0, -1.0, 0.1], [-4.0, -1.0, 0.1]])
    weight = nn.Parameter(start.clone())
    lion = Lion([weight], lr=0.1, weight_decay=0.2)
    for gradient in gradients:
        weight.grad = gradient.clone()
        lion.step()
    momentum, expected = torch.zeros(3), start
    for gradient in gradients:
        expected = (1 - 0.1 * 0.2) * expected - 0.1 * torch.sign(0.9 * momentum + 0.1 * gradient)
        momentum = 0.99 * momentum + 0.01 * gradient
    assert torch.allclose(weight.detach(), expected)


def test_lion_leaves_parameters_without_a_gradient():
    weight = nn.Parameter(torch.ones(3))
    Lion([weight], lr=0.1, weight_decay=0.2).step()
    assert (weight == 1).all()


@pytest.mark.parametrize("name", OPTIMIZER_NAMES)
def test_every_optimizer_decays_matrices_and_no_vectors(name):
    matrix, vector = moved(optimizer=name, weight_decay=0.1, learning_rate=0.01)
    assert matrix < 2
    assert vector == 2


@pytest.mark.parametrize("name", OPTIMIZER_NAMES)
def test_every_optimizer_steps_against_the_gradient(name):
    assert all(value < 2 for value in moved(optimizer=name, gradient=1.0, weight_decay=0.0, learning_rate=0.01))


def test_decay_is_part_of_the_gradient_in_adam_and_apart_from_it_in_adamw():
    decay = {"gradient": 0.0, "weight_decay": 0.1, "learning_rate": 0.01}
    assert moved(optimizer="adam", **decay)[0] == pytest.approx(2 - 0.01)  # a step of Adam has the length of the rate
    assert moved(optimizer="adamw", **decay)[0] == pytest.approx(2 * (1 - 0.01 * 0.1))


def test_a_step_of_adafactor_is_relative_to_the_size_of_the_weights():
    step = {"optimizer": "adafactor", "gradient": 1.0, "weight_decay": 0.0, "learning_rate": 0.01}
    assert moved(**step)[0] == pytest.approx(2 - 0.01 * 2, rel=1e-3)


def test_schedules_rise_over_the_warm_up_and_then_fall_along_a_cosine_or_a_line_or_stay():
    factors = {
        kind: [schedule(training(warmup=0.2, schedule=kind))(step) for step in range(11)]
        for kind in (None, "linear", "constant")
    }
    assert all(values[:2] == [0.5, 1.0] for values in factors.values())
    assert factors[None][2:] == [0.5 * (1 + math.cos(math.pi * step / 8)) for step in range(9)]
    assert factors["linear"][2:] == pytest.approx([1 - step / 8 for step in range(9)])
    assert factors["constant"][2:] == [1.0] * 9


def test_heads_have_their_own_rate_under_the_same_schedule():
    weights, heads = ([nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2))] for _ in range(2))
    for rate in (None, 0.25):
        result, _ = optimizer(weights, heads, training(head_rate=rate, warmup=0.2))
        rates = {id(value): group["lr"] for group in result.param_groups for value in group["params"]}
        decays = {id(value): group["weight_decay"] for group in result.param_groups for value in group["params"]}
        assert [rates[id(value)] for value in weights] == [0.25, 0.25]  # half of the rate in the first of two steps
        assert [rates[id(value)] for value in heads] == [(rate or 0.5) / 2] * 2
        assert [decays[id(value)] for value in heads] == [0.01, 0.0]
