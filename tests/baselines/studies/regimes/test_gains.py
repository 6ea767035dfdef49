"""How much each field says about the outcomes of edges in trees left out."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mothr.baselines.studies.regimes.gains import ALL, Edges, determines, field_gains, pair_gains

SCORES = ("norm", "kurtosis")


def table(trees, draw, per_tree=6):
    """Returns outcomes of edges whose fields and values of all scores ``draw(tree, edge)`` gives."""
    rows = []
    for tree in range(trees):
        for edge in range(per_tree):
            fields, values = draw(tree, edge)
            place = {"split": "s", "origin": f"o{tree}", "tree": tree, "parent": "p", "child": f"{tree}-{edge}"}
            rows += [{**place, **fields, "series": name, "value": values[name]} for name in values]
    return pd.DataFrame(rows)


def means_of(edges):
    gains = field_gains(edges)
    return gains[gains.series == ALL].set_index("field").gain


def planted(seed, trees=12, share=0.9):
    """Returns edges whose outcomes follow ``planted`` with probability ``share``, and not ``noise`` or ``constant``."""
    rng = np.random.default_rng(seed)

    def draw(tree, edge):
        fields = {"noise": rng.choice(["x", "y", "z"]), "planted": rng.choice(["a", "b"]), "constant": 1}
        right = (fields["planted"] == "a") == (rng.random() < share)
        return fields, {"norm": float(right), "kurtosis": float(not right)}

    return Edges.of(table(trees, draw), ["noise", "planted", "constant"])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_planted_field_is_first_and_noise_gains_nothing(seed):
    means = means_of(planted(seed))
    assert list(means.index) == ["planted", "noise"]
    assert means["planted"] > 0.2  # of 2500 draws of 72 edges, the least was 0.28
    assert means["noise"] < means["planted"] / 2  # of the same draws, the most was a third


def test_the_gain_of_noise_is_not_positive_on_average():
    assert np.mean([means_of(planted(seed))["noise"] for seed in range(30)]) < 0


def test_the_tree_of_an_edge_never_predicts_it():
    """A value that occurs in one tree alone says nothing, although it separates right from wrong there."""

    def draw(tree, edge):
        right = float(edge % 2)
        return {"own": f"{tree} {edge % 2}", "shared": edge % 2}, {"norm": right}

    means = means_of(Edges.of(table(5, draw), ["own", "shared"]))
    assert means["own"] == 0
    assert means["shared"] == 1


def test_the_gain_is_that_of_a_plain_computation():
    edges = planted(3, trees=4, share=0.8)
    codes, values = edges.fields["planted"], edges.outcomes[:, 0]
    errors = {"field": 0.0, "overall": 0.0}
    for index, value in enumerate(values):
        others = edges.origins != edges.origins[index]
        same = others & (codes == codes[index])
        errors["field"] += (value - values[same].mean()) ** 2
        errors["overall"] += (value - values[others].mean()) ** 2
    gains = field_gains(edges)
    row = gains[(gains.field == "planted") & (gains.series == "norm")].iloc[0]
    assert row.gain == pytest.approx(1 - errors["field"] / errors["overall"])
    assert row.low < row.gain < row.high
    assert (row.regimes, row.edges, row.trees) == (2, 24, 4)


def test_undefined_outcomes_and_scores_without_variance_are_left_out():
    def draw(tree, edge):
        right = float(edge % 2)
        values = {"norm": right if edge else np.nan, "kurtosis": 1.0, "std": np.nan}
        absent = {0: None, 2: None, 4: None, 1: 1.0}.get(edge, 2.0)
        return {"half": edge % 2, "absent": absent, "once": None if edge % 2 else 3.0}, values

    edges = Edges.of(table(4, draw), ["half", "absent", "once"])
    assert list(edges.fields) == ["half", "absent"]  # one recorded value is no field
    gains = field_gains(edges)
    assert set(gains.series) == {ALL, "norm"}
    assert set(gains.gain) == {1.0}  # an absent value is a value of its own


def test_there_are_no_gains_within_one_tree():
    edges = planted(0, trees=1)
    assert field_gains(edges).empty
    assert pair_gains(edges).empty


@pytest.mark.parametrize("seed", range(3))
def test_two_fields_that_decide_together_are_the_first_pair(seed):
    rng = np.random.default_rng(seed)

    def draw(tree, edge):
        fields = {name: rng.choice(["0", "1"]) for name in ("first", "second", "other")}
        fields["copy"] = f"copy of {fields['first']}"
        return fields, {"norm": float(fields["first"] == fields["second"])}

    edges = Edges.of(table(12, draw), ["other", "first", "second", "copy"])
    pairs = pair_gains(edges)
    names = {frozenset(row) for row in pairs[["first", "second"]].to_numpy().tolist()}
    assert frozenset({"first", "copy"}) not in names  # each determines the other
    assert set(pairs.loc[0, ["first", "second"]]) in ({"first", "second"}, {"copy", "second"})
    assert pairs.gain[0] == pytest.approx(1)
    assert pairs.loc[0, ["gain_first", "gain_second"]].max() < 0.1  # neither says anything alone


def test_a_field_determines_another_up_to_rare_exceptions():
    fine = np.repeat(np.arange(4), 25)
    coarse = fine // 2
    assert determines(fine, coarse)
    assert not determines(coarse, fine)
    exceptions = coarse.copy()
    exceptions[:4] = 1
    assert determines(fine, exceptions)
    exceptions[:6] = 1
    assert not determines(fine, exceptions)
