"""Picture classification tasks that need no download: real and drawn pictures.
 Every task has uint8 pictures (n, 3, 32, 32) and int64 labels (n,), the same on every call. All classes are
equally frequent. No picture is in both subsets. Where possible the test subset differs in more than chance,
e.g. a letter is drawn in another font.
 FROZEN: the published splits were trained on exactly these pictures. New tasks may be added. An existing task
must not change by one pixel, because its recipes would then give other weights. A test holds the hashes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial

import numpy as np
import torch
from scipy import ndimage
from sklearn.datasets import load_digits, load_sample_image
from sklearn.model_selection import train_test_split

from mothr.generators.data import drawing
from mothr.generators.data.registry import Registry, Subset, Task, check_subset, subset_generator

Pictures = tuple[np.ndarray, np.ndarray]
SIZES: dict[Subset, int] = {"train": 4096, "test": 1024}
"""Pictures per subset; the task ``digits`` has 1,437 and 360."""


@dataclass(frozen=True, slots=True)
class PictureTask(Task):
    """A classification task with pictures that need no download."""

    classes: tuple[str, ...]
    """Meaning of each label."""
    draw: Callable[[np.random.Generator, Subset], Pictures]
    """Returns the pictures and labels of one subset."""


@lru_cache(maxsize=16)
def load(name: str, subset: Subset) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the pictures, uint8 (n, 3, 32, 32), and labels, int64 (n,), of a task. All calls share these
    tensors: do not modify them.

    Raises:
        MothrError: no task, or no subset, has this name.
    """
    task = TASKS.find(name)
    check_subset(subset)
    pictures, labels = task.draw(subset_generator(name, subset), subset)
    return torch.from_numpy(pictures), torch.from_numpy(labels)


def _balanced(rng: np.random.Generator, classes: int, n: int) -> np.ndarray:
    """Returns n labels in random order, equally many of each class."""
    return rng.permutation(np.arange(n) % classes)


# Digits


def _draw_digits(rng: np.random.Generator, subset: Subset) -> Pictures:
    data = load_digits()
    train, test = train_test_split(np.arange(len(data.target)), test_size=0.2, stratify=data.target, random_state=0)
    rows = train if subset == "train" else test
    small = torch.from_numpy(data.images[rows]).float()[:, None] / 16
    large = torch.nn.functional.interpolate(small, size=(28, 28), mode="bicubic", align_corners=False)[:, 0].clamp(0, 1)
    margin = (drawing.GLYPH_SIDE - 28) // 2
    mask = drawing.place(rng, np.pad(large.numpy(), [(0, 0), (margin, margin), (margin, margin)]))
    return drawing.paint(rng, mask, *drawing.ink_and_ground(rng, len(mask))), data.target[rows].astype(np.int64)


# Glyphs: each class has some (font, text) pairs; one pair in five is in the test subset only

