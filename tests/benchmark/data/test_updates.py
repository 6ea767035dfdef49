"""Updates along true edges are measured right on forests whose lengths, directions and ranks are known by hand."""

import numpy as np
import pytest
import torch

from mothr.benchmark.data.dataset import Truth
from mothr.benchmark.data.updates import PAIRS, RANKED, effective_rank, measure, weights_of
from mothr.benchmark.errors import MothrError


def truth_of(parents):
    nodes = {
        node: {"parents": list(above), "relation": "finetune" if above else None, "subtype": "full" if above else None}
        for node, above in parents.items()
    }
    return Truth.model_validate({"split": "s", "version": 1, "nodes": nodes})


def vector(*values):
    return {"w": torch.tensor(values, dtype=torch.float32)}


def edge_of(updates, child):
    [edge] = [edge for edge in updates.edges if edge.child == child]
    return edge


def test_lengths_and_the_coefficient_of_a_chain(write_models):
    """a = (3, 4, 0), u = (0, 0, 2), c - p = (0, 3, -1)."""
    models = write_models({"a": vector(3, 4, 0), "p": vector(3, 4, 2), "c": vector(3, 7, 1)})
    updates = measure(models, truth_of({"a": (), "p": ("a",), "c": ("p",)}))
    first, second = edge_of(updates, "p"), edge_of(updates, "c")
    assert first.relative_length == pytest.approx(2 / 5)
    assert (first.length_over_parents, first.coefficient) == (None, None)
    assert second.relative_length == pytest.approx(np.sqrt(10 / 29))
    assert second.length_over_parents == pytest.approx(np.sqrt(10) / 2)
    assert second.coefficient == pytest.approx(0.5)  # c - a = (0, 3, 1)
    assert second.kind == "full"
    assert updates.siblings == updates.nephews == ()


def test_siblings_and_nephews(write_models):
    """Below p, the uncle c moves by (0, 2), its sibling s by (1, 1), and the nephew n goes on by (1, -2)."""
    models = write_models({"p": vector(1, 0), "c": vector(1, 2), "s": vector(2, 1), "n": vector(3, -1)})
    updates = measure(models, truth_of({"p": (), "c": ("p",), "s": ("p",), "n": ("s",)}))
    [pair] = updates.siblings
    assert {pair.first, pair.second} == {"c", "s"}
    assert pair.value == pytest.approx(np.sqrt(0.5))
    [nephew] = updates.nephews
    assert (nephew.first, nephew.second) == ("n", "c")
    assert nephew.value == pytest.approx(-0.5)  # n - p = (2, -1)
    assert updates.values("uncle_coefficient") == pytest.approx([-0.5])
    assert updates.values("sibling_cosine") == pytest.approx([np.sqrt(0.5)])


def test_only_tensors_that_the_models_share_by_name_and_shape_count(write_models):
    """The head of c has another shape, and the ancestor lacks the tensor v: both are left out where they are not shared."""
    models = write_models({
        "a": vector(1, 0) | {"head": torch.zeros(3)},
        "p": vector(1, 2) | {"head": torch.ones(3), "v": torch.ones(4)},
        "c": vector(1, 3) | {"head": torch.ones(5), "v": 3 * torch.ones(4)},
    })  # fmt: skip
    updates = measure(models, truth_of({"a": (), "p": ("a",), "c": ("p",)}))
    edge = edge_of(updates, "c")
    assert edge.relative_length == pytest.approx(np.sqrt((1 + 16) / (5 + 4)))  # w and v
    assert edge.length_over_parents == pytest.approx(0.5)  # w alone
    assert edge.coefficient == pytest.approx(1.5)
    assert edge.tensors_touched == 1
    assert edge_of(updates, "p").relative_length == pytest.approx(np.sqrt(4 + 3))  # w and the head
    apart = measure(write_models({"a": vector(1, 0), "b": vector(1, 0, 0)}), truth_of({"a": (), "b": ("a",)}))
    assert (edge_of(apart, "b").relative_length, edge_of(apart, "b").tensors_touched) == (None, None)


def test_the_share_of_touched_tensors_counts_bytes_and_leaves_out_integers_and_scales(write_models):
    parent = {
        "w": torch.ones(4), "v": torch.ones(4), "x": torch.ones(2, 2),
        "count": torch.tensor([1]), "q": torch.ones(2, 2, dtype=torch.uint8), "q_scale": torch.ones(2),
    }  # fmt: skip
    child = {name: tensor.clone() for name, tensor in parent.items()}
    child["w"][0] = 2
    child["count"][0] = 7
    child["q_scale"][0] = 9
    models = write_models({"a": parent, "b": child})
    assert set(weights_of(models.checkpoints[0])) == {"w", "v", "x"}
    edge = edge_of(measure(models, truth_of({"a": (), "b": ("a",)})), "b")
    assert edge.tensors_touched == pytest.approx(1 / 3)
    assert edge.relative_length == pytest.approx(1 / np.sqrt(12))
    assert edge.effective_rank is None  # the one touched tensor is a vector


def test_stored_bfloat16_and_int8_count_with_their_values(write_models):
    weight = torch.tensor([[1.0, -2.0], [0.5, 4.0]])
    int8 = {"w": torch.tensor([[1, -2], [1, 8]], dtype=torch.int8), "w_scale": torch.tensor([1.0, 0.5])}
    models = write_models({"a": {"w": weight}, "b": {"w": weight.bfloat16()}, "c": int8})
    updates = measure(models, truth_of({"a": (), "b": ("a",), "c": ("b",)}))
    for child in "bc":  # equal values, other bytes
        edge = edge_of(updates, child)
        assert (edge.relative_length, edge.tensors_touched, edge.effective_rank) == (0, 1, None)
        assert edge.length_over_parents is edge.coefficient is None
    rounded = write_models({"a": vector(1.0, 1.0), "b": {"w": torch.tensor([1.0, 1.01]).bfloat16()}})
    edge = edge_of(measure(rounded, truth_of({"a": (), "b": ("a",)})), "b")
    assert edge.relative_length == pytest.approx((1.0078125 - 1) / np.sqrt(2))


