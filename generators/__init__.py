"""Generates forests of small fine-tuned models whose lineage is known."""
