from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from mothr.baselines.methods.mother import MOTHER_LORA, MOTHER_V1, MOTHER_V2, MoTHer
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.run.method import needs, parameters
from mothr.benchmark.run.registry import find_method
from mothr.benchmark.side_information import SideInformation
from mothr.benchmark.weights.model_set import ModelSet

SHAPE = (0, 0, 0, 1, 1, 2, 2, 5)  # parent of nodes 1, 2, ...; node 0 is the root
SIDE = 32


def root(generator):
    """Heavy-tailed attention matrices, as training leaves them, and layers that MoTHer does not look at."""
    weights = {}
    for layer in range(2):
        for part in "qkvo":
            weights[f"layers.{layer}.attention.{part}_proj.weight"] = torch.randn(SIDE, SIDE, generator=generator) ** 3
        weights[f"layers.{layer}.mlp.fc1.weight"] = torch.randn(2 * SIDE, SIDE, generator=generator)
    return weights


def full_update(weights, generator):
    return {name: value + torch.randn(value.shape, generator=generator) for name, value in weights.items()}


def lora_update(rank, stored=torch.float32):
    def update(weights, generator):
        result = {}
        for name, value in weights.items():
            left, right = (torch.randn(SIDE, rank, generator=generator) for _ in range(2))
            touched = "v_proj" in name or "q_proj" in name
            result[name] = (value.float() + 0.3 * left @ right.T if touched else value).to(stored)
        return result

    return update


def forest(write_models, update, n_trees=1, shape=SHAPE, seed=0):
    """Returns the models and their truth; ids say nothing of the order in which models were made."""
    generator = torch.Generator().manual_seed(seed)
    ids = iter([f"{number:03d}" for number in torch.randperm(500, generator=generator).tolist()])
    contents, parents, trees = {}, {}, {}
    for tree in range(n_trees):
        made = [next(ids)]
        contents[made[0]], parents[made[0]] = root(generator), ()
        for above in shape:
            made.append(next(ids))
            contents[made[-1]], parents[made[-1]] = update(contents[made[above]], generator), (made[above],)
        trees |= dict.fromkeys(made, 7 * tree)
    return write_models(contents), ModelGraph(parents), trees


RNG = np.random.default_rng(0)


@pytest.mark.parametrize("method", [MOTHER_V1, MOTHER_V2])
def test_full_trees_are_recovered(write_models, method):
    models, truth, trees = forest(write_models, full_update, n_trees=2)
    answer = method(models.with_given(SideInformation(trees=trees)), RNG)
    if method is MOTHER_V2:
        assert answer.graph == truth
    assert len(answer.graph.roots) == 2
    assert adjusted_rand_score([trees[node] for node in models.ids], [answer.trees[node] for node in models.ids]) == 1


def test_lora_trees_are_recovered_exactly(write_models):
    models, truth, trees = forest(write_models, lora_update(4), n_trees=2)
    assert MOTHER_LORA(models.with_given(SideInformation(trees=trees)), RNG).graph == truth


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_lora_trees_stored_in_sixteen_bits(write_models, stored):
    models, truth, trees = forest(write_models, lora_update(2, stored))
    assert MOTHER_LORA(models.with_given(SideInformation(trees=trees)), RNG).graph == truth


@pytest.mark.parametrize(
    ("method", "update"), [(MOTHER_V2, full_update), (MOTHER_LORA, lora_update(4))], ids=["full", "lora"]
)
def test_trees_are_found_if_only_their_number_is_given(write_models, method, update):
    models, truth, _ = forest(write_models, update, n_trees=3, shape=(0, 0, 1, 1))
    assert method(models.with_given(SideInformation(tree_count=3)), RNG).graph == truth
    assert replace(method, n_trees=3)(models, RNG).graph == truth


def test_trees_are_found_by_the_largest_gap_if_nothing_is_given(write_models):
    models, truth, _ = forest(write_models, full_update, n_trees=3)
    assert MOTHER_V2(models, RNG).graph == truth
    assert replace(MOTHER_V2, n_trees=0)(models.with_given(SideInformation(tree_count=1)), RNG).graph == truth
    one, its_truth, _ = forest(write_models, full_update)
    assert MOTHER_V2(one, RNG).graph == its_truth


