"""Two sections of the card: what varies in a data set, and how its models differ, beside real families."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mothr.benchmark.data.dataset import Truth
from mothr.benchmark.data.update_figure import updates_svg
from mothr.benchmark.data.update_summary import (
    GLOSSARY,
    LEVELS,
    STATISTICS,
    Quantiles,
    UpdateSummary,
    number,
    open_summaries,
    summarise,
)
from mothr.benchmark.data.updates import PAIRS, RANKED, measure
from mothr.benchmark.data.variety import variety
from mothr.benchmark.weights.model_set import ModelSet

REFERENCE = Path(__file__).with_name("real_updates.json")
"""Quantiles of real families, as ``mothr describe --out`` wrote them, and the package that each is in.

Families whose edges are copies, all of them or most, are left out: the updates of copies are zero.
"""
FIGURE = "updates.svg"
"""Name of the figure in the folder of the data set."""


@dataclass(frozen=True, slots=True)
class Description:
    """What the card says about the models of a data set, as they are."""

    sections: Mapping[str, Sequence[str]]
    """Heading -> lines of Markdown."""
    svg: str
    """The figure, which one section shows as :data:`FIGURE`."""


def describe_models(models: ModelSet, truth: Truth) -> Description:
    """Returns what varies in a data set, and the distributions of its updates beside those of real families."""
    own = summarise(measure(models, truth), truth, truth.split, truth.version)
    real = real_families()
    sections = {"What varies": _varies(models, truth), "How the models differ": _differences(own, real)}
    return Description(sections, updates_svg([own, *real], f"How the models of {own.name} v{own.version} differ"))


def _varies(models: ModelSet, truth: Truth) -> list[str]:
    rows = [f"| {row.name} | {row.n:,} {row.of} | {_escaped(row.text)} |" for row in variety(truth, models)]
    note = "The number in brackets says how many trees, models or edges have the value before it."
    return ["| what | of | values |", "|---|---|---|", *rows, "", note]


def real_families() -> tuple[UpdateSummary, ...]:
    """Returns the distributions of the real families that this package was published with."""
    return open_summaries(REFERENCE) if REFERENCE.is_file() else ()


def _differences(own: UpdateSummary, real: Sequence[UpdateSummary]) -> list[str]:
    heads = ["statistic", "n", *(f"{level} %" for level in LEVELS)] + ["real families: medians (5 % to 95 %)"] * bool(
        real
    )
    table = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    for name, statistic in STATISTICS.items():
        found = own.statistics.get(name, Quantiles(n=0))
        cells = [number(value) for value in found.values] or ["none", *[""] * (len(LEVELS) - 1)]
        unit = "" if statistic.unit.startswith("share") else f": {statistic.unit}"
        cells = [_escaped(f"{statistic.title}{unit}"), f"{found.n:,}", *cells]
        table.append(f"| {' | '.join(cells + [_real(name, real)] * bool(real))} |")
    beside = f" Below it are {len(real)} real families, in grey." if real else ""
    pairs = f"In each tree at most {PAIRS:,} pairs of siblings, and of nephew and uncle, are compared; merged models are left out there."
    return [
        f"![Distributions of the updates]({FIGURE})",
        "",
        f"The first row of each panel is this data set.{beside} {GLOSSARY} The effective rank is exp(entropy) of the squared singular "
        f"values of c − p; it is the mean over at most {RANKED} matrices that the edge touched. {pairs}",
        "",
        *table,
    ]


def _real(name: str, real: Sequence[UpdateSummary]) -> str:
    """Returns the medians of the real families, the lowest quantile at 5 % and the highest at 95 %, and how many families
    have the statistic."""
    found = [family.statistics[name] for family in real if name in family.statistics and family.statistics[name].n]
    if not found:
        return "none"
    low, median, high = ([one.values[LEVELS.index(level)] for one in found] for level in (5, 50, 95))
    medians = " to ".join(dict.fromkeys((number(min(median)), number(max(median)))))
    families = f"{len(found)} {'family' if len(found) == 1 else 'families'}"
    return f"{medians} ({number(min(low))} to {number(max(high))}, {families})"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
