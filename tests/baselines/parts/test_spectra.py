import numpy as np
import pytest
import torch

from mothr.baselines.parts.distances import distances
from mothr.baselines.parts.spectra import energy_rank, spectral
from mothr.benchmark.weights.layers import Layers


def with_values(values, rows=12, columns=9, seed=0):
    """Returns a matrix (1, rows, columns) of given singular values."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (
        torch.linalg.qr(torch.randn(side, len(values), generator=generator, dtype=torch.float64)).Q
        for side in (rows, columns)
    )
    return (left * torch.tensor(values, dtype=torch.float64) @ right.T)[None]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3.0], 1),
        ([1.0, 1.0, 1.0, 1.0], 4),
        ([3.1, 1.0], 1),
        ([2.9, 1.0], 2),
        ([5.0, 4.0, 3.0, 0.1], 3),
        ([1.0, 1e-9], 1),
    ],
)
def test_the_rank_counts_what_holds_nine_tenths_of_the_energy(values, expected):
    matrix = with_values(values)
    for scale in (1.0, 1e-150, 1e150):
        assert energy_rank(scale * matrix).item() == expected
        assert spectral(scale * matrix).item() == pytest.approx(scale * max(values), rel=1e-12)
    assert energy_rank(matrix.mT).item() == expected


def test_no_difference_is_of_rank_and_size_zero():
    assert energy_rank(torch.zeros(2, 3, 4, dtype=torch.float64)).tolist() == [0, 0]
    assert spectral(torch.zeros(2, 3, 4, dtype=torch.float64)).tolist() == [0, 0]


def test_distances_equal_plain_loops(write_models):
    generator = torch.Generator().manual_seed(1)
    held = {
        key: {"x": torch.randn(8, 6, generator=generator), "k": torch.randn(4, 3, 3, 3, generator=generator)}
        for key in "abcd"
    }
    models = write_models(held)

    def values(i, j):
        for name in ("k", "x"):
            difference = models.checkpoints[i].read(name).double() - models.checkpoints[j].read(name).double()
            yield np.linalg.svd(difference.reshape(len(difference), -1).numpy(), compute_uv=False)

    def rank(s):
        return int((np.cumsum(s**2) < 0.9 * (s**2).sum()).sum()) + 1

    for i in range(4):
        for j in set(range(4)) - {i}:
            assert distances(models, "energy_rank", Layers("all"))[i, j] == sum(map(rank, values(i, j)))
            assert distances(models, "spectral", Layers("all"))[i, j] == pytest.approx(
                np.mean([s[0] for s in values(i, j)]), rel=1e-9
            )


def test_rounding_does_not_hide_a_low_rank_update(write_models):
    generator = torch.Generator().manual_seed(2)
    parent = torch.randn(48, 48, generator=generator)
    update = torch.randn(48, 3, generator=generator) @ torch.randn(3, 48, generator=generator)
    models = write_models({"parent": {"x": parent.bfloat16()}, "child": {"x": (parent + 0.3 * update).bfloat16()}})
    assert distances(models, "energy_rank", Layers("all")).max() <= 3
