"""Recover who was fine-tuned from whom, from weights alone: the public interface."""
