"""Drawn pictures with captions: domains for text-to-image models that need no download.
 Every domain has uint8 pictures (n, 3, 32, 32) and one caption per picture, the same on every call. The
caption is written from the same factors as the picture, in words of one closed vocabulary. It therefore
describes the picture exactly.
 FROZEN: the published splits were trained on exactly these pictures. New domains may be added, but no new
words, because published tokenizers hold the whole vocabulary. An existing domain must not change by one
pixel. A test holds the hashes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch

from mothr.generators.data import drawing
from mothr.generators.data.registry import Registry, Subset, Task, check_subset, subset_generator

Scenes = tuple[np.ndarray, list[str]]
SIZES: dict[Subset, int] = {"train": 2048, "test": 512}
"""Pictures per subset."""

COLOURS: Mapping[str, float] = {"red": 0, "yellow": 55, "green": 120, "cyan": 180, "blue": 235, "magenta": 300}
"""Colour word -> hue in degrees."""
COUNTS = ("one", "two", "three", "four", "five", "six")
"""Number words for 1, 2, ..."""
SHAPES: Mapping[str, tuple[str, str]] = {
    "circle": ("circle", "circles"), "square": ("square", "squares"), "triangle": ("triangle", "triangles"),
    "star": ("star", "stars"), "plus": ("cross", "crosses"), "ring": ("ring", "rings"), "bar": ("bar", "bars"),
    "half-disc": ("bowl", "bowls"), "ellipse": ("ellipse", "ellipses"), "diamond": ("diamond", "diamonds"),
}  # fmt: skip
"""Drawn shape -> its singular and plural in captions."""
COMMON = ("circle", "square", "triangle", "star", "plus", "ring")
SOLID = ("circle", "square", "triangle", "plus")
"""Shapes that can be recognised by their outlines."""
LONG = ("bar", "half-disc", "ellipse", "diamond")
LETTERS = "ACEHKOSTXZ"
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FONTS = ("DejaVuSans-Bold", "DejaVuSansMono-Bold", "DejaVuSerif-Bold")
GROUNDS: Mapping[str, str] = {
    "plain": "plain", "stripes": "striped", "checks": "checked", "dots": "dotted", "rings": "ringed", "gradient": "shaded",
}  # fmt: skip
"""Drawn ground -> its word in captions."""


@dataclass(frozen=True, slots=True)
class CaptionDomain(Task):
    """Pictures of one kind with their captions."""

    draw: Callable[[np.random.Generator, int], Scenes]
    """Returns the given number of pictures and captions."""


@lru_cache(maxsize=32)
def load(name: str, subset: Subset) -> tuple[torch.Tensor, tuple[str, ...]]:
    """Returns the pictures, uint8 (n, 3, 32, 32), and captions of a domain. All calls share these values: do
    not modify them.

    Raises:
        MothrError: no domain, or no subset, has this name.
    """
    domain = DOMAINS.find(name)
    check_subset(subset)
    pictures, captions = domain.draw(subset_generator(name, subset), SIZES[subset])
    return torch.from_numpy(pictures), tuple(captions)


def words() -> tuple[str, ...]:
    """Returns every word that captions may contain, sorted."""
    shapes = [word for pair in SHAPES.values() for word in pair]
    common = ("on", "a", "ground", "small", "large", "outlined", "pale", "black", "white", "letter", "digit")
    position = ("left", "of", "above", "at", "night", "bright")
    return tuple(sorted({*common, *position, *COLOURS, *COUNTS, *DIGITS, *shapes, *GROUNDS.values(), *LETTERS.lower()}))


# Colours and grounds: ink on a darker ground, except in the domains scene-bright and scene-inverse


def _pick(rng: np.random.Generator, choices: Sequence[str], n: int) -> np.ndarray:
    return np.array(choices)[rng.integers(len(choices), size=n)]


def _ink(rng: np.random.Generator, colour: np.ndarray) -> np.ndarray:
    """Returns strong colours (n, 3) with hues near those of the colour words ``colour`` (n,)."""
    return drawing.vivid(rng, np.array([COLOURS[word] for word in colour]) + rng.uniform(-8, 8, len(colour)))


def _ground(rng: np.random.Generator, kind: np.ndarray, low: float = 0.05, high: float = 0.2) -> np.ndarray:
    """Returns grounds (n, 3, 32, 32) of the named kinds (n,): a grey between ``low`` and ``high``, with a
    pattern in a lighter grey."""
    first = drawing.tints(rng, len(kind), low, high, spread=0.03)
    second = first + rng.uniform(0.15, 0.25, (len(kind), 1)).astype(np.float32)
    return drawing.grounds(rng, kind, first, second)


def _blend(mask: np.ndarray, ink: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """Returns ``ground`` (n, 3, 32, 32) with ``ink`` (n, 3) where the mask (n, 32, 32) covers it, without
    grain."""
    return ground + mask[:, None] * (ink[:, :, None, None] - ground)


# Shapes


def _radius(rng: np.random.Generator, size: np.ndarray) -> np.ndarray:
    return np.where(size == "large", rng.uniform(8.5, 11, len(size)), rng.uniform(4, 5, len(size)))


def _single(rng: np.random.Generator, kind: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Returns masks of one complete shape each, at a random place and turned by up to 15 degrees."""
    room = 15.5 - radius
    x, y = 16 + rng.uniform(-room, room), 16 + rng.uniform(-room, room)
    return drawing.shapes(kind, x, y, radius, rng.uniform(-15, 15, len(kind)))


