"""The ViT family: initialisations as named, files that load with transformers, accuracy judged within a task."""

import pytest
import torch
from scipy import stats

from mothr.generators.data import images
from mothr.generators.families.vit import ViT
from mothr.generators.train.train import train
from mothr.generators.values.seeds import torch_generator
from mothr.generators.values.training import Training

FAMILY = ViT(hidden_size=64, layers=1, heads=2, mlp_size=128, patch_size=8)
CPU = torch.device("cpu")


def built(init, seed=0):
    return FAMILY.build(init, 0.02, torch_generator(seed))


@pytest.mark.parametrize(
    ("init", "kurtosis"), [("normal", 0.0), ("truncated-normal", -0.63), ("xavier-uniform", -1.2), ("orthogonal", 0.0)]
)
def test_initialisations_have_the_kurtosis_of_their_distribution(init, kurtosis):
    weights = built(init).layers[0].mlp.fc1.weight.detach().flatten().numpy()
    assert stats.kurtosis(weights) == pytest.approx(kurtosis, abs=0.15)
    assert abs(weights.mean()) < 0.01


def test_orthogonal_rows_are_orthonormal():
    weight = built("orthogonal").layers[0].attention.q_proj.weight.detach()
    assert torch.allclose(weight @ weight.T, torch.eye(64), atol=1e-5)


def test_fresh_biases_are_zero_and_norm_weights_one():
    for name, value in built("normal").named_parameters():
        if name.endswith("bias"):
            assert not value.any()
        elif value.ndim == 1:
            assert (value == 1).all()


def test_a_fresh_model_depends_on_its_generator_alone():
    torch.manual_seed(1)
    first = built("normal", 3)
    torch.manual_seed(2)
    second, other = built("normal", 3), built("normal", 4)
    weights = [torch.cat([value.flatten() for value in model.parameters()]) for model in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_saved_model_loads_equal_and_with_transformers(tmp_path):
    from transformers import AutoModel

    model = built("normal")
    FAMILY.save(model, tmp_path / "model")
    loaded = FAMILY.load(tmp_path / "model").state_dict()
    assert loaded.keys() == model.state_dict().keys()
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())
    assert AutoModel.from_pretrained(tmp_path / "model").config.hidden_size == 64


def test_no_head_is_saved():
    assert not [
        name for name in built("normal").state_dict() if "head" in name or "classifier" in name or "pooler" in name
    ]


def test_untrained_accuracy_is_at_chance_within_each_task():
    tasks = ("digits", "photo-rotation")
    objective = FAMILY.objective(tasks, torch_generator("head"), CPU)
    assert objective.chance == pytest.approx((1 / 10 + 1 / 4) / 2)
    assert objective.evaluate(built("normal").eval()) == pytest.approx(objective.chance, abs=0.08)
    assert objective.tested_on == sum(len(images.load(task, "test")[1]) for task in tasks)


def test_logits_of_other_tasks_are_masked():
    objective = FAMILY.objective(("digits", "photo-rotation"), torch_generator("head"), CPU)
    pictures = images.load("digits", "test")[0][:20]
    logits = objective._logits(built("normal"), pictures, torch.tensor([0] * 10 + [1] * 10))
    assert torch.isinf(logits[:10, 10:]).all()
    assert torch.isinf(logits[10:, :10]).all()
    assert torch.isfinite(logits[:10, :10]).all()


@pytest.mark.parametrize(
    "sizes",
    [
        {"hidden_size": 32, "layers": 6, "heads": 8},
        {"hidden_size": 80, "layers": 3, "heads": 5},
        {"hidden_size": 128, "layers": 2, "heads": 2},
    ],
)
def test_models_of_many_sizes_are_trained_saved_and_loaded(sizes, tmp_path):
    family = ViT(mlp_size=64, patch_size=16, **sizes)
    model = family.build("normal", 0.02, torch_generator(1))
    objective = family.objective(("digits",), torch_generator("head"), CPU)
    model, _ = train(model, objective, Training(steps=1, batch_size=2, learning_rate=1e-3), 1)
    family.save(model, tmp_path / "model")
    loaded = family.load(tmp_path / "model").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())
