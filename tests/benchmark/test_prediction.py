"""Prediction: what the constructor and the prediction file accept, refuse and preserve."""

import json
import math
from types import MappingProxyType

import numpy as np
import pytest

from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.prediction import Prediction

GRAPH = ModelGraph({"a": (), "b": ("a",), "m": ("a", "b")})
FULL = Prediction(
    GRAPH,
    {("a", "b"): 0.5, ("a", "m"): 1.0, ("b", "m"): 0.0},
    {"a": 0, "b": 0, "m": 1},
    frozenset({"m"}),
    {"m": "merge"},
)
PAIR = ModelGraph({"a": (), "b": ("a",)})


@pytest.mark.parametrize(
    "prediction", [FULL, Prediction(GRAPH), Prediction(ModelGraph({})), Prediction(GRAPH, confidence={})]
)
def test_a_prediction_survives_writing_and_reading(prediction):
    assert Prediction.from_json(json.loads(json.dumps(prediction.to_json(), allow_nan=False))) == prediction


def test_the_format_is_the_contract():
    assert FULL.to_json() == {
        "schema_version": 1,
        "parents": {"a": [], "b": ["a"], "m": ["a", "b"]},
        "confidence": {"b": {"a": 0.5}, "m": {"a": 1.0, "b": 0.0}},
        "trees": {"a": 0, "b": 0, "m": 1},
        "abstained": ["m"],
        "relations": {"m": "merge"},
    }
    assert set(Prediction(GRAPH).to_json()) == {"schema_version", "parents"}


def test_the_order_of_the_parts_does_not_change_the_file():
    shuffled = Prediction(
        GRAPH,
        {edge: FULL.confidence[edge] for edge in reversed(FULL.confidence)},
        {node: FULL.trees[node] for node in reversed(FULL.trees)},
        FULL.abstained,
        FULL.relations,
    )
    assert json.dumps(shuffled.to_json()) == json.dumps(FULL.to_json())


def test_relabel_renames_every_part():
    names = {"a": "x", "b": "y", "m": "z"}
    renamed = FULL.relabel(names)
    assert renamed.graph.parents["z"] == ("x", "y")
    assert renamed.confidence == {("x", "y"): 0.5, ("x", "z"): 1.0, ("y", "z"): 0.0}
    assert renamed.trees == {"x": 0, "y": 0, "z": 1}
    assert renamed.abstained == {"z"}
    assert renamed.relations == {"z": "merge"}
    assert renamed.relabel({new: old for old, new in names.items()}) == FULL


def test_of_refuses_missing_and_added_models():
    assert FULL.of(["m", "b", "a"], "it") is FULL
    with pytest.raises(MothrError, match=r"^it leaves out 2 models, 'c' among them; name each of the 5 once$"):
        FULL.of("abcdm", "it")
    with pytest.raises(MothrError, match=r"^it adds 1 model, 'm' among them; name each of the 2 once$"):
        FULL.of("ab", "it")


def test_numbers_of_numpy_become_plain_numbers():
    confidence = MappingProxyType({("a", "b"): np.float32(0.5), ("a", "m"): np.int64(1), ("b", "m"): 0})
    labels = dict(zip("abm", np.array([0, 0, 1]), strict=True))
    prediction = Prediction(GRAPH, confidence, labels, {"m"}, MappingProxyType({"m": "merge"}))
    assert prediction == FULL
    assert {type(value) for value in prediction.confidence.values()} == {float}
    assert {type(value) for value in prediction.trees.values()} == {int}
    assert json.dumps(prediction.to_json()) == json.dumps(FULL.to_json())
    assert Prediction(PAIR, trees={"a": np.float64(3.0)}).trees == {"a": 3}


def test_later_changes_of_the_arguments_have_no_effect():
    confidence, labels = {("a", "b"): 0.5}, {"a": 0}
    prediction = Prediction(PAIR, confidence, labels)
    confidence["a", "b"], labels["a"] = 7.0, 1
    assert (prediction.confidence, prediction.trees) == ({("a", "b"): 0.5}, {"a": 0})


