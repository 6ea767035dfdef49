"""The commands of the studies; an entry point adds them to ``mothr``."""

from mothr.baselines.cli.ablation import ablate
from mothr.baselines.cli.claims import claims
from mothr.baselines.cli.directions import fit_direction, pairs
from mothr.baselines.cli.forests import fit_linea, validate
from mothr.baselines.cli.regimes import map
from mothr.baselines.cli.roots import by_root
from mothr.baselines.cli.scale import scale
from mothr.benchmark.cli.command import Command

commands = (
    Command("Studies", ablate),
    Command("Studies", map),
    Command("Studies", claims),
    Command("Studies", by_root),
    Command("Studies", scale),
    Command("Studies", fit_direction),
    Command("Studies", fit_linea),
    Command("Studies", validate),
    Command("Board", pairs),
)
"""The commands, in the order of ``mothr --help``."""
