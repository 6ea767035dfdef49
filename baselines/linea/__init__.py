"""Linea, this project's own method."""
