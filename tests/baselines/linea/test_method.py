import re

import numpy as np
import pytest
import torch

from mothr.baselines.linea import Linea
from mothr.baselines.linea.norm_growth import NormGrowth
from mothr.baselines.linea.reassignment import reassign
from mothr.baselines.parts.distances import distances
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.run.method import needs
from mothr.benchmark.side_information import SideInformation
from mothr.benchmark.weights.layers import Layers

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


def ask(models, **fields):
    return Linea(**fields)(models, np.random.default_rng(0))


@pytest.mark.parametrize("trees", [1, 2, 4])
def test_told_nothing_it_recovers_the_forest_its_trees_and_its_roots(write_models, trees):
    models, truth = forest(write_models, trees)
    found = ask(models)
    assert models.given.names() == []
    assert needs(Linea()) == frozenset()
    assert found.graph == truth
    assert found.graph.roots == truth.roots
    assert {frozenset(node for node in models.ids if found.trees[node] == label) for label in range(trees)} == set(
        truth.trees
    )


def test_every_edge_has_a_probability_and_the_clear_ones_are_high(write_models):
    models, truth = forest(write_models)
    found = ask(models)
    assert set(found.confidence) == set(found.graph.edges)
    assert all(0 <= value <= 1 for value in found.confidence.values())
    assert np.mean([found.confidence[edge] for edge in truth.edges]) > 0.9
    doubtful = ask(models, sharpness=1e-9)
    assert doubtful.graph == found.graph
    for (
        parent,
        child,
    ) in truth.edges:  # without evidence, the side of an edge with more models is likelier to hold the root
        tree = next(tree for tree in truth.trees if child in tree)
        below = 1 + sum(child in truth.ancestors(node) for node in tree)
        assert doubtful.confidence[parent, child] == pytest.approx(1 - below / len(tree), rel=0.01)


def test_told_the_trees_it_gives_each_exactly_one_root_even_where_the_trees_are_wrong(write_models):
    models, truth = forest(write_models)
    right = {node: 5 - 3 * label for label, tree in enumerate(truth.trees) for node in tree}
    assert ask(models.with_given(SideInformation(trees=right))).graph == truth
    shuffled = {node: position % 3 for position, node in enumerate(sorted(models.ids))}
    found = ask(models.with_given(SideInformation(trees=shuffled))).graph
    assert set(found.trees) == {frozenset(node for node in shuffled if shuffled[node] == label) for label in range(3)}
    assert len(found.roots) == 3
    assert max(map(len, found.parents.values())) == 1


def test_unrelated_models_are_given_no_parent(write_models):
    models, truth = forest(write_models, trees=1)
    generator = torch.Generator().manual_seed(7)
    held = tensors(models)
    strangers = {
        f"x{number}": {name: torch.randn(SIDE, SIDE, generator=generator) for name in held[models.ids[0]]}
        for number in range(3)
    }
    found = ask(write_models(held | strangers)).graph
    assert set(found.roots) == {*truth.roots, *strangers}
    assert found.subgraph(truth.nodes) == truth
    for node in strangers:
        assert found.children(node) == ()


def test_one_model_two_models_and_copies_are_legal(write_models):
    models, truth = forest(write_models, trees=1)
    held = tensors(models)
    [root], child = truth.roots, truth.children(truth.roots[0])[0]
    assert ask(write_models({"a": held[root]})).graph == ModelGraph({"a": ()})
    found = ask(write_models({"a": held[child], "b": held[root]}))
    assert found.graph == ModelGraph({"b": (), "a": ("b",)})
    assert 0.5 < found.confidence["b", "a"] <= 1
    found = ask(write_models(dict.fromkeys("abcd", held[root])))
    assert len(found.graph.roots) == 1
    assert all(0 < value < 1 for value in found.confidence.values())
    found = ask(write_models({"a": held[root], "b": held[root], "c": held[child], "d": held[child]})).graph
    assert len(found.trees) == 1
    assert found.roots[0] in "ab"


def test_zero_weights_and_constant_tensors_say_nothing_and_break_nothing(write_models):
    models, truth = forest(write_models, trees=1)
    held = tensors(models)
    for weights in held.values():
        weights |= {"frozen.weight": torch.ones(SIDE, SIDE), "empty.weight": torch.zeros(SIDE, SIDE)}
    assert ask(write_models(held)).graph == truth


def test_the_answer_does_not_depend_on_the_generator_unless_it_tosses(write_models):
    models, _ = forest(write_models)
    assert {str(Linea()(models, np.random.default_rng(seed))) for seed in range(3)} == {str(ask(models))}
    tossed = {Linea(direction="random")(models, np.random.default_rng(seed)).graph.roots for seed in range(8)}
    assert len(tossed) > 1


