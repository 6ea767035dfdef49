"""Fitting the direction score ``learned``: which scores get a weight, and how each split is judged by a fit on the others."""

import numpy as np
import pytest

from mothr.baselines.parts import learned
from mothr.baselines.parts.learned import terms, tuned_on
from mothr.baselines.studies.fitting import CANDIDATES, EdgeScores, edge_scores, fit, write
from mothr.benchmark.errors import MothrError
from mothr.benchmark.run.forests import grow

TREE = (None, 0, 0, 1, 1, 2, 2)
"""Parent of each node."""
SHAPES = {f"layers.{layer}.mlp.up_proj.weight": (24, 16) for layer in range(3)}


@pytest.fixture
def folders(tmp_path, write_dataset):
    """Three data sets of one tree each."""
    folders = []
    for seed, name in enumerate(("one-dev", "two-dev", "three-dev")):
        nodes = [
            (
                weights,
                [] if parent is None else [parent],
                {"relation": None if parent is None else "finetune", "tree": 0},
            )
            for weights, parent in zip(grow(np.random.default_rng(seed), TREE, SHAPES), TREE, strict=True)
        ]
        write_dataset(tmp_path / name, nodes, seed)
        folders.append(tmp_path / name)
    return folders


def drawn_scores(split, sign, count=30, seed=0):
    """Returns edges on which the first candidate has the sign ``sign`` on every edge, and the other candidates are noise."""
    scores = np.random.default_rng(seed).standard_normal((count, len(CANDIDATES)))
    scores[:, 0] = sign * (0.5 + np.abs(scores[:, 0]))
    return EdgeScores(split, scores)


def test_the_informative_score_gets_the_weight_and_noise_gets_little():
    result = fit([drawn_scores("a-dev", 1, seed=1), drawn_scores("b-dev", 1, seed=2), drawn_scores("c-dev", 1, seed=3)])
    first, *others = result.terms
    assert (first.direction, first.combine) == CANDIDATES[0]
    assert first.weight > 3 * max((abs(term.weight) for term in others), default=0)
    assert {split: accuracy for split, (accuracy, _) in result.left_out.items()} == pytest.approx(
        {"a-dev": 1, "b-dev": 1, "c-dev": 1}, abs=0.1
    )


def test_each_split_is_judged_by_a_fit_on_the_others():
    agreeing = [drawn_scores(f"{seed}-dev", 1, seed=seed) for seed in range(5)]
    result = fit([*agreeing, drawn_scores("odd-dev", -1, seed=9)])
    accuracy, loss = result.left_out["odd-dev"]
    assert accuracy < 0.2
    assert loss > np.log(2)
    assert result.left_out["0-dev"][0] > 0.8


def test_a_large_split_counts_no_more_than_a_small_one():
    result = fit([drawn_scores("a-dev", 1, count=20, seed=1), drawn_scores("b-dev", -1, count=2000, seed=2)])
    assert abs(result.terms[0].weight) < 1


def test_one_split_cannot_be_left_out():
    with pytest.raises(MothrError, match="1 split given; at least two"):
        fit([drawn_scores("a-dev", 1)])


def test_a_data_set_gives_the_scores_of_its_trained_edges(folders):
    result = edge_scores(folders[0])
    assert result.split == "one-dev"
    assert result.scores.shape == (6, len(CANDIDATES))
    norm_ratio = result.scores[:, CANDIDATES.index(("norm_ratio", "elements"))]
    assert (norm_ratio > 0).all()  # the first model of each pair is the parent


def test_the_written_file_is_read_again(folders, tmp_path, monkeypatch):
    result = fit([edge_scores(folder) for folder in folders])
    write(result, tmp_path / "learned.toml")
    monkeypatch.setattr(learned, "FILE", tmp_path / "learned.toml")
    monkeypatch.setattr(learned, "_file", learned._file.__wrapped__)
    assert terms() == result.terms
    assert tuned_on("learned") == ("one-dev", "two-dev", "three-dev")


def test_a_data_set_without_trained_models_is_refused(tmp_path, write_dataset):
    strangers = grow(np.random.default_rng(0), (None, None), SHAPES)
    nodes = [(weights, [], {"relation": None, "tree": tree}) for tree, weights in enumerate(strangers)]
    write_dataset(tmp_path / "lone-dev", nodes)
    with pytest.raises(MothrError, match="no model was trained from another"):
        edge_scores(tmp_path / "lone-dev")
