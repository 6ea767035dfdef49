import numpy as np
import pytest

from mothr.baselines.methods.mother import MoTHer
from mothr.baselines.parts.directions import DIRECTIONS, evidence, pair_scores
from mothr.baselines.parts.learned import Term, log_odds, terms, tuned_on
from mothr.benchmark.weights.combine import EVIDENCE_RULES
from mothr.benchmark.weights.layers import Layers
from mothr.generators.recipe.loading import catalogue

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


def test_a_method_with_this_score_is_tuned_on_its_splits():
    assert MoTHer(direction="learned").tuned_on == tuned_on("learned")
    assert MoTHer(direction="kurtosis").tuned_on == ()


# --- the sum ---


def test_log_odds_turn_with_the_pair_and_are_bounded():
    values = {(term.direction, term.combine): np.random.default_rng(7).standard_normal(5) for term in terms()}
    there = log_odds(lambda direction, how: values[direction, how])
    back = log_odds(lambda direction, how: -values[direction, how])
    assert np.allclose(there, -back)
    saturated = log_odds(lambda direction, how: 1e9 * values[direction, how])
    assert (np.abs(saturated) <= sum(abs(term.weight) for term in terms()) + 1e-9).all()
    assert not log_odds(lambda direction, how: np.zeros(3)).any()


def test_a_term_has_three_quarters_of_its_weight_at_its_scale():
    assert Term("norm", "vote", scale=0.2, weight=4.0).of(np.array([0.2, -0.2, 1e9])) == pytest.approx(
        [3.05, -3.05, 4.0], abs=0.01
    )


def test_it_directs_the_edges_of_a_forest_alike_by_pair_and_by_matrix(grown):
    models, truth = grown()
    index = {node: at for at, node in enumerate(models.ids)}
    pairs = np.array([(index[parent], index[child]) for parent, child in truth.edges])
    scores = pair_scores(models, "learned", pairs, Layers.parse("body"))
    assert (scores > 0).all()
    assert evidence(models, "learned", Layers.parse("body"))[pairs[:, 0], pairs[:, 1]] == pytest.approx(
        scores, abs=1e-6
    )
