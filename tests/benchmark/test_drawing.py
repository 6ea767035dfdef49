from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mothr.benchmark.drawing import EDGE_STYLES, classify_edges, columns, forest_svg, graph_svg, tree_layouts
from mothr.benchmark.graph import ModelGraph

SVG = "{http://www.w3.org/2000/svg}"
TREE = ModelGraph({"r": (), "a": ("r",), "b": ("r",), "c": ("a",), "d": ("a",), "e": ("b",)})
OTHER = ModelGraph({"s": (), "t": ("s",)})
FOREST = ModelGraph({**TREE.parents, **OTHER.parents})


def classes(truth, predicted):
    return {(edge.parent, edge.child): edge.edge_class for edge in classify_edges(truth, predicted.parents)}


@st.composite
def graphs(draw, nodes=8):
    """Any DAG on the same nodes, in any order."""
    order = draw(st.permutations([f"n{i}" for i in range(nodes)]))
    above = {node: st.sets(st.sampled_from(order[:i]), max_size=2) for i, node in enumerate(order) if i}
    return ModelGraph({node: tuple(draw(above[node])) if node in above else () for node in order})


def test_each_edge_has_its_class():
    predicted = ModelGraph({"a": (), "r": ("a",), "b": ("r",), "c": ("a",), "d": ("c",), "e": (), "s": (), "t": ("e",)})
    assert classes(FOREST, predicted) == {
        ("r", "a"): "reversed",
        ("r", "b"): "correct",
        ("a", "c"): "correct",
        ("a", "d"): "missing",
        ("b", "e"): "missing",
        ("s", "t"): "missing",
        ("c", "d"): "wrong_parent",
        ("e", "t"): "wrong_tree",
    }


def test_one_tree_of_a_forest_keeps_edges_from_other_trees_and_leaves_out_those_trees():
    predicted = ModelGraph({**FOREST.parents, "e": ("t",), "t": ("e",)} | {"t": ("s",)})
    assert classes(TREE, predicted)["t", "e"] == classes(FOREST, predicted)["t", "e"] == "wrong_tree"
    assert classes(OTHER, predicted) == {("s", "t"): "correct"}


def test_a_merge_has_an_edge_from_each_parent():
    truth = ModelGraph({"a": (), "b": (), "m": ("a", "b")})
    assert classes(truth, ModelGraph({"a": (), "b": ("m",), "m": ("a",)})) == {
        ("a", "m"): "correct",
        ("b", "m"): "reversed",
    }


@given(graphs(), graphs())
def test_the_classes_count_the_edges_of_both_graphs(truth, predicted):
    found = [edge.edge_class for edge in classify_edges(truth, predicted.parents)]
    assert len(found) - found.count("wrong_parent") - found.count("wrong_tree") == len(truth.edges)
    assert found.count("correct") == len(set(truth.edges) & set(predicted.edges))
    assert len(found) - found.count("missing") == len(predicted.edges)
    assert {edge.edge_class for edge in classify_edges(truth, truth.parents)} <= {"correct"}


def points_of(graph):
    return {node: point for tree in tree_layouts(graph) for node, point in tree.points.items()}


@given(graphs())
def test_no_two_nodes_of_a_tree_stand_in_one_place_and_parents_stand_above(graph):
    layouts = tree_layouts(graph)
    assert [set(layout.points) for layout in layouts] == [set(tree) for tree in graph.trees]
    assert all(len(set(layout.points.values())) == len(layout.points) for layout in layouts)
    points = points_of(graph)
    assert all(points[parent][1] < points[child][1] for parent, child in graph.edges)


def test_a_parent_stands_over_the_middle_of_its_children():
    column = columns(TREE.parents)
    assert (column["c"], column["d"], column["a"]) == (0.0, 1.0, 0.5)
    assert column["b"] == column["e"]
    assert column["r"] == (column["a"] + column["b"]) / 2
    points = points_of(TREE)
    assert points["r"][1] < points["a"][1] == points["b"][1] < points["c"][1]


def test_a_chain_deeper_than_the_stack_is_laid_out():
    names = [f"n{i:05d}" for i in range(3000)]
    chain = ModelGraph({name: (names[i - 1],) if i else () for i, name in enumerate(names)})
    assert columns(chain.parents)[names[-1]] == 0.0
    first, second, *_, last = [points_of(chain)[name][1] for name in names]
    assert last == first + 2999 * (second - first)


