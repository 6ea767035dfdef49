"""Readers of weight files in foreign formats. Each returns named tensors, and runs no code from a file."""
