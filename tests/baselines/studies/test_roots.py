"""What is measured and recorded of the root of a Model Tree."""

import numpy as np
import pytest
import torch
from scipy import stats

from mothr.baselines.methods.mother import MOTHER_V2
from mothr.baselines.parts.directions import statistic
from mothr.baselines.studies.datasets import OpenedDataset
from mothr.baselines.studies.roots import initial_share, interval_name, interval_names
from mothr.benchmark.weights.layers import Layers

NAMES = [f"layers.{layer}.attention.{part}_proj.weight" for layer in range(2) for part in "vo"]
CHILD = {"relation": "finetune", "subtype": "full"}


def drawn(seed, side=12):
    rng = np.random.default_rng(seed)
    return {name: rng.laplace(size=(side, side)) for name in NAMES}


@pytest.fixture
def root_fields(tmp_path, write_dataset):
    """A function that writes nodes as a data set and returns the fields of the root of each tree, and the data set."""

    def write(*nodes):
        write_dataset(tmp_path / "data", nodes)
        data = OpenedDataset.open(tmp_path / "data")
        return data.root_fields, data

    return write


def test_kurtosis_is_the_mean_over_the_square_output_matrices_of_the_root(root_fields):
    root = drawn(0)
    root["layers.2.attention.o_proj.weight"] = np.random.default_rng(1).uniform(size=(12, 24))  # not square
    root["layers.3.attention.o_proj.weight"] = np.ones((12, 12))  # constant: undefined
    child = {name: value + 1 for name, value in drawn(2).items()}
    child |= {name: root[name] for name in root.keys() - child.keys()}
    [fields], data = root_fields((root, [], {}), (child, [0], CHILD))
    outputs = [root[name].astype(np.float32).astype(float) for name in NAMES if "o_proj" in name]
    values = [stats.kurtosis(matrix.ravel(), fisher=True, bias=True) for matrix in outputs]
    assert fields["root_kurtosis"] == pytest.approx(np.mean(values))
    score = statistic(data.models, "kurtosis", Layers.parse(MOTHER_V2.direction_layers), how="sum")
    [node] = data.graph.roots
    assert fields["root_kurtosis"] == pytest.approx(score[data.position[node]] / len(values))


@pytest.mark.parametrize(
    "fields",
    [{"withheld": 1, **CHILD}, {"depth": 1}, {"relation": "finetune"}, {"withheld": 2}],
)
def test_a_tree_whose_root_is_withheld_has_no_root_fields(root_fields, fields):
    training = {"optimizer": "adamw", "steps": 100, "learning_rate": 1e-3, "weight_decay": 0.1, "warmup": 0.1}
    [of_root], data = root_fields((drawn(0), [], {**fields, "training": training}), (drawn(1), [0], CHILD))
    names = ("root_kurtosis", "root_initial_share", "root_steps", "root_optimizer", "root_weight_decay")
    assert {of_root[name] for name in names} == {None}
    [edge] = data.graph.edges
    assert data.edge_fields(edge)["root_kurtosis"] is None


def test_a_root_without_square_output_matrices_has_no_kurtosis(root_fields):
    only_mlp = {"layers.0.mlp.up_proj.weight": np.random.default_rng(3).normal(size=(12, 12))}
    [fields], _ = root_fields((only_mlp, [], {}), (only_mlp, [0], CHILD))
    assert fields["root_kurtosis"] is None


def test_fields_are_means_over_the_roots_below_a_merge_of_trees(root_fields):
    merge = {"relation": "merge", "subtype": "linear"}
    first, second = drawn(4), {name: np.sign(value) for name, value in drawn(5).items()}
    [fields], data = root_fields((first, [], {}), (second, [], {}), (drawn(6), [0, 1], merge))
    kurtosis = [
        np.mean([stats.kurtosis(weights[name].ravel()) for name in NAMES if "o_proj" in name])
        for weights in (first, second)
    ]
    assert len(data.graph.roots) == 2
    assert fields["root_kurtosis"] == pytest.approx(np.mean(kurtosis), abs=1e-6)


