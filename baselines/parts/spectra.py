"""Distances from the singular values s_1 >= s_2 >= ... of the difference of two matrices."""

import torch

ENERGY = 0.9
"""Share of the sum of s_i^2 that defines :func:`energy_rank`."""


def energy_rank(differences: torch.Tensor) -> torch.Tensor:
    """Returns the least r with s_1^2 + ... + s_r^2 >= ENERGY sum_i s_i^2, (p,) float64; 0 for a zero matrix.

    This rank needs no noise floor: rounding adds many singular values and little energy. It is at most the true rank.

    Args:
        differences: (p, rows, columns) float64.
    """
    shares = _energies(differences).cumsum(dim=1)
    return (shares < ENERGY * shares[:, -1:]).sum(dim=1).double() + (shares[:, -1] > 0)


def spectral(differences: torch.Tensor) -> torch.Tensor:
    """Returns the largest singular value s_1, (p,), of (p, rows, columns) float64."""
    return _energies(differences)[:, 0].sqrt()


def _energies(matrices: torch.Tensor) -> torch.Tensor:
    """Returns the squared singular values, (p, smaller side), descending, as the eigenvalues of A A^T.

    This is several times cheaper than singular values. Squaring loses digits of small values only, which hold no energy.
    """
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    scale = wide.abs().amax(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    wide = wide / scale  # the squares of tiny differences would underflow
    return torch.linalg.eigvalsh(wide @ wide.mT).flip(1).clamp(min=0) * scale[:, :, 0].square()
