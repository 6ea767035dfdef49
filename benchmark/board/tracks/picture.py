"""The picture of all tracks in one setting, as SVG: a panel for each track, a line for each method, a dot with two intervals."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from mothr.benchmark.board.tracks.selection import Shown
from mothr.benchmark.board.tracks.standings import Standing, TrackBoard
from mothr.benchmark.drawing import FONT

STYLE = Path(__file__).parent.parent / "static" / "tracks.css"
"""Its style, which the pages have as well."""
COLOURS = {"paper": "#ffffff", "rule": "#d9dfe5", "ink": "#1f2328", "soft": "#59636e", "accent": "#0072b2"}
"""Colours of a picture that stands alone, on light ground; those of the pages."""
DARK_COLOURS = {"paper": "#12161b", "rule": "#313a44", "ink": "#e6eaee", "soft": "#9ba6b2", "accent": "#56b4e9"}
"""The same on dark ground."""
NAME_WIDTH, PANEL_WIDTH, RANK_WIDTH, GAP = 190.0, 104.0, 20.0, 24.0
"""Widths in pixels: names of methods, the range from 0 to 1, ranks, and the space between two panels."""
HEAD, LINE, AXIS, LEGEND = 68.0, 28.0, 40.0, 34.0
"""Heights in pixels: heads of panels, a method, the axis, the legend."""
NAME_LETTERS, NOTE_LETTERS = 21, 32
"""Letters of a method's name, and of the note below it, that fit into the width of names."""
LEGEND_WIDTH = 1080.0
"""Width of the legend in pixels, which is the least width of the picture."""
EDGE = 8.0
"""Space at the left and the right edge in pixels, so that marks at 1 are whole."""


@dataclass(frozen=True, slots=True)
class Panel:
    """Where one track is drawn."""

    board: TrackBoard
    """The track."""
    left: float
    """Horizontal position of the score 0 in pixels."""

    def x(self, score: float) -> float:
        """Returns the horizontal position of a score."""
        return self.left + PANEL_WIDTH * score


def svg(boards: Sequence[TrackBoard], shown: Sequence[Shown], *, alone: bool = False) -> str:
    """Returns the picture.

    Args:
        boards: every track in one setting.
        shown: the methods, from the top.
        alone: whether the picture stands in a file of its own, and so needs its style and its ground.
    """
    step = PANEL_WIDTH + RANK_WIDTH + GAP
    panels = [Panel(board, EDGE + NAME_WIDTH + number * step) for number, board in enumerate(boards)]
    width = max(EDGE + NAME_WIDTH + len(boards) * step - GAP + EDGE, LEGEND_WIDTH)
    bottom = HEAD + LINE * len(shown)
    height = bottom + AXIS + LEGEND
    setting = boards[0].setting if boards else ""
    title = f"Edge F1 of {len(shown)} methods on {len(boards)} tracks, setting {setting}"
    body = [
        _text(EDGE + NAME_WIDTH - 14, 20, f"setting {setting}", "note"),
        *_names(shown),
        *(line for panel in panels for line in _panel(panel, shown, bottom)),
        *_legend(EDGE, bottom + AXIS + 18),
    ]
    ground = (
        [f"<style>{_style()}</style>", f'<rect class="ground" width="{width:g}" height="{height:g}"/>'] if alone else []
    )
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" class="tracks-picture" {size} role="img" aria-label="{escape(title)}">'
    return "\n".join([head, *ground, *body, "</svg>"]) + "\n"


def _style() -> str:
    """Returns the style of a picture that stands alone."""
    light, dark = ("".join(f"--{name}:{value};" for name, value in each.items()) for each in (COLOURS, DARK_COLOURS))
    own = STYLE.read_text(encoding="utf-8")
    return f"svg{{{light}font-family:{FONT}}}@media (prefers-color-scheme:dark){{svg{{{dark}}}}}.ground{{fill:var(--paper)}}{own}"


