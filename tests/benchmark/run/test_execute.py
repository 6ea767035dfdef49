"""Runs of methods: failures, records, scores, and the two executors."""

import re
import warnings
from dataclasses import dataclass, field, replace

import pytest
import torch

from mothr.benchmark.data.dataset import Truth, open_models, open_truth
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.records import store
from mothr.benchmark.run.execute import execute
from mothr.benchmark.run.in_process import InProcess, try_to_predict
from mothr.benchmark.run.isolation import Isolated
from mothr.benchmark.run.method import parameters
from mothr.benchmark.run.outcome import RunRequest, score
from mothr.benchmark.run.registry import find_method, settings_from
from mothr.benchmark.score.metrics import METRICS
from mothr.benchmark.weights.engine import current_resources, use_resources
from mothr.benchmark.weights.model_set import ModelSet
from mothr.benchmark.weights.streaming import device


def star(models, rng, **more):
    """A legal prediction: the first model is the parent of all others."""
    root, *rest = models.ids
    return Prediction(ModelGraph.from_edges(models.ids, [(root, node) for node in rest]), **more)


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
    return Prediction(ModelGraph({node: (models.ids[index - 1],) for index, node in enumerate(models.ids)}))


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
def test_a_method_that_fails_has_a_failed_record_without_scores(
    tiny, tmp_path, registered, method, expected, record_of_run
):
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
def test_a_field_that_cannot_be_recorded_is_refused_before_the_run(tiny, registered, value, record_of_run):
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


def test_a_run_is_recorded_with_all_that_it_was(tiny, record_of_run):
    record = record_of_run(tiny, "linea", "known-trees", seed=1, relatedness_threshold="0.2")
    assert (record.split, record.split_version, record.setting, record.seed) == ("tiny", 1, "known-trees", 1)
    assert (record.status, record.error, record.given) == ("ok", None, ["trees"])
    assert record.parameters["relatedness_threshold"] == 0.2
    assert record.metrics["edge_f1"] == 1.0
    assert [scores["tree"] for scores in record.per_tree] == [0, 1]
    assert record.seconds > 0
    assert record_of_run(tiny, "mother-v2").given == ["tree_count"]


@pytest.mark.parametrize("name", ["linea", "null-random-tree", "mother-v1"])
def test_scoring_a_written_prediction_again_gives_the_stored_metrics_exactly(tiny, tmp_path, name, record_of_run):
    store.write(record_of_run(tiny, name), tmp_path)
    [record] = store.read_all(tmp_path)
    again = score(record.prediction(), open_truth(tiny))
    assert dict(again.whole) == record.metrics
    assert [dict(tree) for tree in again.trees] == record.per_tree


def test_the_score_of_a_tree_stands_under_the_number_that_the_truth_gives_its_models():
    """Trees 4 and 2 stand at positions 0 and 1; 9 is a stranger, 0 a student's tree; the root above x and y is withheld."""
    parents = {"a": [], "b": ["a"], "c": ["b"], "d": [], "e": ["d"], "s": [], "t": [], "u": ["t"], "x": [], "y": []}
    numbers = {"a": 4, "b": 4, "c": 4, "d": 2, "e": 2, "s": 9, "t": 0, "u": 0, "x": 5, "y": 5}
    nodes = {node: {"parents": above, "tree": numbers[node]} for node, above in parents.items()}
    truth = Truth.model_validate({"split": "s", "version": 1, "nodes": nodes})
    predicted = {node: tuple(above) for node, above in parents.items()} | {"c": ("a",), "u": ()}
    scores = score(Prediction(ModelGraph(predicted)), truth)
    by_number = {tree["tree"]: tree["edge_f1"] for tree in scores.trees}
    assert by_number == {4: 0.5, 2: 1.0, 9: 1.0, 0: 0.0, 5: 1.0, 10: 1.0}
    assert [tree["tree"] for tree in scores.trees] == [4, 2, 9, 0, 5, 10]  # the order of truth.graph.trees


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


def test_a_variant_given_as_settings_predicts_like_the_method_itself(tiny, prediction_of, record_of_run):
    method = replace(find_method("mother-v2"), lambda_=0.1 + 0.2, distance="cosine", direction_combine=None)
    record = record_of_run(tiny, "mother-v2", "known-trees", seed=3, **settings_from(method, "mother-v2"))
    assert record.parameters == parameters(method)
    assert record.prediction() == prediction_of(method, tiny, "known-trees")


def test_the_record_names_the_kind_and_the_device_of_the_features(tiny, monkeypatch, record_of_run):
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
