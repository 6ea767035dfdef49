"""Predictions in this process: fresh ids, side information, and sets at the edge of what is legal."""

import json
import re
import shutil
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mothr.benchmark.data.dataset import open_models, open_truth
from mothr.benchmark.errors import MothrError, MothrWarning
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.run.in_process import predict
from mothr.benchmark.run.method import needs
from mothr.benchmark.run.plan import SETTINGS
from mothr.benchmark.run.registry import find_method, method_names
from mothr.benchmark.score.metrics import METRICS
from mothr.benchmark.side_information import SideInformation


def star(models, rng, **more):
    """A legal prediction: the first model is the parent of all others."""
    root, *rest = models.ids
    return Prediction(ModelGraph.from_edges(models.ids, [(root, node) for node in rest]), **more)


def renamed(data, folder, names):
    """Returns a copy of the data set ``data`` in ``folder``, its models called ``names[id]``."""
    shutil.copytree(data, folder, ignore=lambda folder, names: names if folder.endswith("models") else [])
    for old, new in names.items():
        shutil.copytree(data / "models" / old, folder / "models" / new)
    truth = json.loads((data / "truth.json").read_text())
    truth["nodes"] = {
        names[node]: {**value, "parents": [names[parent] for parent in value["parents"]]}
        for node, value in truth["nodes"].items()
    }
    (folder / "truth.json").write_text(json.dumps(truth))
    return folder


# --- what methods see ---


@dataclass(frozen=True)
class Spy:
    """Notes what it is given."""

    seen: list = field(default_factory=list)

    def __call__(self, models, rng):
        self.seen.append((models.ids, rng.random()))
        return star(models, rng)


def test_methods_see_fresh_ids_and_the_prediction_has_the_real_ids(tiny):
    models, spy = open_models(tiny), Spy()
    result = [predict(spy, models, seed) for seed in (0, 0, 1)]
    assert spy.seen[0] == spy.seen[1]
    assert not set(spy.seen[0][0]) & set(spy.seen[2][0])
    assert spy.seen[0][1] != spy.seen[2][1]
    for ids, _ in spy.seen:
        assert not set(ids) & set(models.ids)
        assert all(re.fullmatch("[0-9a-f]{12}", node) for node in ids)
    assert {prediction.graph.roots for prediction in result} == {(models.ids[0],)}


@pytest.mark.parametrize("name", [name for name in method_names() if name != "null-metadata"])
def test_other_names_of_the_models_give_the_same_prediction_renamed(tiny, tmp_path, sealed, name, prediction_of):
    ids = [path.name for path in sorted((tiny / "models").iterdir())]
    fresh = [np.random.default_rng(1).permutation(16)[[int(letter) for letter in node]] for node in ids]
    names = {node: "".join(f"{digit:x}" for digit in digits) for node, digits in zip(ids, fresh, strict=True)}
    assert [names[node] for node in ids] != sorted(names.values())
    renamed_folder, method = sealed(renamed(tiny, tmp_path / "other", names)), find_method(name)
    for setting in SETTINGS:
        prediction, renamed_prediction = (
            prediction_of(method, tiny, setting),
            prediction_of(method, renamed_folder, setting),
        )
        assert prediction.graph.relabel(names) == renamed_prediction.graph
        assert prediction.confidence is None or prediction.relabel(names).confidence == renamed_prediction.confidence


def test_metadata_uses_only_the_order_and_the_beginning_of_names(tiny, tmp_path, sealed, prediction_of):
    """Ids are all that is left for it to read in a data set: a renaming that keeps order and beginnings changes nothing."""
    ids = [path.name for path in (tiny / "models").iterdir()]
    names = {node: node.translate(str.maketrans("01234567", "89abcdef")) for node in ids}
    renamed_folder, method = sealed(renamed(tiny, tmp_path / "other", names)), find_method("null-metadata")
    for setting in SETTINGS:
        assert (
            prediction_of(method, tiny, setting).graph.relabel(names)
            == prediction_of(method, renamed_folder, setting).graph
        )


@pytest.mark.parametrize("name", method_names())
def test_every_method_predicts_one_tree_with_one_root_for_each_given_tree(tiny, name, prediction_of):
    truth = open_truth(tiny)
    result = prediction_of(find_method(name), tiny, "known-trees").graph
    assert set(result.trees) == set(truth.graph.trees)
    assert len(result.roots) == 2
    assert max(len(named) for named in result.parents.values()) == 1


