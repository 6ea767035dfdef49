"""Layout of a forest, classification of predicted edges, and both drawn as SVG.

A prediction is drawn over the true forest. Each edge has one of the classes of :data:`EdgeClass`. The colours are those of Okabe
and Ito (2008), with a darker purple. Each class also differs in its dash or its end marks, so that colour is not needed to read
the picture. The pages of the leaderboard take positions, classes, paths, end marks and the legend from this file.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol
from xml.sax.saxutils import escape, quoteattr

NodeId = str
Point = tuple[float, float]
Parents = Mapping[NodeId, Collection[NodeId]]
"""The parents of each node."""
EdgeClass = Literal["correct", "reversed", "missing", "wrong_parent", "wrong_tree"]
"""What became of an edge.

A true edge p -> c is ``correct`` if it was predicted, ``reversed`` if c -> p was predicted, else ``missing``. Any other predicted edge
p -> c is a ``wrong_parent`` if p and c are in one true Model Tree, else it comes from a ``wrong_tree``.
"""


class Forest(Protocol):
    """The part of a Model Graph that is drawn; :class:`mothr.benchmark.graph.ModelGraph` has it."""

    @property
    def parents(self) -> Mapping[NodeId, tuple[NodeId, ...]]:
        """The parents of each node, sorted."""

    @property
    def trees(self) -> tuple[frozenset[NodeId], ...]:
        """The Model Trees: the weakly connected components."""

    def depth(self, node: NodeId) -> int:
        """Returns the number of edges on the longest path from a root to ``node``."""


@dataclass(frozen=True, slots=True)
class EdgeStyle:
    """How edges of one class are drawn."""

    colour: str
    """Colour of the line and of its end marks."""
    width: float
    """Width of the line in pixels."""
    dash: str
    """SVG dash pattern; empty for a solid line."""
    start: str
    """Mark at the parent: ``arrow``, ``cross`` or none."""
    end: str
    """Mark at the child: ``arrow`` or none."""
    label: str
    """The name of the class in legends and tooltips."""


EDGE_STYLES: dict[EdgeClass, EdgeStyle] = {
    "correct": EdgeStyle("#009E73", 2.5, "", "", "", "correct edge"),
    "reversed": EdgeStyle("#E69F00", 2.5, "", "arrow", "arrow", "reversed edge"),
    "wrong_parent": EdgeStyle("#D55E00", 1.75, "6 3", "", "arrow", "wrong parent"),
    "wrong_tree": EdgeStyle("#AA3377", 1.75, "2.5 2", "cross", "arrow", "wrong tree"),
    "missing": EdgeStyle("#8C8C8C", 1.5, "1.5 3.5", "", "", "missing true edge"),
}
"""The style of each class, in the order of the legend."""
DRAWN_IN_ORDER: tuple[EdgeClass, ...] = ("missing", "correct", "reversed", "wrong_parent", "wrong_tree")
"""Later classes are drawn over earlier ones."""

INK, PAPER, RULE, MUTED = "#1F2328", "#FFFFFF", "#D1D9E0", "#59636E"
COLUMN_WIDTH, LEVEL_HEIGHT, MARGIN, RADIUS = 18.0, 68.0, 22.0, 4.5
ROOT_RADIUS = 1.5 * RADIUS
FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"


@dataclass(frozen=True, slots=True)
class DrawnEdge:
    """One edge of the picture."""

    edge_class: EdgeClass
    """What became of the edge."""
    parent: NodeId
    """The true parent of a true edge; else the predicted parent, which need not be a node of the true forest."""
    child: NodeId
    """The true child of a true edge; else the predicted child."""


@dataclass(frozen=True, slots=True)
class TreeLayout:
    """Where the nodes of one Model Tree stand in its picture."""

    points: Mapping[NodeId, Point]
    """The position of each node, in pixels from the upper left corner."""
    width: float
    """Width of the picture in pixels."""
    height: float
    """Height of the picture in pixels."""


def classify_edges(truth: Forest, predicted: Parents) -> list[DrawnEdge]:
    """Returns every true edge and every wrong predicted edge with its class.

    True edges come first, sorted by child; wrong predicted edges follow, sorted by child. As in the metrics, a predicted edge counts
    if its child is a node of the true forest.

    Args:
        truth: the true forest.
        predicted: the predicted parents of each node; a node that is absent has none.
    """
    true_edges = [(parent, child) for child, parents in truth.parents.items() for parent in parents]
    predicted_edges = {(parent, child) for child in truth.parents for parent in predicted.get(child, ())}
    drawn = []
    for parent, child in true_edges:
        edge_class: EdgeClass = "missing"
        if (parent, child) in predicted_edges:
            edge_class = "correct"
        elif (child, parent) in predicted_edges:
            edge_class = "reversed"
        drawn.append(DrawnEdge(edge_class, parent, child))
    known = {*true_edges, *((child, parent) for parent, child in true_edges)}
    tree_of = {node: number for number, tree in enumerate(truth.trees) for node in tree}
    for parent, child in sorted(predicted_edges - known, key=lambda edge: (edge[1], edge[0])):
        same_tree = tree_of.get(parent) == tree_of[child]
        drawn.append(DrawnEdge("wrong_parent" if same_tree else "wrong_tree", parent, child))
    return drawn


def columns(parents: Mapping[NodeId, tuple[NodeId, ...]]) -> dict[NodeId, float]:
    """Returns the column of each node: each leaf has a column of its own, and a parent stands over the middle of its children.

    A merge stands below its first parent.
    """
    children: dict[NodeId, list[NodeId]] = {node: [] for node in parents}
    for node, named in parents.items():
        if named:
            children[named[0]].append(node)
    column: dict[NodeId, float] = {}
    leaves = 0
    pending = [(node, False) for node in reversed(list(parents)) if not parents[node]]
    while pending:  # not recursive: a chain may be deeper than Python's stack
        node, children_placed = pending.pop()
        if children_placed:
            column[node] = (column[children[node][0]] + column[children[node][-1]]) / 2
        elif children[node]:
            pending.append((node, True))
            pending.extend((child, False) for child in reversed(children[node]))
        else:
            column[node] = float(leaves)
            leaves += 1
    return column


def tree_layouts(forest: Forest, column_width: float = COLUMN_WIDTH) -> list[TreeLayout]:
    """Returns the layout of each Model Tree of ``forest``, in the order of ``forest.trees``.

    Args:
        forest: the forest to lay out.
        column_width: the distance of neighbouring leaves in pixels.
    """
    layouts = []
    for tree in forest.trees:
        column = columns({node: forest.parents[node] for node in sorted(tree)})
        points = {
            node: (MARGIN + column[node] * column_width, MARGIN + forest.depth(node) * LEVEL_HEIGHT) for node in column
        }
        width, height = (max(point[axis] for point in points.values()) + MARGIN for axis in (0, 1))
        layouts.append(TreeLayout(points, width, height))
    return layouts


def edge_path(edge: DrawnEdge, points: Mapping[NodeId, Point], stub_below: bool) -> str:
    """Returns the SVG path of an edge, from parent to child.

    True edges are straight and a wrong parent's edge is a curve. The edge from a wrong tree is a stub at the child.

    Args:
        edge: the edge.
        points: the position of each node of the child's tree.
        stub_below: whether a stub lies below its child; else it lies beside the child.
    """
    end = points[edge.child]
    if edge.edge_class == "wrong_tree":
        start = (end[0], end[1] + 20) if stub_below else (end[0] - 24, end[1] - 8)
        return f"M{_pair(start)} L{_pair(end)}"
    start = points[edge.parent]
    if edge.edge_class != "wrong_parent":
        return f"M{_pair(start)} L{_pair(end)}"
    middle = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    across, down = end[0] - start[0], end[1] - start[1]
    # The curve passes to one side of the straight line, or below a row of siblings.
    beside = middle[0] - 0.16 * down, middle[1] + 0.16 * across
    below = middle[0], middle[1] + min(40.0, 16.0 + 0.1 * abs(across))
    return f"M{_pair(start)} Q{_pair(beside if down else below)} {_pair(end)}"


def inner_nodes(forest: Forest) -> set[NodeId]:
    """Returns the nodes that have children. A stub beside such a node does not meet the edges below it."""
    return {parent for parents in forest.parents.values() for parent in parents}


def forest_svg(
    truth: Forest,
    predicted: Parents,
    title: str,
    labels: Mapping[NodeId, str] | None = None,
    width: float = 1000.0,
    abstained: Collection[NodeId] = (),
) -> str:
    """Returns a standalone SVG of a prediction drawn over the true forest, with a legend.

    Args:
        truth: the true forest; its nodes are drawn.
        predicted: the predicted parents of each node; it may name more nodes.
        title: the heading, which screen readers read as well.
        labels: a short text below a node.
        width: where a new row of trees begins, in pixels. A wider tree gets the width that it needs.
        abstained: the nodes whose parents the method declined to name.
    """
    labels = labels or {}
    points, width, height = _canvas(truth, labels, width)
    edges, inner = classify_edges(truth, predicted), inner_nodes(truth)
    body: list[str] = []
    for edge_class in DRAWN_IN_ORDER:
        for edge in edges:
            if edge.edge_class == edge_class:
                path = edge_path(edge, points, stub_below=not labels and edge.child not in inner)
                body.append(_edge(path, edge_class, f"{edge.parent} → {edge.child}: {EDGE_STYLES[edge_class].label}"))
    for node, parents in truth.parents.items():
        predicted_root = not predicted.get(node, ()) and node not in abstained
        roles = {"true root": not parents, "predicted root": predicted_root, "abstained": node in abstained}
        description = [node, f"depth {truth.depth(node)}", *(role for role, holds in roles.items() if holds)]
        body.append(_node(points[node], not parents, predicted_root, node in abstained, ", ".join(description)))
    body += _labels(points, labels)
    legend, legend_height = _legend(height + 10, width)
    correct = sum(edge.edge_class == "correct" for edge in edges)
    summary = f"{correct} of {sum(map(len, truth.parents.values()))} edges correct"
    return _document(title, summary, [end_marks(), *body, *legend], width, height + 10 + legend_height)


def graph_svg(graph: Forest, title: str, labels: Mapping[NodeId, str] | None = None) -> str:
    """Returns a standalone SVG of one graph, as notebooks show it.

    Args:
        graph: the graph.
        title: the heading.
        labels: a short text below a node.
    """
    points, width, height = _canvas(graph, labels or {}, 1000.0)
    body = []
    for parent, child in ((parent, child) for child, parents in graph.parents.items() for parent in parents):
        line = f'd="M{_pair(points[parent])} L{_pair(points[child])}" stroke="{MUTED}" stroke-width="1.5"'
        body.append(f"<path {line}>{_tooltip(f'{parent} → {child}')}</path>")
    for node, parents in graph.parents.items():
        description = f"{node}, depth {graph.depth(node)}" + ("" if parents else ", root")
        body.append(_node(points[node], not parents, not parents, False, description))
    body += _labels(points, labels or {})
    counts = (len(graph.parents), "model"), (len(graph.trees), "tree")
    summary = " in ".join(f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts)
    return _document(title, summary, body, width, height)


def end_marks() -> str:
    """Returns the SVG definitions of the marks at the ends of edges, which an edge names by ``marker-start`` and ``marker-end``.

    The tip of an arrow lies just outside of the node at which the edge ends.
    """
    marks = []
    for edge_class, style in EDGE_STYLES.items():
        if style.end:
            arrow = f'<path class="mark-{edge_class}" d="M0 0 L8 3.5 L0 7 Z" fill="{style.colour}" stroke="none"/>'
            box = f'refX="{_number(8 + RADIUS + 1.5)}" refY="3.5" markerWidth="8" markerHeight="7"'
            marks.append(_mark(f"arrow-{edge_class}", box, arrow))
        if style.start == "cross":
            stroke = f'fill="none" stroke="{style.colour}" stroke-width="1.5"'
            cross = f'<path class="mark-{edge_class} cross" d="M1 1 L7 7 M7 1 L1 7" {stroke}/>'
            marks.append(_mark(f"cross-{edge_class}", 'refX="4" refY="4" markerWidth="8" markerHeight="8"', cross))
    return f"<defs>{''.join(marks)}</defs>"


def legend_entries() -> Iterator[tuple[str, str]]:
    """Yields an SVG fragment of 36 x 16 pixels and its text for each sign of a drawing."""
    parent, child = (5.0, 8.0), (31.0, 8.0)
    for edge_class, style in EDGE_STYLES.items():
        nodes = [child] if style.start == "cross" else [parent, child]
        dots = "".join(_node(point, False, False, False, "") for point in nodes)
        yield _edge(f"M{_pair(parent)} L{_pair(child)}", edge_class, "") + dots, style.label
    middle = (18.0, 8.0)
    yield _node(middle, False, False, True, ""), "abstained"
    yield _node(middle, True, True, False, ""), "root, found"
    yield _node(middle, True, False, False, ""), "root, not found"
    yield _node(middle, False, True, False, ""), "not a root, but predicted as one"


def _canvas(forest: Forest, labels: Mapping[NodeId, str], width: float) -> tuple[dict[NodeId, Point], float, float]:
    """Returns the position of every node in one picture of all trees, and the picture's width and height."""
    column_width = max([COLUMN_WIDTH, *(7.0 * len(label) for label in labels.values())])
    layouts = tree_layouts(forest, column_width)
    width = max([width, *(layout.width + 2 * MARGIN for layout in layouts)])
    points: dict[NodeId, Point] = {}
    left, top, row_height = MARGIN, 64.0, 0.0
    for layout in layouts:
        if left > MARGIN and left + layout.width > width - MARGIN:
            left, top, row_height = MARGIN, top + row_height, 0.0
        points |= {node: (left + x, top + y) for node, (x, y) in layout.points.items()}
        left, row_height = left + layout.width, max(row_height, layout.height)
    return points, width, top + row_height + MARGIN


