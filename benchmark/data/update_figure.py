"""Draws the distributions of updates as SVG: one panel for each statistic, one row for each data set.

A row shows the quantiles of one data set: a line from 5 % to 95 %, a box from 25 % to 75 %, a tick at the median, and dots at
the smallest and the largest value. All panels have the rows in the same order.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from mothr.benchmark.data.update_summary import LEVELS, STATISTICS, Quantiles, Statistic, UpdateSummary, number
from mothr.benchmark.drawing import FONT, INK, MUTED, PAPER, RULE

FIRST, OTHERS = "#0072B2", "#8C8C8C"
"""Colours of the described data set and of those beside it (Okabe and Ito 2008); the first is also marked by bold text."""
COLUMNS = 2
"""Number of panels side by side."""
PANEL_WIDTH, ROW_HEIGHT, HEAD, FOOT, MARGIN = 300.0, 17.0, 26.0, 40.0, 16.0
"""Width of the axis of a panel, height of a row, and room above the rows, below the rows and around the figure, in pixels."""
CHARACTER = 6.2
"""Width of a character of a label, in pixels."""
LONGEST = 28
"""Largest number of characters of a label."""
COUNT_WIDTH = 40.0
"""Width of the column of n, in pixels."""
TICKS = 6
"""Largest number of ticks of an axis."""


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis: which value lies where."""

    low: float
    """The smallest value on it."""
    high: float
    """The largest value on it."""
    log: bool
    """Whether it is logarithmic."""
    ticks: tuple[float, ...]
    """The values that have a tick."""

    def place(self, value: float) -> float:
        """Returns the place of ``value`` between 0 (left end) and 1 (right end). Values beyond an end lie on that end."""
        if value <= self.low:
            return 0.0
        if value >= self.high:
            return 1.0
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def axis_of(distributions: Sequence[Quantiles], log: bool) -> Axis:
    """Returns the axis for some distributions. It covers all of them between 5 % and 95 %.

    It also covers the smallest and largest values, unless it would then be more than twice as long. A logarithmic axis
    cannot show values of 0 and below; they lie on its left end.
    """
    scaled = [
        [math.log(value) if log else value for value in distribution.values if value > 0 or not log]
        for distribution in distributions
        if distribution.n
    ]
    middle = [value for values in scaled for value in (values[1:-1] if len(values) == len(LEVELS) else values)]
    low, high = min(middle, default=0.0), max(middle, default=0.0 if log else 1.0)
    smallest, largest = min((v[0] for v in scaled if v), default=low), max((v[-1] for v in scaled if v), default=high)
    if largest - smallest <= 2 * (high - low):
        low, high = smallest, largest
    return _log_axis(math.exp(low), math.exp(high)) if log else _linear_axis(low, high)


def _log_axis(low: float, high: float) -> Axis:
    """Returns an axis that begins and ends at 1, 2 or 5 times a power of ten."""
    steps = [digit * 10.0**power for power in range(-30, 31) for digit in (1, 2, 5)]
    first = max((step for step in steps if step <= low * (1 + 1e-9)), default=steps[0])
    last = min((step for step in steps if step >= high * (1 - 1e-9) and step > first), default=steps[-1])
    inside = [step for step in steps if first <= step <= last]
    if len(inside) > TICKS:  # too many: powers of ten only
        inside = [10.0**power for power in range(-30, 31) if first <= 10.0**power * (1 + 1e-9) <= last * (1 + 2e-9)]
    while len(inside) > TICKS:
        inside = inside[::2]
    return Axis(first, last, True, tuple(inside))


def _linear_axis(low: float, high: float) -> Axis:
    """Returns an axis that begins and ends at a multiple of its step, which is 1, 2 or 5 times a power of ten."""
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / (TICKS - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(round(index * step, 12) for index in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], False, ticks)


def updates_svg(summaries: Sequence[UpdateSummary], title: str) -> str:
    """Returns the figure. The first data set is shown in colour, the others below it in grey."""
    labels = [_shortened(summary.name) for summary in summaries]
    gutter = 18 + CHARACTER * max(map(len, labels))
    panel_width = gutter + PANEL_WIDTH + COUNT_WIDTH
    panel_height = HEAD + ROW_HEIGHT * len(summaries) + FOOT
    top = 74.0
    lines: list[str] = []
    for index, (name, statistic) in enumerate(STATISTICS.items()):
        x = MARGIN + index % COLUMNS * (panel_width + MARGIN)
        y = top + index // COLUMNS * panel_height
        distributions = [summary.statistics.get(name, Quantiles(n=0)) for summary in summaries]
        drawn = _panel(statistic, distributions, labels, gutter)
        lines += [f'<g class="panel" transform="translate({_round(x)} {_round(y)})">', *drawn, "</g>"]
    width = 2 * MARGIN + COLUMNS * panel_width + (COLUMNS - 1) * MARGIN
    height = top + -(-len(STATISTICS) // COLUMNS) * panel_height + 4
    size = f'width="{_round(width)}" height="{_round(height)}" viewBox="0 0 {_round(width)} {_round(height)}"'
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label={quoteattr(title)} font-family="{FONT}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_round(width)}" height="{_round(height)}" fill="{PAPER}"/>',
        _text(MARGIN, 28, title, f'font-size="16" font-weight="600" fill="{INK}"'),
        *_legend(MARGIN, 50),
        *lines,
        "</svg>",
        "",
    ])  # fmt: skip