def test_told_the_true_directions_it_needs_the_truth(write_models):
    models, truth = forest(write_models)
    method = Linea(direction="oracle")
    assert needs(method) == {"truth"}
    assert method(models.with_given(SideInformation(truth=truth)), np.random.default_rng(0)).graph == truth
    with pytest.raises(MothrError, match="direction 'oracle' needs the truth"):
        ask(models, direction="oracle")


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
def test_a_field_that_cannot_be_is_refused(write_models, fields, expected):
    with pytest.raises(MothrError, match=re.escape(expected)):
        ask(write_models({"a": {"w": torch.eye(4)}, "b": {"w": torch.eye(4)}}), **fields)


# What was made without training


@pytest.fixture
def grown_tree(grown, contents):
    """The weights of a tree of seven, its nodes by depth, and its truth."""
    models, truth = grown()
    order = list(truth.roots)
    for node in order:
        order += truth.children(node)
    return contents(models), order, truth


def child(weights, seed=9, size=0.02):
    generator = torch.Generator().manual_seed(seed)
    return {name: value + size * torch.randn(value.shape, generator=generator) for name, value in weights.items()}


def mean(*models):
    return {name: sum(model[name] for model in models) / len(models) for name in models[0]}


def quantized(weights):
    return {name: value.bfloat16() for name, value in weights.items()}


def recovered(write_models, held, truth, parents):
    """Returns the answer for ``held``, and the truth with ``parents`` of the new models."""
    return ask(write_models(held)).graph, ModelGraph({**truth.parents, **parents})


def test_a_merge_has_both_its_parents_and_its_own_child(grown_tree, write_models):
    held, order, truth = grown_tree
    merge = mean(held[order[1]], held[order[2]])
    found, wanted = recovered(
        write_models, {**held, "merge": merge, "below": child(merge), "last": child(child(merge), 8)}, truth,
        {"merge": (order[1], order[2]), "below": ("merge",), "last": ("below",)},
    )  # fmt: skip
    assert found == wanted
    assert ask(write_models({**held, "merge": merge}), detect_derived=False).graph != ModelGraph(
        {**truth.parents, "merge": (order[1], order[2])}
    )


def test_a_quantized_copy_is_a_leaf_unless_something_came_from_it(grown_tree, write_models):
    held, order, truth = grown_tree
    for node in (order[0], order[1], order[3]):
        copy = quantized(held[node])
        found, wanted = recovered(write_models, {**held, "copy": copy}, truth, {"copy": (node,)})
        assert found == wanted
    coarse = {name: (value * 20).round() / 20 for name, value in held[order[3]].items()}
    found, wanted = recovered(write_models, {**held, "coarse": coarse}, truth, {"coarse": (order[3],)})
    assert found == wanted


def test_a_reordered_copy_hangs_below_what_it_was_made_from(grown_tree, permuted, write_models):
    held, order, truth = grown_tree
    for node in (order[1], order[4]):
        found, wanted = recovered(write_models, {**held, "copy": permuted(held[node])}, truth, {"copy": (node,)})
        assert found == wanted


def test_twins_of_a_leaf_have_the_same_parent_and_a_twin_of_a_root_comes_after_it(grown_tree, write_models):
    held, order, truth = grown_tree
    leaf, root = order[-1], order[0]
    found, wanted = recovered(write_models, {**held, "twin": held[leaf]}, truth, {"twin": truth.parents[leaf]})
    assert found == wanted
    found = ask(write_models({**held, "twin": held[root]})).graph
    assert len(found.roots) == 1
    swapped = {root: "twin", "twin": root}
    wanted = ModelGraph({**truth.parents, "twin": (root,)})
    assert found in (wanted, wanted.relabel({node: swapped.get(node, node) for node in wanted.nodes}))


def test_every_edge_of_a_mixed_forest_has_a_probability(grown_tree, permuted, write_models):
    held, order, _ = grown_tree
    merge = mean(held[order[3]], held[order[5]])
    found = ask(write_models({
        **held, "merge": merge, "below": child(merge), "copy": quantized(held[order[2]]), "twin": held[order[4]],
        "other": permuted(held[order[6]]),
    }))  # fmt: skip
    assert set(found.confidence) == set(found.graph.edges)
    assert all(0 <= value <= 1 for value in found.confidence.values())


def test_the_children_of_a_missing_model_go_to_the_nearest_ancestor_there_is(grown, contents, write_models):
    models, truth = grown((None, 0, 1, 2, 2, 2, 0))
    held = contents(models)
    missing = next(node for node in truth.nodes if len(truth.children(node)) == 3)
    left = [node for node in truth.nodes if node != missing]
    assert ask(write_models({node: held[node] for node in left})).graph == truth.restricted(left)


