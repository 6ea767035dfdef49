"""Seeds derived by hashing what they are for, so that no draw depends on the order in which models are made."""

import hashlib

import numpy as np
import torch


def derive(*words: str | int) -> int:
    """Returns the 63-bit seed named by ``words``, e.g. ``derive(recipe.seed, "0/2", "batches")``."""
    text = "\x1f".join(map(str, words))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(*words: str | int) -> np.random.Generator:
    """Returns the numpy generator seeded by ``words``."""
    return np.random.default_rng(derive(*words))


def torch_generator(*words: str | int) -> torch.Generator:
    """Returns the CPU torch generator seeded by ``words``."""
    return torch.Generator().manual_seed(derive(*words))