def test_the_graph_must_be_a_valid_model_graph():
    class Unchecked(ModelGraph):
        def __post_init__(self):
            pass

    with pytest.raises(MothrError, match="graph of a prediction is a dict; it must be a ModelGraph"):
        Prediction({"a": ()})
    with pytest.raises(MothrError, match="cycle"):
        Prediction(Unchecked({"a": ("b",), "b": ("a",)}))
    with pytest.raises(MothrError, match="unknown parent 'b'"):
        Prediction(Unchecked({"a": ("b",)}))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "an object with the key 'parents'"),
        ({"schema_version": 1}, "an object with the key 'parents'"),
        ({"parents": {}}, "schema_version is None"),
        ({"schema_version": 2, "parents": {}}, "schema_version is 2; this version reads 1"),
        ({"schema_version": 1, "parents": {}, "confidences": {}}, "unknown key 'confidences'; did you mean confidence"),
        ({"schema_version": 1, "parents": {"a": ["b"]}}, "unknown parent 'b'"),
        ({"schema_version": 1, "parents": {"a": ["a"]}}, "cycle"),
    ],
)
def test_bad_files_are_refused_by_name(value, message):
    with pytest.raises(MothrError, match=f"^mine.json: .*{message}"):
        Prediction.from_json(value, "mine.json")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"confidence": []}, "'confidence' must be"),
        ({"confidence": {"b": 0.5}}, "'confidence' must be"),
        ({"confidence": {"a": {"b": 0.5}}}, "'b' -> 'a', which is no predicted edge"),
        ({"confidence": {"q": {"a": 0.5}}}, "no predicted edge"),
        ({"confidence": {"b": {"a": 1.5}}}, r"is 1.5; it must be in \[0, 1\]"),
        ({"confidence": {"b": {"a": float("nan")}}}, "is nan"),
        ({"confidence": {"b": {"a": True}}}, "is True"),
        ({"confidence": {"b": {"a": "0.5"}}}, "is '0.5'"),
        ({"confidence": {"b": {"a": None}}}, "is None"),
        ({"trees": []}, "'trees' must be a JSON object"),
        ({"trees": {"q": 0}}, "'trees' names the unknown model 'q'"),
        ({"trees": {"a": "0"}}, "whole numbers"),
        ({"trees": {"a": True}}, "whole numbers"),
        ({"trees": {"a": 0.5}}, "whole numbers"),
        ({"abstained": {}}, "'abstained' must be a JSON list"),
        ({"abstained": ["q"]}, "'abstained' names the unknown model 'q'"),
        ({"relations": {"q": "merge"}}, "'relations' names the unknown model 'q'"),
        ({"relations": {"b": "mergers"}}, "relation of 'b' 'mergers'; did you mean merge"),
        ({"relations": {"b": ["merge"]}}, "relation of 'b'"),
        ({"relations": {"a": "merge"}}, "relation of 'a' is 'merge', but 'a' has no predicted parent"),
        ({"abstained": [["a"]]}, "'abstained' names the unknown model"),
    ],
)
def test_bad_parts_of_a_file_are_refused(part, message):
    with pytest.raises(MothrError, match=f"^mine.json: .*{message}"):
        Prediction.from_json({"schema_version": 1, "parents": {"a": [], "b": ["a"]}, **part}, "mine.json")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"confidence": {("b", "a"): 0.5}}, "^confidence of 'b' -> 'a', which is no predicted edge"),
        ({"confidence": {("a", "b"): np.float32(1.5)}}, r"is 1.5; it must be in \[0, 1\]"),
        ({"confidence": {("a", "b"): math.nan}}, "is nan"),
        ({"confidence": {("a", "b"): "0.5"}}, "is '0.5'"),
        ({"trees": {"q": 0}}, "^'trees' names the unknown model 'q'"),
        ({"trees": {"a": np.float32(0.5)}}, "whole numbers"),
        ({"trees": {"a": math.nan}}, "whole numbers"),
        ({"abstained": {"q"}}, "^'abstained' names the unknown model 'q'"),
        ({"relations": {"b": "mergers"}}, "relation of 'b' 'mergers'; did you mean merge"),
        ({"relations": {"a": "merge"}}, "'a' has no predicted parent"),
    ],
)
def test_the_constructor_refuses_bad_parts(part, message):
    with pytest.raises(MothrError, match=message):
        Prediction(PAIR, **part)
