"""Moves results in and out: exports of graphs, and submissions of methods."""
