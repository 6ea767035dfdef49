"""Runs of methods: what a method is given, failures, records, scores, and the two executors."""

import json
import re
import shutil
import sys
import warnings
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mothr.benchmark.data.dataset import Truth, open_models, open_truth
from mothr.benchmark.errors import MothrError, MothrWarning
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.records import store
from mothr.benchmark.run.execute import execute, side_information
from mothr.benchmark.run.in_process import InProcess, predict, try_to_predict
from mothr.benchmark.run.isolation import Isolated
from mothr.benchmark.run.method import about, needs, parameters
from mothr.benchmark.run.outcome import RunRequest, score
from mothr.benchmark.run.plan import SETTINGS
from mothr.benchmark.run.registry import find_method, method_names, settings_from
from mothr.benchmark.score.metrics import METRICS
from mothr.benchmark.side_information import SideInformation
from mothr.benchmark.weights.engine import current_resources, use_resources
from mothr.benchmark.weights.model_set import ModelSet
from mothr.benchmark.weights.streaming import device


def star(models, rng, **more):
    """A legal answer: the first model is the parent of all others."""
    root, *rest = models.ids
    return Prediction(ModelGraph.from_edges(models.ids, [(root, node) for node in rest]), **more)


def renamed(data, folder, names):
    """Returns a copy of the data set ``data`` in ``folder``, its models called ``names[id]``."""
    shutil.copytree(data, folder, ignore=lambda place, names: names if place.endswith("models") else [])
    for old, new in names.items():
        shutil.copytree(data / "models" / old, folder / "models" / new)
    truth = json.loads((data / "truth.json").read_text())
    truth["nodes"] = {
        names[node]: {**value, "parents": [names[parent] for parent in value["parents"]]}
        for node, value in truth["nodes"].items()
    }
    (folder / "truth.json").write_text(json.dumps(truth))
    return folder


def given_for(method, folder, setting):
    """Returns the side information of a method on a data set."""
    return side_information(about(method, "method"), setting, folder, open_truth(folder))


def prediction_of(method, folder, setting, seed=3):
    """Returns the prediction of a method on a data set."""
    return predict(method, open_models(folder).with_given(given_for(method, folder, setting)), seed)


def record_of_run(folder, method, setting="open", seed=0, **settings):
    """Returns the record of one run in this process."""
    [(_, record)] = execute([RunRequest(method, settings, setting, seed)], folder, open_truth(folder), InProcess())
    return record


@pytest.fixture
def registered(monkeypatch):
    """A function that makes a method importable, and returns its name."""

    def register(method):
        monkeypatch.setitem(sys.modules, "lab_methods", SimpleNamespace(bad=method))
        return "lab_methods:bad"

    return register


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
    assert {one.graph.roots for one in result} == {(models.ids[0],)}


@pytest.mark.parametrize("name", [name for name in method_names() if name != "null-metadata"])
def test_other_names_of_the_models_give_the_same_prediction_renamed(tiny, tmp_path, sealed, name):
    ids = [path.name for path in sorted((tiny / "models").iterdir())]
    fresh = [np.random.default_rng(1).permutation(16)[[int(letter) for letter in node]] for node in ids]
    names = {node: "".join(f"{digit:x}" for digit in digits) for node, digits in zip(ids, fresh, strict=True)}
    assert [names[node] for node in ids] != sorted(names.values())
    other, method = sealed(renamed(tiny, tmp_path / "other", names)), find_method(name)
    for setting in SETTINGS:
        one, two = prediction_of(method, tiny, setting), prediction_of(method, other, setting)
        assert one.graph.relabel(names) == two.graph
        assert one.confidence is None or one.relabel(names).confidence == two.confidence


def test_metadata_uses_only_the_order_and_the_beginning_of_names(tiny, tmp_path, sealed):
    """Ids are all that is left for it to read in a data set: a renaming that keeps order and beginnings changes nothing."""
    ids = [path.name for path in (tiny / "models").iterdir()]
    names = {node: node.translate(str.maketrans("01234567", "89abcdef")) for node in ids}
    other, method = sealed(renamed(tiny, tmp_path / "other", names)), find_method("null-metadata")
    for setting in SETTINGS:
        assert prediction_of(method, tiny, setting).graph.relabel(names) == prediction_of(method, other, setting).graph