def _document(title: str, summary: str, body: Sequence[str], width: float, height: float) -> str:
    size = f'width="{_number(width)}" height="{_number(height)}" viewBox="0 0 {_number(width)} {_number(height)}"'
    name = f"{title}: {summary}"
    frame = f'width="{_number(width - 1)}" height="{_number(height - 1)}" rx="8" fill="{PAPER}" stroke="{RULE}"'
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label={quoteattr(name)} font-family="{FONT}">',
        f"<title>{escape(name)}</title>",
        f'<rect x="0.5" y="0.5" {frame}/>',
        f'<text x="{_number(MARGIN)}" y="32" font-size="16" font-weight="600" fill="{INK}">{escape(title)}</text>',
        _text((MARGIN, 52), summary, 'font-size="13"'),
        *body,
        "</svg>",
        "",
    ])  # fmt: skip


def _edge(path: str, edge_class: EdgeClass, tooltip: str) -> str:
    style = EDGE_STYLES[edge_class]
    attributes = {"stroke": style.colour, "stroke-width": _number(style.width), "stroke-dasharray": style.dash}
    marks = {"marker-start": style.start, "marker-end": style.end}
    attributes |= {name: f"url(#mothr-{mark}-{edge_class})" for name, mark in marks.items() if mark}
    named = " ".join(f'{name}="{value}"' for name, value in attributes.items() if value)
    return f'<path class="edge-{edge_class}" d="{path}" fill="none" {named}>{_tooltip(tooltip)}</path>'