def test_sizes_are_those_of_the_square_output_matrices_and_are_known_below_a_withheld_root(root_fields):
    weights = {**drawn(7, side=16), "layers.2.attention.o_proj.weight": np.ones((16, 24))}
    [fields], data = root_fields((weights, [], {"withheld": 1, **CHILD}), (weights, [0], CHILD))
    assert (fields["width"], fields["layers"]) == (16, 2)
    [edge] = data.graph.edges
    assert (data.edge_fields(edge)["width"], data.edge_fields(edge)["layers"]) == (16, 2)


def test_a_model_without_square_output_matrices_has_no_sizes(root_fields):
    only_mlp = {"layers.0.mlp.up_proj.weight": np.ones((12, 12))}
    [fields], _ = root_fields((only_mlp, [], {}), (only_mlp, [0], CHILD))
    assert (fields["width"], fields["layers"]) == (None, None)


def test_training_of_the_roots_and_the_drawn_shape_are_read_from_the_truth(root_fields):
    adamw = {"optimizer": "adamw", "steps": 300, "weight_decay": 0.1}
    sgd = {"optimizer": "sgd", "steps": 500}
    shape = {"topology.shape": "chain", "topology.nodes": 3}
    merge = {"relation": "merge", "subtype": "linear"}
    trees, _ = root_fields(
        (drawn(8), [], {"training": adamw, "drawn": shape}), (drawn(9), [], {"training": sgd}), (drawn(10), [0, 1], merge),
        (drawn(11), [], {}), (drawn(12), [3], {**CHILD, "training": adamw}),
    )  # fmt: skip
    [merged] = [fields for fields in trees if fields["shape"]]
    [plain] = [fields for fields in trees if not fields["shape"]]
    assert (merged["root_steps"], merged["root_optimizer"], merged["root_weight_decay"]) == (400, "adamw and sgd", 0.1)
    assert merged["shape"] == "chain"
    assert {plain[name] for name in ("root_steps", "root_optimizer", "root_weight_decay")} == {None}


@pytest.mark.parametrize("steps", [1, 10, 400])
@pytest.mark.parametrize("schedule", [None, "linear", "constant"])
@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_the_initial_share_is_what_weight_decay_leaves_of_a_weight_without_gradient(steps, schedule, name):
    rate, decay, warmup = 1e-2, 0.2, 0.1
    weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizers = {"adamw": torch.optim.AdamW, "adafactor": torch.optim.Adafactor}
    optimizer = optimizers[name]([weight], lr=rate, weight_decay=decay)
    rising = max(1, round(warmup * steps))
    for step in range(steps):
        fall = (step - rising) / max(1, steps - rising)
        after = {None: 0.5 * (1 + np.cos(np.pi * fall)), "linear": 1 - fall, "constant": 1.0}[schedule]
        optimizer.param_groups[0]["lr"] = rate * ((step + 1) / rising if step < rising else after)
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
    training = {"optimizer": name, "steps": steps, "learning_rate": rate, "weight_decay": decay, "warmup": warmup}
    training |= {"schedule": schedule} if schedule else {}
    assert initial_share(training) == pytest.approx(weight.item(), rel=1e-3)


def test_the_initial_share_is_absent_if_it_cannot_be_known():
    training = {"optimizer": "adamw", "steps": 100, "learning_rate": 1e-3, "weight_decay": 0.1, "warmup": 0.1}
    assert initial_share(training) == pytest.approx(0.995, abs=1e-3)
    assert initial_share({**training, "optimizer": "sgd"}) is None
    assert initial_share({**training, "optimizer": "sgd", "weight_decay": 0}) == 1
    assert initial_share({**training, "warmup": None}) is None
    assert initial_share({}) is None


def test_a_limit_belongs_to_the_interval_above_it():
    limits = (-0.5, 0.5)
    assert interval_names(limits) == ["below -0.5", "-0.5 to 0.5", "0.5 or more"]
    assert [interval_name(value, limits) for value in (-0.51, -0.5, 0.49, 0.5, 7)] == [
        "below -0.5", "-0.5 to 0.5", "-0.5 to 0.5", "0.5 or more", "0.5 or more"
    ]  # fmt: skip