@pytest.mark.parametrize("name", method_names())
def test_every_method_predicts_one_tree_with_one_root_for_each_given_tree(tiny, name):
    truth = open_truth(tiny)
    result = prediction_of(find_method(name), tiny, "known-trees").graph
    assert set(result.trees) == set(truth.graph.trees)
    assert len(result.roots) == 2
    assert max(len(named) for named in result.parents.values()) == 1


def test_methods_are_given_the_setting_and_what_they_need_and_no_more(tiny):
    truth = open_truth(tiny)
    for name in method_names():
        method = find_method(name)
        for setting in SETTINGS:
            told = given_for(method, tiny, setting)
            assert set(told.names()) == needs(method) | ({"trees"} if setting == "known-trees" else set())
            assert told.trees == (truth.trees if setting == "known-trees" else None)
            assert told.tree_count in (None, 2)


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
        told = SideInformation(tree_count=1, metadata={node: {"name": node} for node in contents})
        result = predict(find_method(name), models.with_given(told)).graph
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
    with pytest.warns(MothrWarning) as said:
        result = predict(find_method("linea"), models)
    [text] = [str(one.message) for one in said]
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


def test_a_weight_that_is_no_number_fails_the_run_and_names_the_model(data, sealed):
    spoiled = max((data / "models").iterdir())
    tensors = load_file(spoiled / "model.safetensors")
    tensors["layers.0.attention.o_proj.weight"][0, 0] = torch.nan
    save_file(tensors, spoiled / "model.safetensors")
    record = record_of_run(sealed(data), "mother-v2")
    assert record.status == "failed"
    assert f"{spoiled.name}/model.safetensors: tensor 'layers.0.attention.o_proj.weight' holds NaN" in record.error


# --- methods that go wrong ---


def leaves_out(models, rng):
    return Prediction(ModelGraph(dict.fromkeys(models.ids[1:], ())))


def adds(models, rng):
    return Prediction(ModelGraph(dict.fromkeys([*models.ids, "more", "and more"], ())))


def renames(models, rng):
    return Prediction(ModelGraph(dict.fromkeys([*models.ids[1:], "mine"], ())))


def raises(models, rng):
    return {}["nothing here"]


def leaves(models, rng):
    raise SystemExit(0)


def runs_in_circles(models, rng):
    return Prediction(ModelGraph({node: (models.ids[place - 1],) for place, node in enumerate(models.ids)}))


def is_sure_beyond_one(models, rng):
    return star(models, rng, confidence={(models.ids[0], models.ids[1]): 1.5})


def is_not_a_number(models, rng):
    return star(models, rng, confidence={(models.ids[0], models.ids[1]): float("nan")})


def is_sure_of_no_edge(models, rng):
    return star(models, rng, confidence={(models.ids[1], models.ids[2]): 0.5})


def clusters_a_stranger(models, rng):
    return star(models, rng, trees={"stranger": 0})


def abstains_on_a_stranger(models, rng):
    return star(models, rng, abstained=frozenset({"stranger"}))


def predicts_a_dictionary(models, rng):
    return Prediction(dict.fromkeys(models.ids, ()))


BAD = [
    (raises, r"KeyError: 'nothing here' \(test_execute\.py, line \d+\)"),
    (leaves, r"SystemExit: 0 \(test_execute\.py"),
    (lambda models, rng: None, r"returned a NoneType; it must return a mothr\.Prediction"),
    (lambda models, rng: {node: [] for node in models.ids}, "returned a dict; it must return"),
    (leaves_out, "prediction leaves out 1 model, '[0-9a-f]{12}' among them; name each of the 14 once"),
    (adds, "prediction adds 2 models, '.*' among them; name each of the 14 once"),
    (renames, "prediction leaves out 1 model"),
    (runs_in_circles, "cycle: .* a model cannot descend from itself"),
    (is_sure_beyond_one, r"confidence of .* is 1\.5; it must be in \[0, 1\]"),
    (is_not_a_number, r"confidence of .* is nan; it must be in \[0, 1\]"),
    (is_sure_of_no_edge, "which is no predicted edge"),
    (clusters_a_stranger, "'trees' names the unknown model 'stranger'"),
    (abstains_on_a_stranger, "'abstained' names the unknown model 'stranger'"),
    (predicts_a_dictionary, "the graph of a prediction is a dict; it must be a ModelGraph"),
]


