"""Training one model: it learns, LoRA stays low-rank and inside its targets, and seeds decide everything."""

import copy

import pytest
import torch

from mothr.benchmark.errors import MothrError
from mothr.generators.families.vit import ViT
from mothr.generators.train.train import train
from mothr.generators.values.seeds import torch_generator
from mothr.generators.values.training import Lora, Training

FAMILY = ViT(hidden_size=32, layers=2, heads=2, mlp_size=64, patch_size=8)


def model_and_objective(task="shape-colour"):
    model = FAMILY.build("truncated-normal", 0.02, torch_generator("weights"))
    return model, FAMILY.objective((task,), torch_generator("head"), torch.device("cpu"))


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_full_fine_tuning_learns_a_real_task_and_moves_every_matrix():
    model, objective = model_and_objective()
    before = copy.deepcopy(model.state_dict())
    model, record = train(model, objective, Training(steps=200, batch_size=64, learning_rate=2e-3), seed=1)
    assert record["before"] < 0.25
    assert record["after"] > 0.6
    assert record["loss_last"] < record["loss_first"]
    assert changed(before, model.state_dict()) >= {name for name, value in before.items() if value.ndim == 2}


def test_lora_changes_its_targets_alone_by_an_update_of_its_rank():
    model, objective = model_and_objective()
    before = copy.deepcopy(model.state_dict())
    lora = Lora(ranks=(4,), targets=("q_proj", "v_proj"))
    model, record = train(
        model, objective, Training(steps=20, batch_size=32, learning_rate=5e-3), seed=1, lora=lora, rank=4
    )
    after = model.state_dict()
    assert after.keys() == before.keys()
    moved = changed(before, after)
    assert moved == {f"layers.{layer}.attention.{part}_proj.weight" for layer in (0, 1) for part in "qv"}
    for name in moved:
        values = torch.linalg.svdvals((after[name] - before[name]).double())
        assert values[3] > 1e-4
        assert values[4] < 1e-6
    assert (record["rank"], record["alpha"]) == (4, 8)


@pytest.mark.parametrize("lora", [None, Lora(ranks=(2,), targets=("v_proj",))])
def test_the_same_seed_gives_the_same_bits_whatever_the_global_generator_holds(lora):
    result = []
    for noise, seed in ((1, 7), (2, 7), (3, 8)):
        model, objective = model_and_objective()
        torch.manual_seed(noise)
        training = Training(steps=5, batch_size=16, learning_rate=1e-3)
        model, record = train(model, objective, training, seed, lora=lora, rank=2 if lora else None)
        result.append((torch.cat([value.flatten() for value in model.state_dict().values()]), record))
    assert torch.equal(result[0][0], result[1][0])
    assert result[0][1] == result[1][1]
    assert not torch.equal(result[0][0], result[2][0])


def test_weight_decay_shrinks_matrices_and_leaves_vectors():
    def trained(decay):
        model, objective = model_and_objective()
        model, _ = train(
            model, objective, Training(steps=3, batch_size=8, learning_rate=1e-2, weight_decay=decay), seed=1
        )
        return model.state_dict()["layers.0.mlp.fc1.weight"].norm()

    assert trained(10.0) < 0.9 * trained(0.0)


def test_sgd_is_another_optimizer():
    result = []
    for optimizer in ("adamw", "sgd"):
        model, objective = model_and_objective()
        training = Training(steps=3, batch_size=8, learning_rate=1e-2, optimizer=optimizer)
        model, record = train(model, objective, training, seed=1)
        result.append(model.state_dict()["layers.0.mlp.fc1.weight"])
        assert record["optimizer"] == optimizer
    assert not torch.equal(*result)


def test_every_step_is_counted():
    model, objective = model_and_objective()
    steps = []
    train(model, objective, Training(steps=4, batch_size=8, learning_rate=1e-3), seed=1, on_step=steps.append)
    assert steps == [1, 2, 3, 4]