def test_siblings_trained_on_the_same_data_are_not_hung_below_the_one_that_moved_least(grown_tree, write_models):
    held, order, truth = grown_tree
    root = held[order[0]]
    step = {name: value - root[name] for name, value in child(root, 20, 0.01).items()}
    shares = dict(zip(step, np.linspace(0.4, 1.4, len(step)).tolist(), strict=True))
    weak = {name: value + step[name] for name, value in root.items()}
    most = {name: value + shares[name] * step[name] for name, value in root.items()}
    far = {f"far{number}": child(most, 30 + number, 0.01) for number in range(4)}
    models = write_models({**held, "weak": weak, **far})
    nearest = distances(models, Linea.distance, Layers.parse(Linea.layers))[models.ids.index("far0")].argsort()[1]
    assert models.ids[nearest] == "weak"
    assert ask(models).graph == ModelGraph({**truth.parents, **dict.fromkeys(["weak", *far], (order[0],))})


def test_it_says_how_each_model_was_made(grown_tree, write_models):
    held, order, truth = grown_tree
    cut = held[order[4]]["embed_tokens.weight"].abs().median()
    copies = {
        "merge": mean(held[order[1]], held[order[2]]), "rounded": quantized(held[order[3]]), "again": quantized(held[order[3]]),
        "sparse": {name: torch.where(value.abs() < cut, 0.0, value) for name, value in held[order[4]].items()},
    }  # fmt: skip
    found = ask(write_models(held | copies))
    tuned = {node for node in truth.nodes if truth.parents[node]} | {"sparse"}
    assert found.relations == {"merge": "merge", "rounded": "quantized", "again": "quantized"} | dict.fromkeys(
        tuned, "finetune"
    )


def test_it_names_no_parent_where_none_is_likelier_than_not(write_models):
    generator = torch.Generator().manual_seed(3)
    shared = torch.randn(SIDE, SIDE, generator=generator)
    pair = {
        node: {"layers.0.mlp.fc1.weight": shared + 0.1 * torch.randn(SIDE, SIDE, generator=generator)} for node in "ab"
    }
    doubtful = ask(write_models(pair), sharpness=0.0)  # nothing says which of two models was first
    assert len(doubtful.abstained) == 1
    assert doubtful.graph.edges == ()
    assert doubtful.confidence == doubtful.relations == {}
    sure = forest(write_models)[0]
    assert ask(sure).abstained == frozenset()


@pytest.mark.parametrize("seed", [0, 1, 34, 42, 83])
def test_whatever_was_made_of_whatever_the_answer_is_a_forest_of_all_models(write_models, seed):
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
    found = ask(write_models(held))
    assert set(found.graph.nodes) == set(held)
    assert set(found.confidence) == set(found.graph.edges)


def test_models_of_which_only_vectors_were_trained_are_told_apart_by_them(write_models):
    generator = torch.Generator().manual_seed(0)
    body = {"layers.0.mlp.fc1.weight": torch.randn(SIDE, SIDE, generator=generator) ** 3}
    names = [f"layers.{layer}.mlp.fc1.bias" for layer in range(8)]
    tree: list[dict] = [{name: torch.randn(512, generator=generator) ** 3 for name in names}]
    for above in SHAPE[1:]:
        tree.append({name: value + 0.3 * torch.randn(512, generator=generator) for name, value in tree[above].items()})
    ids = [str(number) for number in (5, 3, 6, 0, 2, 1, 4)]
    found = ask(write_models({node: body | vectors for node, vectors in zip(ids, tree, strict=True)}))
    assert found.graph == ModelGraph(
        {ids[node]: () if above is None else (ids[above],) for node, above in enumerate(SHAPE)}
    )


def test_models_that_nothing_but_heads_tells_apart_are_given_no_parent(write_models):
    body = {"layers.0.mlp.fc1.weight": torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(0))}
    found = ask(
        write_models({node: {**body, "classifier.weight": torch.full((2, SIDE), float(node))} for node in "1234"})
    )
    assert found.graph.edges == ()
    assert len(found.abstained) == 3


@pytest.mark.filterwarnings("ignore::mothr.benchmark.errors.MothrWarning")
def test_a_tensor_that_has_another_shape_in_some_models_misleads_no_distance(grown_tree, write_models):
    held, order, truth = grown_tree
    for node in (order[1], order[3], order[6]):  # tokens were added
        tokens = held[node]["embed_tokens.weight"]
        held[node]["embed_tokens.weight"] = torch.cat([tokens, torch.ones(3, tokens.shape[1])])
    for node in truth.nodes:
        held[node]["embed_tokens.weight"] *= 30  # and what was trained most of all
    assert ask(write_models(held)).graph == truth