def _node(point: Point, true_root: bool, predicted_root: bool, abstained: bool, tooltip: str) -> str:
    """Returns a circle, or the square with a question mark of a node on which a method abstained.

    A larger circle is a true root; a filled circle is a predicted root.
    """
    x, y = point
    radius = ROOT_RADIUS if true_root else RADIUS
    if abstained:
        side = radius + 1.5
        box = (
            f'x="{_number(x - side)}" y="{_number(y - side)}" width="{_number(2 * side)}" height="{_number(2 * side)}"'
        )
        square = f'<rect {box} fill="{PAPER}" stroke="{INK}" stroke-width="1.5" stroke-dasharray="2 1.5"/>'
        text = (
            f'x="{_number(x)}" y="{_number(y + 3.5)}" fill="{INK}" font-size="9" font-weight="700" text-anchor="middle"'
        )
        return f'<g class="node abstained">{_tooltip(tooltip)}{square}<text {text}>?</text></g>'
    fill = PAPER if not predicted_root else INK if true_root else EDGE_STYLES["wrong_parent"].colour
    states = {"true-root": true_root, "predicted-root": predicted_root}
    name = " ".join(["node", *(state for state, holds in states.items() if holds)])
    circle = (
        f'cx="{_number(x)}" cy="{_number(y)}" r="{_number(radius)}" fill="{fill}" stroke="{INK}" stroke-width="1.5"'
    )
    return f'<g class="{name}">{_tooltip(tooltip)}<circle {circle}/></g>'