def test_the_effective_rank_of_known_singular_values():
    assert effective_rank(np.diag([2.0, 2.0, 2.0, 0.0])) == pytest.approx(3)
    shares = np.array([9, 1]) / 10
    assert effective_rank(np.diag([3.0, 1.0])[:, ::-1]) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    assert effective_rank(np.outer([1, 2, 3], [1, 5])) == pytest.approx(1)
    assert effective_rank(np.eye(4).reshape(4, 1, 2, 2)) == pytest.approx(4)  # a kernel of 4 outputs
    assert effective_rank(np.zeros((3, 3))) is None


def test_ranks_are_means_over_a_few_touched_matrices(write_models):
    generator = torch.Generator().manual_seed(0)
    names = [f"layers.{index:02}.weight" for index in range(3 * RANKED)]
    parent = {name: torch.randn(8, 12, generator=generator) for name in names} | {"bias": torch.zeros(8)}
    child = {name: tensor.clone() for name, tensor in parent.items()}
    child["bias"] += 1
    for name in names[RANKED:]:
        child[name] += torch.outer(torch.randn(8, generator=generator), torch.randn(12, generator=generator))
    models = write_models({"a": parent, "b": child})
    edge = edge_of(measure(models, truth_of({"a": (), "b": ("a",)})), "b")
    assert edge.effective_rank == pytest.approx(1, abs=1e-3)  # matrices that are not touched do not count
    assert edge.effective_rank_share == pytest.approx(1 / 8, abs=1e-3)


def test_a_copy_has_length_zero_and_a_child_of_it_no_ratio(write_models):
    models = write_models({"a": vector(1, 2), "p": vector(1, 2), "c": vector(1, 5), "d": vector(1, 2)})
    updates = measure(models, truth_of({"a": (), "p": ("a",), "c": ("p",), "d": ("p",)}))
    assert (edge_of(updates, "p").relative_length, edge_of(updates, "p").tensors_touched) == (0, 0)
    assert edge_of(updates, "c").length_over_parents is None
    assert updates.siblings == ()  # one of the two updates is zero
    assert list(updates.values("relative_length")) == pytest.approx([3 / np.sqrt(5), 0, 0])


def test_a_merge_has_two_edges_and_no_siblings_and_gives_its_children_no_grandparent(write_models):
    models = write_models({
        "r": vector(1, 0), "p": vector(1, 2), "q": vector(3, 0), "m": vector(2, 1), "c": vector(2, 3), "s": vector(1, 4),
    })  # fmt: skip
    parents = {"r": (), "p": ("r",), "q": ("r",), "m": ("p", "q"), "c": ("m",), "s": ("p",)}
    updates = measure(models, truth_of(parents))
    merged = {edge.parent: edge for edge in updates.edges if edge.child == "m"}
    assert merged["p"].length_over_parents == pytest.approx(np.sqrt(2) / 2)
    assert merged["q"].coefficient == pytest.approx(0.5)  # m - r = (1, 1), u = (2, 0)
    assert edge_of(updates, "c").length_over_parents is None
    assert [{pair.first, pair.second} for pair in updates.siblings] == [{"p", "q"}]
    assert [(pair.first, pair.second) for pair in updates.nephews] == [("s", "q")]


def test_the_trees_of_a_forest_are_measured_apart_and_a_single_model_gives_nothing(write_models):
    contents = {"a": vector(1, 0), "b": vector(1, 1), "x": vector(0, 2), "y": vector(4, 2), "single": vector(9, 9)}
    updates = measure(write_models(contents), truth_of({"a": (), "b": ("a",), "x": (), "y": ("x",), "single": ()}))
    assert {edge.child: (edge.tree, edge.relative_length) for edge in updates.edges} == {"b": (0, 1), "y": (2, 2)}
    alone = measure(write_models({"a": vector(1, 2)}), truth_of({"a": ()}))
    assert alone.edges == alone.siblings == alone.nephews == ()
    assert alone.values("relative_length").shape == (0,)


def test_large_tensors_are_summed_in_slices_and_pairs_are_bounded(write_models, monkeypatch):
    monkeypatch.setattr("mothr.benchmark.data.updates.SLICE", 64)
    generator = torch.Generator().manual_seed(1)
    root = torch.randn(7, 9, generator=generator)
    children = {f"c{index:02}": root + torch.randn(7, 9, generator=generator) for index in range(50)}
    models = write_models({"a": {"w": root}} | {name: {"w": tensor} for name, tensor in children.items()})
    updates = measure(models, truth_of({"a": ()} | dict.fromkeys(children, ("a",))))
    for edge in updates.edges:
        expected = (children[edge.child] - root).norm() / root.norm()
        assert edge.relative_length == pytest.approx(float(expected), rel=1e-5)
    assert len(updates.siblings) == PAIRS  # of 1225
    for pair in updates.siblings[::100]:
        first, second = ((children[name] - root).flatten() for name in (pair.first, pair.second))
        assert pair.value == pytest.approx(float(torch.cosine_similarity(first, second, dim=0)), abs=1e-5)


def test_a_truth_that_names_another_model_is_an_error(write_models):
    with pytest.raises(MothrError, match="model b: is in the truth, but not among the models"):
        measure(write_models({"a": vector(1.0)}), truth_of({"a": (), "b": ("a",)}))
