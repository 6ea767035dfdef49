"""Shortcuts are measured right on weights whose lineage and updates are known."""

import pytest
import torch

from mothr.benchmark.data.dataset import Truth
from mothr.generators.cards.shortcuts import PAIRS, kinds_of_pairs, shortcuts

PARENTS = {"a": None, "b": "a", "c": "a", "d": "b", "e": "d", "x": None, "y": "x"}


def truth_of(parents, subtype="lora"):
    nodes = {
        node: {
            "parents": [parent] if parent else [],
            "relation": "finetune" if parent else None,
            "subtype": subtype if parent else None,
        }
        for node, parent in parents.items()
    }
    return Truth.model_validate({"split": "s", "version": 1, "nodes": nodes})


def low_rank(generator, rank):
    return 0.05 * torch.randn(16, rank, generator=generator) @ torch.randn(rank, 12, generator=generator)


@pytest.fixture
def models(write_models):
    """Each edge adds an update of rank 2 to one matrix, and touches 4 of 10 rows of another; a third never changes in a tree."""
    generator = torch.Generator().manual_seed(0)
    contents = {}
    for node, parent in PARENTS.items():
        if parent is None:
            contents[node] = {name: torch.randn(shape, generator=generator) for name, shape in
                              {"q.weight": (16, 12), "embed.weight": (10, 8), "norm.weight": (8,)}.items()}  # fmt: skip
            continue
        tensors = {name: tensor.clone() for name, tensor in contents[parent].items()}
        tensors["q.weight"] += low_rank(generator, 2)
        tensors["embed.weight"][:4] += 0.1 * torch.randn(4, 8, generator=generator)
        contents[node] = tensors
    return write_models(contents)


def cells(lines, kind):
    [line] = [line for line in lines if line.startswith(f"| {kind} |")]
    return line.strip("| ").split(" | ")[1:]


def test_identical_tensors_untouched_rows_and_ranks_are_correct(models):
    lines = shortcuts(models, truth_of(PARENTS))
    assert cells(lines, "parent and child (lora)")[:3] == [
        "5",
        "33%",
        "23%",
    ]  # 6 of 10 rows of one matrix, none of 16 of the other
    assert cells(lines, "parent and child (lora)")[4] == "3.0 (33%)"  # 2 of 12 and, of the touched rows, 4 of 8
    assert cells(lines, "siblings")[:2] == ["1", "33%"]
    assert cells(lines, "of different trees")[1:3] == ["0%", "0%"]
    assert "- Between parent and child, 60 % of the rows of `embed.weight` are untouched." in lines


def test_rank_and_size_of_a_difference_grow_with_the_number_of_edges(write_models):
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(16, 12, generator=generator)
    contents = {}
    for node in "abcde":
        contents[node] = {"q.weight": weights.clone()}
        weights = weights + low_rank(generator, 2)
    lines = shortcuts(write_models(contents), truth_of({"a": None, "b": "a", "c": "b", "d": "c", "e": "d"}))
    rows = [
        cells(lines, kind) for kind in ("parent and child (lora)", "2 edges apart", "3 edges apart", "4 edges apart")
    ]
    assert [row[4].split()[0] for row in rows] == ["2.0", "4.0", "6.0", "8.0"]
    assert rows[0][4] == "2.0 (17%)"
    sizes = [float(row[3]) for row in rows]
    assert sizes == sorted(set(sizes))


def test_copies_are_counted_and_ranks_of_rounded_models_are_left_out(write_models):
    weight = torch.randn(16, 12, generator=torch.Generator().manual_seed(2))
    models = write_models({"a": {"w": weight.half()}, "b": {"w": (weight + 1).half()}, "c": {"w": (weight + 1).half()}})
    lines = shortcuts(models, truth_of({"a": None, "b": "a", "c": "a"}, "duplicate"))
    assert "- 1 models are bit-identical to another model." in lines
    assert cells(lines, "parent and child (duplicate)")[4] == "-"
    assert cells(lines, "siblings")[1] == "100%"


def test_pairs_are_bounded_and_the_same_on_every_call():
    parents = {f"{node:03}": f"{(node - 1) // 2:03}" if node else None for node in range(200)}
    truth, ids = truth_of(parents), sorted(parents)
    kinds = kinds_of_pairs(truth, ids)
    assert {len(pairs) for pairs in kinds.values()} == {PAIRS}
    for parent, child in kinds["parent and child (lora)"]:
        assert truth.nodes[ids[child]].parents == (ids[parent],)
    for first, second in kinds["siblings"]:
        assert truth.nodes[ids[first]].parents == truth.nodes[ids[second]].parents
    again = kinds_of_pairs(truth, ids)
    assert all((kinds[kind] == again[kind]).all() for kind in kinds)


def test_a_single_model_gives_no_lines(write_models):
    assert shortcuts(write_models({"a": {"w": torch.ones(2, 2)}}), truth_of({"a": None})) == []
