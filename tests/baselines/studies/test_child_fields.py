"""What is recorded of a child: its training, its task and its storage."""

import pytest
import torch

from mothr.baselines.studies.child_fields import kind_with_setting, storage, task_rule, training_fields
from mothr.benchmark.data.dataset import TruthNode


def child(subtype="full", **fields):
    return TruthNode(parents=("p",), relation="finetune", subtype=subtype, **fields)


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        ({}, {"trained": "everything", "averaging": "none", "label_noise": "no", "l2_sp": "no", "lora": None}),
        ({"trained": "vectors", "ema": 0.9}, {"trained": "vectors", "averaging": "ema"}),
        ({"tail_average": 0.5, "label_noise": 0.1, "l2_sp": 1.0}, {"averaging": "tail average", "label_noise": "yes", "l2_sp": "yes"}),
        ({"rank": 4}, {"trained": "low-rank update", "lora": "lora"}),
        ({"rank": 4, "dora": True}, {"lora": "dora"}),
        ({"rank": 4, "rslora": True, "dora": False}, {"lora": "rslora"}),
    ],
)  # fmt: skip
def test_the_training_is_read_from_its_record(training, expected):
    fields = training_fields(child(training={"steps": 10, **training}))
    assert {name: fields[name] for name in expected} == expected


@pytest.mark.parametrize("training", [None, {}, {"metric": "accuracy"}])
def test_nothing_is_said_of_a_training_that_is_not_recorded(training):
    assert set(training_fields(child(training=training)).values()) == {None}


def test_the_rule_of_the_task_is_the_drawn_one_or_that_the_training_goes_on():
    assert task_rule(child(drawn={"task_rule": "sibling"})) == "sibling"
    assert task_rule(child("lora-continued", drawn={"training.steps": 3})) == "continued"
    assert task_rule(child(drawn={"training.steps": 3})) is None
    assert task_rule(child()) is None


def test_a_number_that_was_drawn_for_one_edge_is_not_part_of_its_kind():
    pruned = child("pruned", transform={"kind": "pruned", "share": 0.37})
    assert kind_with_setting("pruned", pruned, "share") == "pruned 0.37"
    assert (
        kind_with_setting("pruned", pruned.model_copy(update={"drawn": {"transform.share": 0.37}}), "share") == "pruned"
    )
    quantized = child("int8", transform={"precision": "int8"}, drawn={"transform.precision": "int8"})
    assert kind_with_setting("quantized", quantized, "precision") == "quantized int8"
    assert kind_with_setting("full", child(), None) == "full"


def test_storage_is_that_of_the_weights_and_not_of_buffers(write_models):
    weights = {"a.weight": torch.ones(3, 3, dtype=torch.bfloat16), "positions": torch.arange(4)}
    models = write_models(
        {"half": weights, "mixed": {**weights, "b.weight": torch.ones(2, 2)}, "none": {"positions": torch.arange(4)}}
    )
    found = {checkpoint.id: storage(checkpoint) for checkpoint in models.checkpoints}
    assert found == {"half": "bfloat16", "mixed": "bfloat16 and float32", "none": None}
