"""Classification: wrong labels stay within their task, and the test loss is the cross-entropy of the test examples."""

import copy

import pytest
import torch

from mothr.generators.data import images
from mothr.generators.families.vit import ViT
from mothr.generators.values.seeds import torch_generator

FAMILY = ViT(hidden_size=16, layers=1, heads=2, mlp_size=16, patch_size=8)
TASKS = ("digits", "photo-rotation")
SIZES = (10, 4)


@pytest.fixture(scope="module")
def objective():
    return FAMILY.objective(TASKS, torch_generator("head"), torch.device("cpu"))


def model():
    return FAMILY.build("normal", 0.02, torch_generator(1)).eval()


def test_that_fraction_of_the_labels_is_wrong_and_within_its_task(objective):
    _, labels, owners = objective._train
    noisy = objective.with_label_noise(0.3, torch_generator(1))
    _, wrong, same_owners = noisy._train
    changed = labels != wrong
    assert int(changed.sum()) == round(0.3 * len(labels))
    assert torch.equal(owners, same_owners)
    for task, (start, size) in enumerate(zip((0, 10), SIZES, strict=True)):
        within = wrong[(owners == task) & changed]
        assert ((within >= start) & (within < start + size)).all()
        assert set(within.tolist()) == set(range(start, start + size))
        assert 0.25 < float(changed[owners == task].float().mean()) < 0.35


def test_other_classes_are_equally_frequent_among_wrong_labels(objective):
    _, labels, owners = objective._train
    wrong = objective.with_label_noise(0.9, torch_generator(1))._train[1]
    shifts = ((wrong - labels) % 4)[(owners == 1) & (wrong != labels)]
    counts = torch.bincount(shifts, minlength=4)
    assert counts[0] == 0
    assert counts[1:].min() > 0.85 * counts[1:].max()


def test_wrong_labels_depend_on_their_generator_alone_and_leave_the_original_the_heads_and_the_test(objective):
    before = copy.deepcopy(objective._train[1])
    first, again, other = (objective.with_label_noise(0.2, torch_generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first._train[1], again._train[1])
    assert not torch.equal(first._train[1], other._train[1])
    assert torch.equal(objective._train[1], before)
    assert all(one is two for one, two in zip(first.parameters(), objective.parameters(), strict=True))
    assert first.measure(model()) == objective.measure(model())


def test_the_test_loss_is_the_cross_entropy_of_the_test_examples_averaged_over_tasks(objective):
    losses = []
    with torch.no_grad():
        for task, (start, size) in zip(TASKS, zip((0, 10), SIZES, strict=True), strict=True):
            pictures, labels = images.load(task, "test")
            states = model()(pixel_values=FAMILY.pixels(pictures)).last_hidden_state[:, 0]
            logits = objective.head(states)[:, start : start + size]
            losses.append(float(torch.nn.functional.cross_entropy(logits, labels)))
    assert objective.test_loss(model()) == pytest.approx(sum(losses) / 2, abs=1e-5)
