"""Draws glyphs, shapes and grounds, and blends them into pictures of 32 x 32 pixels.
 A mask is float32 in 0..1, (n, 32, 32): the fraction of each pixel that the ink covers. Colours are float32
in 0..1. All functions draw n pictures at once. Lengths are in pixels, angles in degrees.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.colors import hsv_to_rgb
from PIL import Image, ImageDraw, ImageFont

SIDE = 32
GLYPH_SIDE = 40
"""A glyph is drawn once on a square of this side, and then scaled, turned and moved onto the picture."""


def paint(rng: np.random.Generator, mask: np.ndarray, ink: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """Returns uint8 pictures (n, 3, 32, 32): ``ink`` (n, 3) over ``ground`` (n, 3, 32, 32) or (n, 3, 1, 1),
    with grain."""
    pictures = ground + mask[:, None] * (ink[:, :, None, None] - ground)
    strength = rng.uniform(0, 0.05, (len(mask), 1, 1, 1)).astype(np.float32)
    return to_bytes(pictures + strength * rng.standard_normal(pictures.shape, dtype=np.float32))


def to_bytes(pictures: np.ndarray) -> np.ndarray:
    """Returns pictures in 0..1 as uint8."""
    return np.rint(np.clip(pictures, 0, 1) * 255).astype(np.uint8)


# Colours


def tints(rng: np.random.Generator, n: int, low: float, high: float, spread: float = 0.2) -> np.ndarray:
    """Returns n colours (n, 3): the mean of the channels is between ``low`` and ``high``, and each channel is
    within ``spread`` of it."""
    offsets = rng.uniform(-spread, spread, (n, 3))
    offsets -= offsets.mean(axis=1, keepdims=True)
    return np.clip(rng.uniform(low, high, (n, 1)) + offsets, 0, 1).astype(np.float32)


def ink_and_ground(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns two colours per picture, (n, 3) and (n, 3, 1, 1): light ink on a dark ground.

    If the ink could also be the darker one, models of this size would need many times the steps.
    """
    return tints(rng, n, 0.7, 0.95), tints(rng, n, 0.05, 0.3)[:, :, None, None]


def vivid(rng: np.random.Generator, hue: np.ndarray) -> np.ndarray:
    """Returns strong colours (n, 3) of the given hues (n,), in degrees of the colour circle."""
    n = len(hue)
    return hsv_to_rgb(np.stack([hue % 360 / 360, rng.uniform(0.7, 1, n), rng.uniform(0.7, 1, n)], axis=1)).astype(
        np.float32
    )


# Glyphs


@cache
def glyph(font: str, text: str, size: int) -> np.ndarray:
    """Returns the coverage (40, 40) of ``text`` centred, in a font file of matplotlib, ``size`` pixels per
    em."""
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{font}.ttf")
    face = ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
    left, top, right, bottom = face.getbbox(text)
    canvas = Image.new("L", (GLYPH_SIDE, GLYPH_SIDE))
    corner = round((GLYPH_SIDE - left - right) / 2), round((GLYPH_SIDE - top - bottom) / 2)
    ImageDraw.Draw(canvas).text(corner, text, fill=255, font=face)
    return np.asarray(canvas, dtype=np.float32) / 255


def place(rng: np.random.Generator, glyphs: np.ndarray, shift: float = 2.0, turn: float = 5.0) -> np.ndarray:
    """Returns masks of ``glyphs`` (n, 40, 40) each scaled, turned by up to ``turn`` and moved by up to
    ``shift``."""
    n = len(glyphs)
    scale, angle = rng.uniform(0.85, 1.1, n), np.deg2rad(rng.uniform(-turn, turn, n))
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    back = np.stack(
        [np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], 1
    )  # maps a point of the picture to a point of the glyph
    moved = back @ rng.uniform(-shift, shift, (n, 2, 1))
    affine = torch.from_numpy(np.concatenate([back * SIDE / GLYPH_SIDE, -moved * 2 / GLYPH_SIDE], 2)).float()
    grid = torch.nn.functional.affine_grid(affine, [n, 1, SIDE, SIDE], align_corners=False)
    return torch.nn.functional.grid_sample(torch.from_numpy(glyphs)[:, None], grid, align_corners=False)[:, 0].numpy()


# Shapes: signed distance to the outline, in units of the radius, negative inside, at points (u, v) relative to the centre