@pytest.mark.parametrize(("method", "expected"), BAD, ids=[method.__name__ for method, _ in BAD])
def test_a_method_that_fails_has_a_failed_record_without_scores(tiny, tmp_path, registered, method, expected):
    record = record_of_run(tiny, registered(method), seed=2)
    assert record.status == "failed"
    assert re.search(expected, record.error)
    assert (record.parents, record.confidence, record.metrics, record.per_tree) == (None, None, {}, [])
    assert (record.method, record.seed, record.method_version, record.parameters) == ("lab_methods:bad", 2, "0", {})
    store.write(record, tmp_path)
    assert store.read_all(tmp_path) == [record]


def test_errors_name_the_models_by_the_ids_of_the_user(tiny):
    models = open_models(tiny)
    error = try_to_predict(is_sure_beyond_one, models, 0).error
    assert f"confidence of {models.ids[0]!r} -> {models.ids[1]!r}" in error


def test_the_user_can_stop_a_method(tiny):
    def stopped(models, rng):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        try_to_predict(stopped, open_models(tiny), 0)


def test_a_warning_of_a_method_is_passed_on_also_where_it_fails(tiny):
    def warns(models, rng):
        warnings.warn(f"{models.ids[0]} is odd", UserWarning, stacklevel=1)
        raise ValueError("no")

    models = open_models(tiny)
    with pytest.warns(UserWarning, match=f"^{models.ids[0]} is odd$"):
        assert try_to_predict(warns, models, 0).error.startswith("ValueError: no")


@pytest.mark.parametrize("value", [object(), float("nan"), {1, 2}])
def test_a_field_that_cannot_be_recorded_is_refused_before_the_run(tiny, registered, value):
    @dataclass(frozen=True)
    class Odd:
        weight: object = field(default_factory=lambda: value)

        def __call__(self, models, rng):
            raise AssertionError("it was run")

    with pytest.raises(
        MothrError, match=r"method 'lab_methods:bad': its fields cannot be recorded as JSON .* use numbers, text, lists"
    ):
        record_of_run(tiny, registered(Odd()))


# --- records and scores ---


def test_a_run_is_recorded_with_all_that_it_was(tiny):
    record = record_of_run(tiny, "linea", "known-trees", seed=1, relatedness_threshold="0.2")
    assert (record.split, record.split_version, record.setting, record.seed) == ("tiny", 1, "known-trees", 1)
    assert (record.status, record.error, record.given) == ("ok", None, ["trees"])
    assert record.parameters["relatedness_threshold"] == 0.2
    assert record.metrics["edge_f1"] == 1.0
    assert [scores["tree"] for scores in record.per_tree] == [0, 1]
    assert record.seconds > 0
    assert record_of_run(tiny, "mother-v2").given == ["tree_count"]


@pytest.mark.parametrize("name", ["linea", "null-random-tree", "mother-v1"])
def test_scoring_a_written_prediction_again_gives_the_stored_metrics_exactly(tiny, tmp_path, name):
    store.write(record_of_run(tiny, name), tmp_path)
    [record] = store.read_all(tmp_path)
    again = score(record.prediction(), open_truth(tiny))
    assert dict(again.whole) == record.metrics
    assert [dict(tree) for tree in again.trees] == record.per_tree


def test_the_truth_itself_is_perfect(tiny):
    truth = open_truth(tiny)
    relations = {node: known.relation for node, known in truth.nodes.items() if known.relation}
    result = score(Prediction(truth.graph, dict.fromkeys(truth.graph.edges, 1.0), relations=relations), truth)
    assert set(result.whole) == set(METRICS)
    for scores in (result.whole, *result.trees):
        for name, value in scores.items():
            if name != "tree":
                assert value == pytest.approx(
                    METRICS[name].high if METRICS[name].better == "higher" else METRICS[name].low
                ), name


