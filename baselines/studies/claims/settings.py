"""What the claims are tested with."""

from dataclasses import dataclass

from mothr.baselines.parts.directions import find_direction
from mothr.baselines.parts.distances import check_symmetric
from mothr.benchmark.errors import MothrError
from mothr.benchmark.records.record import Setting


@dataclass(frozen=True, slots=True)
class ClaimSettings:
    """What all claims are tested with.

    Raises:
        MothrError: An unknown name, an asymmetric distance, no direction score, or fewer than one seed.
    """

    layers: str = "body"
    """Tensors for distances and direction scores; see :class:`mothr.benchmark.weights.layers.Layers`."""
    distance: str = "rms"
    """Symmetric distance between two models, a name of ``mothr list distances``."""
    directions: tuple[str, ...] = ("kurtosis", "abs_kurtosis", "norm", "residual_independence")
    """Direction scores that get a curve of their own. A comparison of scores includes all scores."""
    setting: Setting = "known-trees"
    """What the methods are given beside the weights."""
    seeds: int = 3
    """Number of runs of the direction score ``random``, and of random subsets of models at each share."""
    lambdas: tuple[float, ...] = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0)
    """Weights of the direction score against the distance (MoTHer's lambda) in the curve of claim "curves"."""
    kept_shares: tuple[float, ...] = (1.0, 0.75, 0.5, 0.25, 0.1)
    """Shares of the models that are kept when models are missing."""
    max_triples: int = 200
    """Largest number of triples of one kind that are drawn from one tree."""
    relatedness_threshold: float = 0.1
    """Cosine of two models' weights above which clustering by cosine joins them, as in Linea."""

    def __post_init__(self) -> None:
        check_symmetric(self.distance, self.layers)
        for name in self.directions:
            find_direction(name)
        if self.seeds < 1 or not self.directions:
            raise MothrError(
                f"seeds is {self.seeds} and there are {len(self.directions)} direction scores; give at least one of each"
            )