def _polygon(sides: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    half = np.pi / sides
    return np.hypot(u, v) * np.cos(np.mod(np.arctan2(u, -v) + half, 2 * half) - half) - np.cos(half) * 0.9


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    inner, half = 0.42, np.pi / 5
    radius, angle = np.hypot(u, v), np.abs(np.mod(np.arctan2(u, -v) + half, 2 * half) - half)
    along, across = inner * np.cos(half) - 1, inner * np.sin(half)  # from a tip at (1, 0) to the next inner corner
    return ((radius * np.cos(angle) - 1) * across - radius * np.sin(angle) * along) / np.hypot(along, across)


def _box(width: float, height: float, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(u) - width, np.abs(v) - height)


SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "circle": lambda u, v: np.hypot(u, v) - 0.85,
    "square": lambda u, v: _box(0.75, 0.75, u, v),
    "triangle": lambda u, v: _polygon(3, u, v),
    "star": _star,
    "plus": lambda u, v: np.minimum(_box(1, 0.3, u, v), _box(0.3, 1, u, v)),
    "ring": lambda u, v: np.abs(np.hypot(u, v) - 0.75) - 0.22,
    "bar": lambda u, v: _box(1, 0.3, u, v),
    "half-disc": lambda u, v: np.maximum(np.hypot(u, v + 0.4) - 1, -(v + 0.4)),
    "ellipse": lambda u, v: (np.hypot(u, v / 0.42) - 1) * 0.42,
    "diamond": lambda u, v: (np.abs(u) + np.abs(v) / 0.45 - 1) * 0.41,
}


def _pixels(x: np.ndarray, y: np.ndarray, angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the two coordinates of each pixel, (n, 32, 32) each, relative to centres ``x``, ``y`` and axes
    turned by ``angle``."""
    x, y, angle = (np.asarray(value, np.float32)[:, None, None] for value in (x, y, np.deg2rad(angle)))
    centres = np.arange(SIDE, dtype=np.float32) + 0.5
    across, down = centres[None, None, :] - x, centres[None, :, None] - y
    return across * np.cos(angle) + down * np.sin(angle), down * np.cos(angle) - across * np.sin(angle)


def shapes(kind: np.ndarray, x: np.ndarray, y: np.ndarray, radius: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Returns masks of one shape each: its name, centre, radius and angle, each (n,)."""
    u, v = _pixels(x, y, angle)
    radius = np.asarray(radius, np.float32)[:, None, None]
    mask = np.empty_like(u)
    for name in np.unique(kind):
        rows = kind == name
        mask[rows] = np.clip(0.5 - SHAPES[name](u[rows] / radius[rows], v[rows] / radius[rows]) * radius[rows], 0, 1)
    return mask


# Grounds: position of each pixel between the first colour (0) and the second (1); the period is in pixels


def _wave(position: np.ndarray) -> np.ndarray:
    return np.clip(0.5 + 1.5 * np.sin(2 * np.pi * position), 0, 1)


GROUNDS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "plain": lambda u, v, period: np.zeros_like(u),
    "gradient": lambda u, v, period: np.clip(0.5 + u / SIDE, 0, 1),
    "stripes": lambda u, v, period: _wave(u / period),
    "checks": lambda u, v, period: np.abs(_wave(u / period / 1.5) - _wave(v / period / 1.5)),
    "dots": lambda u, v, period: np.clip(
        2.5 - np.hypot(np.mod(u, period) - period / 2, np.mod(v, period) - period / 2), 0, 1
    ),
    "rings": lambda u, v, period: _wave(np.hypot(u, v) / period),
    "grid": lambda u, v, period: np.clip(1.5 - np.minimum(np.mod(u, period), np.mod(v, period)), 0, 1),
    "zigzag": lambda u, v, period: _wave((v + np.abs(np.mod(u, 10) - 5)) / period),
}


def grounds(rng: np.random.Generator, kind: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns grounds (n, 3, 32, 32) of the named kinds (n,) between two colours (n, 3), each at a random
    angle and period."""
    n = len(kind)
    u, v = _pixels(rng.uniform(8, 24, n), rng.uniform(8, 24, n), rng.uniform(0, 360, n))
    period = rng.uniform(6, 9, (n, 1, 1)).astype(np.float32)
    blend = np.empty_like(u)
    for name in np.unique(kind):
        rows = kind == name
        blend[rows] = GROUNDS[name](u[rows], v[rows], period[rows])
    return first[:, :, None, None] + blend[:, None] * (second - first)[:, :, None, None]
