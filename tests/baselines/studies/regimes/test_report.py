"""What the figures of the regime map show."""

import numpy as np
import pandas as pd
import pytest

from mothr.baselines.studies.regimes import report
from mothr.baselines.studies.regimes.figures import gains_figure, pair_figure, regime_figure
from mothr.baselines.studies.regimes.gains import ALL, GAIN_COLUMNS
from mothr.baselines.studies.regimes.map import Crossing, RegimeMap
from mothr.baselines.studies.regimes.measure import DIRECTION_ACCURACY

TREE_COLUMNS = ["grouping", "regime", "series", "split", "tree", "origin", "value", "items"]


def cells_of(*regimes):
    """Returns cells of (grouping, regime, edges)."""
    rows = [(grouping, regime, "norm", "s", 0, "o", 1.0, edges) for grouping, regime, edges in regimes]
    return report.regime_cells(map_of(pd.DataFrame(rows, columns=TREE_COLUMNS)))


def map_of(trees, gains=None):
    """Returns a map of direction scores without a crossing."""
    return RegimeMap(DIRECTION_ACCURACY, trees, gains_of() if gains is None else gains, pd.DataFrame(), None)


def gains_of(**gain_of):
    """Returns the gains of fields, the same for their mean and for one score."""
    rows = [
        (name, score, gain, gain - 0.1, np.nan, 3, 9, 4) for name, gain in gain_of.items() for score in (ALL, "norm")
    ]
    return pd.DataFrame(rows, columns=list(GAIN_COLUMNS))


def texts_of(figure):
    return [text.get_text() for axes in figure.subfigs[0].axes for text in axes.texts]


def test_long_maps_have_several_pages_and_one_tree_never_excludes_chance():
    regimes = [("depth", str(depth), 2) for depth in range(report.ROWS_PER_FIGURE + 5)]
    pages = list(report.pages(cells_of(*regimes, ("family", "vit", 9))))
    assert [len(page) for page in pages] == [report.ROWS_PER_FIGURE, 5]
    assert set(pd.concat(pages).grouping) == {"depth"}  # a grouping with a single regime is left out
    assert texts_of(regime_figure(pages[1], DIRECTION_ACCURACY, "")) == ["(1.00)", "1 / 2"] * 5


def test_the_overview_has_the_fields_of_largest_gain_that_fit_on_a_page():
    sizes = {"kind": 15, "steps": 20, "width": 15, "family": 1, "way": 3}
    cells = cells_of(*((name, str(value), 2) for name, count in sizes.items() for value in range(count)))
    gains = gains_of(width=0.3, steps=0.2, kind=0.1, way=-0.1)
    assert list(report.overview(cells, gains).grouping.unique()) == ["width", "steps", "way"]
    assert list(report.overview(cells, gains_of()).grouping.unique()) == ["kind", "steps", "way"]


def test_of_many_crossed_regimes_those_of_the_most_edges_are_drawn():
    count = report.ROWS_PER_FIGURE + 3
    cells = cells_of(*(("kind*steps", f"full, {edges}", edges) for edges in range(1, count + 1)), ("kind*init", "x", 1))
    kept = report.frequent(cells)
    assert kept[kept.grouping == "kind*steps"].edges.tolist() == list(range(4, count + 1))
    assert len(kept[kept.grouping == "kind*init"]) == 1


def test_each_field_of_several_regimes_has_a_figure():
    cells = cells_of(
        ("kind", "a", 1), ("kind", "b", 1), ("root_steps", "1", 1), ("root_steps", "2", 1), ("family", "f", 2)
    )
    assert [name for name, _ in report.figures(map_of(pd.DataFrame()), cells, "")] == [
        "map",
        "map-kind",
        "map-root-steps",
    ]


def test_the_chart_of_gains_has_a_bar_a_field_in_the_given_order_and_a_dot_a_score():
    figure = gains_figure(gains_of(root_steps=0.2, kind=-0.05), DIRECTION_ACCURACY, "")
    [axes] = figure.subfigs[0].axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["root steps (3)", "kind (3)"]
    assert [bar.get_width() for bar in axes.patches] == [0.2, -0.05]
    [dots] = [line for line in axes.lines if line.get_marker() == "o"]
    assert dots.get_xdata().tolist() == [0.2, -0.05]
    assert axes.yaxis_inverted()


def test_the_matrix_of_two_fields_has_each_regime_at_its_place():
    crossing = Crossing(
        ("kind", "way"), ("full", "lora"), ("below 1", "absent"), {"full, way below 1": (0, 0), "lora": (1, 1)}
    )
    cells = cells_of(("kind*way", "full, way below 1", 7), ("kind*way", "lora", 2))
    scores, counts = pair_figure(cells, crossing, DIRECTION_ACCURACY, "").subfigs[0].axes[:2]
    assert [label.get_text() for label in scores.get_yticklabels()] == ["full", "lora"]
    assert [label.get_text() for label in scores.get_xticklabels()] == ["below 1", "absent"]
    assert {text.get_position(): text.get_text() for text in scores.texts} == {(0, 0): "(1.00)", (1, 1): "(1.00)"}
    assert {text.get_position(): text.get_text() for text in counts.texts} == {(0, 0): "1\n7", (1, 1): "1\n2"}
    drawn = np.ma.filled(scores.images[0].get_array().astype(float), np.nan)
    assert drawn == pytest.approx(np.array([[1, np.nan], [np.nan, 1]]), nan_ok=True)
