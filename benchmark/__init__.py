"""The harness: opens weights, runs methods on them, scores what they answer."""

__version__ = "0.2.0"
