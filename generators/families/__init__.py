"""One file per family of models: how to build, load, save and train its models, and what a card says about
them."""

from mothr.generators.families.dinov2 import Dinov2
from mothr.generators.families.encoders.bert import Bert
from mothr.generators.families.family import Family
from mothr.generators.families.llama import Llama
from mothr.generators.families.stable_diffusion import StableDiffusion
from mothr.generators.families.vit import ViT

__all__ = ["FAMILIES", "Family"]

FAMILIES: dict[str, type[Family]] = {
    "vit": ViT, "dinov2": Dinov2, "llama": Llama, "sd": StableDiffusion, "bert": Bert,
}  # fmt: skip
"""Name of a family in recipes -> its configuration class."""
