import numpy as np
import pytest
import torch

from mothr.baselines.parts.directions import evidence
from mothr.baselines.parts.statistics import distance_to_init, initialised
from mothr.benchmark.weights.layers import Layers


def test_new_tensors_have_the_distribution_of_transformers_and_torch_and_are_reproducible():
    matrix, kernel = initialised((200, 100)), initialised((64, 8, 3, 3))
    assert float(matrix.std()) == pytest.approx(0.02, rel=0.02)
    bound = 1 / np.sqrt(8 * 9)
    assert float(kernel.abs().max()) == pytest.approx(bound, rel=1e-3)
    assert float(kernel.std()) == pytest.approx(bound / np.sqrt(3), rel=0.03)
    assert initialised((7,)).tolist() == [0] * 7
    torch.manual_seed(3)
    state = torch.get_rng_state()
    torch.testing.assert_close(initialised((200, 100)), matrix, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(initialised((100, 200)).T, matrix)


def test_distance_is_zero_from_the_initialisation_itself_and_a_vector_may_begin_as_ones():
    matrix = initialised((6, 4))
    np.testing.assert_allclose(distance_to_init(torch.stack([matrix, matrix + 0.5]), ()), [0, 6], atol=1e-12)
    vectors = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.9, 1.1], [0.1, 0.0]])
    np.testing.assert_allclose(distance_to_init(vectors, ()), [0, 0, 0.02, 0.01], atol=1e-6)


def test_training_increases_the_distance_and_weight_decay_decreases_it(write_models):
    generator = torch.Generator().manual_seed(0)
    root = {f"{layer}.weight": torch.randn(32, 32, generator=generator) * 0.05 for layer in range(3)}
    child = {name: value + 0.02 * torch.randn(32, 32, generator=generator) for name, value in root.items()}
    decayed = {name: 0.8 * value for name, value in child.items()}
    models = write_models({"root": root, "child": child, "decayed": decayed})
    index = {node: position for position, node in enumerate(models.ids)}
    scores = evidence(models, "distance_to_init", Layers("all"))
    assert scores[index["root"], index["child"]] > 0
    assert scores[index["child"], index["decayed"]] < 0  # its weakness: it takes the smaller for the parent
