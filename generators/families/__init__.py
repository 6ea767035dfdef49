"""One file a family of models: how to build, load, save and train one."""

from mothr.generators.families.vit import ViT

FAMILIES = {"vit": ViT}
