"""Forests drawn as predicted over true: where each node stands, what became of each edge, and the picture as SVG.

Colours are those of Okabe and Ito (2008), their purple darkened, told apart by dash and mark as well. The page draws with the same layout,
the same classes and the same signs, in the browser.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from math import hypot
from typing import Literal
from xml.sax.saxutils import escape, quoteattr

from mothr.benchmark.graph import ModelGraph, NodeId

Kind = Literal["right", "reversed", "missed", "wrong", "elsewhere"]
Entry = Literal["right", "reversed", "missed", "wrong", "elsewhere", "abstained", "root", "wrong root"]


@dataclass(frozen=True)
class Stroke:
    """How one kind of edge is drawn."""

    colour: str
    """Stroke and mark."""
    width: float
    """Pixels."""
    dash: str
    """SVG dash pattern; empty for a solid line."""
    words: str
    """What the legend says."""


STROKES: dict[Kind, Stroke] = {
    "right": Stroke("#009E73", 2.5, "", "right edge"),
    "reversed": Stroke("#E69F00", 2.5, "", "reversed edge"),
    "wrong": Stroke("#D55E00", 1.75, "6 3", "wrong parent"),
    "elsewhere": Stroke("#AA3377", 1.75, "2.5 2", "wrong tree"),
    "missed": Stroke("#8C8C8C", 1.5, "1.5 3.5", "missed true edge"),
}
"""Each kind of edge, in the order of the legend."""

INK, PAPER, RULE, SOFT = "#1F2328", "#FFFFFF", "#D1D9E0", "#59636E"
COLUMN, LEVEL, MARGIN, RADIUS = 18.0, 68.0, 22.0, 4.5
FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"


@dataclass(frozen=True)
class DrawnEdge:
    """One edge of the picture."""

    kind: Kind
    """Right, reversed or missed for a true edge; for a predicted one between models that are not parent and child, wrong within a
    true Model Tree and elsewhere across two."""
    parent: NodeId
    """The true parent; the predicted one of a wrong edge."""
    child: NodeId
    """The true child; the predicted one of a wrong edge."""


def compare(truth: ModelGraph, predicted: ModelGraph) -> list[DrawnEdge]:
    """Returns every true edge as right, reversed or missed, in the order of ``truth.edges``, then the wrong predicted edges.

    Ranges over the nodes of ``truth``, as metrics do: a predicted edge counts where its child is one of them.
    """
    found = {(parent, child) for child in truth.nodes for parent in predicted.parents.get(child, ())}
    true, tree_of = set(truth.edges), {node: tree for tree, nodes in enumerate(truth.trees) for node in nodes}

    def kind(parent: NodeId, child: NodeId) -> Kind:
        if (parent, child) in found:
            return "right"
        return "reversed" if (child, parent) in found else "missed"

    drawn = [DrawnEdge(kind(parent, child), parent, child) for parent, child in truth.edges]
    wrong = sorted(
        (child, parent) for parent, child in found if (parent, child) not in true and (child, parent) not in true
    )
    inside = {edge: tree_of.get(edge[1]) == tree_of[edge[0]] for edge in wrong}
    return drawn + [
        DrawnEdge("wrong" if inside[child, parent] else "elsewhere", parent, child) for child, parent in wrong
    ]


def layout(truth: ModelGraph) -> dict[NodeId, tuple[float, int]]:
    """Returns each node's (column, depth): leaves take a column each, and a parent stands over the middle of its children.

    A merge stands below its first parent.
    """
    below: dict[NodeId, list[NodeId]] = {node: [] for node in truth.nodes}
    for node, parents in truth.parents.items():
        if parents:
            below[parents[0]].append(node)
    columns: dict[NodeId, float] = {}
    free = 0
    waiting = [(root, False) for root in reversed(truth.roots)]
    while waiting:  # not recursive: a chain may be deeper than Python's stack
        node, children_done = waiting.pop()
        if children_done:
            columns[node] = (columns[below[node][0]] + columns[below[node][-1]]) / 2
        elif below[node]:
            waiting.append((node, True))
            waiting.extend((child, False) for child in reversed(below[node]))
        else:
            columns[node] = float(free)
            free += 1
    return {node: (columns[node], truth.depth(node)) for node in truth.nodes}


def forest_svg(
    truth: ModelGraph,
    predicted: ModelGraph,
    title: str,
    labels: Mapping[NodeId, str] | None = None,
    width: float = 1000.0,
    abstained: Collection[NodeId] = (),
) -> str:
    """Returns a standalone SVG of ``predicted`` drawn over ``truth``, one true Model Tree beside the other.

    Args:
        truth: the true forest; its nodes are the ones drawn.
        predicted: the answer; it may name more nodes.
        title: the heading, also read out by screen readers.
        labels: a short text below each node, where given.
        width: where to begin a new row of trees, in pixels; a wider tree gets the room it needs.
        abstained: the models whose parents the answer declined to name.
    """
    labels = labels or {}
    column = max([COLUMN, *(7.0 * len(label) for label in labels.values())])
    trees = [truth.subgraph(tree) for tree in truth.trees]
    spots = [layout(tree) for tree in trees]
    widths = [max((x for x, _ in spot.values()), default=0.0) * column + 2 * MARGIN for spot in spots]
    heights = [max((depth for _, depth in spot.values()), default=0) * LEVEL + 2 * MARGIN for spot in spots]
    width = max([width, *(one + 2 * MARGIN for one in widths)])
    body: list[str] = []
    left, top, row = MARGIN, 64.0, 0.0
    for tree, spot, wide, high in zip(trees, spots, widths, heights, strict=True):
        if left > MARGIN and left + wide > width - MARGIN:
            left, top, row = MARGIN, top + row, 0.0
        points = {node: (left + MARGIN + x * column, top + MARGIN + depth * LEVEL) for node, (x, depth) in spot.items()}
        body.extend(_tree(tree, predicted, points, labels, abstained))
        left, row = left + wide, max(row, high)
    legend, used = _legend(top + row + 32, width)
    height = top + row + 32 + used
    right = sum(edge.kind == "right" for edge in compare(truth, predicted))
    summary = f"{right} of {len(truth.edges)} edges right"
    name = f"{title}: {summary}"
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_px(width)}" height="{_px(height)}" '
        f'viewBox="0 0 {_px(width)} {_px(height)}" role="img" aria-label={quoteattr(name)} font-family="{FONT}">',
        f"<title>{escape(name)}</title>",
        f'<rect x="0.5" y="0.5" width="{_px(width - 1)}" height="{_px(height - 1)}" rx="8" fill="{PAPER}" stroke="{RULE}"/>',
        f'<text x="{_px(MARGIN)}" y="32" font-size="16" font-weight="600" fill="{INK}">{escape(title)}</text>',
        _text(MARGIN, 52, summary, 'font-size="13"'),
    ]
    return "\n".join([*head, *body, *legend, "</svg>", ""])


def _tree(
    tree: ModelGraph,
    predicted: ModelGraph,
    points: Mapping[NodeId, tuple[float, float]],
    labels: Mapping[NodeId, str],
    abstained: Collection[NodeId],
) -> Iterator[str]:
    edges = compare(tree, predicted)
    for kind in ("missed", "right", "reversed", "wrong", "elsewhere"):  # wrong ones on top
        for edge in edges:
            if edge.kind == kind:
                yield from _edge(edge, points, below=not labels and not tree.children(edge.child))
    for node in tree.nodes:
        x, y = points[node]
        is_root, named_root = not tree.parents[node], not predicted.parents.get(node, ()) and node not in abstained
        fill = PAPER if not named_root else INK if is_root else STROKES["wrong"].colour
        roles = [("true root", is_root), ("predicted root", named_root), ("abstained", node in abstained)]
        words = ", ".join([node, f"depth {tree.depth(node)}", *(role for role, holds in roles if holds)])
        radius = RADIUS * 1.5 if is_root else RADIUS
        yield _abstained(x, y, radius + 1.5, words) if node in abstained else _node(x, y, radius, fill, words)
        if node in labels:
            yield _text(x, y + 20, labels[node], 'font-size="10" text-anchor="middle"')


def _edge(edge: DrawnEdge, points: Mapping[NodeId, tuple[float, float]], below: bool) -> Iterator[str]:
    """Yields an edge's line and marks. One from another tree is a stub, ``below`` its child or beside it, with a cross."""
    words, end = f"{edge.parent} → {edge.child}: {STROKES[edge.kind].words}", points[edge.child]
    if edge.kind == "elsewhere":
        start = (end[0], end[1] + 20) if below else (end[0] - 24, end[1] - 8)
        yield _line(f"M{_at(start)} L{_at(end)}", edge.kind, words)
        yield _arrow(start, end, edge.kind)
        yield _cross(start, edge.kind)
        return
    start = points[edge.parent]
    if edge.kind == "wrong":
        bend = _bend(start, end)
        yield _line(f"M{_at(start)} Q{_at(bend)} {_at(end)}", edge.kind, words)
        yield _arrow(bend, end, edge.kind)
        return
    yield _line(f"M{_at(start)} L{_at(end)}", edge.kind, words)
    if edge.kind == "reversed":  # heads at both ends: the line is right, its sense is not
        yield _arrow(end, start, edge.kind)
        yield _arrow(start, end, edge.kind)