def test_svg_is_well_formed_named_for_readers_and_always_the_same():
    predicted = ModelGraph({**FOREST.parents, "c": ("t",), "r": ("a",), "a": ()})
    text = forest_svg(FOREST, predicted.parents, '<Ward> & "Edmonds"', labels={"r": "the <root>"})
    assert text == forest_svg(FOREST, predicted.parents, '<Ward> & "Edmonds"', labels={"r": "the <root>"})
    picture = ElementTree.fromstring(text)
    assert picture.get("aria-label") == '<Ward> & "Edmonds": 4 of 6 edges correct'
    assert {"the <root>", "correct edge", "reversed edge"} <= {part.text for part in picture.iter(f"{SVG}text")}
    titles = {title.text for title in picture.iter(f"{SVG}title")}
    assert "r → a: reversed edge" in titles
    assert "t → c: wrong tree" in titles
    assert "r, depth 0, true root" in titles
    assert not any(part.tag.endswith(("script", "image", "use")) for part in picture.iter())


@pytest.mark.parametrize("edge_class", EDGE_STYLES)
def test_each_class_has_its_own_colour_and_its_own_dash_or_mark(edge_class):
    predicted = ModelGraph(
        {"a": (), "r": ("a",), "b": ("r",), "c": ("b",), "d": ("a",), "e": ("t",), "s": (), "t": ("s",)}
    )
    picture = ElementTree.fromstring(forest_svg(FOREST, predicted.parents, "all classes"))
    edges = classify_edges(FOREST, predicted.parents)
    edge = next(edge for edge in edges if edge.edge_class == edge_class)
    title = f"{edge.parent} → {edge.child}:"
    line = next(path for path in picture.iter(f"{SVG}path") if len(path) and path[0].text.startswith(title))
    style = EDGE_STYLES[edge_class]
    assert (line.get("stroke"), line.get("stroke-dasharray") or "") == (style.colour, style.dash)
    marks = {marker.get("id") for marker in picture.iter(f"{SVG}marker")}
    for mark, name in ((style.start, "marker-start"), (style.end, "marker-end")):
        assert line.get(name) == (f"url(#mothr-{mark}-{edge_class})" if mark else None)
        assert not mark or f"mothr-{mark}-{edge_class}" in marks
    looks = {(style.dash, style.start, style.end) for style in EDGE_STYLES.values()}
    assert len(looks) == len({style.colour for style in EDGE_STYLES.values()}) == len(EDGE_STYLES)


def test_a_model_that_was_abstained_on_is_a_square_and_no_root():
    predicted = ModelGraph({**FOREST.parents, "c": ()})
    picture = ElementTree.fromstring(forest_svg(FOREST, predicted.parents, "one unsure", abstained=["c"]))
    groups = [group for group in picture.iter(f"{SVG}g") if group.find(f"{SVG}rect") is not None]
    assert [group[0].text for group in groups] == ["c, depth 2, abstained", None]  # the second is of the legend
    assert not any(title.text.startswith("c,") for circle in picture.iter(f"{SVG}circle") for title in circle)


def test_everything_lies_inside_the_picture():
    wide = ModelGraph({"r": (), **{f"c{i:03d}": ("r",) for i in range(90)}, "x": (), "y": ("x",)})
    for truth in (wide, FOREST, ModelGraph({}), ModelGraph({"a": ()})):
        picture = ElementTree.fromstring(forest_svg(truth, truth.parents, "any"))
        width, height = float(picture.get("width")), float(picture.get("height"))
        for node in picture.iter(f"{SVG}circle"):
            assert 0 < float(node.get("cx")) < width
            assert 0 < float(node.get("cy")) < height


def test_a_graph_shows_itself_in_a_notebook():
    picture = ElementTree.fromstring(FOREST._repr_svg_())
    assert picture.get("aria-label") == "Model Graph: 8 models in 2 trees"
    titles = {title.text for title in picture.iter(f"{SVG}title")}
    assert {"r → a", "r, depth 0, root", "t, depth 1"} <= titles
    assert FOREST._repr_svg_() == graph_svg(FOREST, "Model Graph")
    assert ElementTree.fromstring(ModelGraph({})._repr_svg_()).get("aria-label") == "Model Graph: 0 models in 0 trees"
