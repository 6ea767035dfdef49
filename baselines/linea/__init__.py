"""Linea, this project's own method."""

from mothr.baselines.linea.method import Linea as Linea