def test_equals_the_published_formula_by_brute_force(write_models):
    """D + 0.3 mean(D) K by plain loops, and the best of all 64 rooted trees of four models."""
    models, _, _ = forest(write_models, full_update, shape=(0, 0, 1), seed=3)
    n = 4
    weights = [
        {name: models.checkpoints[i].read(name).double().numpy() for name in models.checkpoints[i].tensors}
        for i in range(n)
    ]
    looked_at = [name for name in weights[0] if "attention" in name]
    distance, kurtosis = np.zeros((n, n)), np.zeros(n)
    for i in range(n):
        for name in looked_at:
            if "o_proj" in name:
                centred = weights[i][name] - weights[i][name].mean()
                kurtosis[i] += (centred**4).mean() / (centred**2).mean() ** 2 - 3
            for j in range(n):
                distance[i, j] += np.sqrt(((weights[i][name] - weights[j][name]) ** 2).mean()) / len(looked_at)
    cost = distance + 0.3 * distance.mean() * np.array(
        [[kurtosis[j] > kurtosis[i] for j in range(n)] for i in range(n)]
    )
    answers = [parents for parents in product(range(-1, n), repeat=n) if parents.count(-1) == 1 and is_tree(parents)]
    best = min(
        answers, key=lambda parents: sum(cost[parent, child] for child, parent in enumerate(parents) if parent >= 0)
    )
    assert len(answers) == 4**3
    expected = ModelGraph({models.ids[child]: () if p < 0 else (models.ids[p],) for child, p in enumerate(best)})
    assert MOTHER_V2(models.with_given(SideInformation(trees=dict.fromkeys(models.ids, 0))), RNG).graph == expected


@pytest.mark.parametrize("method", [MOTHER_V1, MOTHER_V2, MOTHER_LORA, replace(MOTHER_V2, direction="random")])
@pytest.mark.parametrize("setting", ["trees", "tree_count"])
def test_the_prediction_is_one_of_the_optimal_rootings(write_models, method, setting):
    models, _, trees = forest(write_models, full_update, n_trees=2)
    given = SideInformation(trees=trees) if setting == "trees" else SideInformation(tree_count=2)
    models = models.with_given(given)
    graph = method(models, np.random.default_rng(3)).graph
    parts = method.rootings(models, np.random.default_rng(3))
    assert sorted(node for rootings in parts for node in rootings[0].nodes) == sorted(models.ids)
    for rootings in parts:
        assert all(len(rooting.roots) == 1 for rooting in rootings)
        roots = [rooting.roots[0] for rooting in rootings]
        assert len(set(roots)) == len(roots)
        assert len([root for root in roots if root in graph.roots]) == 1


def test_rootings_tie_if_as_many_edges_are_against_the_score(write_models):
    """Of the chain a - b - c, b has the lowest norm, so that the rule "higher norm is the child" holds for neither end."""
    generator = torch.Generator().manual_seed(4)
    middle = {f"layers.0.attention.{part}_proj.weight": torch.randn(SIDE, SIDE, generator=generator) for part in "qkvo"}
    ends = [
        {name: value + 0.1 * torch.randn(value.shape, generator=generator) for name, value in middle.items()}
        for _ in range(2)
    ]
    models = write_models({"a": ends[0], "b": middle, "c": ends[1]})
    given = models.with_given(SideInformation(trees=dict.fromkeys("abc", 0)))
    norm = MoTHer(direction="norm", direction_layers="matrices")
    [[only]] = norm.rootings(given, RNG)  # both edges agree with the score: no tie
    assert only.roots == ("b",)
    higher = MoTHer(direction="kurtosis", direction_layers="matrices")
    count = len(higher.rootings(given, RNG)[0])
    kurtosis = {node: sum(float(((v - v.mean()) ** 4).mean() / v.var(correction=0) ** 2) for v in weights.values())
                for node, weights in (("a", ends[0]), ("b", middle), ("c", ends[1]))}  # fmt: skip
    against = {"a": (kurtosis["b"] > kurtosis["a"]) + (kurtosis["c"] > kurtosis["b"]),
               "b": (kurtosis["a"] > kurtosis["b"]) + (kurtosis["c"] > kurtosis["b"]),
               "c": (kurtosis["b"] > kurtosis["c"]) + (kurtosis["a"] > kurtosis["b"])}  # fmt: skip
    assert count == list(against.values()).count(min(against.values()))


def is_tree(parents):
    for node in range(len(parents)):
        seen = set()
        while node >= 0:
            if node in seen:
                return False
            seen.add(node)
            node = parents[node]
    return True


@pytest.mark.parametrize("method", [MOTHER_V1, MOTHER_V2, MOTHER_LORA, replace(MOTHER_V2, direction="random")])
@pytest.mark.parametrize("given", ["trees", "tree_count"])
def test_the_prediction_does_not_depend_on_ids(write_models, method, given):
    models, _, trees = forest(write_models, full_update, n_trees=2, shape=(0, 0, 1))
    models = models.with_given(SideInformation(trees=trees) if given == "trees" else SideInformation(tree_count=2))
    names = dict(zip(models.ids, np.random.default_rng(1).permutation(models.ids).tolist(), strict=True))
    first = method(models, np.random.default_rng(5))
    second = method(models.relabel(names), np.random.default_rng(5))
    assert first.relabel(names).graph == second.graph


