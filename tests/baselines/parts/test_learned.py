import numpy as np
import pytest

from mothr.baselines.methods.mother import MoTHer
from mothr.baselines.parts import learned
from mothr.baselines.parts.directions import DIRECTIONS, evidence, pair_scores
from mothr.baselines.parts.learned import Term, log_odds, terms, tuned_on
from mothr.baselines.studies.fitting import CANDIDATES, Edges, edges_of, fit, write
from mothr.benchmark.errors import MothrError
from mothr.benchmark.run.forests import grow
from mothr.benchmark.weights.features import EVIDENCE_RULES
from mothr.benchmark.weights.layers import Layers
from mothr.generators.recipe.schema import catalogue

TREE = (None, 0, 0, 1, 1, 2, 2)
SHAPES = {f"layers.{layer}.mlp.up_proj.weight": (24, 16) for layer in range(3)}


@pytest.fixture
def folders(tmp_path, write_dataset):
    """Three data sets of one tree each."""
    found = []
    for seed, name in enumerate(("one-dev", "two-dev", "three-dev")):
        nodes = [
            (weights, [] if above is None else [above], {"relation": None if above is None else "finetune", "tree": 0})
            for weights, above in zip(grow(np.random.default_rng(seed), TREE, SHAPES), TREE, strict=True)
        ]
        write_dataset(tmp_path / name, nodes, seed)
        found.append(tmp_path / name)
    return found


def edges(split, informative, count=30, seed=0):
    """Edges on which the first candidate score says what ``informative`` says of the truth, and the others are noise."""
    scores = np.random.default_rng(seed).standard_normal((count, len(CANDIDATES)))
    scores[:, 0] = informative * (0.5 + np.abs(scores[:, 0]))
    return Edges(split, scores)


# --- the file ---


def test_it_was_fitted_on_dev_splits_that_exist_and_names_scores_that_exist():
    fitted_on = tuned_on("learned")
    assert len(fitted_on) >= 2
    assert set(fitted_on) <= {row["name"] for row in catalogue()}
    assert all(split.endswith("-dev") for split in fitted_on)
    assert terms()
    for term in terms():
        assert term.direction in DIRECTIONS
        assert term.combine in EVIDENCE_RULES
        assert term.scale > 0
        assert np.isfinite(term.weight)


def test_whoever_goes_by_it_is_recorded_as_tuned_on_those_splits():
    assert MoTHer(direction="learned").tuned_on == tuned_on("learned")
    assert MoTHer(direction="kurtosis").tuned_on == ()


# --- the sum ---


def test_log_odds_turn_with_the_pair_and_are_bounded():
    values = {(term.direction, term.combine): np.random.default_rng(7).standard_normal(5) for term in terms()}
    there = log_odds(lambda direction, how: values[direction, how])
    back = log_odds(lambda direction, how: -values[direction, how])
    assert np.allclose(there, -back)
    far = log_odds(lambda direction, how: 1e9 * values[direction, how])
    assert (np.abs(far) <= sum(abs(term.weight) for term in terms()) + 1e-9).all()
    assert not log_odds(lambda direction, how: np.zeros(3)).any()


def test_a_term_says_three_quarters_at_its_scale():
    assert Term("norm", "vote", scale=0.2, weight=4.0).of(np.array([0.2, -0.2, 1e9])) == pytest.approx(
        [3.05, -3.05, 4.0], abs=0.01
    )


def test_it_directs_the_edges_of_a_forest_alike_by_pair_and_by_matrix(grown):
    models, truth = grown()
    place = {node: at for at, node in enumerate(models.ids)}
    pairs = np.array([(place[parent], place[child]) for parent, child in truth.edges])
    says = pair_scores(models, "learned", pairs, Layers.parse("body"))
    assert (says > 0).all()
    assert evidence(models, "learned", Layers.parse("body"))[pairs[:, 0], pairs[:, 1]] == pytest.approx(says, abs=1e-6)


# --- fitting ---


def test_a_score_that_knows_gets_the_weight_and_noise_gets_none():
    found = fit([edges("a-dev", 1, seed=1), edges("b-dev", 1, seed=2), edges("c-dev", 1, seed=3)])
    first, *others = found.terms
    assert (first.direction, first.combine) == CANDIDATES[0]
    assert first.weight > 3 * max((abs(term.weight) for term in others), default=0)
    assert {split: right for split, (right, _) in found.left_out.items()} == pytest.approx(
        {"a-dev": 1, "b-dev": 1, "c-dev": 1}, abs=0.1
    )


def test_each_split_is_judged_by_a_fit_on_the_others():
    found = fit([*(edges(f"{seed}-dev", 1, seed=seed) for seed in range(5)), edges("odd-dev", -1, seed=9)])
    right, loss = found.left_out["odd-dev"]
    assert right < 0.2
    assert loss > np.log(2)
    assert found.left_out["0-dev"][0] > 0.8


def test_a_large_split_counts_no_more_than_a_small_one():
    found = fit([edges("a-dev", 1, count=20, seed=1), edges("b-dev", -1, count=2000, seed=2)])
    assert abs(found.terms[0].weight) < 1


def test_one_split_cannot_be_left_out():
    with pytest.raises(MothrError, match="1 split given; at least two"):
        fit([edges("a-dev", 1)])


def test_a_data_set_gives_its_trained_edges(folders):
    found = edges_of(folders[0])
    assert found.split == "one-dev"
    assert found.scores.shape == (6, len(CANDIDATES))
    assert (
        found.scores[:, CANDIDATES.index(("norm_ratio", "elements"))] > 0
    ).all()  # the first of each pair is the parent


def test_what_is_written_is_what_is_read(folders, tmp_path, monkeypatch):
    found = fit([edges_of(folder) for folder in folders])
    write(found, tmp_path / "learned.toml")
    monkeypatch.setattr(learned, "FILE", tmp_path / "learned.toml")
    monkeypatch.setattr(learned, "_file", learned._file.__wrapped__)
    assert terms() == found.terms
    assert tuned_on("learned") == ("one-dev", "two-dev", "three-dev")


def test_nothing_is_learned_where_nothing_was_trained(tmp_path, write_dataset):
    strangers = grow(np.random.default_rng(0), (None, None), SHAPES)
    nodes = [(weights, [], {"relation": None, "tree": at}) for at, weights in enumerate(strangers)]
    write_dataset(tmp_path / "lone-dev", nodes)
    with pytest.raises(MothrError, match="no model was trained from another"):
        edges_of(tmp_path / "lone-dev")
