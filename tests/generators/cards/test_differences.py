"""The sections on what varies and how the models differ: their tables, the figure, and the real families beside them."""

import pytest
import torch

from mothr.benchmark.data.dataset import Truth
from mothr.benchmark.data.update_summary import STATISTICS, Quantiles, UpdateSummary, write_summaries
from mothr.generators.cards import differences
from mothr.generators.cards.differences import FIGURE, describe_models


def truth_of(parents):
    nodes = {
        node: {"parents": [parent] if parent else [], "relation": "finetune" if parent else None}
        for node, parent in parents.items()
    }
    return Truth.model_validate({"split": "suite", "version": 2, "nodes": nodes})


@pytest.fixture
def chain(write_models):
    """Each model moves by twice the length of its parent's update, in the same direction."""
    return write_models({node: {"w": torch.tensor([1.0, value])} for node, value in zip("apc", (0, 1, 3), strict=True)})


@pytest.fixture
def real(tmp_path, monkeypatch):
    """Puts two real families into the place of the published ones."""
    families = [
        UpdateSummary(
            name=name, version=1, models=9, trees=1, edges=8, source="a package",
            statistics={"length_over_parents": Quantiles(n=5, values=(0.1, 0.1, 0.2, median, 7, 8, 9))},
        )
        for name, median in (("mice", 0.5), ("men", 4.0))
    ]  # fmt: skip
    write_summaries(tmp_path / "real.json", families)
    monkeypatch.setattr(differences, "REFERENCE", tmp_path / "real.json")


def cells(lines, title):
    [line] = [line for line in lines if line.startswith(f"| {title}")]
    return [cell.strip() for cell in line.replace("\\|", "").strip("|").split("|")]


def test_the_table_has_every_statistic_and_none_where_there_is_no_value(chain, monkeypatch, tmp_path):
    monkeypatch.setattr(differences, "REFERENCE", tmp_path / "absent.json")
    described = describe_models(chain, truth_of({"a": None, "p": "a", "c": "p"}))
    lines = described.sections["How the models differ"]
    assert lines[0] == f"![Distributions of the updates]({FIGURE})"
    assert cells(lines, "statistic") == ["statistic", "n", "0 %", "5 %", "25 %", "50 %", "75 %", "95 %", "100 %"]
    assert cells(lines, STATISTICS["length_over_parents"].title)[1:] == ["1", *["2"] * 7]
    assert cells(lines, STATISTICS["coefficient"].title)[1:] == ["1", *["3"] * 7]
    assert cells(lines, STATISTICS["sibling_cosine"].title)[1:3] == ["0", "none"]
    assert sum(line.startswith("| ") for line in lines) == 1 + len(STATISTICS)
    assert "How the models of suite v2 differ" in described.svg
    assert "real families" not in "\n".join(lines)


def test_real_families_are_shown_beside_the_suite(chain, real):
    described = describe_models(chain, truth_of({"a": None, "p": "a", "c": "p"}))
    lines = described.sections["How the models differ"]
    assert cells(lines, STATISTICS["length_over_parents"].title)[-1] == "0.5 to 4 (0.1 to 8, 2 families)"
    assert cells(lines, STATISTICS["coefficient"].title)[-1] == "none"
    assert "2 real families, in grey" in "\n".join(lines)
    assert described.svg.count(">mice<") == len(STATISTICS)


def test_what_varies_is_a_table(chain):
    lines = describe_models(chain, truth_of({"a": None, "p": "a", "c": "p"})).sections["What varies"]
    assert "| models of a tree | 1 trees | 3 (1) |" in lines
    assert "| depth of a model | 3 models | 0 (1), 1 (1), 2 (1) |" in lines
    assert "| storage | 3 models | F32 (3) |" in lines


def test_a_single_model_is_described(write_models):
    described = describe_models(write_models({"a": {"w": torch.ones(2)}}), truth_of({"a": None}))
    table = [line for line in described.sections["How the models differ"] if line.startswith("| ")][1:]
    assert all("| 0 | none |" in line for line in table)
    assert len(table) == len(STATISTICS)


def test_the_published_reference_can_be_read_and_names_its_sources():
    families = differences.real_families()
    assert families
    for family in families:
        assert family.source
        assert family.statistics["relative_length"].n
