"""Estimates the cost of a recipe on this machine, before anything is downloaded or trained."""