def _text(x: float, y: float, words: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _middle(number: int) -> float:
    """Returns the vertical position of a method."""
    return HEAD + LINE * (number + 0.5)


def _names(shown: Sequence[Shown]) -> Iterator[str]:
    for number, method in enumerate(shown):
        yield _text(
            EDGE + NAME_WIDTH - 14,
            _middle(number) + (-2 if method.note else 4),
            _short(method.name, NAME_LETTERS),
            "name",
        )
        if method.note:
            yield _text(EDGE + NAME_WIDTH - 14, _middle(number) + 11, _short(method.note, NOTE_LETTERS), "note")


def _short(words: str, letters: int) -> str:
    """Returns the words, cut after so many letters."""
    return words if len(words) <= letters else f"{words[: letters - 1]}…"


def _panel(panel: Panel, shown: Sequence[Shown], bottom: float) -> Iterator[str]:
    """Yields the elements of one track."""
    board, right = panel.board, panel.x(1)
    yield f'<g class="panel-{escape(board.track.name)}">'
    yield _text(panel.left, 20, board.track.title, "head")
    count = f"{len(board.splits)} split{'s' * (len(board.splits) != 1)}, {board.trees} tree{'s' * (board.trees != 1)}"
    yield _text(panel.left, 37, count if board.splits else "no splits yet", "count")
    notes = [f"{len(board.solved)} solved"] if board.solved else []
    notes += ["none separated"] if board.splits and not board.separates else []
    if notes:
        yield _text(panel.left, 52, ", ".join(notes), "count")
    for tick in (0, 0.5, 1):
        yield _line(panel.x(tick), HEAD, panel.x(tick), bottom, "grid")
        yield _text(panel.x(tick), bottom + 16, f"{tick:g}", "tick")
    yield _text(panel.x(0.5), bottom + 31, "edge F1", "tick")
    if board.best_null and board.best_null.score:
        null = panel.x(board.best_null.score.mean)
        yield _line(null, HEAD, null, bottom, "null")
    standings = {row.label: row for row in board.standings}
    for number, method in enumerate(shown):
        row = standings.get(method.label)
        yield _line(panel.left, _middle(number), right, _middle(number), "grid faint")
        if row and row.score:
            first = " first" if row.rank == 1 and board.separates else ""
            yield from _mark(panel, row, _middle(number), first)
            if row.rank is not None:
                yield _text(right + RANK_WIDTH - 2, _middle(number) + 4, str(row.rank), f"rank{first}")
    yield "</g>"


def _mark(panel: Panel, row: Standing, y: float, first: str) -> Iterator[str]:
    """Yields the dot of one method on one track, with its intervals and its words."""
    assert row.score
    score = row.score
    yield f'<g class="mark{first}"><title>{escape(words_of(row))}</title>'
    if score.splits.low is not None and score.splits.high is not None:
        yield _line(panel.x(score.splits.low), y, panel.x(score.splits.high), y, "splits")
    if score.trees.low is not None and score.trees.high is not None:
        yield _line(panel.x(score.trees.low), y, panel.x(score.trees.high), y, "trees")
    yield f'<circle cx="{panel.x(score.mean):.1f}" cy="{y:.1f}" r="3.5"/></g>'


def words_of(row: Standing) -> str:
    """Returns the score of a standing in words, with its intervals and numbers."""
    if row.score is None:
        return f"{row.label}: {row.unranked}"
    parts = [f"{row.label}: {row.score.mean:.3f}"]
    for name, interval in (("trees", row.score.trees), ("splits", row.score.splits)):
        ends = "no interval" if interval.low is None else f"{interval.low:.2f} to {interval.high:.2f}"
        parts.append(f"over {interval.n} {name} {ends}")
    if row.rank is not None:
        parts.append(f"rank {row.rank}")
    return ", ".join(parts)


def _legend(left: float, top: float) -> Iterator[str]:
    """Yields the explanation of the marks."""
    yield f'<g class="mark">{_line(left, top - 4, left + 44, top - 4, "splits")}{_line(left + 14, top - 4, left + 30, top - 4, "trees")}'
    yield f'<circle cx="{left + 22:g}" cy="{top - 4:g}" r="3.5"/></g>'
    words = "mean over splits; thick: 95 % interval over trees, thin: 95 % interval over splits"
    yield _text(left + 54, top, words, "key")
    yield _line(left + 536, top - 12, left + 536, top + 4, "null")
    yield _text(left + 546, top, "best null method", "key")
    yield _text(left + 676, top, "1", "rank first key-rank")
    yield _text(left + 686, top, "rank among all ranked rows; rows that no test separates share one", "key")