def test_methods_are_given_the_setting_and_what_they_need_and_no_more(tiny, given_for):
    truth = open_truth(tiny)
    for name in method_names():
        method = find_method(name)
        for setting in SETTINGS:
            given = given_for(method, tiny, setting)
            assert set(given.names()) == needs(method) | ({"trees"} if setting == "known-trees" else set())
            assert given.trees == (truth.trees if setting == "known-trees" else None)
            assert given.tree_count in (None, 2)


# --- sets at the edge of what is legal ---


@pytest.mark.parametrize("name", [name for name in method_names() if "truth" not in needs(find_method(name))])
def test_one_model_two_models_and_copies_are_predicted(write_models, name):
    generator = torch.Generator().manual_seed(0)
    keys = [f"layers.0.attention.{part}_proj.weight" for part in "qkvo"]
    first, second = ({key: torch.randn(16, 16, generator=generator) for key in keys} for _ in range(2))
    for contents in (
        {"a": first},
        {"a": first, "b": second},
        dict.fromkeys("abc", first),
        dict.fromkeys("abcd", first) | {"e": second},
    ):
        models = write_models(contents)
        given = SideInformation(tree_count=1, metadata={node: {"name": node} for node in contents})
        result = predict(find_method(name), models.with_given(given)).graph
        assert set(result.nodes) == set(contents)


def test_integer_weights_are_compared_like_any_others(tiny, tmp_path):
    for path in (tiny / "models").glob("*/model.safetensors"):
        scaled = {
            name: (value / value.abs().max() * 127).round().to(torch.int8) for name, value in load_file(path).items()
        }
        save_file(scaled, tmp_path / f"{path.parent.name}.safetensors")
    truth = open_truth(tiny).graph
    result = predict(find_method("linea"), open_models(tmp_path)).graph
    assert set(result.trees) == set(truth.trees)
    assert METRICS["undirected_f1"].function(truth, result) > 0.8


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda tensors: tensors.pop("layers.1.attention.v_proj.weight"),
            "{node} lacks 1, the first 'layers.1.attention.v_proj.weight'",
        ),
        (
            lambda tensors: tensors.update({"layers.0.mlp.up_proj.weight": torch.zeros(64, 16)}),
            "lack some of the 11 tensors",
        ),
    ],
)
def test_a_model_that_lacks_a_tensor_is_named_as_the_user_calls_it_and_compared_on_the_rest(
    data, sealed, change, expected
):
    truth = open_truth(data).graph
    node = truth.edges[3][1]
    path = data / "models" / node / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    models = open_models(sealed(data))
    with pytest.warns(MothrWarning) as caught:
        result = predict(find_method("linea"), models)
    [text] = [str(warning.message) for warning in caught]
    assert expected.format(node=node) in text
    assert "compared on the tensors both hold, 9 to 10 of 1" in text
    assert result.graph == truth


def test_models_that_share_nothing_are_no_relatives(write_models):
    generator = torch.Generator().manual_seed(0)
    models = write_models({name: {f"{name}.weight": torch.randn(16, 16, generator=generator)} for name in "abc"})
    with pytest.warns(MothrWarning, match="3 pairs share none and count as infinitely far apart"):
        assert predict(find_method("linea"), models).graph.roots == ("a", "b", "c")
    with pytest.raises(MothrError, match="layers 'square-attention' select none of the 3 tensors"):
        predict(find_method("mother-v2"), models.with_given(SideInformation(trees=dict.fromkeys("abc", 0))))


def test_a_weight_that_is_no_number_fails_the_run_and_names_the_model(data, sealed, record_of_run):
    spoiled = max((data / "models").iterdir())
    tensors = load_file(spoiled / "model.safetensors")
    tensors["layers.0.attention.o_proj.weight"][0, 0] = torch.nan
    save_file(tensors, spoiled / "model.safetensors")
    record = record_of_run(sealed(data), "mother-v2")
    assert record.status == "failed"
    assert f"{spoiled.name}/model.safetensors: tensor 'layers.0.attention.o_proj.weight' holds NaN" in record.error
