"""The examples in ``baselines/README.md`` run as they are printed."""

import dataclasses
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from mothr.baselines.linea import Linea
from mothr.baselines.methods.mother import MoTHer
from mothr.baselines.parts.directions import DIRECTIONS, evidence
from mothr.baselines.parts.distances import DISTANCES, distances
from mothr.benchmark.run.check import check_method
from mothr.benchmark.run.registry import find_method, own_method_names
from mothr.benchmark.weights.layers import Layers

GUIDE = Path(__file__).parents[2] / "baselines" / "README.md"
BODY = Layers("body")


def block(heading, language):
    """Returns the first code block of that language below a heading of the guide."""
    section = GUIDE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)[1]


def run(code):
    """Returns the names that the code defines."""
    names = {"__name__": "example"}
    exec(compile(code, str(GUIDE), "exec"), names)  # the guide's own code
    return names


@pytest.fixture
def tables():
    """The tables of distances and direction scores, restored afterwards."""
    before = dict(DISTANCES), dict(DIRECTIONS)
    yield
    for table, content in zip((DISTANCES, DIRECTIONS), before, strict=True):
        table.clear()
        table.update(content)


@pytest.fixture
def medoid(monkeypatch, tmp_path):
    """The guide's method, saved as the guide says."""
    (tmp_path / "medoid.py").write_text(block("Add a method", "python"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield "medoid:Medoid"
    sys.modules.pop("medoid", None)


def test_the_method_passes_the_conformance_suite(medoid):
    findings = check_method(find_method(medoid))
    assert {finding.rule: finding.text for finding in findings if finding.status != "ok"} == {}


def test_the_method_finds_the_undirected_tree(medoid, grown):
    models, truth = grown()
    graph = find_method(medoid)(models, np.random.default_rng(0)).graph
    assert {frozenset(edge) for edge in graph.edges} == {frozenset(edge) for edge in truth.edges}


def test_the_entry_point_names_the_method(medoid):
    points = tomllib.loads(block("Add a method", "toml"))["project"]["entry-points"]["mothr.methods"]
    assert points == {"medoid": medoid}


def test_the_distance_is_a_distance_and_works_in_a_method(tables, medoid, grown):
    run(block("Add a distance", "python"))
    models, truth = grown()
    matrix = distances(models, "median_abs", BODY)
    assert (np.diag(matrix) == 0).all()
    np.testing.assert_allclose(matrix, matrix.T)
    graph = find_method(medoid, {"distance": "median_abs"})(models, np.random.default_rng(0)).graph
    assert {frozenset(edge) for edge in graph.edges} == {frozenset(edge) for edge in truth.edges}


def test_the_direction_score_compares_models_and_works_in_a_method(tables, grown):
    function = run(block("Add a direction score", "python"))["abs_skewness"]
    np.testing.assert_allclose(
        function(np.array([[1.0, 2.0, 6.0], [1.0, 2.0, 3.0]])), [6 / (14 / 3) ** 1.5, 0.0], atol=1e-12
    )
    models, _ = grown()
    scores = evidence(models, "abs_skewness", BODY)
    np.testing.assert_allclose(scores, -scores.T)
    method = MoTHer(
        direction="abs_skewness", direction_layers="body", distance_layers="body", n_trees=1, clustering_layers="body"
    )
    assert len(method(models, np.random.default_rng(0)).graph.roots) == 1


def test_every_registered_method_is_in_the_guide():
    text = GUIDE.read_text(encoding="utf-8")
    assert [name for name in own_method_names() if f"`{name}`" not in text] == []


def test_every_field_of_linea_is_in_its_guide():
    text = (GUIDE.parent / "linea" / "README.md").read_text(encoding="utf-8")
    assert [field.name for field in dataclasses.fields(Linea) if f"`{field.name}`" not in text] == []
