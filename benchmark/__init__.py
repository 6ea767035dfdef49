"""The benchmark: opens weights, runs methods, scores predictions, and shows the results."""

__version__ = "0.2.0"
