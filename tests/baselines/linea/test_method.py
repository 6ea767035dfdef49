"""Tests of Linea as a whole."""

import re

import numpy as np
import pytest
import torch

from mothr.baselines.linea import Linea
from mothr.baselines.linea.norm_growth import NormGrowth
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.run.method import needs
from mothr.benchmark.side_information import SideInformation

SHAPE = (None, 0, 0, 1, 1, 2, 2)
SIDE = 24


def forest(write_models, trees=2, seed=0):
    """Returns models of heavy-tailed roots and Gaussian updates, and their truth; ids say nothing of the order they were made in."""
    generator = torch.Generator().manual_seed(seed)
    names = [
        f"layers.{layer}.{part}.weight"
        for layer in range(3)
        for part in ("attention.q_proj", "attention.o_proj", "mlp.fc1")
    ]
    ids = iter(f"{number:03d}" for number in torch.randperm(900, generator=generator).tolist())
    contents, parents = {}, {}
    for _ in range(trees):
        made = []
        for above in SHAPE:
            noise = {name: torch.randn(SIDE, SIDE, generator=generator) for name in names}
            node = next(ids)
            if above is None:
                contents[node] = {name: value.sign() * value.abs() ** 2 for name, value in noise.items()}
                parents[node] = ()
            else:
                contents[node] = {name: contents[made[above]][name] + 0.3 * value for name, value in noise.items()}
                parents[node] = (made[above],)
            made.append(node)
    return write_models(contents), ModelGraph(parents)


def tensors(models):
    """Returns {id: {name: tensor}} of all that ``models`` hold."""
    return {
        checkpoint.id: {name: checkpoint.read(name) for name in checkpoint.tensors} for checkpoint in models.checkpoints
    }


def predict(models, **fields):
    return Linea(**fields)(models, np.random.default_rng(0))


@pytest.mark.parametrize("trees", [1, 2, 4])
def test_without_side_information_it_recovers_the_forest_its_trees_and_its_roots(write_models, trees):
    models, truth = forest(write_models, trees)
    result = predict(models)
    assert models.given.names() == []
    assert needs(Linea()) == frozenset()
    assert result.graph == truth
    assert result.graph.roots == truth.roots
    assert {frozenset(node for node in models.ids if result.trees[node] == label) for label in range(trees)} == set(
        truth.trees
    )


def test_every_edge_has_a_probability_and_clear_edges_have_a_high_one(write_models):
    models, truth = forest(write_models)
    result = predict(models)
    assert set(result.confidence) == set(result.graph.edges)
    assert all(0 <= value <= 1 for value in result.confidence.values())
    assert np.mean([result.confidence[edge] for edge in truth.edges]) > 0.9
    doubtful = predict(models, sharpness=1e-9)
    assert doubtful.graph == result.graph
    for (
        parent,
        child,
    ) in truth.edges:  # without evidence, the side of an edge with more models is likelier to hold the root
        tree = next(tree for tree in truth.trees if child in tree)
        below = 1 + sum(child in truth.ancestors(node) for node in tree)
        assert doubtful.confidence[parent, child] == pytest.approx(1 - below / len(tree), rel=0.01)


def test_with_given_trees_each_tree_has_one_root_even_if_the_trees_are_wrong(write_models):
    models, truth = forest(write_models)
    right = {node: 5 - 3 * label for label, tree in enumerate(truth.trees) for node in tree}
    assert predict(models.with_given(SideInformation(trees=right))).graph == truth
    shuffled = {node: position % 3 for position, node in enumerate(sorted(models.ids))}
    result = predict(models.with_given(SideInformation(trees=shuffled))).graph
    assert set(result.trees) == {frozenset(node for node in shuffled if shuffled[node] == label) for label in range(3)}
    assert len(result.roots) == 3
    assert max(map(len, result.parents.values())) == 1


def test_unrelated_models_are_given_no_parent(write_models):
    models, truth = forest(write_models, trees=1)
    generator = torch.Generator().manual_seed(7)
    held = tensors(models)
    strangers = {
        f"x{number}": {name: torch.randn(SIDE, SIDE, generator=generator) for name in held[models.ids[0]]}
        for number in range(3)
    }
    result = predict(write_models(held | strangers)).graph
    assert set(result.roots) == {*truth.roots, *strangers}
    assert result.subgraph(truth.nodes) == truth
    for node in strangers:
        assert result.children(node) == ()


def test_one_model_two_models_and_copies_are_legal(write_models):
    models, truth = forest(write_models, trees=1)
    held = tensors(models)
    [root], child = truth.roots, truth.children(truth.roots[0])[0]
    assert predict(write_models({"a": held[root]})).graph == ModelGraph({"a": ()})
    result = predict(write_models({"a": held[child], "b": held[root]}))
    assert result.graph == ModelGraph({"b": (), "a": ("b",)})
    assert 0.5 < result.confidence["b", "a"] <= 1
    result = predict(write_models(dict.fromkeys("abcd", held[root])))
    assert len(result.graph.roots) == 1
    assert all(0 < value < 1 for value in result.confidence.values())
    result = predict(write_models({"a": held[root], "b": held[root], "c": held[child], "d": held[child]})).graph
    assert len(result.trees) == 1
    assert result.roots[0] in "ab"


def test_zero_weights_and_constant_tensors_change_nothing(write_models):
    models, truth = forest(write_models, trees=1)
    held = tensors(models)
    for weights in held.values():
        weights |= {"frozen.weight": torch.ones(SIDE, SIDE), "empty.weight": torch.zeros(SIDE, SIDE)}
    assert predict(write_models(held)).graph == truth


