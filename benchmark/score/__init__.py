"""Metrics of a prediction against the truth, and the statistics of scores."""