def _panel(statistic: Statistic, distributions: Sequence[Quantiles], labels: Sequence[str], gutter: float) -> list[str]:
    """Returns the elements of one panel. Its upper left corner is at (0, 0)."""
    axis = axis_of(distributions, statistic.log)
    bottom = HEAD + ROW_HEIGHT * len(distributions)
    heading = statistic.title[0].upper() + statistic.title[1:]
    lines = [
        _text(gutter, 14, heading, f'font-size="12" font-weight="600" fill="{INK}"'),
        _text(gutter + PANEL_WIDTH + COUNT_WIDTH, 14, "n", f'font-size="10" fill="{MUTED}" text-anchor="end"'),
    ]
    for tick in axis.ticks:
        x = gutter + PANEL_WIDTH * axis.place(tick)
        lines.append(_line(x, HEAD - 4, x, bottom, f'stroke="{RULE}"'))
        lines.append(_text(x, bottom + 13, number(tick), f'font-size="10" fill="{MUTED}" text-anchor="middle"'))
    scale = ", log scale" if statistic.log else ""
    unit = f"{statistic.unit}{scale}"
    lines.append(
        _text(gutter + PANEL_WIDTH / 2, bottom + 28, unit, f'font-size="11" fill="{INK}" text-anchor="middle"')
    )
    for index, (distribution, label) in enumerate(zip(distributions, labels, strict=True)):
        y = HEAD + ROW_HEIGHT * (index + 0.5)
        weight, fill = ('font-weight="600"', INK) if index == 0 else ("", MUTED)
        lines.append(_text(gutter - 12, y + 3.5, label, f'font-size="11" {weight} fill="{fill}" text-anchor="end"'))
        count = f"{distribution.n:,}" if distribution.n else "none"
        end = gutter + PANEL_WIDTH + COUNT_WIDTH
        lines.append(_text(end, y + 3.5, count, f'font-size="10" fill="{MUTED}" text-anchor="end"'))
        if distribution.n:
            lines += _row(distribution, axis, (gutter, y), FIRST if index == 0 else OTHERS)
    return lines


def _row(
    distribution: Quantiles, axis: Axis, start: tuple[float, float], colour: str, width: float = PANEL_WIDTH
) -> list[str]:
    """Returns the marks of one distribution, with its quantiles as a tooltip.

    Args:
        distribution: Its quantiles.
        axis: The axis.
        start: Where the axis begins, and the height of the row, in pixels.
        colour: The colour of line, box and dots.
        width: The length of the axis in pixels.
    """
    left, y = start
    smallest, low, lower, median, upper, high, largest = (
        left + width * axis.place(value) for value in distribution.values
    )
    quantiles = ", ".join(f"{level} %: {number(v)}" for level, v in zip(LEVELS, distribution.values, strict=True))
    beyond = (distribution.values[0] < axis.low, distribution.values[-1] > axis.high)
    return [
        '<g class="row">',
        f"<title>{escape(f'n = {distribution.n:,}; {quantiles}')}</title>",
        _line(low, y, high, y, f'stroke="{colour}" stroke-width="1.5"'),
        f'<rect x="{_round(lower)}" y="{_round(y - 4.5)}" width="{_round(max(upper - lower, 1))}" height="9" fill="{colour}" '
        'fill-opacity="0.55"/>',
        _end(smallest, y, -1 if beyond[0] else 0, colour),
        _end(largest, y, 1 if beyond[1] else 0, colour),
        _line(median, y - 6, median, y + 6, f'stroke="{INK}" stroke-width="2"'),
        "</g>",
    ]


def _end(x: float, y: float, beyond: int, colour: str) -> str:
    """Returns the mark of the smallest or largest value: a dot, or an arrow head if the value lies beyond the axis."""
    if not beyond:
        return f'<circle cx="{_round(x)}" cy="{_round(y)}" r="2" fill="{colour}"/>'
    tip = x + 6 * beyond
    return f'<path d="M{_round(tip)} {_round(y)}L{_round(x)} {_round(y - 3.5)}V{_round(y + 3.5)}Z" fill="{colour}"/>'


def _legend(x: float, y: float) -> list[str]:
    """Returns a sample row and what its marks mean."""
    sample = Quantiles(n=1, values=(0.02, 0.14, 0.34, 0.5, 0.7, 0.9, 1.0))
    marks = _row(sample, Axis(0.0, 1.0, False, ()), (x, y), FIRST, 90.0)[2:-1]  # a sample needs no tooltip
    dots = "dots: smallest and largest value (arrow: beyond the axis, or 0 on a log scale)"
    text = f"{dots}; line: 5 % to 95 %; box: 25 % to 75 %; tick: median"
    return [*marks, _text(x + 102, y + 4, text, f'font-size="11" fill="{MUTED}"')]


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{_round(x)}" y="{_round(y)}" {style}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line x1="{_round(x1)}" y1="{_round(y1)}" x2="{_round(x2)}" y2="{_round(y2)}" {style}/>'


def _round(value: float) -> str:
    """Returns a length with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")
