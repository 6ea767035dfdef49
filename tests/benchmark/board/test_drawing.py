from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mothr.benchmark.board.drawing import STROKES, compare, forest_svg, layout
from mothr.benchmark.graph import ModelGraph

SVG = "{http://www.w3.org/2000/svg}"
TREE = ModelGraph({"r": (), "a": ("r",), "b": ("r",), "c": ("a",), "d": ("a",), "e": ("b",)})
OTHER = ModelGraph({"s": (), "t": ("s",)})
FOREST = ModelGraph({**TREE.parents, **OTHER.parents})


def kinds(truth, predicted):
    return {(edge.parent, edge.child): edge.kind for edge in compare(truth, predicted)}


@st.composite
def graphs(draw, nodes=8):
    """Any DAG on the same nodes, in any order."""
    order = draw(st.permutations([f"n{i}" for i in range(nodes)]))
    above = {node: st.sets(st.sampled_from(order[:i]), max_size=2) for i, node in enumerate(order) if i}
    return ModelGraph({node: tuple(draw(above[node])) if node in above else () for node in order})


def test_each_kind_of_edge_is_told_apart():
    predicted = ModelGraph({"a": (), "r": ("a",), "b": ("r",), "c": ("a",), "d": ("c",), "e": (), "s": (), "t": ("e",)})
    assert kinds(FOREST, predicted) == {
        ("r", "a"): "reversed",
        ("r", "b"): "right",
        ("a", "c"): "right",
        ("a", "d"): "missed",
        ("b", "e"): "missed",
        ("s", "t"): "missed",
        ("c", "d"): "wrong",
        ("e", "t"): "elsewhere",
    }


def test_one_tree_of_a_forest_keeps_its_edges_from_elsewhere_and_leaves_out_the_other_trees():
    predicted = ModelGraph({**FOREST.parents, "e": ("t",), "t": ("e",)} | {"t": ("s",)})
    assert kinds(TREE, predicted)["t", "e"] == kinds(FOREST, predicted)["t", "e"] == "elsewhere"
    assert kinds(OTHER, predicted) == {("s", "t"): "right"}


def test_a_merge_has_an_edge_from_each_parent():
    truth = ModelGraph({"a": (), "b": (), "m": ("a", "b")})
    assert kinds(truth, ModelGraph({"a": (), "b": ("m",), "m": ("a",)})) == {
        ("a", "m"): "right",
        ("b", "m"): "reversed",
    }


@given(graphs(), graphs())
def test_kinds_count_up_to_both_graphs(truth, predicted):
    found = [edge.kind for edge in compare(truth, predicted)]
    assert len(found) - found.count("wrong") - found.count("elsewhere") == len(truth.edges)
    assert found.count("right") == len(set(truth.edges) & set(predicted.edges))
    assert len(found) - found.count("missed") == len(predicted.edges)
    assert {edge.kind for edge in compare(truth, truth)} <= {"right"}


@given(graphs())
def test_no_two_nodes_stand_in_one_place_and_parents_stand_above(graph):
    spots = layout(graph)
    assert set(spots) == set(graph.nodes)
    assert len({spots[node] for node in graph.nodes}) == len(graph.nodes)
    assert all(spots[parent][1] < spots[child][1] for parent, child in graph.edges)


def test_a_parent_stands_over_the_middle_of_its_children():
    spots = layout(TREE)
    assert (spots["c"], spots["d"]) == ((0.0, 2), (1.0, 2))
    assert spots["a"] == (0.5, 1)
    assert spots["b"] == (spots["e"][0], 1)
    assert spots["r"] == ((spots["a"][0] + spots["b"][0]) / 2, 0)


def test_a_chain_deeper_than_the_stack_is_laid_out():
    names = [f"n{i:05d}" for i in range(3000)]
    chain = ModelGraph({name: (names[i - 1],) if i else () for i, name in enumerate(names)})
    assert layout(chain)[names[-1]] == (0.0, 2999)


def test_svg_is_well_formed_named_for_readers_and_always_the_same():
    predicted = ModelGraph({**FOREST.parents, "c": ("t",), "r": ("a",), "a": ()})
    text = forest_svg(FOREST, predicted, '<Ward> & "Edmonds"', labels={"r": "the <root>"})
    assert text == forest_svg(FOREST, predicted, '<Ward> & "Edmonds"', labels={"r": "the <root>"})
    picture = ElementTree.fromstring(text)
    assert picture.get("aria-label") == '<Ward> & "Edmonds": 4 of 6 edges right'
    assert {"the <root>", "right edge", "reversed edge"} <= {part.text for part in picture.iter(f"{SVG}text")}
    titles = {title.text for title in picture.iter(f"{SVG}title")}
    assert "r → a: reversed edge" in titles
    assert "t → c: wrong tree" in titles
    assert "r, depth 0, true root" in titles
    assert not any(part.tag.endswith(("script", "image", "use")) for part in picture.iter())


@pytest.mark.parametrize("kind", STROKES)
def test_each_kind_has_its_own_colour_and_its_own_dash_or_mark(kind):
    predicted = ModelGraph(
        {"a": (), "r": ("a",), "b": ("r",), "c": ("b",), "d": ("a",), "e": ("t",), "s": (), "t": ("s",)}
    )
    picture = ElementTree.fromstring(forest_svg(FOREST, predicted, "all kinds"))
    edge = next(edge for edge in compare(FOREST, predicted) if edge.kind == kind)
    line = next(
        path for path in picture.iter(f"{SVG}path") if path[0].text.startswith(f"{edge.parent} → {edge.child}:")
    )
    assert line.get("stroke") == STROKES[kind].colour
    assert (line.get("stroke-dasharray") or "") == STROKES[kind].dash
    looks = [(stroke.colour, stroke.dash) for stroke in STROKES.values()]
    assert len({colour for colour, _ in looks}) == len(looks)


def test_a_model_that_was_abstained_on_is_a_square_and_no_root():
    predicted = ModelGraph({**FOREST.parents, "c": ()})
    picture = ElementTree.fromstring(forest_svg(FOREST, predicted, "one unsure", abstained=["c"]))
    groups = [group for group in picture.iter(f"{SVG}g") if group.find(f"{SVG}rect") is not None]
    assert [group[0].text for group in groups] == ["c, depth 2, abstained", "abstained"]
    assert not any(title.text.startswith("c,") for circle in picture.iter(f"{SVG}circle") for title in circle)


def test_everything_lies_inside_the_picture():
    wide = ModelGraph({"r": (), **{f"c{i:03d}": ("r",) for i in range(90)}, "x": (), "y": ("x",)})
    for truth in (wide, FOREST, ModelGraph({}), ModelGraph({"a": ()})):
        picture = ElementTree.fromstring(forest_svg(truth, truth, "any"))
        width, height = float(picture.get("width")), float(picture.get("height"))
        for node in picture.iter(f"{SVG}circle"):
            assert 0 < float(node.get("cx")) < width
            assert 0 < float(node.get("cy")) < height
