"""The classifier that reads samples of Stable Diffusion models."""

import pytest
import torch

from mothr.generators.families import samples


def test_only_captions_of_one_large_shape_and_one_colour_are_read():
    rows, classes = samples.labels([
        "one large red star at night", "one red star above one blue ring on a plain ground", "one large white ring on a blue ground",
        "one small red star at night",
    ])  # fmt: skip
    assert rows.tolist() == [0, 2]
    assert classes.tolist() == [[3, 0], [5, 4]]


def test_reading_returns_the_accuracy_against_the_captions():
    class Reader(torch.nn.Module):
        def forward(self, pictures):
            logits = torch.zeros(len(pictures), 16)
            logits[:, samples.KINDS["star"]] = logits[:, 10 + samples.HUES["red"]] = 1
            return logits

    texts = [
        "one large red star at night",
        "one large red ring at night",
        "two blue stars above one ring",
        "one large blue star at night",
    ]
    assert samples.read(Reader(), torch.zeros(4, 3, 32, 32), texts) == (pytest.approx(2 / 3), pytest.approx(2 / 3), 3)
