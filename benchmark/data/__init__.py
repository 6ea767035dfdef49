"""Reads, writes and checks data sets: folders of models with a manifest and a truth."""
