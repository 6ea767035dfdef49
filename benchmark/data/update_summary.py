"""Quantiles of the updates of a data set, as a file, so that a suite can be shown beside real families."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mothr.benchmark.data.dataset import Truth, open_manifest, open_models, open_truth
from mothr.benchmark.data.updates import Updates, measure
from mothr.benchmark.errors import MothrError
from mothr.benchmark.faults import faults
from mothr.benchmark.storage import read_json, write_json

LEVELS = (0, 5, 25, 50, 75, 95, 100)
"""The quantiles that are shown, in percent: 0 is the smallest value, 50 the median, 100 the largest value."""
DIGITS = 6
"""Significant digits of a stored quantile. The last bits of a sum depend on the processor."""


@dataclass(frozen=True, slots=True)
class Statistic:
    """One statistic of the updates, and how its distribution is drawn."""

    title: str
    """What it is."""
    unit: str
    """Its formula or unit, for the axis."""
    log: bool
    """Whether its axis is logarithmic."""


STATISTICS: Mapping[str, Statistic] = {
    "relative_length": Statistic("length of an update, relative to the parent", "|c − p| / |p|", True),
    "length_over_parents": Statistic("length of an update over its parent's", "|c − p| / |p − a|", True),
    "coefficient": Statistic("coefficient of c − a on the parent's update u", "⟨c − a, u⟩ / |u|²", False),
    "sibling_cosine": Statistic("cosine of two siblings' updates", "cosine", False),
    "uncle_coefficient": Statistic("coefficient of a nephew on its uncle's update", "⟨n − p, c − p⟩ / |c − p|²", False),
    "tensors_touched": Statistic("share of tensors touched", "share of shared tensors", False),
    "effective_rank": Statistic("effective rank of an update", "rank, mean over matrices", True),
    "effective_rank_share": Statistic("effective rank over the largest possible", "share of the possible rank", False),
}
"""The statistics, in the order in which they are shown. The fields of :class:`EdgeUpdate` and :class:`PairUpdate` define them."""
GLOSSARY = (
    "a, p, c are ancestor, parent and child in a line; u = p − a. n is a child of a sibling of c. Lengths are Frobenius norms over all "
    "floating-point tensors that the models share by name and shape."
)
"""The symbols in titles and units."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Quantiles(_Record):
    """The distribution of one statistic."""

    n: Annotated[int, Field(ge=0)]
    """Number of values."""
    values: tuple[float, ...] = ()
    """The quantiles at :data:`LEVELS`; empty if there is no value."""

    @model_validator(mode="after")
    def _check_length(self) -> "Quantiles":
        if len(self.values) != (len(LEVELS) if self.n else 0):
            raise ValueError(
                f"values: {len(self.values)} quantiles of {self.n} values; give {len(LEVELS)}, or 0 for none"
            )
        if list(self.values) != sorted(self.values):
            raise ValueError("values: the quantiles fall; give them from the smallest to the largest")
        return self

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> "Quantiles":
        """Returns the quantiles of ``values``, (n,), interpolated linearly."""
        if not len(values):
            return cls(n=0)
        exact = np.percentile(values, LEVELS)
        return cls(n=len(values), values=tuple(float(f"{value:.{DIGITS}g}") for value in exact))


class UpdateSummary(_Record):
    """The distributions of one data set."""

    name: str
    """Name of the split or of the real family."""
    version: int
    """Version of the split."""
    models: int
    """Number of models."""
    trees: int
    """Number of Model Trees."""
    edges: int
    """Number of true edges."""
    source: str | None = None
    """Where the weights come from, if another party made them."""
    statistics: dict[str, Quantiles]
    """Name in :data:`STATISTICS` -> distribution."""


class UpdateSummaries(_Record):
    """The file that ``mothr describe --out`` writes."""

    schema_version: Literal[1] = 1
    """Version of this format."""
    datasets: tuple[UpdateSummary, ...]
    """The described data set, then those that it was compared with."""


def summarise(updates: Updates, truth: Truth, name: str, version: int, source: str | None = None) -> UpdateSummary:
    """Returns the distributions of measured updates."""
    return UpdateSummary(
        name=name,
        version=version,
        models=len(truth.nodes),
        trees=len(truth.graph.trees),
        edges=len(truth.graph.edges),
        source=source,
        statistics={statistic: Quantiles.of(updates.values(statistic)) for statistic in STATISTICS},
    )


def summarise_dataset(folder: Path, labels: Path | None = None) -> UpdateSummary:
    """Returns the distributions of the data set in ``folder``.

    Args:
        folder: The data set.
        labels: For a hidden split, the folder of its labels.

    Raises:
        MothrError: The data set cannot be opened, or its truth is hidden.
    """
    truth, manifest = open_truth(folder, labels), open_manifest(folder)
    return summarise(measure(open_models(folder), truth), truth, manifest.name, manifest.version)


def open_summaries(path: Path) -> tuple[UpdateSummary, ...]:
    """Returns the distributions of a data set, or those in a file that ``mothr describe --out`` wrote.

    Raises:
        MothrError: The data set cannot be opened, or the file is missing or malformed.
    """
    if path.is_dir():
        return (summarise_dataset(path),)
    if not path.exists():
        raise MothrError(
            f"{path}: no such data set or file; name a data set, or the file that 'mothr describe --out' wrote"
        )
    try:
        return UpdateSummaries.model_validate(read_json(path)).datasets
    except ValidationError as error:
        raise MothrError(f"{path}: {next(faults(error, UpdateSummaries))}") from None


def write_summaries(path: Path, summaries: Sequence[UpdateSummary]) -> None:
    """Writes the distributions as JSON, in the form that :func:`open_summaries` reads."""
    write_json(path, UpdateSummaries(datasets=tuple(summaries)).model_dump(mode="json", exclude_none=True))


def rows(summaries: Sequence[UpdateSummary]) -> Iterator[dict[str, str]]:
    """Yields one row of text for each statistic and data set: title, formula or unit, data set, n and the quantiles."""
    for name, statistic in STATISTICS.items():
        for summary in summaries:
            found = summary.statistics.get(name, Quantiles(n=0))
            cells = [number(value) for value in found.values] or ["none", *["-"] * (len(LEVELS) - 1)]
            quantiles = {f"{level} %": cell for level, cell in zip(LEVELS, cells, strict=True)}
            yield {
                "statistic": statistic.title,
                "formula": statistic.unit,
                "data set": summary.name,
                "n": str(found.n),
                **quantiles,
            }


def number(value: float) -> str:
    """Returns a number with three significant digits: 1,234 or 0.123 or 1.2e-05."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
