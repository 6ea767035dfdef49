"""``import mothr``: each function on a small data set."""

import subprocess
import sys
from xml.etree import ElementTree

import pytest

import mothr
from mothr import ModelGraph, Prediction
from mothr.benchmark.data.dataset import open_truth


def test_importing_mothr_and_its_values_loads_no_torch():
    code = "import sys, mothr; mothr.ModelGraph, mothr.Prediction, mothr.MothrError; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_lists_the_public_ones():
    with pytest.raises(AttributeError, match=r"'mothr' has no attribute 'recuver'; it has .*recover"):
        _ = mothr.recuver
    assert set(mothr.__all__) == set(dir(mothr))


def test_load_opens_the_models_of_a_data_set(tiny):
    models = mothr.load(tiny)
    assert isinstance(models, mothr.ModelSet)
    assert set(models.ids) == set(open_truth(tiny).nodes)


def test_recover_predicts_a_graph_of_a_plain_folder_and_score_compares_it_with_the_truth(tiny):
    prediction = mothr.recover(tiny / "models")
    assert isinstance(prediction, Prediction)
    scores = mothr.score(prediction, tiny)
    assert scores == mothr.score(prediction.graph, open_truth(tiny).graph) | {
        name: scores[name] for name in scores if mothr.score(prediction.graph, open_truth(tiny).graph)[name] is None
    }
    assert scores["edge_f1"] == 1


def test_recover_takes_fields_as_python_values_and_refuses_oracles(tiny):
    prediction = mothr.recover(tiny, "null-star", seed=1)
    assert len(prediction.graph.roots) == 1
    by_norm = mothr.recover(tiny, "neighbour-joining", settings={"direction": "norm"})
    assert set(by_norm.graph.nodes) == set(open_truth(tiny).nodes)
    with pytest.raises(mothr.MothrError, match="oracle"):
        mothr.recover(tiny, "oracle-star")
    with pytest.raises(mothr.MothrError, match=r"did you mean.*direction"):
        mothr.recover(tiny, "neighbour-joining", settings={"directoin": "norm"})


def test_run_returns_a_scored_record(tiny):
    record = mothr.run("mother-v2", tiny, setting="known-trees", settings={"lambda_": 0.1 + 0.2})
    assert (record.status, record.setting, record.given) == ("ok", "known-trees", ["tree_count", "trees"])
    assert record.parameters["lambda_"] == 0.1 + 0.2
    assert record.metrics["edge_f1"] is not None


def test_score_refuses_a_prediction_of_other_models(tiny):
    with pytest.raises(mothr.MothrError, match="the prediction"):
        mothr.score(ModelGraph({"a": ()}), tiny)


def test_draw_gives_an_svg_of_a_graph_and_of_a_prediction_over_the_truth(tiny):
    prediction = mothr.recover(tiny, "null-star")
    for picture in (mothr.draw(prediction), mothr.draw(prediction, tiny, title="star"), prediction.graph._repr_svg_()):
        assert ElementTree.fromstring(picture).tag.endswith("svg")
    assert prediction._repr_svg_() == prediction.graph._repr_svg_()


def test_methods_lists_kind_given_and_fields():
    rows = {row["name"]: row for row in mothr.methods()}
    assert rows["null-star"]["kind"] == "null"
    assert rows["oracle-star"]["given"] == ["truth"]
    assert all(field["description"] for field in rows["linea"]["fields"])
