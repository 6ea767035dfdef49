"""The smallest Stable Diffusion family, and the frozen parts of one of its trees."""

import pytest
import torch

from mothr.generators.families.stable_diffusion import StableDiffusion

SIZES = {"channels": (8, 16), "layers": 1, "heads": 2, "groups": 4, "text_size": 8, "vae_steps": 3, "text_steps": 2}


@pytest.fixture(scope="session")
def small_sd():
    """A family of Stable Diffusion models whose parts are trained for few steps."""
    return StableDiffusion(**SIZES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, small_sd, few_captions):
    """The companions of one root."""
    place = tmp_path_factory.mktemp("companions")
    small_sd.companions(1, place, torch.device("cpu"), lambda step: None)
    return place
