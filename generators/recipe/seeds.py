"""Seeds derived by hashing what they are for, so that no draw depends on the order in which models are made.

Seeds have 63 bits, of which torch uses the lower 32. Whoever has the models of a hidden split could try that many and find what a
root was drawn from. The seeds of hidden splits have 256 bits, those derived from them have as many, and generators use them all.
"""

import hashlib

import numpy as np
import torch

TWISTER = slice(24, 24 + 8 * 624)
"""Where torch has the 624 words of its Mersenne Twister, 32 bits each in eight bytes, in what ``get_state`` gives."""


def derive(*words: str | int) -> int:
    """Returns the seed named by ``words``, e.g. ``derive(recipe.seed, "0/2", "batches")``: of 63 bits, or of 256 if one of them is wide."""
    digest = hashlib.sha256("\x1f".join(map(str, words)).encode()).digest()
    if any(_is_wide(word) for word in words):
        return int.from_bytes(digest, "big") | 1 << 255
    return int.from_bytes(digest[:8], "big") >> 1


def _is_wide(word: str | int) -> bool:
    return isinstance(word, int) and word.bit_length() > 64


def numpy_generator(*words: str | int) -> np.random.Generator:
    """Returns the numpy generator seeded by ``words``."""
    return np.random.default_rng(derive(*words))


def torch_generator(*words: str | int) -> torch.Generator:
    """Returns the CPU torch generator seeded by ``words``."""
    seed = derive(*words)
    if not _is_wide(seed):
        return torch.Generator().manual_seed(seed)
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    drawn = np.frombuffer(hashlib.shake_256(seed.to_bytes(32, "big")).digest(4 * 624), "<u4").astype("<u8")
    state[TWISTER] = torch.from_numpy(drawn.view(np.uint8))
    return generator.set_state(state)
