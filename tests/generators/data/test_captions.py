"""Captioned pictures: captions say what is drawn, parts are fixed and apart, and published pictures do not change."""

from hashlib import sha256

import numpy as np
import pytest
import torch
from matplotlib.colors import rgb_to_hsv
from scipy import ndimage

from mothr.benchmark.errors import MothrError
from mothr.generators.data import captions

ONE_COLOUR = [
    "scene-plain", "scene-striped", "scene-checked", "scene-dotted", "scene-shaded", "scene-ringed", "scene-few", "scene-many",
    "scene-outlined", "scene-long", "scene-letters", "scene-digits",
]  # fmt: skip
"""Domains whose pictures have one strong colour on a ground of none."""
FROZEN = {
    "scene-plain": ("5c1efee3", 41.712, 41.208),
    "scene-striped": ("5fc75eef", 64.414, 42.565),
    "scene-checked": ("58cae196", 64.311, 41.746),
    "scene-dotted": ("27c08c53", 52.792, 42.087),
    "scene-shaded": ("83b6c1aa", 69.348, 47.326),
    "scene-ringed": ("deb2552a", 68.983, 49.627),
    "scene-few": ("9c11eeb2", 37.856, 32.115),
    "scene-many": ("3f9281aa", 44.000, 42.804),
    "scene-outlined": ("ea4fdcf3", 44.162, 45.789),
    "scene-pale": ("a44db3c1", 47.478, 46.950),
    "scene-long": ("f53d909a", 39.119, 34.337),
    "scene-night": ("cb079fbf", 9.649, 19.941),
    "scene-bright": ("21d23c54", 217.598, 46.843),
    "scene-inverse": ("95231b79", 98.831, 77.501),
    "scene-beside": ("24f3361a", 43.857, 43.537),
    "scene-above": ("51591c4f", 43.623, 43.850),
    "scene-letters": ("b0aabc5d", 52.593, 54.292),
    "scene-digits": ("5d027578", 50.607, 52.197),
}
"""Domain -> first digits of the hash of its training captions, mean and standard deviation of its training pixels."""


@pytest.fixture(autouse=True, scope="module")
def _fewer():
    """Draws 64 pictures of each part: enough to check every rule, and quick."""
    sizes = dict(captions.SIZES)
    captions.SIZES.update(train=64, test=64)
    captions.load.cache_clear()
    yield
    captions.SIZES.update(sizes)
    captions.load.cache_clear()


def drawn(name):
    pictures, texts = captions.load(name, "test")
    return pictures.permute(0, 2, 3, 1).numpy() / 255, texts


def inked(picture, least=0.3):
    """Returns where a picture (32, 32, 3) has a colour rather than a grey."""
    return picture.max(-1) - picture.min(-1) > least


@pytest.mark.parametrize("name", captions.DOMAINS)
def test_a_domain_is_pictures_with_a_caption_each_the_same_on_every_call(name):
    pictures, texts = captions.load(name, "train")
    assert pictures.shape == (64, 3, 32, 32)
    assert pictures.dtype == torch.uint8
    assert len(texts) == 64
    captions.load.cache_clear()
    again, message = captions.load(name, "train")
    assert torch.equal(again, pictures)
    assert message == texts


@pytest.mark.parametrize("name", captions.DOMAINS)
def test_train_and_test_share_no_picture(name):
    train, test = (
        {picture.numpy().tobytes() for picture in captions.load(name, part)[0]} for part in ("train", "test")
    )
    assert len(train) == len(test) == 64
    assert not train & test


def test_captions_use_the_closed_vocabulary_and_fit_with_start_and_end():
    known = set(captions.words())
    for name in captions.DOMAINS:
        for text in captions.load(name, "train")[1]:
            assert known.issuperset(text.split())
            assert len(text.split()) <= 14


@pytest.mark.parametrize("name", ONE_COLOUR)
def test_pictures_have_the_colour_in_the_caption(name):
    for picture, text in zip(*drawn(name), strict=True):
        strong = picture[inked(picture)]
        hue = float(np.median(rgb_to_hsv(strong)[:, 0]) * 360)
        word = next(word for word in text.split() if word in captions.COLOURS)
        assert abs((hue - captions.COLOURS[word] + 180) % 360 - 180) < 15, text