def test_where_all_weights_are_gaussian_growth_tells_the_root(write_models):
    generator = torch.Generator().manual_seed(1)
    tree = [{"layers.0.mlp.fc1.weight": torch.randn(200, 200, generator=generator)}]
    for above in SHAPE[1:]:
        tree.append(
            {name: value + 0.05 * torch.randn(200, 200, generator=generator) for name, value in tree[above].items()}
        )
    ids = [str(number) for number in (5, 3, 6, 0, 2, 1, 4)]
    models = write_models(dict(zip(ids, tree, strict=True)))
    truth = ModelGraph({ids[node]: () if above is None else (ids[above],) for node, above in enumerate(SHAPE)})
    assert ask(models, norm_growth=NormGrowth(0.01)).graph == truth
    assert ask(models, norm_growth=NormGrowth(0.0)).graph.roots != truth.roots


def test_a_model_that_came_to_lie_nearest_to_its_parents_sibling_is_hung_below_its_parent(write_models):
    generator = torch.Generator().manual_seed(0)
    names = [f"layers.{layer}.mlp.fc1.weight" for layer in range(4)]

    def draw(size, rank=64):
        scale = size / rank**0.5
        return {
            name: scale * torch.randn(64, rank, generator=generator) @ torch.randn(rank, 64, generator=generator)
            for name in names
        }

    def add(*parts):
        return {name: sum(share * part[name] for share, part in parts) for name in names}

    root = {name: torch.randn(64, 64, generator=generator) ** 3 for name in names}
    parent_learned, uncle_learned = draw(0.2, 3), draw(0.2, 3)
    parent, uncle = (add((1, root), (1, learned), (1, draw(0.12))) for learned in (parent_learned, uncle_learned))
    turned = add(
        (1, parent), (-0.5, parent_learned), (0.9, uncle_learned), (1, draw(0.12))
    )  # it took back what the parent was taught
    held = {
        "5": root,
        "2": parent,
        "7": uncle,
        "1": turned,
        "4": add((1, parent), (1, draw(0.05))),
        "3": add((1, uncle), (1, draw(0.05))),
    }
    models = write_models(held)
    far = distances(models, Linea.distance, Layers.parse(Linea.layers))
    assert models.ids[far[models.ids.index("1")].argsort()[1]] == "7"
    found = ask(models)
    assert found.graph == ModelGraph({"5": (), "2": ("5",), "7": ("5",), "1": ("2",), "4": ("2",), "3": ("7",)})
    assert found.confidence["2", "1"] > 0.9


@pytest.mark.parametrize("own", [0.05, 0.1])
def test_siblings_that_lie_nearer_to_each_other_than_to_their_parent_are_not_hung_below_one_another(write_models, own):
    generator = torch.Generator().manual_seed(0)
    names = [f"layers.{layer}.mlp.fc1.weight" for layer in range(16)]

    def draw(size):
        return {name: size * torch.randn(48, 48, generator=generator) for name in names}

    def add(*parts):
        return {name: sum(part[name] for part in parts) for name in names}

    held = {"5": {name: torch.randn(48, 48, generator=generator) ** 3 for name in names}}
    truth = {"5": ()}
    for parent, family in (("5", "264"), ("2", "071"), ("4", "389")):
        learned_alike = draw(0.2)
        for node in family:
            held[node] = add(held[parent], learned_alike, draw(own))
            truth[node] = (parent,)
    models = write_models(held)
    far = distances(models, Linea.distance, Layers.parse(Linea.layers))
    assert all(models.ids[far[models.ids.index(node)].argsort()[1]] not in truth[node] for node in truth)
    found = ask(models)
    assert found.graph == ModelGraph(truth)
    assert min(found.confidence.values()) > 0.9


@pytest.mark.parametrize("seed", range(20))
def test_whatever_tree_it_begins_with_everyone_comes_below_its_parent_if_the_root_is_right(seed):
    rng = np.random.default_rng(seed)
    truth = {node: int(rng.integers(node)) for node in range(1, 14)}
    start = [
        (int(order[rng.integers(place)]), int(order[place]))
        for order in [[0, *(1 + rng.permutation(13))]]
        for place in range(1, 14)
    ]

    def ancestors(node):
        return [node, *ancestors(truth[node])] if node else [0]

    def lacks(triples):
        return [0.0 if parent in ancestors(child) else 2.0 for child, parent, _ in triples]

    far = np.array([[len({*ancestors(one)} ^ {*ancestors(other)}) ** 0.5 for other in range(14)] for one in range(14)])
    found, lacked = reassign(start, far, lacks, max_siblings=8)
    assert found == truth
    assert set(lacked.values()) == {0.0}
