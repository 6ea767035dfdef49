"""The commands of the studies; an entry point adds them to ``mothr``."""

from mothr.baselines.cli.ablation import ablate
from mothr.baselines.cli.claims import claims
from mothr.baselines.cli.directions import fit_direction, pairs
from mothr.baselines.cli.regimes import map

commands = (ablate, map, claims, fit_direction, pairs)
"""The commands, in the order of ``mothr --help``."""