SANS, MONO, SERIF, STIX = (
    {"regular": f"{stem}{regular}", "bold": stem + bold, "italic": stem + italic, "bold italic": stem + both}
    for stem, regular, bold, italic, both in [
        ("DejaVuSans", "", "-Bold", "-Oblique", "-BoldOblique"),
        ("DejaVuSansMono", "", "-Bold", "-Oblique", "-BoldOblique"),
        ("DejaVuSerif", "", "-Bold", "-Italic", "-BoldItalic"),
        ("STIXGeneral", "", "Bol", "Italic", "BolIta"),
    ]
)
DEJAVU = [font for family in (SANS, MONO, SERIF) for font in family.values()]
LATIN = [*DEJAVU, *STIX.values(), "cmr10", "cmb10", "cmss10", "cmtt10", "cmti10"]
CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
CASED = "ABDEFGHLMNQRTY"
"""Capitals that differ from their small letters in more than size."""
SYMBOLS = "←↑→↓↔↕⇐⇒∀∂∃⊕∇∈∏∑√∞∧∩∫≈≠≤"
PAIRS = [
    "Ra", "ag", "Ga", "bE", "Er", "dd", "nB", "gb", "eR", "fb", "pp", "ta", "hS", "St", "ke",
    "Bk", "en", "Au", "uA", "yy", "TE", "rG", "Fi", "fr", "KP", "ck", "FT", "qF", "jB", "Pd",
]  # fmt: skip
"""Pairs of letters that show the stems, bowls and serifs of a typeface."""
SCRIPTS = {
    "Latin": "DFGJLNQRSUVWZbdfghjklmnqrtuvwz",
    "Greek": "ΔΘΛΞΣΨΩαβγδεζηθλμξπσφψω",
    "Cyrillic": "БДЖЗИЛЦЧШЩЪЫЭЮЯбвджзиклтцчшщъыэюя",
    "Armenian": "ԱԲԳԴԵԶԷԸԹԺԻԽԾԿՀՁՂՃՄՅՆՈՉՊՋՌՎՏՐՑՓՔ",
    "Georgian": "აბგდევზთიკლმნოპჟრსტუფქღყშჩცძწჭხჯჰ",
    "Hebrew": "אבגדהזחטכלמםנסעפצקרשת",
    "Arabic": "بتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "Lao": "ກຂຄງຈຊຍດຕຖທນບປຜຝພຟມຢຣລວສຫອຮ",
    "Tifinagh": "ⴰⴱⴳⴹⴼⴽⵀⵃⵄⵅⵇⵊⵕⵖⵚⵛⵜⵟⵡⵢⵣⵥ",
    "Canadian syllabics": "ᐁᐅᐊᐳᐸᑫᑭᑯᑲᒉᒋᒍᒐᒣᒧᓀᓂᓄᓇᓭᓯᓱᓴ",
    "N'Ko": "ߋߌߍߎߏߐߒߓߔߕߖߗߘߙߚߛߜߝߞߟߠߡߢߣߤߥߦߧ",
    "Braille": "⠃⠉⠙⠑⠋⠛⠓⠊⠚⠅⠇⠍⠝⠕⠏⠟⠗⠎⠞⠥⠧⠺⠭⠽⠵",
}
Cells = Mapping[str, Sequence[tuple[str, str]]]
"""Class -> the (font, text) pairs that are drawn for it."""


def _cross(fonts: Sequence[str], texts: Sequence[str]) -> list[tuple[str, str]]:
    return [(font, text) for text in texts for font in fonts]


def _by_text(fonts: Sequence[str], texts: str) -> Cells:
    return {text: _cross(fonts, text) for text in texts}


def _styles(*styles: str) -> list[str]:
    return [family[style] for family in (SANS, MONO, SERIF, STIX) for style in styles]


GLYPHS: dict[str, tuple[str, Cells, int]] = {
    "glyph-letter": ("Which capital letter is it?", _by_text(LATIN, CAPITALS), 30),
    "glyph-digit": ("Which digit is it?", _by_text(LATIN, "0123456789"), 30),
    "glyph-greek": ("Which small Greek letter is it?", _by_text([*DEJAVU, *STIX.values()], "αβγδεζηθικλμνξοπρστυφχψω"), 32),
    "glyph-cyrillic": (
        "Which capital Cyrillic letter is it?", _by_text([*DEJAVU, *STIX.values()], "АБВГДЕЖЗИКЛМНОПРСТУФХЦЧШЩЫЭЮЯ"), 27
    ),
    "glyph-script": (
        "Which script is the letter from?", {name: _cross([SANS["regular"], SANS["bold"]], s) for name, s in SCRIPTS.items()}, 28
    ),
    "glyph-case": (
        "Is it a capital or a small letter?", {"capital": _cross(LATIN, CASED), "small": _cross(LATIN, CASED.lower())}, 30
    ),
    "glyph-family": (
        "Which typeface are the two letters set in?",
        {
            name: _cross([font], PAIRS)
            for name, font in {
                "DejaVu Sans": SANS["regular"], "DejaVu Sans Mono": MONO["regular"], "DejaVu Serif": SERIF["regular"],
                "STIX": STIX["regular"], "Computer Modern Roman": "cmr10", "Computer Modern Sans": "cmss10",
                "Computer Modern Typewriter": "cmtt10",
            }.items()
        },
        20,
    ),
    "glyph-weight": (
        "Are the two letters regular or bold?",
        {
            "regular": _cross([*_styles("regular", "italic"), "cmr10"], PAIRS),
            "bold": _cross([*_styles("bold", "bold italic"), "cmb10"], PAIRS),
        },
        20,
    ),
    "glyph-slant": (
        "Are the two letters upright or slanted?",
        {
            "upright": _cross([*_styles("regular", "bold"), "cmr10"], PAIRS),
            "slanted": _cross([*_styles("italic", "bold italic"), "cmti10"], PAIRS),
        },
        20,
    ),
    "glyph-symbol": ("Which arrow or sign of mathematics is it?", _by_text([*DEJAVU, STIX["regular"]], SYMBOLS), 28),
}  # fmt: skip


