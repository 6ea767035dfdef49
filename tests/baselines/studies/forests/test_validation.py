"""Validating the model of forests on regimes that its fit left out."""

import pandas as pd
import pytest

from mothr.baselines.methods.neighbour_joining import NeighbourJoining
from mothr.baselines.studies.forests import fitting
from mothr.baselines.studies.forests.validation import validate
from mothr.benchmark.errors import MothrError

COMMAND = "validate"
TREES = 4


def test_each_regime_is_scored_beside_other_methods(folders):
    result = validate(folders, ["optimizer", "split"], {"neighbour-joining": NeighbourJoining()}, penalty=1.0)
    table = result.regimes.set_index(["field", "regime", "method"])
    assert set(result.regimes.regime) == {"sgd", "adamw", "one-dev", "two-dev"}
    assert set(result.regimes.method) == {"linea-fitted", "neighbour-joining"}
    row = table.loc["optimizer", "sgd", "linea-fitted"]
    assert (row.edges, row.trees) == (3 * 2 * TREES, 2 * TREES)
    assert row.low <= row.found <= row.high
    assert table.loc["split", "one-dev", "linea-fitted"].found > 0.8
    assert pd.isna(row.p)
    assert 0 < table.loc["optimizer", "sgd", "neighbour-joining"].p <= 1
    assert set(result.edges.columns) >= {"field", "regime", "split", "tree", "parent", "child", "found", "confidence"}


def test_a_fit_that_leaves_a_regime_out_never_sees_its_truth(folders, monkeypatch):
    seen = []
    fit = fitting.fit
    monkeypatch.setattr(
        "mothr.baselines.studies.forests.validation.fit",
        lambda known, penalty: seen.append(known) or fit(known, penalty),
    )
    result = validate(folders, ["optimizer"], {}, penalty=1.0)
    children = set(result.edges[result.edges.regime == "sgd"].child)
    half = seen[: len(seen) // 2] if result.regimes.regime.iloc[0] == "sgd" else seen[len(seen) // 2 :]
    assert half
    for known in half:
        for example in known:
            for place, node in enumerate(example.ids):
                if node in children:
                    assert example.edges[place].all()
                    assert example.roots[place]


def test_a_field_without_a_second_regime_cannot_be_left_out(folders):
    with pytest.raises(MothrError, match="can be left out"):
        validate(folders, ["family"], {}, penalty=1.0)


def test_the_command_writes_tables(folders, tmp_path, call):
    out = tmp_path / "validation"
    done = call(*folders, "--leave-out", "split", "--against", "neighbour-joining", "--penalty", "1", "--out", out)
    assert "one-dev" in done.stdout
    assert len(pd.read_csv(out / "regimes.csv")) == 4
    assert len(pd.read_csv(out / "edges.csv")) == 2 * 6 * TREES


def test_the_command_names_the_nearest_field(folders, tmp_path, call):
    with pytest.raises(MothrError, match="optimizer"):
        call(*folders, "--leave-out", "optimiser", "--out", tmp_path / "validation")
