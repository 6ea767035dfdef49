"""ModelGraph: what it refuses, and what it says about its nodes."""

from itertools import pairwise

import networkx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph

settings.register_profile("no deadline", deadline=None)  # a busy machine is not a failure
settings.load_profile("no deadline")

# a -> b -> d, a -> c, b and c merged into m, and x -> y; z alone
GRAPH = ModelGraph({"a": (), "b": ("a",), "c": ("a",), "d": ("b",), "m": ("c", "b"), "x": (), "y": ("x",), "z": ()})


@st.composite
def graphs(draw):
    names = draw(st.permutations([f"n{place}" for place in range(draw(st.integers(0, 10)))]))
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
def test_refuses(parents, message):
    with pytest.raises(MothrError, match=message):
        ModelGraph(parents)


def test_a_cycle_is_named_from_parent_to_child():
    with pytest.raises(MothrError) as caught:
        ModelGraph({"a": ("c",), "b": ("a",), "c": ("b",), "z": ()})
    shown = str(caught.value).removeprefix("cycle: ").split(";")[0].split(" -> ")
    assert shown[0] == shown[-1]
    assert all((parent, child) in {("c", "a"), ("a", "b"), ("b", "c")} for parent, child in pairwise(shown))


def test_order_of_writing_plays_no_part():
    shuffled = ModelGraph(
        {"m": ("b", "c"), **{node: GRAPH.parents[node] for node in reversed(GRAPH.nodes) if node != "m"}}
    )
    assert shuffled == GRAPH
    assert shuffled.nodes == GRAPH.nodes == tuple("abcdmxyz")
    assert shuffled.edges == GRAPH.edges


def test_what_it_says():
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


def test_each_tree_is_a_graph_of_its_own():
    forest = ModelGraph({"c": (), "a": ("c",), "b": (), "m": ("a", "c")})
    assert forest.tree_graphs == (ModelGraph({"c": (), "a": ("c",), "m": ("a", "c")}), ModelGraph({"b": ()}))


def test_depth_is_the_longest_path():
    assert ModelGraph({"a": (), "b": ("a",), "m": ("a", "b")}).depth("m") == 2


def test_empty():
    empty = ModelGraph({})
    assert (empty.nodes, empty.edges, empty.roots, empty.trees, empty.to_json()) == ((), (), (), (), {})


@given(graphs())
def test_agrees_with_networkx(graph):
    other = networkx.DiGraph(list(graph.edges))
    other.add_nodes_from(graph.nodes)
    assert {frozenset(tree) for tree in networkx.weakly_connected_components(other)} == set(graph.trees)
    assert [min(tree) for tree in graph.trees] == sorted(min(tree) for tree in graph.trees)
    for node in graph.nodes:
        assert graph.ancestors(node) == networkx.ancestors(other, node)
        assert set(graph.children(node)) == set(other.successors(node))


@given(graphs())
def test_json_and_edges_and_relabel_go_both_ways(graph):
    assert ModelGraph.from_json(graph.to_json()) == graph
    assert ModelGraph.from_edges(graph.nodes, graph.edges) == graph
    there = {node: f"m{place}" for place, node in enumerate(reversed(graph.nodes))}
    assert graph.relabel(there).relabel({new: old for old, new in there.items()}) == graph


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


def test_relabel_refuses_to_lose_a_node():
    graph = ModelGraph({"a": (), "b": ("a",)})
    with pytest.raises(MothrError, match="same new name"):
        graph.relabel({"a": "x", "b": "x"})
    with pytest.raises(MothrError, match="no new name for node 'b'"):
        graph.relabel({"a": "x"})


def test_subgraph_keeps_edges_among_its_nodes():
    assert GRAPH.subgraph("bmy") == ModelGraph({"b": (), "m": ("b",), "y": ()})
    with pytest.raises(MothrError, match="unknown node 'q'"):
        GRAPH.subgraph("aq")


def test_restricted_hangs_nodes_from_their_nearest_ancestors_left():
    assert GRAPH.restricted("adm") == ModelGraph({"a": (), "d": ("a",), "m": ("a",)})
    assert GRAPH.restricted("acm") == ModelGraph({"a": (), "c": ("a",), "m": ("a", "c")})  # one way leads past c
    assert GRAPH.restricted("bcy") == ModelGraph({"b": (), "c": (), "y": ()})
    with pytest.raises(MothrError, match="unknown node 'q'"):
        GRAPH.restricted("aq")


@given(graphs(), st.data())
def test_restricted_keeps_who_descends_from_whom(graph, data):
    kept = data.draw(st.sets(st.sampled_from(graph.nodes))) if graph.nodes else set()
    left = graph.restricted(kept)
    assert set(left.nodes) == kept
    assert all(left.ancestors(node) == graph.ancestors(node) & kept for node in kept)
    assert graph.restricted(graph.nodes) == graph


def test_it_cannot_be_reassigned():
    with pytest.raises(AttributeError):
        GRAPH.parents = {}


def test_long_chains_do_not_overflow_the_stack():
    chain = ModelGraph({f"{k:05}": (f"{k - 1:05}",) if k else () for k in range(3000)})
    assert chain.depth("02999") == 2999
    assert chain.root_of("02999") == {"00000"}
    assert len(chain.trees) == 1