def _draw_glyphs(cells: Cells, size: int, rng: np.random.Generator, subset: Subset) -> Pictures:
    labels = _balanced(rng, len(cells), SIZES[subset])
    glyphs = np.empty((len(labels), drawing.GLYPH_SIDE, drawing.GLYPH_SIDE), np.float32)
    for label, pairs in enumerate(cells.values()):
        kept = [pair for index, pair in enumerate(pairs) if ((index + label) % 5 == 0) == (subset == "test")]
        bank = np.stack([drawing.glyph(font, text, size) for font, text in kept])
        rows = labels == label
        glyphs[rows] = bank[rng.integers(len(bank), size=rows.sum())]
    mask = drawing.place(rng, glyphs)
    return drawing.paint(rng, mask, *drawing.ink_and_ground(rng, len(labels))), labels


# Shapes: the class fixes one factor of the picture; the other factors are random

KINDS = ("circle", "square", "triangle", "star", "plus", "ring", "bar", "half-disc")
LONG = ("bar", "ellipse", "diamond")
"""Shapes that have a visible direction (modulo half a turn)."""
HUES = {"red": 0, "orange": 30, "yellow": 58, "green": 120, "cyan": 180, "blue": 230, "violet": 275, "pink": 325}
SHAPES: dict[str, tuple[str, tuple[str, ...]]] = {
    "kind": ("Which shape is it?", KINDS),
    "colour": ("Which colour is the shape?", tuple(HUES)),
    "size": ("How large is the shape?", ("tiny", "small", "medium", "large", "huge")),
    "x": ("In which of eight columns is the centre of the shape?", tuple(f"column {number}" for number in range(1, 9))),
    "y": ("In which of eight rows is the centre of the shape?", tuple(f"row {number}" for number in range(1, 9))),
    "angle": ("In which direction does the long shape lie?", tuple(f"{step * 20} degrees" for step in range(9))),
    "count": ("How many shapes are there?", tuple("123456")),
    "background": ("Which pattern is the ground?", tuple(drawing.GROUNDS)),
}


def _draw_shapes(factor: str, rng: np.random.Generator, subset: Subset) -> Pictures:
    n = SIZES[subset]
    labels = _balanced(rng, len(SHAPES[factor][1]), n)
    jitter = rng.uniform(-0.4, 0.4, n)  # as a fraction of the step between two classes, so that classes never overlap

    hue = np.array(list(HUES.values()))[labels] + jitter * 20 if factor == "colour" else rng.uniform(0, 360, n)
    kind = rng.choice(LONG if factor == "angle" else KINDS, n)
    if factor == "kind":
        kind = np.array(KINDS)[labels]
    angle = (labels + jitter) * 20 if factor == "angle" else rng.uniform(0, 360, n)
    radius = rng.uniform(4, 6.5, n) if factor in ("x", "y") else rng.uniform(7, 11, n)
    if factor == "size":
        radius = 4 + (labels + jitter) * 2.2
    room = 15.5 - np.minimum(radius, 13)
    x, y = 16 + rng.uniform(-room, room), 16 + rng.uniform(-room, room)
    if factor in ("x", "y"):
        centre = 6 + (labels + 0.5 + jitter) * 2.5
        x, y = (centre, y) if factor == "x" else (x, centre)
    mask = _several(rng, kind, labels + 1) if factor == "count" else drawing.shapes(kind, x, y, radius, angle)

    first = drawing.tints(rng, n, 0.1, 0.9, spread=0.06)
    contrast = rng.uniform(0.15, 0.3, (n, 1)) * np.where(first.mean(axis=1, keepdims=True) < 0.5, 1, -1)
    pattern = labels if factor == "background" else rng.integers(len(drawing.GROUNDS), size=n)
    ground = drawing.grounds(
        rng, np.array(list(drawing.GROUNDS))[pattern], first, (first + contrast).astype(np.float32)
    )
    return drawing.paint(rng, mask, drawing.vivid(rng, hue), ground), labels


