"""ModelGraph: errors of the constructor, and the properties of nodes."""

from itertools import pairwise

import networkx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph

settings.register_profile("no deadline", deadline=None)  # a slow machine is not a failure
settings.load_profile("no deadline")

# a -> b -> d, a -> c, b and c merged into m, and x -> y; z alone
GRAPH = ModelGraph({"a": (), "b": ("a",), "c": ("a",), "d": ("b",), "m": ("c", "b"), "x": (), "y": ("x",), "z": ()})


@st.composite
def graphs(draw):
    names = draw(st.permutations([f"n{index}" for index in range(draw(st.integers(0, 10)))]))
    return ModelGraph(
        {n: tuple(draw(st.sets(st.sampled_from(names[:k]), max_size=3))) if k else () for k, n in enumerate(names)}
    )


@pytest.mark.parametrize(
    ("parents", "message"),
    [
        ({"a": ("b",)}, "'a' has the unknown parent 'b'"),
        ({"a": ("a",)}, "cycle: a -> a"),
        ({"a": ("b", "b"), "b": ()}, "'a' names a parent twice"),
        ({"a": ("c",), "b": ("a",), "c": ("b",)}, "cycle: .*cannot descend from itself"),
    ],
)
def test_the_constructor_refuses_invalid_graphs(parents, message):
    with pytest.raises(MothrError, match=message):
        ModelGraph(parents)


def test_a_cycle_is_named_from_parent_to_child():
    with pytest.raises(MothrError) as caught:
        ModelGraph({"a": ("c",), "b": ("a",), "c": ("b",), "z": ()})
    shown = str(caught.value).removeprefix("cycle: ").split(";")[0].split(" -> ")
    assert shown[0] == shown[-1]
    assert all((parent, child) in {("c", "a"), ("a", "b"), ("b", "c")} for parent, child in pairwise(shown))


def test_the_order_of_the_arguments_has_no_effect():
    shuffled = ModelGraph(
        {"m": ("b", "c"), **{node: GRAPH.parents[node] for node in reversed(GRAPH.nodes) if node != "m"}}
    )
    assert shuffled == GRAPH
    assert shuffled.nodes == GRAPH.nodes == tuple("abcdmxyz")
    assert shuffled.edges == GRAPH.edges


def test_properties_of_a_small_graph():
    assert GRAPH.roots == ("a", "x", "z")
    assert GRAPH.edges == (("a", "b"), ("a", "c"), ("b", "d"), ("b", "m"), ("c", "m"), ("x", "y"))
    assert GRAPH.trees == (frozenset("abcdm"), frozenset("xy"), frozenset("z"))
    assert GRAPH.ancestors("m") == frozenset("abc")
    assert GRAPH.ancestors("z") == frozenset()
    assert GRAPH.root_of("m") == GRAPH.root_of("a") == frozenset("a")
    assert GRAPH.children("b") == ("d", "m")
    assert [GRAPH.depth(node) for node in "abdmz"] == [0, 1, 2, 2, 0]


def test_a_merge_across_trees_has_two_roots_and_one_tree():
    merged = ModelGraph({"a": (), "b": (), "m": ("a", "b")})
    assert merged.root_of("m") == frozenset("ab")
    assert merged.trees == (frozenset("abm"),)


@pytest.mark.parametrize(
    ("numbers", "labels"),
    [
        ({}, [0, 1, 2]),
        ({"a": 2, "b": 2, "c": 2, "d": 2, "m": 2, "x": 0, "y": 0, "z": 1}, [2, 0, 1]),
        ({"a": 2, "b": 5, "m": 2, "x": 0, "z": 5}, [2, 0, 5]),  # a merge across trees 2 and 5 counts as tree 2
        ({"a": 2, "b": 5, "m": 2, "x": 0, "z": None}, [2, 0, 6]),
        ({"a": 3, "x": 3, "z": 3}, [3, 4, 5]),  # the withheld root of tree 3 leaves three trees
        ({"a": 1, "x": None, "z": 1}, [1, 2, 3]),
    ],
)
def test_a_tree_has_the_number_that_the_truth_gives_it_and_no_other_tree_has(numbers, labels):
    assert GRAPH.tree_labels(numbers) == labels


def test_tree_graphs_are_the_graphs_of_the_trees():
    forest = ModelGraph({"c": (), "a": ("c",), "b": (), "m": ("a", "c")})
    assert forest.tree_graphs == (ModelGraph({"c": (), "a": ("c",), "m": ("a", "c")}), ModelGraph({"b": ()}))


