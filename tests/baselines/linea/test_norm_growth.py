import numpy as np
import pytest
import torch

from mothr.baselines.linea.norm_growth import NormGrowth, norm_growth
from mothr.benchmark.weights.layers import Layers

BODY = Layers("body")
NAMES = [f"layers.{layer}.mlp.fc1.weight" for layer in range(3)]
SIDE = 96


def draw(seed, size=1.0):
    generator = torch.Generator().manual_seed(seed)
    return {name: size * torch.randn(SIDE, SIDE, generator=generator) for name in NAMES}


def grown(write_models, one, other):
    models = write_models({"one": one, "other": other})
    pair = [models.ids.index("one"), models.ids.index("other")]
    result = norm_growth(models, np.array([pair, pair[::-1]]), BODY, NormGrowth().max_ratio)
    assert result[0] == -result[1]
    return result[0]


@pytest.mark.parametrize("size", [0.03, 0.3, 1.0])
def test_growth_is_one_for_an_independent_update_even_if_all_weights_are_gaussian(write_models, size):
    root, update = draw(0), draw(1, size)
    child = {name: value + update[name] for name, value in root.items()}
    assert grown(write_models, root, child) == pytest.approx(1.0, abs=0.03 / size)


def test_growth_beyond_an_update_counts_zero(write_models):
    root = draw(0)
    for scale in (0.8, 1.25):
        assert grown(write_models, root, {name: scale * value for name, value in root.items()}) == 0
    assert grown(write_models, root, root | {"layers.0.mlp.fc1.bias": torch.ones(3)}) == 0
