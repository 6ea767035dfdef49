"""What varies in a data set: shapes, kinds, storage, sizes and settings, from the truth and the headers alone."""

import torch

from mothr.benchmark.data.dataset import Truth
from mothr.benchmark.data.variety import COUNTED, variety

FULL = {"relation": "finetune", "subtype": "full"}


def truth_of(nodes):
    return Truth.model_validate({"split": "s", "version": 1, "nodes": nodes})


def rows_of(truth, models):
    return {(row.name, row.of): row for row in variety(truth, models)}


def test_shapes_kinds_storage_and_sizes_are_counted(write_models):
    models = write_models({
        "a": {"w": torch.zeros(2, 3)}, "b": {"w": torch.zeros(2, 3).half()}, "c": {"w": torch.zeros(2, 3), "v": torch.zeros(4)},
        "d": {"w": torch.zeros(2, 3).bfloat16()}, "x": {"w": torch.zeros(2, 3)},
    })  # fmt: skip
    truth = truth_of({
        "a": {"parents": []}, "b": {"parents": ["a"], **FULL}, "c": {"parents": ["a"], **FULL, "withheld": 1},
        "d": {"parents": ["b", "c"], "relation": "merge", "subtype": "ties"}, "x": {"parents": []},
    })  # fmt: skip
    rows = rows_of(truth, models)
    assert rows["models of a tree", "trees"].text == "1 (1), 4 (1)"
    assert rows["depth of a tree", "trees"].text == "0 (1), 2 (1)"
    assert rows["depth of a model", "models"].text == "0 (2), 1 (2), 2 (1)"
    assert rows["children of a parent", "parents"].text == "1 (2), 2 (1)"
    assert rows["kind of edge", "edges"].text == "finetune full (2), merge ties (2)"
    assert rows["models left out between parent and child", "edges"].text == "0 (3), 1 (1)"
    assert rows["storage", "models"].text == "F32 (3), BF16 (1), F16 (1)"
    assert rows["parameters", "models"].text == "6 (4), 10 (1)"
    assert rows["parameters", "models"].to_json()["quantiles"] == {"0": 6, "25": 6, "50": 6, "75": 6, "100": 10}


def test_settings_that_differ_are_shown_for_roots_and_children_apart_and_results_are_not(write_models):
    names = [f"c{index:02}" for index in range(20)]
    models = write_models({name: {"w": torch.zeros(1)} for name in ["a", *names]})
    root = {"steps": 900, "optimizer": "adamw", "before": 0.1, "seed": 1}
    nodes = {"a": {"parents": [], "training": root, "drawn": {"model.hidden_size": 48, "root.training.steps": 900}}}
    for index, name in enumerate(names):
        training = {
            "steps": 20 + index, "optimizer": ("adamw", "sgd")[index % 2], "weight_decay": 0.01, "rank": 1 + index % 2,
            "targets": ["q", "v"] if index else ["q"], "schedule": {"name": "cosine", "warm": bool(index)},
            "seed": index, "after": index / 20, "loss_first": index / 3,
        }  # fmt: skip
        drawn = {
            "edges[0].training.steps": 20 + index,
            "edges[0].regulariser": index % 2,
            "lora.ranks[0]": 1 + index % 2,
        }
        nodes[name] = {"parents": ["a"], **FULL, "training": training, "drawn": drawn}
    rows = rows_of(truth_of(nodes), models)
    steps = rows["steps", "children"]
    assert steps.text == "20 to 39; median 29.5, quartiles 24.8 and 34.2"
    assert (steps.n, len(steps.counts), steps.distinct) == (20, COUNTED, 20)
    assert rows["optimizer", "children"].text == "adamw (10), sgd (10)"
    assert rows["targets", "children"].text == "q, v (19), q (1)"
    assert rows["schedule warm", "children"].text == "yes (19), no (1)"
    assert rows["edges regulariser", "children"].text == "0 (10), 1 (10)"
    assert {name for name, of in rows if of in ("children", "roots")} == {
        "steps", "optimizer", "rank", "targets", "schedule warm", "edges regulariser",
    }  # fmt: skip


def test_one_model_has_shapes_and_no_edges(write_models):
    rows = rows_of(truth_of({"a": {"parents": []}}), write_models({"a": {"w": torch.zeros(3)}}))
    assert {name for name, _ in rows} == {
        "models of a tree",
        "depth of a tree",
        "depth of a model",
        "storage",
        "parameters",
    }
    assert rows["parameters", "models"].text == "3 (1)"


def test_settings_of_transforms_carry_their_kind_and_long_lists_of_words_become_a_number(write_models):
    names = [f"c{index:02}" for index in range(20)]
    models = write_models({name: {"w": torch.zeros(1)} for name in ["a", *names]})
    nodes = {"a": {"parents": []}}
    for index, name in enumerate(names):
        transform = {
            "kind": ("pruned", "noised")[index % 2],
            "share": 0.1 * (1 + index % 4),
            "why": f"a long reason {index}",
        }
        nodes[name] = {"parents": ["a"], "relation": "finetune", "subtype": f"kind-{index:02}", "transform": transform}
    rows = rows_of(truth_of(nodes), models)
    assert rows["pruned: share", "children"].text == "0.1 (5), 0.3 (5)"
    assert rows["noised: share", "children"].text == "0.2 (5), 0.4 (5)"
    assert rows["pruned: why", "children"].text == "10 different values"
    assert rows["kind of edge", "edges"].text.count("kind-") == 20  # the kinds of edges are always listed
