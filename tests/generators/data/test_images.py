"""The embedded picture tasks: whole, balanced, repeatable, and saying what their labels say."""

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.ft2font import FT2Font

from mothr.benchmark.errors import MothrError
from mothr.generators.data import drawing, images

REPEATED = ("digits", "glyph-symbol", "shape-count", "photo-filter")


@pytest.fixture(params=images.TASKS, scope="module")
def task(request: pytest.FixtureRequest) -> images.PictureTask:
    return images.TASKS[request.param]


def test_there_are_at_least_twenty_tasks():
    assert len(images.TASKS) >= 20
    assert all(name == task.name for name, task in images.TASKS.items())


@pytest.mark.parametrize("part", images.SIZES)
def test_pictures_and_labels_have_the_documented_shapes(task, part):
    pictures, labels = images.load(task.name, part)
    expected = {"train": 1437, "test": 360}[part] if task.name == "digits" else images.SIZES[part]
    assert pictures.shape == (expected, 3, 32, 32)
    assert pictures.dtype == torch.uint8
    assert labels.shape == (expected,)
    assert labels.dtype == torch.int64


@pytest.mark.parametrize("part", images.SIZES)
def test_classes_are_balanced_and_named(task, part):
    counts = torch.bincount(images.load(task.name, part)[1]).numpy()
    assert len(counts) == len(task.classes) == len(set(task.classes))
    spread = 8 if task.name == "digits" else 1  # the real digits are not quite as many of each
    assert counts.max() - counts.min() <= spread


def test_train_and_test_share_no_picture(task):
    train, test = ({p.tobytes() for p in images.load(task.name, part)[0].numpy()} for part in images.SIZES)
    assert not train & test


def test_pictures_are_never_blank(task):
    pictures = images.load(task.name, "test")[0].double()
    assert (pictures.flatten(1).std(dim=1) > 0.5).all()


def test_tasks_have_a_description_and_a_source(task):
    assert task.description
    assert task.source


def _digest(name: str) -> str:
    return sha256(
        b"".join(tensor.numpy().tobytes() for part in images.SIZES for tensor in images.load(name, part))
    ).hexdigest()


def test_another_process_draws_the_same_pictures():
    code = (
        "from hashlib import sha256\nfrom mothr.generators.data import images\n"
        f"for name in {REPEATED}:\n"
        "    print(sha256(b''.join(t.numpy().tobytes() for p in images.SIZES for t in images.load(name, p))).hexdigest())"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert answer == [_digest(name) for name in REPEATED]


def test_unknown_names_are_an_error_with_near_names():
    with pytest.raises(MothrError, match=r"unknown picture task 'glyph-leter'; did you mean .*glyph-letter"):
        images.load("glyph-leter", "train")
    with pytest.raises(MothrError, match="unknown subset 'valid'"):
        images.load("digits", "valid")


@pytest.mark.parametrize("name", images.GLYPHS)
def test_every_glyph_is_in_its_font_and_on_its_canvas(name):
    _, cells, size = images.GLYPHS[name]
    for font, text in {pair for pairs in cells.values() for pair in pairs}:
        held = FT2Font(str(Path(matplotlib.get_data_path(), "fonts", "ttf", f"{font}.ttf"))).get_charmap()
        assert all(ord(letter) in held for letter in text), (font, text)
        mask = drawing.glyph(font, text, size)
        assert mask.max() > 0.5, (font, text)
        edge = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
        assert edge.max() == 0, (font, text)


@pytest.mark.parametrize("name", images.GLYPHS)
def test_no_glyph_belongs_to_two_classes(name):
    _, cells, size = images.GLYPHS[name]
    seen: dict[bytes, str] = {}
    for label, pairs in cells.items():
        for font, text in pairs:
            assert seen.setdefault(drawing.glyph(font, text, size).tobytes(), label) == label, (font, text)


def _ink(pictures: torch.Tensor) -> torch.Tensor:
    """Returns how strongly each pixel is coloured, (n, 32, 32), zero for what is about as grey as the ground."""
    values = pictures.float() / 255
    return ((values.amax(1) - values.amin(1)) - 0.35).clamp(min=0)


def test_colours_are_the_named_ones():
    pictures, labels = images.load("shape-colour", "train")
    weight = _ink(pictures)[:, None]
    for name, mean in {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0.17, 1), "yellow": (1, 0.97, 0)}.items():
        rows = labels == images.TASKS["shape-colour"].classes.index(name)
        colour = (pictures[rows] / 255 * weight[rows]).sum((0, 2, 3)) / weight[rows].sum()
        assert torch.nn.functional.cosine_similarity(colour, torch.tensor(mean), dim=0) > 0.95


@pytest.mark.parametrize(("name", "axis"), [("shape-x", 2), ("shape-y", 1)])
def test_positions_increase_from_left_to_right_and_from_top_to_bottom(name, axis):
    pictures, labels = images.load(name, "train")
    weight = _ink(pictures)
    shown = weight.sum((1, 2)) > 1
    along = weight.sum(3 - axis) / weight.sum((1, 2))[:, None].clamp(min=1e-6)
    centre = (along * (torch.arange(32) + 0.5)).sum(1)
    means = torch.stack([centre[shown & (labels == label)].mean() for label in range(8)])
    assert torch.allclose(means, 6 + (torch.arange(8) + 0.5) * 2.5, atol=1)


def test_larger_sizes_and_counts_cover_more_pixels():
    for name in ("shape-size", "shape-count"):
        pictures, labels = images.load(name, "train")
        cover = (_ink(pictures) > 0).float().mean((1, 2))
        means = torch.stack([cover[labels == label].mean() for label in range(len(images.TASKS[name].classes))])
        assert (means.diff() > 0).all()


def test_filters_do_what_they_are_called():
    pictures, labels = images.load("photo-filter", "train")
    rows = dict(
        zip(images.FILTERS, [pictures[labels == label].float() for label in range(len(images.FILTERS))], strict=True)
    )
    roughness = {name: values.diff(dim=3).abs().mean() for name, values in rows.items()}
    assert roughness["blur"] < roughness["none"] < roughness["sharpen"]
    assert (rows["grey"].amax(1) == rows["grey"].amin(1)).all()
    assert len(rows["posterise"].unique()) == 4
    assert (rows["pixelate"][:, :, ::4] == rows["pixelate"][:, :, 3::4]).all()


def test_filters_do_not_bleed_from_one_picture_to_the_next():
    for filtered in images.FILTERS.values():
        alone = np.random.default_rng(0).random((1, 3, 32, 32), dtype=np.float32)
        together = np.concatenate([alone, 1 - alone])
        first = filtered(np.random.default_rng(1), together)[:1]
        np.testing.assert_allclose(first, filtered(np.random.default_rng(1), alone), atol=1e-6)


def test_windows_of_photographs_lie_in_their_own_part():
    for photo in images.PHOTOS:
        corners = {part: images._corners(photo, part) for part in images.SIZES}
        covered = {part: np.zeros(images._windows(photo).shape[:2] + np.array([64, 64]), bool) for part in images.SIZES}
        for part, places in corners.items():
            for y, x in places:
                covered[part][y : y + images.WINDOW, x : x + images.WINDOW] = True
        assert not (covered["train"] & covered["test"]).any()
