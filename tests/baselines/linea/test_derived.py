"""Tests of Linea on derived models: merges, copies, duplicates, and their descendants."""

import numpy as np
import pytest
import torch

from mothr.baselines.linea import Linea
from mothr.benchmark.graph import ModelGraph


def predict(models, **fields):
    return Linea(**fields)(models, np.random.default_rng(0))


def mean(*models):
    return {name: sum(model[name] for model in models) / len(models) for name in models[0]}


def quantized(weights):
    return {name: value.bfloat16() for name, value in weights.items()}


def recovered(write_models, held, truth, parents):
    """Returns the answer for ``held``, and the truth with ``parents`` of the new models."""
    return predict(write_models(held)).graph, ModelGraph({**truth.parents, **parents})


def test_a_merge_gets_both_its_sources_and_its_own_child(grown_tree, write_models, child):
    held, order, truth = grown_tree
    merge = mean(held[order[1]], held[order[2]])
    result, expected_graph = recovered(
        write_models, {**held, "merge": merge, "below": child(merge), "last": child(child(merge), 8)}, truth,
        {"merge": (order[1], order[2]), "below": ("merge",), "last": ("below",)},
    )  # fmt: skip
    assert result == expected_graph
    assert predict(write_models({**held, "merge": merge}), detect_derived=False).graph != ModelGraph(
        {**truth.parents, "merge": (order[1], order[2])}
    )


def test_a_quantized_copy_is_a_leaf(grown_tree, write_models):
    held, order, truth = grown_tree
    for node in (order[0], order[1], order[3]):
        copy = quantized(held[node])
        result, expected_graph = recovered(write_models, {**held, "copy": copy}, truth, {"copy": (node,)})
        assert result == expected_graph
    coarse = {name: (value * 20).round() / 20 for name, value in held[order[3]].items()}
    result, expected_graph = recovered(write_models, {**held, "coarse": coarse}, truth, {"coarse": (order[3],)})
    assert result == expected_graph


def test_a_reordered_copy_is_a_child_of_its_source(grown_tree, permuted, write_models):
    held, order, truth = grown_tree
    for node in (order[1], order[4]):
        result, expected_graph = recovered(
            write_models, {**held, "copy": permuted(held[node])}, truth, {"copy": (node,)}
        )
        assert result == expected_graph


def test_a_duplicate_of_a_leaf_has_the_same_parent_and_a_duplicate_of_a_root_is_its_child(grown_tree, write_models):
    held, order, truth = grown_tree
    leaf, root = order[-1], order[0]
    result, expected_graph = recovered(write_models, {**held, "twin": held[leaf]}, truth, {"twin": truth.parents[leaf]})
    assert result == expected_graph
    result = predict(write_models({**held, "twin": held[root]})).graph
    assert len(result.roots) == 1
    swapped = {root: "twin", "twin": root}
    expected_graph = ModelGraph({**truth.parents, "twin": (root,)})
    assert result in (
        expected_graph,
        expected_graph.relabel({node: swapped.get(node, node) for node in expected_graph.nodes}),
    )


def test_every_edge_of_a_mixed_forest_has_a_probability(grown_tree, permuted, write_models, child):
    held, order, _ = grown_tree
    merge = mean(held[order[3]], held[order[5]])
    result = predict(write_models({
        **held, "merge": merge, "below": child(merge), "copy": quantized(held[order[2]]), "twin": held[order[4]],
        "other": permuted(held[order[6]]),
    }))  # fmt: skip
    assert set(result.confidence) == set(result.graph.edges)
    assert all(0 <= value <= 1 for value in result.confidence.values())


def test_each_model_gets_its_relation(grown_tree, write_models):
    held, order, truth = grown_tree
    cut = held[order[4]]["embed_tokens.weight"].abs().median()
    copies = {
        "merge": mean(held[order[1]], held[order[2]]), "rounded": quantized(held[order[3]]), "again": quantized(held[order[3]]),
        "sparse": {name: torch.where(value.abs() < cut, 0.0, value) for name, value in held[order[4]].items()},
    }  # fmt: skip
    result = predict(write_models(held | copies))
    tuned = {node for node in truth.nodes if truth.parents[node]} | {"sparse"}
    assert result.relations == {"merge": "merge", "rounded": "quantized", "again": "quantized"} | dict.fromkeys(
        tuned, "finetune"
    )


@pytest.mark.parametrize("seed", [0, 1, 34, 42, 83])
def test_any_mixture_of_derived_models_gives_a_forest_of_all_models(write_models, seed, child):
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    held = {
        "0": {f"layers.{layer}.mlp.up_proj.weight": torch.randn(12, 16, generator=generator) ** 3 for layer in range(2)}
    }
    for made in range(1, 20):
        one, other = (held[node] for node in rng.choice(list(held), 2))
        floats = {name: value.float() for name, value in one.items()}
        held[str(made)] = [
            child(floats, made, 0.1), child(floats, made, 0.1), quantized(floats), {name: value.half() for name, value in floats.items()},
            mean(floats, {name: value.float() for name, value in other.items()}), one,
        ][rng.integers(6)]  # fmt: skip
    result = predict(write_models(held))
    assert set(result.graph.nodes) == set(held)
    assert set(result.confidence) == set(result.graph.edges)
