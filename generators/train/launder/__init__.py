"""Laundered copies: models that hide where their weights come from."""

from mothr.generators.train.launder.dispatch import Laundered, launder
from mothr.generators.train.launder.mixing import freeze

__all__ = ["Laundered", "freeze", "launder"]
