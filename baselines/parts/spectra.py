"""Singular values of the difference of two models: how many hold its energy, and the largest."""

import torch

ENERGY = 0.9
"""Share of the squared singular values that :func:`energy_rank` asks for."""


def energy_rank(differences: torch.Tensor) -> torch.Tensor:
    """Returns the least number of singular values whose squares sum to ENERGY of the whole, (p,); 0 for a zero matrix.

    A rank that needs no noise floor: rounding adds many singular values and little energy. An update of rank r counts at most r.

    Args:
        differences: (p, rows, columns) float64.
    """
    shares = _energies(differences).cumsum(dim=1)
    return (shares < ENERGY * shares[:, -1:]).sum(dim=1).double() + (shares[:, -1] > 0)


def spectral(differences: torch.Tensor) -> torch.Tensor:
    """Returns the largest singular value, (p,), of (p, rows, columns) float64."""
    return _energies(differences)[:, 0].sqrt()


def _energies(matrices: torch.Tensor) -> torch.Tensor:
    """Returns the squared singular values, (p, smaller side), descending: eigenvalues of A A^T, several times cheaper.

    Squaring loses digits of small values alone, in which there is no energy.
    """
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    scale = wide.abs().amax(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    wide = wide / scale  # tiny differences would underflow when squared
    return torch.linalg.eigvalsh(wide @ wide.mT).flip(1).clamp(min=0) * scale[:, :, 0].square()