def test_a_prediction_of_other_models_is_not_scored():
    truth = Truth.model_validate({"split": "s", "version": 1, "nodes": {"a": {"parents": []}, "b": {"parents": ["a"]}}})
    for parents, expected in (
        ({"a": ()}, "leaves out 1 model, 'b'"),
        ({"a": (), "b": (), "c": ()}, "adds 1 model, 'c'"),
    ):
        with pytest.raises(MothrError, match=f"the prediction {expected} among them; name each of the 2 once"):
            score(Prediction(ModelGraph(parents)), truth)


# --- one way to execute ---


@pytest.mark.parametrize("executor", [InProcess(), Isolated()], ids=["in-process", "isolated"])
def test_both_executors_check_names_and_files_before_the_first_run(data, executor):
    truth = open_truth(data)
    with pytest.raises(MothrError, match="unknown field of linea 'distanse'"):
        execute([RunRequest("null-star"), RunRequest("linea", {"distanse": "rms"})], data, truth, executor)
    (min((data / "models").iterdir()) / "config.json").write_text("changed")
    with pytest.raises(MothrError, match="its hash differs from the manifest's"):
        execute([RunRequest("null-star")], data, truth, executor)


@pytest.mark.parametrize("executor", [InProcess(), Isolated()], ids=["in-process", "isolated"])
def test_an_oracle_is_refused_where_the_truth_is_hidden(tiny, executor):
    with pytest.raises(MothrError, match=r"method 'oracle-star' is an oracle.*labels are hidden; leave it out"):
        execute([RunRequest("oracle-star")], tiny, open_truth(tiny), executor, hidden=True)


def test_a_method_that_needs_a_hidden_truth_is_never_given_it(tiny, registered):
    class Asks:
        """Its code belongs to another package, and it is an oracle."""

        needs = frozenset({"truth"})

        def __call__(self, models, rng):
            raise AssertionError("it was run")

    with pytest.raises(MothrError, match="labels are hidden"):
        execute([RunRequest(registered(Asks()))], tiny, open_truth(tiny), InProcess(), hidden=True)


def test_a_part_of_the_models_is_scored_against_the_truth_of_that_part(tiny):
    truth = open_truth(tiny)
    tree = sorted(truth.graph.trees[0])
    models = ModelSet(tuple(checkpoint for checkpoint in open_models(tiny).checkpoints if checkpoint.id in tree))
    part = Truth(split="tiny", version=1, nodes={node: truth.nodes[node] for node in tree})
    [(_, record)] = execute([RunRequest("linea")], tiny, part, InProcess(models=models))
    assert sorted(record.parents) == tree
    assert record.metrics["edge_f1"] == 1.0


def test_a_variant_given_as_settings_predicts_like_the_method_itself(tiny):
    method = replace(find_method("mother-v2"), lambda_=0.1 + 0.2, distance="cosine", direction_combine=None)
    record = record_of_run(tiny, "mother-v2", "known-trees", seed=3, **settings_from(method, "mother-v2"))
    assert record.parameters == parameters(method)
    assert record.prediction() == prediction_of(method, tiny, "known-trees")


def test_the_record_names_the_kind_and_the_device_of_the_features(tiny, monkeypatch):
    assert [record_of_run(tiny, name).kind for name in ("linea", "null-star", "oracle-star")] == [
        "method", "null", "oracle",
    ]  # fmt: skip
    assert record_of_run(tiny, "null-star").device == device().type
    monkeypatch.setattr("mothr.benchmark.run.in_process.device", lambda: torch.device("cuda", 0))
    assert record_of_run(tiny, "null-star").device == "cuda"


def test_the_resources_of_the_caller_stay_unless_the_executor_has_its_own(tiny, registered):
    seen = []

    def looks(models, rng):
        seen.append(current_resources().budget)
        return star(models, rng)

    name = registered(looks)
    with use_resources(budget=123 << 20):
        for executor in (InProcess(), InProcess(workers=1, memory=1)):
            list(execute([RunRequest(name)], tiny, open_truth(tiny), executor))
    assert seen == [123 << 20, 1 << 30]