def _bend(start: tuple[float, float], end: tuple[float, float]) -> tuple[float, float]:
    """Returns the control point of a wrong edge's curve: below a row of siblings, else a little to one side of the line."""
    x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    if start[1] == end[1]:
        return x, y + min(40.0, 16.0 + 0.1 * abs(end[0] - start[0]))
    across, down = end[0] - start[0], end[1] - start[1]
    return x - 0.16 * down, y + 0.16 * across


def _line(path: str, kind: Kind, words: str) -> str:
    stroke = STROKES[kind]
    dash = f' stroke-dasharray="{stroke.dash}"' if stroke.dash else ""
    style = f'fill="none" stroke="{stroke.colour}" stroke-width="{_px(stroke.width)}"{dash}'
    return f'<path d="{path}" {style}><title>{escape(words)}</title></path>'


def _node(x: float, y: float, radius: float, fill: str, words: str) -> str:
    style = f'fill="{fill}" stroke="{INK}" stroke-width="1.5"'
    return f'<circle cx="{_px(x)}" cy="{_px(y)}" r="{_px(radius)}" {style}><title>{escape(words)}</title></circle>'


def _abstained(x: float, y: float, side: float, words: str) -> str:
    """Returns the square with a question mark that stands for a model the answer declined to place."""
    style = f'fill="{PAPER}" stroke="{INK}" stroke-width="1.5" stroke-dasharray="2 1.5"'
    square = f'<rect x="{_px(x - side)}" y="{_px(y - side)}" width="{_px(2 * side)}" height="{_px(2 * side)}" {style}/>'
    sign = f'<text x="{_px(x)}" y="{_px(y + 3.5)}" fill="{INK}" font-size="9" font-weight="700" text-anchor="middle">?</text>'
    return f"<g><title>{escape(words)}</title>{square}{sign}</g>"