def test_only_the_direction_random_depends_on_the_generator(write_models):
    models, _ = forest(write_models)
    assert {str(Linea()(models, np.random.default_rng(seed))) for seed in range(3)} == {str(predict(models))}
    tossed = {Linea(direction="random")(models, np.random.default_rng(seed)).graph.roots for seed in range(8)}
    assert len(tossed) > 1


def test_the_direction_oracle_needs_the_truth(write_models):
    models, truth = forest(write_models)
    method = Linea(direction="oracle")
    assert needs(method) == {"truth"}
    assert method(models.with_given(SideInformation(truth=truth)), np.random.default_rng(0)).graph == truth
    with pytest.raises(MothrError, match="direction 'oracle' needs the truth"):
        predict(models, direction="oracle")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"distance": "relativ"}, "unknown distance 'relativ'; did you mean relative"),
        ({"direction": "kurtossis"}, "unknown direction 'kurtossis'; did you mean kurtosis"),
        ({"layers": "matrix"}, "unknown layers 'matrix'; did you mean matrices"),
        ({"relatedness_threshold": 0.0}, "relatedness_threshold is 0.0; it must lie between 0 and 1"),
        ({"relatedness_threshold": 1.0}, "relatedness_threshold is 1.0"),
        ({"relatedness_threshold": float("nan")}, "relatedness_threshold is nan"),
        ({"distance": "signed_max"}, "distance 'signed_max' is not symmetric"),
        ({"sharpness": -1.0}, "sharpness is -1.0; it must be a finite number >= 0"),
        ({"sharpness": float("inf")}, "sharpness is inf"),
    ],
)
def test_an_invalid_field_is_refused(write_models, fields, expected):
    with pytest.raises(MothrError, match=re.escape(expected)):
        predict(write_models({"a": {"w": torch.eye(4)}, "b": {"w": torch.eye(4)}}), **fields)


def test_the_children_of_a_missing_model_go_to_the_nearest_present_ancestor(grown, contents, write_models):
    models, truth = grown((None, 0, 1, 2, 2, 2, 0))
    held = contents(models)
    missing = next(node for node in truth.nodes if len(truth.children(node)) == 3)
    left = [node for node in truth.nodes if node != missing]
    assert predict(write_models({node: held[node] for node in left})).graph == truth.restricted(left)


def test_it_abstains_if_no_parent_has_a_probability_above_one_half(write_models):
    generator = torch.Generator().manual_seed(3)
    shared = torch.randn(SIDE, SIDE, generator=generator)
    pair = {
        node: {"layers.0.mlp.fc1.weight": shared + 0.1 * torch.randn(SIDE, SIDE, generator=generator)} for node in "ab"
    }
    doubtful = predict(write_models(pair), sharpness=0.0)  # nothing says which of two models was first
    assert len(doubtful.abstained) == 1
    assert doubtful.graph.edges == ()
    assert doubtful.confidence == doubtful.relations == {}
    sure = forest(write_models)[0]
    assert predict(sure).abstained == frozenset()


def test_models_that_differ_in_vectors_only_are_compared_by_vectors(write_models):
    generator = torch.Generator().manual_seed(0)
    body = {"layers.0.mlp.fc1.weight": torch.randn(SIDE, SIDE, generator=generator) ** 3}
    names = [f"layers.{layer}.mlp.fc1.bias" for layer in range(8)]
    tree: list[dict] = [{name: torch.randn(512, generator=generator) ** 3 for name in names}]
    for above in SHAPE[1:]:
        tree.append({name: value + 0.3 * torch.randn(512, generator=generator) for name, value in tree[above].items()})
    ids = [str(number) for number in (5, 3, 6, 0, 2, 1, 4)]
    result = predict(write_models({node: body | vectors for node, vectors in zip(ids, tree, strict=True)}))
    assert result.graph == ModelGraph(
        {ids[node]: () if above is None else (ids[above],) for node, above in enumerate(SHAPE)}
    )


def test_models_that_differ_in_heads_only_get_no_parent(write_models):
    body = {"layers.0.mlp.fc1.weight": torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(0))}
    result = predict(
        write_models({node: {**body, "classifier.weight": torch.full((2, SIDE), float(node))} for node in "1234"})
    )
    assert result.graph.edges == ()
    assert len(result.abstained) == 3


@pytest.mark.filterwarnings("ignore::mothr.benchmark.errors.MothrWarning")
def test_a_tensor_with_another_shape_in_some_models_does_not_mislead_distances(grown_tree, write_models):
    held, order, truth = grown_tree
    for node in (order[1], order[3], order[6]):  # tokens were added
        tokens = held[node]["embed_tokens.weight"]
        held[node]["embed_tokens.weight"] = torch.cat([tokens, torch.ones(3, tokens.shape[1])])
    for node in truth.nodes:
        held[node]["embed_tokens.weight"] *= 30  # and what was trained most of all
    assert predict(write_models(held)).graph == truth


def test_norm_growth_finds_the_root_if_all_weights_are_gaussian(write_models):
    generator = torch.Generator().manual_seed(1)
    tree = [{"layers.0.mlp.fc1.weight": torch.randn(200, 200, generator=generator)}]
    for above in SHAPE[1:]:
        tree.append(
            {name: value + 0.05 * torch.randn(200, 200, generator=generator) for name, value in tree[above].items()}
        )
    ids = [str(number) for number in (5, 3, 6, 0, 2, 1, 4)]
    models = write_models(dict(zip(ids, tree, strict=True)))
    truth = ModelGraph({ids[node]: () if above is None else (ids[above],) for node, above in enumerate(SHAPE)})
    assert predict(models, norm_growth=NormGrowth(0.01)).graph == truth
    assert predict(models, norm_growth=NormGrowth(0.0)).graph.roots != truth.roots