def _several(rng: np.random.Generator, kind: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Returns masks with ``count`` (n,) small shapes each, in different cells of a 3 x 3 grid."""
    n = len(count)
    cells = rng.permuted(np.tile(np.arange(9), (n, 1)), axis=1)
    mask = np.zeros((n, drawing.SIDE, drawing.SIDE), np.float32)
    for index in range(count.max()):
        radius, angle, moved = rng.uniform(3.5, 4.2, n), rng.uniform(-15, 15, n), rng.uniform(-0.4, 0.4, (2, n))
        x, y = 16 + 10.4 * (cells[:, index] % 3 - 1) + moved[0], 16 + 10.4 * (cells[:, index] // 3 - 1) + moved[1]
        rows = count > index
        mask[rows] = np.maximum(mask[rows], drawing.shapes(kind[rows], x[rows], y[rows], radius[rows], angle[rows]))
    return mask


def _draw_shapes(
    rng: np.random.Generator,
    n: int,
    *,
    kinds: Sequence[str] = COMMON,
    colours: Sequence[str] = tuple(COLOURS),
    counts: Sequence[int] = (1,),
    sizes: Sequence[str] = ("small", "large"),
    grounds: Sequence[str] = ("plain",),
    style: str = "",
) -> Scenes:
    """Draws "<count> <size> [<style>] <colour> <shape> on a <ground> ground"; several shapes are always
    small."""
    kind, colour, ground = (_pick(rng, choices, n) for choices in (kinds, colours, grounds))
    count = rng.choice(counts, n)
    size = np.where(count > 1, "small", _pick(rng, sizes, n))
    mask = np.where((count == 1)[:, None, None], _single(rng, kind, _radius(rng, size)), _several(rng, kind, count))
    if style == "outlined":
        mask = np.clip(2 * np.minimum(mask, 1 - _shrunk(mask)), 0, 1)
    ink = _ink(rng, colour)
    if style == "pale":
        ink = (0.45 * ink + 0.5).astype(np.float32)
    captions = [
        " ".join(
            word for word in (COUNTS[c - 1], s, style, i, SHAPES[k][int(c > 1)], "on a", GROUNDS[g], "ground") if word
        )
        for c, s, i, k, g in zip(count, size, colour, kind, ground, strict=True)
    ]
    return drawing.to_bytes(_blend(mask, ink, _ground(rng, ground))), captions


def _shrunk(mask: np.ndarray) -> np.ndarray:
    """Returns ``mask`` with two pixels taken off its edge."""
    return -torch.nn.functional.max_pool2d(-torch.from_numpy(mask)[:, None], 5, 1, 2)[:, 0].numpy()


def _draw_lit(rng: np.random.Generator, n: int, *, bright: bool) -> Scenes:
    """Draws common shapes: dim on black (at night), or strong on near white (a bright ground)."""
    kind, colour, size = _pick(rng, COMMON, n), _pick(rng, tuple(COLOURS), n), _pick(rng, ("small", "large"), n)
    mask = _single(rng, kind, _radius(rng, size))
    ink = _ink(rng, colour) * np.float32(0.75 if bright else 0.45)
    ground = _ground(rng, np.full(n, "plain"), *((0.85, 0.97) if bright else (0.0, 0.03)))
    place = "on a bright ground" if bright else "at night"
    captions = [f"one {s} {i} {SHAPES[k][0]} {place}" for s, i, k in zip(size, colour, kind, strict=True)]
    return drawing.to_bytes(_blend(mask, ink, ground)), captions


def _draw_inverse(rng: np.random.Generator, n: int) -> Scenes:
    """Draws large black or white shapes on a coloured ground."""
    kind, ink_word, colour = _pick(rng, COMMON, n), _pick(rng, ("black", "white"), n), _pick(rng, tuple(COLOURS), n)
    mask = _single(rng, kind, _radius(rng, np.full(n, "large")))
    ink = np.where((ink_word == "white")[:, None], rng.uniform(0.9, 1, (n, 1)), rng.uniform(0, 0.1, (n, 1))).repeat(
        3, 1
    )
    ground = (0.75 * _ink(rng, colour))[:, :, None, None]
    captions = [f"one large {i} {SHAPES[k][0]} on a {c} ground" for i, k, c in zip(ink_word, kind, colour, strict=True)]
    return drawing.to_bytes(_blend(mask, ink.astype(np.float32), ground)), captions


def _draw_pairs(rng: np.random.Generator, n: int, *, stacked: bool) -> Scenes:
    """Draws two shapes of different colours, one left of (or above) the other."""
    kinds, colours = (np.stack([_pick(rng, choices, n) for _ in range(2)]) for choices in (COMMON, tuple(COLOURS)))
    same = colours[0] == colours[1]
    names = list(COLOURS)
    colours[1, same] = [names[(names.index(colour) + 1 + rng.integers(5)) % 6] for colour in colours[0, same]]
    pictures = _ground(rng, np.full(n, "plain"))
    for index in (0, 1):
        radius = rng.uniform(5.5, 6.5, n)
        along, across = 8.5 + 15 * index + rng.uniform(-1, 1, n), 16 + rng.uniform(-7, 7, n)
        x, y = (across, along) if stacked else (along, across)
        pictures = _blend(
            drawing.shapes(kinds[index], x, y, radius, rng.uniform(-15, 15, n)), _ink(rng, colours[index]), pictures
        )
    captions = [
        f"one {c} {SHAPES[k][0]} {'above' if stacked else 'left of'} one {d} {SHAPES[j][0]} on a plain ground"
        for c, k, d, j in zip(colours[0], kinds[0], colours[1], kinds[1], strict=True)
    ]
    return drawing.to_bytes(pictures), captions


# Glyphs


def _draw_glyphs(rng: np.random.Generator, n: int, *, kind: str, texts: str, names: Sequence[str]) -> Scenes:
    """Draws "one large <colour> <letter or digit> <name> on a plain ground" in three bold typefaces."""
    which, colour, font = rng.integers(len(texts), size=n), _pick(rng, tuple(COLOURS), n), _pick(rng, FONTS, n)
    glyphs = np.stack([drawing.glyph(str(face), texts[index], 32) for face, index in zip(font, which, strict=True)])
    mask = drawing.place(rng, glyphs, shift=3, turn=10)
    captions = [
        f"one large {c} {kind} {names[index]} on a plain ground" for c, index in zip(colour, which, strict=True)
    ]
    return drawing.to_bytes(_blend(mask, _ink(rng, colour), _ground(rng, np.full(n, "plain")))), captions


_OWN = "drawn by this project, Apache-2.0"
_FONT = "drawn by this project with DejaVu fonts that matplotlib ships (Bitstream Vera licence)"
_LARGE = ("large",)
_KINDS: list[tuple[str, str, Callable[..., Scenes], dict[str, Any]]] = [
    ("scene-plain", "One shape, small or large, on a plain ground.", _draw_shapes, {}),
    ("scene-striped", "One shape on a striped ground.", _draw_shapes, {"grounds": ("stripes",)}),
    ("scene-checked", "One shape on a checked ground.", _draw_shapes, {"grounds": ("checks",)}),
    ("scene-dotted", "One shape on a dotted ground.", _draw_shapes, {"grounds": ("dots",)}),
    ("scene-shaded", "One large shape on a shaded ground.", _draw_shapes, {"grounds": ("gradient",), "sizes": _LARGE}),
    ("scene-ringed", "One large shape on a ringed ground.", _draw_shapes, {"grounds": ("rings",), "sizes": _LARGE}),
    ("scene-few", "Two or three small shapes.", _draw_shapes, {"counts": (2, 3)}),
    ("scene-many", "Four to six small shapes.", _draw_shapes, {"counts": (4, 5, 6)}),
    (
        "scene-outlined",
        "The outline of one large shape.",
        _draw_shapes,
        {"kinds": SOLID, "sizes": _LARGE, "style": "outlined"},
    ),
    ("scene-pale", "One shape in a pale colour.", _draw_shapes, {"style": "pale"}),
    ("scene-long", "One bar, bowl, ellipse or diamond.", _draw_shapes, {"kinds": LONG}),
    ("scene-night", "One dim shape on a black ground.", _draw_lit, {"bright": False}),
    ("scene-bright", "One shape on a bright ground.", _draw_lit, {"bright": True}),
    ("scene-inverse", "One large black or white shape on a coloured ground.", _draw_inverse, {}),
    ("scene-beside", "One shape left of another, in different colours.", _draw_pairs, {"stacked": False}),
    ("scene-above", "One shape above another, in different colours.", _draw_pairs, {"stacked": True}),
    (
        "scene-letters",
        "One of ten capital letters.",
        _draw_glyphs,
        {"kind": "letter", "texts": LETTERS, "names": LETTERS.lower()},
    ),
    ("scene-digits", "One digit.", _draw_glyphs, {"kind": "digit", "texts": "0123456789", "names": DIGITS}),
]
DOMAINS: Registry[CaptionDomain] = Registry(
    "caption domain",
    (
        CaptionDomain(name, description, _FONT if draw is _draw_glyphs else _OWN, partial(draw, **options))
        for name, description, draw, options in _KINDS
    ),
)
"""Every domain by name."""