@pytest.mark.parametrize("name", ["scene-plain", "scene-few", "scene-many"])
def test_there_are_as_many_shapes_as_the_caption_counts(name):
    for picture, text in zip(*drawn(name), strict=True):
        result = ndimage.label(inked(picture, 0.2), structure=np.ones((3, 3)))[1]
        assert captions.COUNTS[result - 1] == text.split()[0], text


def test_large_is_larger_than_small():
    areas = {"small": [], "large": []}
    for picture, text in zip(*drawn("scene-plain"), strict=True):
        rows, columns = np.nonzero(inked(picture, 0.2))
        areas[text.split()[1]].append(max(np.ptp(rows), np.ptp(columns)))
    assert max(areas["small"]) < min(areas["large"])


def test_pictures_have_the_shape_in_the_caption():
    """A ring has a hole, a square fills its box, a triangle fills half of it."""
    seen = {"ring": [], "square": [], "triangle": []}
    for picture, text in zip(*drawn("scene-plain"), strict=True):
        word = text.split()[3]
        if "large" in text and word in seen:
            mask = inked(picture, 0.25)
            rows, columns = np.nonzero(mask)
            box = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            seen[word].append(box.mean() if word != "ring" else float(box[box.shape[0] // 2, box.shape[1] // 2]))
    assert max(seen["ring"]) == 0
    assert min(seen["square"]) > 0.6
    assert min(seen["triangle"]) > 0.3
    assert max(seen["triangle"]) < 0.6


@pytest.mark.parametrize(("name", "axis", "word"), [("scene-beside", 1, "left"), ("scene-above", 0, "above")])
def test_the_positions_of_two_shapes_agree_with_the_caption(name, axis, word):
    for picture, text in zip(*drawn(name), strict=True):
        message = text.split()
        assert word in message
        first, second = (captions.COLOURS[result] for result in message if result in captions.COLOURS)
        hue = rgb_to_hsv(picture)[..., 0] * 360
        places = [
            np.nonzero(inked(picture) & (np.abs((hue - expected + 180) % 360 - 180) < 15))[axis].mean()
            for expected in (first, second)
        ]
        assert places[0] < places[1], text


def test_grounds_agree_with_the_captions():
    spread = {}
    for name in ("scene-plain", "scene-striped", "scene-checked", "scene-dotted"):
        spread[name] = np.mean([picture[~inked(picture, 0.12)].std() for picture, _ in zip(*drawn(name), strict=True)])
    assert spread["scene-plain"] < 0.03 < min(value for name, value in spread.items() if name != "scene-plain")
    assert all(picture.mean() < 0.25 for picture, text in zip(*drawn("scene-night"), strict=True) if "at night" in text)
    assert all(
        np.median(picture) > 0.8 for picture, text in zip(*drawn("scene-bright"), strict=True) if "bright" in text
    )


def test_an_unknown_domain_or_subset_is_an_error_with_near_names():
    with pytest.raises(MothrError, match=r"unknown caption domain 'scene-stripes'; did you mean .*scene-striped"):
        captions.load("scene-stripes", "train")
    with pytest.raises(MothrError, match="unknown subset 'tests'; did you mean test"):
        captions.load("scene-plain", "tests")


@pytest.mark.parametrize("name", captions.DOMAINS)
def test_a_published_domain_does_not_change(name, monkeypatch):
    monkeypatch.setitem(captions.SIZES, "train", 2048)  # what is published
    captions.load.cache_clear()
    pictures, texts = captions.load(name, "train")
    captions.load.cache_clear()
    message, mean, spread = FROZEN[name]
    assert sha256("\n".join(texts).encode()).hexdigest()[:8] == message
    assert float(pictures.double().mean()) == pytest.approx(
        mean, abs=0.005
    )  # room for the last bits of other processors
    assert float(pictures.double().std()) == pytest.approx(spread, abs=0.005)