def _text(x: float, y: float, words: str, style: str) -> str:
    halo = (
        'paint-order="stroke" stroke="#fff" stroke-width="4" stroke-linejoin="round"'  # words stay readable over edges
    )
    return f'<text x="{_px(x)}" y="{_px(y)}" fill="{SOFT}" {halo} {style}>{escape(words)}</text>'


def _arrow(start: tuple[float, float], end: tuple[float, float], kind: Kind) -> str:
    """Returns an arrow head that touches the node at ``end``, coming from ``start``."""
    length = hypot(end[0] - start[0], end[1] - start[1]) or 1.0
    x, y = (end[0] - start[0]) / length, (end[1] - start[1]) / length
    tip = (end[0] - x * (RADIUS + 1.5), end[1] - y * (RADIUS + 1.5))
    back = (tip[0] - 8 * x, tip[1] - 8 * y)
    corners = (tip, (back[0] - 3.5 * y, back[1] + 3.5 * x), (back[0] + 3.5 * y, back[1] - 3.5 * x))
    return f'<polygon points="{" ".join(map(_at, corners))}" fill="{STROKES[kind].colour}"/>'


def _cross(point: tuple[float, float], kind: Kind) -> str:
    """Returns the sign at the loose end of an edge that comes from another tree."""
    x, y = point
    path = f"M{_px(x - 3)} {_px(y - 3)} l6 6 m0 -6 l-6 6"
    return f'<path d="{path}" stroke="{STROKES[kind].colour}" stroke-width="1.5"/>'


def _legend(top: float, width: float) -> tuple[list[str], float]:
    """Returns the legend's elements, beginning at height ``top``, and the height it takes."""
    drawn: list[str] = []
    across, step = 190.0, 22.0
    columns = max(1, int((width - 2 * MARGIN) // across))
    entries: list[Entry] = [*STROKES, "abstained", "root", "wrong root"]
    for position, entry in enumerate(entries):
        x, y = MARGIN + position % columns * across, top + position // columns * step
        if entry == "root":
            words = "root, found"
            drawn.append(_node(x + 14, y, RADIUS * 1.5, INK, words))
        elif entry == "wrong root":
            words = "not a root, but named one"
            drawn.append(_node(x + 14, y, RADIUS, STROKES["wrong"].colour, words))
        elif entry == "abstained":
            words = "abstained"
            drawn.append(_abstained(x + 14, y, RADIUS + 1.5, words))
        else:
            words = STROKES[entry].words
            drawn.append(_line(f"M{_px(x)} {_px(y)} h28", entry, words))
            if entry in ("reversed", "wrong", "elsewhere"):
                drawn.append(_arrow((x, y), (x + 34, y), entry))
            if entry == "reversed":
                drawn.append(_arrow((x + 34, y), (x - 6, y), entry))
            if entry == "elsewhere":
                drawn.append(_cross((x + 2, y), entry))
        drawn.append(_text(x + 36, y + 4, words, 'font-size="12"'))
    return drawn, -(-len(entries) // columns) * step + MARGIN / 2


def _at(point: tuple[float, float]) -> str:
    return f"{_px(point[0])} {_px(point[1])}"


def _px(value: float) -> str:
    """Returns a length to a tenth of a pixel, without a needless zero."""
    return f"{value:.1f}".removesuffix(".0")