def test_a_record_without_options_has_the_entries_of_published_records():
    model, objective = model_and_objective()
    _, record = train(model, objective, Training(steps=2, batch_size=8, learning_rate=1e-3), seed=1)
    assert list(record) == [
        "metric", "before", "after", "chance", "tested_on", "loss_first", "loss_last", "seed", "steps", "batch_size",
        "learning_rate", "optimizer", "weight_decay", "warmup", "clip",
    ]  # fmt: skip


def test_options_that_are_set_are_recorded():
    model, objective = model_and_objective()
    options = {
        "schedule": "linear", "trained": "vectors", "l2_sp": 0.1, "label_noise": 0.2, "ema": 0.5, "head_rate": 0.1,
    }  # fmt: skip
    _, record = train(model, objective, Training(steps=2, batch_size=8, learning_rate=1e-3, **options), seed=1)
    assert options.items() <= record.items()


@pytest.mark.parametrize(("optimizer", "rate"), [("adam", 2e-3), ("adafactor", 2e-2), ("sign", 3e-4)])
def test_other_optimizers_learn_a_task(optimizer, rate):
    model, objective = model_and_objective()
    training = Training(steps=200, batch_size=32, learning_rate=rate, optimizer=optimizer, schedule="linear")
    _, record = train(model, objective, training, seed=1)
    assert record["before"] < 0.25 < 0.4 < record["after"]
    assert (record["optimizer"], record["schedule"]) == (optimizer, "linear")


def test_the_test_loss_is_recorded_if_it_is_asked_for_and_shows_a_training_too_short_for_the_metric():
    model, objective = model_and_objective()
    before = objective.test_loss(model.eval())
    assert before == objective.test_loss(model)
    training = Training(steps=3, batch_size=32, learning_rate=1e-5)
    model, record = train(model, objective, training, seed=1, measure_test_loss=True)
    assert record["test_loss_before"] == pytest.approx(before, abs=1e-6)
    assert record["test_loss_after"] == pytest.approx(objective.test_loss(model), abs=1e-6)
    assert record["test_loss_after"] < record["test_loss_before"]
    assert objective.measure(model) == (objective.evaluate(model), objective.test_loss(model))


def test_a_rate_of_heads_moves_the_heads_and_leaves_the_rest_to_the_rate_of_the_model():
    distances = []
    for rate in (None, 1e-2):
        model, objective = model_and_objective()
        start, head = copy.deepcopy(model.state_dict()), objective.state()
        training = Training(steps=1, batch_size=8, learning_rate=1e-5, head_rate=rate, weight_decay=0.0)
        model, _ = train(model, objective, training, seed=1)
        distances.append(
            [
                max(float((value - before[name]).abs().max()) for name, value in after.items())
                for before, after in ((start, model.state_dict()), (head, objective.state()))
            ]
        )
    (body, head), (same_body, fast_head) = distances
    assert body == same_body == pytest.approx(1e-5, rel=0.1)
    assert head == pytest.approx(1e-5, rel=0.1)
    assert fast_head == pytest.approx(1e-2, rel=0.1)


def test_wrong_labels_are_the_same_for_the_same_seed_and_leave_the_batches():
    results = []
    for seed, noise in ((7, 0.5), (7, 0.5), (8, 0.5), (7, None)):
        model, objective = model_and_objective()
        training = Training(steps=3, batch_size=16, learning_rate=1e-3, label_noise=noise)
        model, record = train(model, objective, training, seed)
        results.append((model.state_dict()["layers.0.mlp.fc1.weight"], record))
    first, again, other, clean = (weights for weights, _ in results)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, clean)
    assert results[0][1]["before"] == results[3][1]["before"]


def test_a_training_that_diverges_is_an_error_that_names_the_step():
    model, objective = model_and_objective()
    losses = iter([1.0, float("nan"), 1.0])

    def loss(model, batch_size, generator):
        return next(losses) * objective.loss(model, batch_size, generator)

    with pytest.raises(MothrError, match=r"the loss is nan at step 2 of 3; choose a learning_rate below 0\.001"):
        train(model, objective, Training(steps=3, batch_size=8, learning_rate=1e-3), seed=1, loss=loss)