def test_depth_is_the_longest_path():
    assert ModelGraph({"a": (), "b": ("a",), "m": ("a", "b")}).depth("m") == 2


def test_the_empty_graph():
    empty = ModelGraph({})
    assert (empty.nodes, empty.edges, empty.roots, empty.trees, empty.to_json()) == ((), (), (), (), {})


@given(graphs())
def test_agrees_with_networkx(graph):
    expected = networkx.DiGraph(list(graph.edges))
    expected.add_nodes_from(graph.nodes)
    assert {frozenset(tree) for tree in networkx.weakly_connected_components(expected)} == set(graph.trees)
    assert [min(tree) for tree in graph.trees] == sorted(min(tree) for tree in graph.trees)
    for node in graph.nodes:
        assert graph.ancestors(node) == networkx.ancestors(expected, node)
        assert set(graph.children(node)) == set(expected.successors(node))


@given(graphs())
def test_json_edges_and_relabel_are_reversible(graph):
    assert ModelGraph.from_json(graph.to_json()) == graph
    assert ModelGraph.from_edges(graph.nodes, graph.edges) == graph
    names = {node: f"m{index}" for index, node in enumerate(reversed(graph.nodes))}
    assert graph.relabel(names).relabel({new: old for old, new in names.items()}) == graph


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "file.json: parents must be an object .* not list"),
        ({"a": "b"}, "file.json: the parents of 'a' must be a list of ids, not 'b'"),
        ({"a": [1]}, "file.json: the parents of 'a' must be a list"),
        ({"a": ["b"]}, "file.json: node 'a' has the unknown parent 'b'"),
        ({"a": None}, "file.json: the parents of 'a' must be a list"),
    ],
)
def test_from_json_names_the_file(value, message):
    with pytest.raises(MothrError, match=message):
        ModelGraph.from_json(value, "file.json")


def test_from_edges_refuses_unknown_nodes():
    with pytest.raises(MothrError, match="'a' -> 'b' ends at an unknown node"):
        ModelGraph.from_edges(["a"], [("a", "b")])
    with pytest.raises(MothrError, match="unknown parent 'b'"):
        ModelGraph.from_edges(["a"], [("b", "a")])


def test_relabel_needs_a_different_name_for_each_node():
    graph = ModelGraph({"a": (), "b": ("a",)})
    with pytest.raises(MothrError, match="same new name"):
        graph.relabel({"a": "x", "b": "x"})
    with pytest.raises(MothrError, match="no new name for node 'b'"):
        graph.relabel({"a": "x"})


def test_subgraph_keeps_edges_among_its_nodes():
    assert GRAPH.subgraph("bmy") == ModelGraph({"b": (), "m": ("b",), "y": ()})
    with pytest.raises(MothrError, match="unknown node 'q'"):
        GRAPH.subgraph("aq")


def test_the_parents_in_a_restricted_graph_are_the_nearest_ancestors():
    assert GRAPH.restricted("adm") == ModelGraph({"a": (), "d": ("a",), "m": ("a",)})
    assert GRAPH.restricted("acm") == ModelGraph(
        {"a": (), "c": ("a",), "m": ("a", "c")}
    )  # the path over b has no selected node between a and m
    assert GRAPH.restricted("bcy") == ModelGraph({"b": (), "c": (), "y": ()})
    with pytest.raises(MothrError, match="unknown node 'q'"):
        GRAPH.restricted("aq")


@given(graphs(), st.data())
def test_a_restricted_graph_has_the_same_ancestors(graph, data):
    selected = data.draw(st.sets(st.sampled_from(graph.nodes))) if graph.nodes else set()
    restricted = graph.restricted(selected)
    assert set(restricted.nodes) == selected
    assert all(restricted.ancestors(node) == graph.ancestors(node) & selected for node in selected)
    assert graph.restricted(graph.nodes) == graph


def test_a_graph_is_immutable():
    with pytest.raises(AttributeError):
        GRAPH.parents = {}


def test_long_chains_do_not_overflow_the_stack():
    chain = ModelGraph({f"{k:05}": (f"{k - 1:05}",) if k else () for k in range(3000)})
    assert chain.depth("02999") == 2999
    assert chain.root_of("02999") == {"00000"}
    assert len(chain.trees) == 1
