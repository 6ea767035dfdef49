"""Linea, this project's own method."""

from mothr.baselines.linea.fitted.method import FittedLinea as FittedLinea
from mothr.baselines.linea.method import Linea as Linea
