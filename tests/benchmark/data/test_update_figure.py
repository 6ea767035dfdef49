"""The figure has one panel a statistic and one row a data set, and its marks stand where the quantiles are."""

import math
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mothr.benchmark.data.update_figure import FIRST, PANEL_WIDTH, axis_of, updates_svg
from mothr.benchmark.data.update_summary import STATISTICS, Quantiles, UpdateSummary

SVG = "{http://www.w3.org/2000/svg}"
SPREAD = Quantiles.of(np.linspace(0.1, 0.9, 81))


def summary(name, **statistics):
    return UpdateSummary(name=name, version=1, models=3, trees=1, edges=2, statistics=statistics)


def panels(*summaries):
    root = ElementTree.fromstring(updates_svg(summaries, "A & B"))
    return dict(zip(STATISTICS, root.findall(f"{SVG}g[@class='panel']"), strict=True))


def texts(panel):
    return [text.text for text in panel.iter(f"{SVG}text")]


def test_every_statistic_has_a_panel_with_its_title_unit_and_a_row_for_each_data_set():
    drawn = panels(summary("suite", coefficient=SPREAD, effective_rank=SPREAD), summary("real", coefficient=SPREAD))
    for name, panel in drawn.items():
        title, unit = STATISTICS[name].title, STATISTICS[name].unit
        assert title[0].upper() + title[1:] in texts(panel)
        assert (f"{unit}, log scale" if STATISTICS[name].log else unit) in texts(panel)
        assert {"suite", "real"} <= set(texts(panel))
    assert len(drawn["coefficient"].findall(f"{SVG}g[@class='row']")) == 2
    assert texts(drawn["coefficient"]).count("81") == 2
    assert texts(drawn["effective_rank"]).count("none") == 1
    assert texts(drawn["sibling_cosine"]).count("none") == 2


def test_marks_stand_where_the_quantiles_are_and_the_first_data_set_is_in_colour():
    [first, second] = panels(summary("s", coefficient=SPREAD), summary("r", coefficient=SPREAD))["coefficient"].findall(
        f"{SVG}g[@class='row']"
    )
    axis = axis_of([SPREAD], log=False)
    box = first.find(f"{SVG}rect")
    span = PANEL_WIDTH * (axis.place(0.7) - axis.place(0.3))
    assert float(box.get("width")) == pytest.approx(span, abs=0.1)
    assert box.get("fill") == FIRST != second.find(f"{SVG}rect").get("fill")
    assert (
        first.find(f"{SVG}title").text
        == "n = 81; 0 %: 0.1, 5 %: 0.14, 25 %: 0.3, 50 %: 0.5, 75 %: 0.7, 95 %: 0.86, 100 %: 0.9"
    )
    assert len(first.findall(f"{SVG}circle")) == 2  # smallest and largest


def test_a_value_far_beyond_the_others_is_an_arrow_at_the_end_of_the_axis():
    far = Quantiles.of(np.array([*np.linspace(0, 1, 99), 1e6]))
    axis = axis_of([far], log=False)
    assert axis.high < 10
    [row] = panels(summary("s", coefficient=far))["coefficient"].findall(f"{SVG}g[@class='row']")
    assert (len(row.findall(f"{SVG}circle")), len(row.findall(f"{SVG}path"))) == (1, 1)
    assert axis.place(1e6) == 1


def test_zeros_lie_on_the_left_end_of_a_logarithmic_axis():
    copies = Quantiles.of(np.array([0.0, 0.0, 0.01, 0.1, 1.0]))
    axis = axis_of([copies], log=True)
    assert axis.low > 0
    assert axis.place(0.0) == 0
    assert axis.place(0.1) < axis.place(1.0) <= 1
    nothing = axis_of([Quantiles.of(np.zeros(3))], log=True)
    assert (nothing.place(0), nothing.low > 0) == (0, True)


@given(
    st.lists(st.lists(st.floats(1e-12, 1e12), min_size=1, max_size=9), min_size=1, max_size=4),
    st.booleans(),
)
def test_every_axis_has_few_ticks_in_order_and_covers_the_middle_of_the_values(values, log):
    distributions = [Quantiles.of(np.array(each)) for each in values]
    axis = axis_of(distributions, log)
    assert axis.low < axis.high
    assert 1 <= len(axis.ticks) <= 8
    assert list(axis.ticks) == sorted(set(axis.ticks))
    for distribution in distributions:
        for value in distribution.values[1:-1]:
            place = axis.place(value)
            assert 0 <= place <= 1
            assert math.isclose(value, axis.low, rel_tol=1e-6) or value > axis.low
            assert math.isclose(value, axis.high, rel_tol=1e-6) or value < axis.high


def test_long_names_are_shortened_and_marked_up_names_are_safe():
    drawn = panels(summary("a" * 50, coefficient=SPREAD), summary("<b>&", coefficient=SPREAD))
    assert "a" * 27 + "…" in texts(drawn["coefficient"])
    assert "<b>&" in texts(drawn["coefficient"])
