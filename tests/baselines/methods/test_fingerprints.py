import numpy as np
import pytest
import torch

from mothr.baselines.methods.fingerprints import FINGERPRINTS, Fingerprint, fingerprint_distances
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.run.forests import LLAMA, grow
from mothr.benchmark.side_information import SideInformation


def predict(models, **fields):
    return Fingerprint(**fields)(models, np.random.default_rng(0))


@pytest.fixture
def families(grown, contents, write_models):
    """A function that draws a forest, each tree with sizes of its own for its tensors, as training gives them."""

    def draw(parents):
        models, truth = grown(parents)
        held, rng = contents(models), np.random.default_rng(0)
        for tree in truth.trees:
            for name in held[next(iter(tree))]:
                size = float(np.exp(rng.normal()))
                for node in tree:
                    held[node] = held[node] | {name: size * held[node][name]}
        return held, truth

    return draw


@pytest.mark.parametrize("variant", FINGERPRINTS)
def test_permuted_copies_share_a_fingerprint_and_children_are_nearer_than_strangers(
    families, permuted, write_models, variant
):
    held, truth = families((None, 0, None, None))
    parent = next(root for root in truth.roots if truth.children(root))
    [child] = truth.children(parent)
    models = write_models(held | {"copy": permuted(held[parent])})
    place = {node: position for position, node in enumerate(models.ids)}
    far = fingerprint_distances(models, variant)
    strangers = [far[place[parent], place[node]] for node in truth.roots if node != parent]
    np.testing.assert_allclose(far, far.T, atol=1e-12)
    assert far[place["copy"], place[parent]] == 0
    assert 0 < far[place[child], place[parent]] < 0.7 * min(strangers)


@pytest.mark.parametrize("variant", FINGERPRINTS)
def test_two_families_of_copies_and_children_are_separated(families, permuted, write_models, variant):
    held, truth = families((None, 0, None, 2))
    held |= {f"copy {node}": permuted(weights) for node, weights in held.items()}
    result = predict(write_models(held), variant=variant)
    trees = {frozenset(tree) | {f"copy {node}" for node in tree} for tree in truth.trees}
    assert set(result.graph.trees) == trees
    assert {frozenset(node for node in held if result.trees[node] == label) for label in (0, 1)} == trees


def test_spectra_of_strangers_drawn_alike_are_nearer_than_those_of_a_child(grown):
    """Its weakness: the spectrum of a random matrix tells how it was drawn, so independent models of one recipe look related."""
    models, truth = grown((None, 0, None))
    place = {node: position for position, node in enumerate(models.ids)}
    parent = next(root for root in truth.roots if truth.children(root))
    [stranger], [child] = [root for root in truth.roots if root != parent], truth.children(parent)
    far = fingerprint_distances(models, "ghostspec")[place[parent]]
    assert far[place[stranger]] < far[place[child]]


def test_deviations_are_compared_by_correlation(grown, contents):
    models, _ = grown((None, None))
    held = contents(models)
    profiles = [[held[node][f"layers.{layer}.self_attn.{part}_proj.weight"].double().numpy().std() for layer in range(2) for part in "qkvo"]
                for node in models.ids]  # fmt: skip
    assert fingerprint_distances(models, "std-profile")[0, 1] == pytest.approx(
        1 - np.corrcoef(profiles)[0, 1], rel=1e-9
    )


def test_spectra_are_those_of_the_products(write_models):
    generator = torch.Generator().manual_seed(0)
    held = {
        node: {f"self_attn.{part}_proj.weight": torch.randn(6, 6, generator=generator) for part in "qkvo"}
        for node in "ab"
    }
    models, spectra = write_models(held), []
    for weights in held.values():
        q, k, v, o = (weights[f"self_attn.{part}_proj.weight"].double().numpy() for part in "qkvo")
        spectra.append([np.linalg.svd(product, compute_uv=False) for product in (q.T @ k, o @ v)])
    expected = [
        2 * np.linalg.norm(a - b) / (np.linalg.norm(a) + np.linalg.norm(b)) for a, b in zip(*spectra, strict=True)
    ]
    assert fingerprint_distances(models, "ghostspec")[0, 1] == pytest.approx(np.mean(expected), rel=1e-9)


def test_alignment_of_kernels_is_unbiased_and_blind_to_rotations_of_heads(write_models):
    generator = torch.Generator().manual_seed(0)

    def drawn():
        return {f"self_attn.{part}_proj.weight": torch.randn(40, 30, generator=generator) for part in "qk"}

    one = drawn()
    turned = {
        name: torch.linalg.qr(torch.randn(40, 40, generator=generator)).Q @ weights for name, weights in one.items()
    }
    far = fingerprint_distances(
        write_models({"a": one, "b": turned} | {f"s{number}": drawn() for number in range(10)}), "awm"
    )
    pairs = sorted(far[np.triu_indices(12, 1)])
    assert pairs[0] < 1e-6
    assert np.mean(pairs[1:]) == pytest.approx(1, abs=0.02)  # plain CKA puts strangers of this shape at about one half


def test_grouped_queries_and_models_of_another_depth(write_models):
    rng = np.random.default_rng(0)
    held = {
        str(i): {name: torch.from_numpy(value) for name, value in one.items()}
        for i, one in enumerate(grow(rng, (None, 0), LLAMA))
    }
    deep = {name.replace("layers.0", "layers.1"): value.clone() for name, value in held["0"].items()}
    models = write_models(held | {"deep": held["0"] | deep, "odd": {"self_attn.q_proj.weight": torch.eye(3)}})
    place = {node: position for position, node in enumerate(models.ids)}
    for variant in FINGERPRINTS:
        far = fingerprint_distances(models, variant)
        assert 0 < far[place["0"], place["1"]] < np.inf
        assert np.isinf(far[place["0"], [place["deep"], place["odd"]]]).all()
        with pytest.warns(UserWarning, match="share none"):
            assert (
                len(
                    predict(
                        models.with_given(SideInformation(trees=dict.fromkeys(models.ids, 0))), variant=variant
                    ).graph.roots
                )
                == 1
            )


def test_it_spans_and_roots_a_given_tree_whatever_the_names(grown):
    models, truth = grown((None, 0, 0, 1))
    given = models.with_given(SideInformation(trees=dict.fromkeys(models.ids, 0)))
    names = {node: f"{(3 * place) % 4:02}" for place, node in enumerate(models.ids)}
    for variant in FINGERPRINTS:
        result = predict(given, variant=variant)
        assert len(result.graph.roots) == 1
        assert predict(given.relabel(names), variant=variant) == result.relabel(names)
    assert predict(given, variant="huref").graph.roots == truth.roots


def test_one_and_identical_models_are_legal(grown, contents, write_models):
    held = next(iter(contents(grown((None,))[0]).values()))
    for variant in FINGERPRINTS:
        assert predict(write_models({"a": held}), variant=variant).graph == ModelGraph({"a": ()})
        assert len(predict(write_models(dict.fromkeys("abc", held)), variant=variant).graph.roots) == 1


def test_what_it_cannot_look_at_is_refused(write_models):
    with pytest.raises(MothrError, match="unknown variant 'gostspec'; did you mean ghostspec"):
        Fingerprint(variant="gostspec")
    with pytest.raises(MothrError, match="unknown direction"):
        Fingerprint(direction="kurtossis")
    models = write_models({"a": {f"self_attn.{part}_proj.weight": torch.eye(4) for part in "qkvo"}})
    with pytest.raises(
        MothrError,
        match=r"variant 'huref' looks at the matrices re:embed_tokens, .* which no model has; choose another",
    ):
        predict(models, variant="huref")