def _labels(points: Mapping[NodeId, Point], labels: Mapping[NodeId, str]) -> list[str]:
    style = 'font-size="10" text-anchor="middle"'
    return [_text((x, y + 20), labels[node], style) for node, (x, y) in points.items() if node in labels]


def _legend(top: float, width: float) -> tuple[list[str], float]:
    """Returns the elements of the legend, which begins at height ``top``, and its height."""
    entry_width, entry_height = 208.0, 22.0
    entries = list(legend_entries())
    in_a_row = max(1, int((width - 2 * MARGIN) // entry_width))
    drawn = []
    for position, (sample, label) in enumerate(entries):
        x, y = MARGIN + position % in_a_row * entry_width, top + position // in_a_row * entry_height
        drawn.append(f'<g transform="translate({_number(x)} {_number(y - 8)})">{sample}</g>')
        drawn.append(_text((x + 42, y + 4), label, 'font-size="12"'))
    return drawn, -(-len(entries) // in_a_row) * entry_height + MARGIN / 2


def _mark(name: str, box: str, shape: str) -> str:
    units = 'markerUnits="userSpaceOnUse" orient="auto-start-reverse"'
    return f'<marker id="mothr-{name}" {box} {units} overflow="visible">{shape}</marker>'


def _tooltip(text: str) -> str:
    return f"<title>{escape(text)}</title>" if text else ""


def _text(point: Point, text: str, style: str) -> str:
    """Returns a text with a white border, so that it can be read where it lies on an edge."""
    border = 'paint-order="stroke" stroke="#fff" stroke-width="4" stroke-linejoin="round"'
    return (
        f'<text x="{_number(point[0])}" y="{_number(point[1])}" fill="{MUTED}" {border} {style}>{escape(text)}</text>'
    )


def _pair(point: Point) -> str:
    return f"{_number(point[0])} {_number(point[1])}"


def _number(value: float) -> str:
    """Returns a length with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")