def _several(rng: np.random.Generator, kind: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Returns masks with ``count`` (n,) shapes each, in different cells of a 3 x 3 grid."""
    n = len(count)
    cells = rng.permuted(np.tile(np.arange(9), (n, 1)), axis=1)
    mask = np.zeros((n, drawing.SIDE, drawing.SIDE), np.float32)
    for index in range(count.max()):
        rows = count > index
        column, row = cells[rows, index] % 3, cells[rows, index] // 3
        x, y = (16 + 10.5 * (place - 1) + rng.uniform(-0.8, 0.8, rows.sum()) for place in (column, row))
        shape = drawing.shapes(kind[rows], x, y, rng.uniform(3.2, 4.6, rows.sum()), rng.uniform(0, 360, rows.sum()))
        mask[rows] = np.maximum(mask[rows], shape)
    return mask


# Photographs: a picture is a window of 64 x 64 pixels at half size

PHOTOS = ("china", "flower")
WINDOW = 2 * drawing.SIDE
BLOCK = 85
"""Windows are cut inside squares of this side; one square in five is in the test subset only."""
DETAIL = 0.04
"""Windows with a smaller standard deviation of brightness (of 1), such as clear sky, are left out."""
GRID = (2, 3)
"""Rows and columns of the grid that ``photo-region`` divides a photograph into."""
FILTERS: dict[str, Callable[[np.random.Generator, np.ndarray], np.ndarray]] = {
    "none": lambda rng, x: x,
    "blur": lambda rng, x: ndimage.gaussian_filter(x, (0, 0, 1.5, 1.5)),
    "sharpen": lambda rng, x: x + 2.5 * (x - ndimage.gaussian_filter(x, (0, 0, 1, 1))),
    "noise": lambda rng, x: x + rng.normal(0, 0.15, x.shape).astype(np.float32),
    "edges": lambda rng, x: 3 * np.hypot(np.gradient(x, axis=2), np.gradient(x, axis=3)),
    "posterise": lambda rng, x: np.rint(x * 3) / 3,
    "pixelate": lambda rng, x: x[:, :, ::4, ::4].repeat(4, 2).repeat(4, 3),
    "grey": lambda rng, x: np.repeat(x.mean(axis=1, keepdims=True), 3, 1),
}


@cache
def _windows(photo: str) -> np.ndarray:
    """Returns a view (y, x, 3, 32, 32) of every window of a photograph, float32 in 0..1; (y, x) is the
    window's corner."""
    pixels = load_sample_image(f"{photo}.jpg").astype(np.float32).transpose(2, 0, 1) / 255
    half = (pixels[:, :-1, :-1] + pixels[:, 1:, :-1] + pixels[:, :-1, 1:] + pixels[:, 1:, 1:]) / 4
    view = np.lib.stride_tricks.sliding_window_view(half, (WINDOW - 1, WINDOW - 1), axis=(1, 2))
    return view[..., ::2, ::2].transpose(1, 2, 0, 3, 4)


@cache
def _detail(photo: str) -> np.ndarray:
    """Returns the standard deviation of brightness in each window, (y, x)."""
    grey = load_sample_image(f"{photo}.jpg").mean(axis=2) / 255
    mean, square = (ndimage.uniform_filter(values, WINDOW, origin=-WINDOW // 2) for values in (grey, grey**2))
    return np.sqrt(np.maximum(square - mean**2, 0))


@cache
def _corners(photo: str, subset: Subset) -> np.ndarray:
    """Returns the corners (k, 2) of the windows that lie inside the squares of one subset and have enough
    detail."""
    rows, columns = (side // BLOCK for side in load_sample_image(f"{photo}.jpg").shape[:2])
    squares = [(r, c) for r in range(rows) for c in range(columns) if ((r + 2 * c) % 5 == 0) == (subset == "test")]
    inside = np.stack(np.meshgrid(np.arange(BLOCK - WINDOW + 1), np.arange(BLOCK - WINDOW + 1)), -1).reshape(-1, 2)
    corners = (np.array(squares)[:, None] * BLOCK + inside).reshape(-1, 2)
    return corners[_detail(photo)[tuple(corners.T)] > DETAIL]


def _draw_photos(task: str, rng: np.random.Generator, subset: Subset) -> Pictures:
    labels = _balanced(rng, len(PHOTO_TASKS[task][1]), SIZES[subset])
    pictures = np.empty((len(labels), 3, drawing.SIDE, drawing.SIDE), np.float32)
    if task == "region":
        _fill_regions(rng, subset, pictures, labels)
    else:
        photo = labels if task == "source" else rng.integers(len(PHOTOS), size=len(labels))
        for index, name in enumerate(PHOTOS):
            rows = photo == index
            y, x = rng.choice(_corners(name, subset), rows.sum()).T
            pictures[rows] = _windows(name)[y, x]
    mirrored = rng.random(len(labels)) < 0.5
    pictures[mirrored] = pictures[mirrored, :, :, ::-1]
    if task != "filter":
        pictures = pictures * rng.uniform(0.8, 1.2, (len(labels), 3, 1, 1)).astype(np.float32)
    for label in range(len(PHOTO_TASKS[task][1])):
        rows = labels == label
        if task == "rotation":
            pictures[rows] = np.rot90(pictures[rows], label, (2, 3))
        elif task == "filter":
            pictures[rows] = list(FILTERS.values())[label](rng, pictures[rows])
    return drawing.to_bytes(pictures), labels


def _fill_regions(rng: np.random.Generator, subset: Subset, pictures: np.ndarray, labels: np.ndarray) -> None:
    """Fills ``pictures`` with windows of their regions. Both subsets see all regions; one window in five is
    in the test subset."""
    for label in range(len(PHOTOS) * GRID[0] * GRID[1]):
        photo, cell = divmod(label, GRID[0] * GRID[1])
        windows = _windows(PHOTOS[photo])
        high, wide = windows.shape[0] // GRID[0], windows.shape[1] // GRID[1]
        y, x = np.divmod(np.arange(high * wide), wide)
        kept = ((y + 2 * x) % 5 == 0) == (subset == "test")
        y, x = y + cell // GRID[1] * high, x + cell % GRID[1] * wide
        rows = labels == label
        chosen = rng.choice(np.flatnonzero(kept & (_detail(PHOTOS[photo])[y, x] > DETAIL)), rows.sum())
        pictures[rows] = windows[y[chosen], x[chosen]]


PHOTO_TASKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "source": ("Which photograph was the picture cut from?", PHOTOS),
    "rotation": ("By how much was the picture turned?", ("0 degrees", "90 degrees", "180 degrees", "270 degrees")),
    "filter": ("What was done to the picture?", tuple(FILTERS)),
    "region": (
        "Which part of which photograph is it?",
        tuple(f"{p}, row {r + 1}, column {c + 1}" for p in PHOTOS for r in range(GRID[0]) for c in range(GRID[1])),
    ),
}

_FONTS = (
    "drawn with fonts that matplotlib ships: DejaVu (Bitstream Vera and Arev licences), STIX (SIL Open Font License 1.1), "
    "Computer Modern (BaKoMa Fonts Licence)"
)
_OWN = "drawn by this project, Apache-2.0"
_PHOTOS = "scikit-learn's sample photographs china.jpg (danielbuechele) and flower.jpg (vultilion), CC BY 2.0"
TASKS: Registry[PictureTask] = Registry(
    "picture task",
    [
        PictureTask(
            "digits", "Which handwritten digit is it?",
            "scikit-learn's copy of the UCI Optical Recognition of Handwritten Digits test set, CC BY 4.0 as UCI states",
            tuple("0123456789"), _draw_digits,
        ),
        *(
            PictureTask(name, text, _FONTS, tuple(cells), partial(_draw_glyphs, cells, size))
            for name, (text, cells, size) in GLYPHS.items()
        ),
        *(
            PictureTask(f"shape-{name}", text, _OWN, classes, partial(_draw_shapes, name))
            for name, (text, classes) in SHAPES.items()
        ),
        *(
            PictureTask(f"photo-{name}", text, _PHOTOS, classes, partial(_draw_photos, name))
            for name, (text, classes) in PHOTO_TASKS.items()
        ),
    ],
)  # fmt: skip
"""Every task that needs no download, by name."""
