"""The pictures that published splits were trained on do not change: another pixel makes other weights."""

from hashlib import sha256

import pytest

from mothr.generators.data import images

FROZEN = {
    "digits": ("c1281028", 83.365, 59.974),
    "glyph-case": ("3e9fc848", 67.733, 57.447),
    "glyph-cyrillic": ("313d2cfd", 69.852, 59.090),
    "glyph-digit": ("8fb03a6d", 66.176, 55.797),
    "glyph-family": ("64e95b4c", 60.122, 47.126),
    "glyph-greek": ("518346a8", 70.869, 59.787),
    "glyph-letter": ("62f0a77e", 70.126, 59.321),
    "glyph-script": ("9f6c26f3", 67.999, 57.664),
    "glyph-slant": ("b17f6f35", 65.059, 52.769),
    "glyph-symbol": ("fa034366", 62.372, 52.125),
    "glyph-weight": ("d3f5a796", 64.926, 52.919),
    "photo-filter": ("e6ac7215", 91.843, 75.612),
    "photo-region": ("4fe89e0c", 104.218, 79.777),
    "photo-rotation": ("189a4d64", 98.305, 75.012),
    "photo-source": ("a80049ee", 96.791, 74.127),
    "shape-angle": ("e9e3a758", 127.053, 53.883),
    "shape-background": ("d1f8b13a", 127.538, 54.810),
    "shape-colour": ("63d26120", 126.735, 55.427),
    "shape-count": ("a2eed426", 127.007, 53.016),
    "shape-kind": ("907d6de8", 127.389, 54.883),
    "shape-size": ("5abccdfd", 126.632, 54.915),
    "shape-x": ("e926f8ef", 127.398, 51.544),
    "shape-y": ("47534cc6", 127.291, 51.706),
}
"""Task -> first digits of the hash of its training labels, mean and standard deviation of its training pixels."""


@pytest.mark.parametrize("name", FROZEN)
def test_a_published_task_does_not_change(name):
    labels, mean, spread = FROZEN[name]
    pictures, result = images.load(name, "train")
    assert sha256(result.numpy().tobytes()).hexdigest()[:8] == labels
    assert float(pictures.double().mean()) == pytest.approx(
        mean, abs=0.005
    )  # room for the last bits of other processors
    assert float(pictures.double().std()) == pytest.approx(spread, abs=0.005)
