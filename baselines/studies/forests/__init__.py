"""Fits Linea's model of forests on dev splits, and validates it on regimes that the fit left out."""
