"""Quantiles of updates: their values, the file that holds them, and clear errors for files that do not."""

import json

import numpy as np
import pytest

from mothr.benchmark.data.update_summary import (
    LEVELS,
    STATISTICS,
    Quantiles,
    UpdateSummary,
    number,
    open_summaries,
    rows,
    write_summaries,
)
from mothr.benchmark.errors import MothrError


def summary(name="one", **statistics):
    return UpdateSummary(name=name, version=1, models=3, trees=1, edges=2, statistics=statistics)


def test_quantiles_are_those_of_the_values():
    found = Quantiles.of(np.arange(101.0) / 10)
    assert found.n == 101
    assert found.values == tuple(level / 10 for level in LEVELS)
    assert Quantiles.of(np.array([0.123456789])).values == (0.123457,) * len(LEVELS)
    assert Quantiles.of(np.array([])) == Quantiles(n=0)


def test_a_data_set_is_summarised_and_the_file_gives_the_same_again(tiny, tmp_path):
    [found] = open_summaries(tiny)
    assert (found.name, found.version, found.models, found.trees, found.edges) == ("tiny", 1, 14, 2, 12)
    assert {name: value.n for name, value in found.statistics.items()} == {
        "relative_length": 12, "length_over_parents": 8, "coefficient": 8, "sibling_cosine": 6, "uncle_coefficient": 8,
        "tensors_touched": 12, "effective_rank": 12, "effective_rank_share": 12,
    }  # fmt: skip
    assert 0.9 < found.statistics["coefficient"].values[3] < 1.1  # Gaussian updates, each independent of its parent's
    path = tmp_path / "updates.json"
    write_summaries(path, [found, summary()])
    assert open_summaries(path) == (found, summary())


def test_rows_name_what_has_no_value():
    found = list(rows([summary(coefficient=Quantiles(n=2, values=(0, 0, 0.5, 1, 1, 1, 1234.5))), summary("two")]))
    assert len(found) == 2 * len(STATISTICS)
    [known] = [row for row in found if row["n"] == "2"]
    assert (known["data set"], known["0 %"], known["25 %"], known["100 %"]) == ("one", "0", "0.5", "1,234")
    assert {row["0 %"] for row in found if row["n"] == "0"} == {"none"}


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (1234567.0, "1,234,567"), (0.12345, "0.123"), (1.2e-5, "1.2e-05"), (-2.0, "-2")]
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda data: data.update(schema_version=2), "schema_version"),
        (lambda data: data["datasets"][0].pop("name"), "datasets.0.name"),
        (lambda data: data["datasets"][0]["statistics"]["coefficient"].update(values=[1, 2]), "2 quantiles of 3 values; give 7"),
        (lambda data: data["datasets"][0]["statistics"]["coefficient"].update(values=[7, 6, 5, 4, 3, 2, 1]), "the quantiles fall"),
        (lambda data: data["datasets"][0].update(modles=3), "unknown field 'modles'; did you mean models"),
    ],
)  # fmt: skip
def test_a_malformed_file_is_named_with_its_fault(tmp_path, edit, message):
    path = tmp_path / "updates.json"
    write_summaries(path, [summary(coefficient=Quantiles.of(np.array([1.0, 2.0, 3.0])))])
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))
    with pytest.raises(MothrError) as error:
        open_summaries(path)
    assert str(path) in str(error.value)
    assert message in str(error.value)


def test_a_path_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(MothrError, match="no such data set or file"):
        open_summaries(tmp_path / "absent")