def test_the_numbering_of_given_trees_does_not_matter(write_models):
    models, _, trees = forest(write_models, full_update, n_trees=2, shape=(0, 0, 1))
    method = replace(MOTHER_V2, direction="random")
    other = {node: -tree for node, tree in trees.items()}
    first, second = (
        method(models.with_given(SideInformation(trees=given)), np.random.default_rng(2)).graph
        for given in (trees, other)
    )
    assert first == second


def test_stage_turns_the_tree_round(write_models):
    models, truth, trees = forest(write_models, full_update, shape=(0, 1))
    given = models.with_given(SideInformation(trees=trees))
    chain = MOTHER_V2(given, RNG).graph
    turned = replace(MOTHER_V2, stage="generalisation")(given, RNG).graph
    assert chain == truth
    assert {(child, parent) for parent, child in turned.edges} == set(chain.edges)


def test_direction_oracle_reads_the_truth_and_random_does_not(write_models):
    models, truth, trees = forest(write_models, full_update)
    given = models.with_given(SideInformation(trees=trees, truth=truth))
    flat = replace(MOTHER_V2, direction="oracle", stage="generalisation")
    assert flat(given, RNG).graph == truth
    with pytest.raises(MothrError, match="needs the truth"):
        flat(models.with_given(SideInformation(trees=trees)), RNG)
    coins = {
        replace(MOTHER_V2, direction="random")(given, np.random.default_rng(seed)).graph.roots for seed in range(10)
    }
    assert len(coins) > 1


@pytest.mark.parametrize("direction", ["norm", "norm_ratio", "residual_independence", "negentropy"])
def test_other_directions_in_its_place(write_models, direction):
    models, truth, trees = forest(write_models, full_update)
    method = replace(MOTHER_V2, direction=direction, direction_layers="matrices", direction_combine=None)
    assert method(models.with_given(SideInformation(trees=trees)), RNG).graph == truth


def test_one_and_two_models(write_models):
    models, _, _ = forest(write_models, full_update, shape=(0,))
    for method in (MOTHER_V1, MOTHER_V2, MOTHER_LORA):
        for given in (
            SideInformation(trees=dict.fromkeys(models.ids, 3)),
            SideInformation(tree_count=1),
            SideInformation(),
        ):
            assert len(method(models.with_given(given), RNG).graph.edges) == 1
        alone = ModelSet(models.checkpoints[:1])
        assert method(alone, RNG).graph == ModelGraph({alone.ids[0]: ()})


def test_identical_models_and_models_that_share_nothing(write_models):
    generator = torch.Generator().manual_seed(0)
    same = root(generator)
    models = write_models(dict.fromkeys("abc", same))
    graph = MOTHER_V2(models.with_given(SideInformation(trees=dict.fromkeys("abc", 0))), RNG).graph
    assert len(graph.roots) == 1
    renamed = {name.replace("layers.", "blocks."): value for name, value in root(generator).items()}
    strangers = write_models({"a": same, "b": renamed})
    with pytest.warns(UserWarning, match="share none"):
        assert len(MOTHER_V2(strangers.with_given(SideInformation(trees={"a": 0, "b": 0})), RNG).graph.roots) == 1
    with pytest.warns(UserWarning, match="share none"):
        assert len(MOTHER_V2(strangers, RNG).graph.roots) == 2


def test_what_it_needs_follows_its_fields():
    assert needs(MOTHER_V2) == {"tree_count"}
    assert needs(replace(MOTHER_V2, direction="oracle")) == {"tree_count", "truth"}
    assert needs(replace(MOTHER_V2, n_trees=5)) == needs(replace(MOTHER_V2, n_trees=0)) == frozenset()


def test_fields_are_set_by_name_and_recorded():
    method = find_method(
        "mother-v2", {"direction": "norm", "lambda_": "0.1", "n_trees": "4", "direction_combine": "none"}
    )
    assert method == MoTHer(direction="norm", lambda_=0.1, n_trees=4, direction_combine=None)
    assert parameters(method)["lambda_"] == 0.1
    assert find_method("mother-v1") == MOTHER_V1
    assert find_method("mother-lora") == MOTHER_LORA


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"distance": "rsm"}, "did you mean rms"),
        ({"direction": "kurtossis"}, "did you mean kurtosis"),
        ({"distance_layers": "attentoin"}, "did you mean .*attention"),
        ({"clustering": "signed_max"}, "not a symmetric distance"),
        ({"direction_combine": "votes"}, "did you mean vote"),
        ({"stage": "generalization"}, "did you mean generalisation"),
        ({"lambda_": -0.1}, "lambda_ is -0.1"),
        ({"lambda_": float("nan")}, "lambda_ is nan"),
        ({"n_trees": -1}, "n_trees is -1"),
    ],
)
def test_wrong_fields_are_refused(fields, message):
    with pytest.raises(MothrError, match=message):
        MoTHer(**fields)
