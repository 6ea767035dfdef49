"""VTHR's picture tasks: labels, sizes and parts, on small files in the formats that the data sets come in.

torchvision's own data sets are read where it can be imported; it lives in an environment of its own.
"""

import gzip
import importlib.util
import io
import json
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mothr.benchmark.errors import MothrError, Skipped
from mothr.generators.data import picture_tasks, vision, vision_torchvision
from mothr.generators.data.protobuf import content, fields, integers
from mothr.generators.families import FAMILIES

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _fresh():
    vision.load.cache_clear()


@pytest.fixture
def torchvision():
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed; it lives in an environment of its own (mothr[vision])")
    try:
        return importlib.import_module("torchvision.datasets")
    except RuntimeError as error:
        pytest.skip(f"the installed torchvision was built for another torch ({error})")


def picture(side: int = 12, value: int | None = None) -> Image.Image:
    pixels = RNG.integers(256, size=(side, side, 3)) if value is None else np.full((side, side, 3), value)
    return Image.fromarray(pixels.astype(np.uint8))


def save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


# Names and what does not depend on files


def test_every_task_has_the_number_of_classes_of_vthr():
    assert {name: len(task.classes) for name, task in vision.TASKS.items()} == {
        "vtab-cifar100": 100, "vtab-caltech101": 102, "vtab-dtd": 47, "vtab-flowers102": 102, "vtab-pets": 37, "vtab-svhn": 10,
        "vtab-pcam": 2, "vtab-clevr-count": 8, "vtab-clevr-distance": 6, "vtab-kitti-distance": 4, "vtab-dmlab": 6,
        "vtab-dsprites-orientation": 16, "vtab-dsprites-x": 16, "vtab-norb-azimuth": 18, "vtab-norb-elevation": 9,
    }  # fmt: skip


def test_downloaded_and_drawn_tasks_are_found_by_one_name():
    assert picture_tasks.find("vtab-dtd") is vision.TASKS["vtab-dtd"]
    assert picture_tasks.find("digits").name == "digits"
    with pytest.raises(MothrError, match=r"unknown picture task 'vtab-dtt'; did you mean vtab-dtd"):
        picture_tasks.find("vtab-dtt")


def test_drawn_pictures_are_enlarged_to_the_model_input():
    family = FAMILIES["vit"](hidden_size=16, layers=1, heads=2, mlp_size=32, patch_size=14, image_size=56)
    small = torch.full((2, 3, 32, 32), 255, dtype=torch.uint8)
    assert family.pixels(small).shape == (2, 3, 56, 56)
    assert torch.allclose(family.pixels(small), torch.ones(()))


def test_dinov2_reads_pictures_standardised_as_imagenet():
    family = FAMILIES["dinov2"](hidden_size=12, layers=1, heads=2, mlp_size=24, patch_size=14, image_size=28)
    values = family.pixels(torch.zeros((1, 3, 28, 28), dtype=torch.uint8))
    assert torch.allclose(values[0, :, 0, 0], torch.tensor([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]))
    assert family.summary(torch.arange(24.0).reshape(1, 2, 12)).tolist() == [list(range(12, 24))]


def test_without_torchvision_the_message_names_task_and_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchvision", None)
    with pytest.raises(Skipped, match=r"vtab-svhn: needs torchvision .*; install mothr\[vision\]"):
        vision.load("vtab-svhn", "train", 8)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "vtab-dsprites-x",
            r"vtab-dsprites-x: put dsprites_\S+\.npz into \S+dsprites; it comes from https://github\.com/",
        ),
        ("vtab-norb-azimuth", r"vtab-norb-azimuth: put smallnorb-\S+-training-dat\.mat into \S+smallnorb"),
        ("vtab-dmlab", r"vtab-dmlab: put dmlab-train\.tfrecord into \S+dmlab; it comes from https://storage"),
    ],
)
def test_the_error_for_a_missing_file_names_its_folder_and_address(name, message):
    with pytest.raises(MothrError, match=message):
        vision.download([name])


@pytest.mark.parametrize(("depth", "label"), [(-3, 0), (7.9, 0), (8.1, 1), (25, 2), (1001, 3)])
def test_the_label_depends_on_the_nearest_vehicle_and_not_on_people(depth, label):
    objects = [{"type": "Pedestrian", "location": [0, 0, 1.0]}]
    if depth < 1000:
        objects += [{"type": "Van", "location": [0, 0, depth]}, {"type": "Car", "location": [0, 0, 900.0]}]
    assert vision_torchvision.nearest_vehicle(objects) == label


# Files that users put into place


def dsprites(place: Path) -> None:
    """Writes the first eight of 737,280 pictures' worth of shape, and all of the last two factors of one shape."""
    place.mkdir(parents=True)
    count = 2 * 32 * 32  # two orientations, 32 columns, 32 rows
    pictures = (RNG.random((count, 64, 64)) < 0.1).astype(np.uint8)
    np.savez(place / "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz", imgs=pictures)


def test_dsprites_labels_follow_from_the_order_of_its_pictures():
    dsprites(vision.folder() / "dsprites")
    pictures, labels = vision.load("vtab-dsprites-x", "test", 16)
    assert pictures.shape == (410, 3, 16, 16)
    assert set(labels.tolist()) == set(range(16))
    rows = np.arange(0, 2048, 5)
    assert Counter(labels.tolist()) == Counter((rows // 32 % 32 * 16 // 32).tolist())
    assert set(vision.load("vtab-dsprites-orientation", "test", 16)[1].tolist()) == {0}


def norb(place: Path, stem: str, pictures: np.ndarray, facts: np.ndarray) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for what, magic, values in (("dat", 0x1E3D4C55, pictures), ("info", 0x1E3D4C54, facts.astype("<i4"))):
        shape = list(values.shape) + [1] * (3 - values.ndim)
        head = struct.pack(f"<II{len(shape)}I", magic, values.ndim, *shape)
        (place / f"{stem}-{what}.mat").write_bytes(head + values.tobytes())


def test_smallnorb_reads_one_camera_and_both_angles():
    place = vision.folder() / "smallnorb"
    pictures = RNG.integers(256, size=(20, 2, 96, 96)).astype(np.uint8)
    facts = np.stack([np.zeros(20), np.arange(20) % 9, np.arange(20) % 18 * 2, np.zeros(20)], axis=1)
    for stem in ("smallnorb-5x46789x9x18x6x2x96x96-training", "smallnorb-5x01235x9x18x6x2x96x96-testing"):
        norb(place, stem, pictures, facts)
    shown, azimuth = vision.load("vtab-norb-azimuth", "train", 96)
    _, elevation = vision.load("vtab-norb-elevation", "train", 96)
    result = {(bytes(first[0].numpy()), int(label)) for first, label in zip(shown, azimuth, strict=True)}
    assert result == {(pictures[row, 0].tobytes(), row % 18) for row in range(20)}
    assert sorted(elevation.tolist()) == sorted((np.arange(20) % 9).tolist())
    packed = place / "smallnorb-5x46789x9x18x6x2x96x96-training-dat.mat"
    packed.write_bytes(gzip.compress(b"still packed"))
    vision.load.cache_clear()
    with pytest.raises(MothrError, match=r"vtab-norb-azimuth: .*is not a file of smallNORB; unpack the \.gz"):
        vision.load("vtab-norb-azimuth", "train", 8)


def field(number: int, content: bytes) -> bytes:
    size = b""
    count = len(content)
    while True:
        size += bytes([count & 127 | (128 if count > 127 else 0)])
        count >>= 7
        if not count:
            return bytes([number << 3 | 2]) + size + content


def example(label: int, shown: Image.Image) -> bytes:
    """Returns a tf.train.Example with a PNG, a name and a label."""
    file = io.BytesIO()
    shown.save(file, "PNG")
    features = b""
    for name, value in (
        (b"image", field(1, field(1, file.getvalue()))), (b"filename", field(1, field(1, b"x.png"))),
        (b"label", field(3, field(1, bytes([label])))),
    ):  # fmt: skip
        features += field(1, field(1, name) + field(2, value))
    return field(1, features)


def test_dmlab_reads_pictures_and_labels_out_of_records():
    place = vision.folder() / "dmlab"
    place.mkdir(parents=True)
    for part in ("train", "test"):
        records = [example(label, picture(value=40 * label)) for label in range(6)]
        content = b"".join(struct.pack("<Q", len(record)) + b"crc." + record + b"crc." for record in records)
        (place / f"dmlab-{part}.tfrecord").write_bytes(content)
    pictures, labels = vision.load("vtab-dmlab", "train", 8)
    assert {(int(shown[0, 0, 0]), int(label)) for shown, label in zip(pictures, labels, strict=True)} == {
        (40 * k, k) for k in range(6)
    }
    (place / "dmlab-train.tfrecord").write_bytes(content[:-20])
    vision.load.cache_clear()
    with pytest.raises(MothrError, match="ends in the middle of a record; unpack it again"):
        vision.load("vtab-dmlab", "train", 8)


def test_a_message_of_protocol_buffers_is_read_field_by_field():
    message = (
        bytes([1 << 3, 150, 1])
        + field(2, b"abc")
        + bytes([3 << 3 | 5])
        + struct.pack("<f", 1.5)
        + field(4, bytes([1, 255, 1]))
    )
    result = dict(fields(memoryview(message)))
    assert result[1] == 150
    assert bytes(result[2]) == b"abc"
    assert struct.unpack("<f", result[3]) == (1.5,)
    assert integers(result[4]) == [1, 255]
    for broken in (message[:-1], bytes([1 << 3 | 3])):
        with pytest.raises(MothrError, match="Protocol Buffers"):
            dict(fields(memoryview(broken)))
    assert content(result[2]) is result[2]
    with pytest.raises(
        MothrError, match="150 in place of bytes"
    ):  # a number where the reader of a file expects a string
        content(result[1])


# Data sets that torchvision reads


def test_textures_come_from_the_requested_subset(torchvision):
    root = vision.folder() / "dtd" / "dtd"
    for split, value in (("train", 10), ("test", 200)):
        for number in range(3):
            save(picture(value=value), root / "images" / "banded" / f"{split}{number}.png")
        (root / "labels").mkdir(exist_ok=True)
        (root / "labels" / f"{split}1.txt").write_text("\n".join(f"banded/{split}{number}.png" for number in range(3)))
    for split, value in (("train", 10), ("test", 200)):
        pictures, labels = vision.load("vtab-dtd", split, 8)
        assert pictures.shape == (3, 3, 8, 8)
        assert torch.all(pictures == value)
        assert labels.tolist() == [0, 0, 0]


def test_the_background_of_caltech_is_a_class(torchvision):
    root = vision.folder() / "caltech101"
    for name in ("BACKGROUND_Google", "accordion"):
        for number in range(10):
            save(picture(), root / "101_ObjectCategories" / name / f"image_{number:04d}.jpg")
    (root / "Annotations").mkdir()
    counts = {part: Counter(vision.load("vtab-caltech101", part, 8)[1].tolist()) for part in ("train", "test")}
    assert counts == {"train": {0: 8, 1: 8}, "test": {0: 2, 1: 2}}


def test_clevr_is_counted_and_measured(torchvision):
    root = vision.folder() / "clevr" / "CLEVR_v1.0"
    for split in ("train", "val"):
        scenes = []
        for number, (count, depth) in enumerate([(3, 7.0), (10, 9.2), (5, 12.0)]):
            name = f"CLEVR_{split}_{number:06d}.png"
            save(picture(value=number * 50), root / "images" / split / name)
            objects = [{"pixel_coords": [0, 0, depth + extra]} for extra in range(count)]
            scenes.append({"image_filename": name, "objects": objects})
        (root / "scenes").mkdir(exist_ok=True)
        (root / "scenes" / f"CLEVR_{split}_scenes.json").write_text(json.dumps({"scenes": scenes}))
    for name, expected in (("vtab-clevr-count", [0, 7, 2]), ("vtab-clevr-distance", [0, 3, 5])):
        pictures, labels = vision.load(name, "test", 8)
        result = sorted((int(shown[0, 0, 0]), int(label)) for shown, label in zip(pictures, labels, strict=True))
        assert result == list(zip((0, 50, 100), expected, strict=True))


def test_kitti_is_divided_here_because_its_test_part_has_no_labels(torchvision):
    root = vision.folder() / "Kitti" / "raw" / "training"
    (root / "label_2").mkdir(parents=True)
    for number in range(10):
        save(picture(value=number * 20), root / "image_2" / f"{number:06d}.png")
        kind = "Car" if number else "DontCare"
        (root / "label_2" / f"{number:06d}.txt").write_text(f"{kind} 0 0 0 0 0 0 0 0 0 0 0 0 {number * 4} 0\n")
    result = {}
    for part in ("train", "test"):
        pictures, labels = vision.load("vtab-kitti-distance", part, 8)
        result[part] = {
            round(int(shown[0, 0, 0]) / 20): int(label) for shown, label in zip(pictures, labels, strict=True)
        }
    assert result["test"] == {0: 3, 5: 1}
    assert result["train"] == {1: 0, 2: 0, 3: 1, 4: 1, 6: 2, 7: 2, 8: 2, 9: 2}


def test_cifar_and_svhn_are_read_in_their_formats(torchvision, monkeypatch):
    import hashlib
    import pickle

    from scipy.io import savemat

    root = vision.folder()
    (root / "cifar-100-python").mkdir(parents=True)
    pixels = RNG.integers(256, size=(6, 3072)).astype(np.uint8)
    lists = {"train": "train_list", "test": "test_list"}
    for part, attribute in lists.items():
        content = pickle.dumps({"data": pixels, "fine_labels": [0, 1, 2, 3, 98, 99]})
        (root / "cifar-100-python" / part).write_bytes(content)
        monkeypatch.setattr(torchvision.CIFAR100, attribute, [[part, hashlib.md5(content).hexdigest()]])
    meta = pickle.dumps({"fine_label_names": [str(number) for number in range(100)]})
    (root / "cifar-100-python" / "meta").write_bytes(meta)
    monkeypatch.setattr(torchvision.CIFAR100, "meta", {
        "filename": "meta", "key": "fine_label_names", "md5": hashlib.md5(meta).hexdigest(),
    })  # fmt: skip
    pictures, labels = vision.load("vtab-cifar100", "test", 32)
    assert {int(label): shown.numpy().tobytes() for shown, label in zip(pictures, labels, strict=True)}[98] == pixels[
        4
    ].tobytes()
    splits = {}
    for part in ("train", "test"):
        file = root / f"{part}_32x32.mat"
        savemat(
            file, {"X": RNG.integers(256, size=(32, 32, 3, 4)).astype(np.uint8), "y": np.array([[1], [10], [3], [9]])}
        )
        splits[part] = ["", file.name, hashlib.md5(file.read_bytes()).hexdigest()]
    monkeypatch.setattr(torchvision.SVHN, "split_list", splits)
    assert sorted(vision.load("vtab-svhn", "train", 16)[1].tolist()) == [0, 1, 3, 9]


def test_at_most_a_thousand_examples_are_kept_and_the_choice_is_deterministic():
    place = vision.folder() / "dsprites"
    place.mkdir(parents=True)
    pictures = np.zeros((2048, 64, 64), np.uint8)
    pictures[:, 0, :] = np.arange(2048)[:, None] % 2
    np.savez(place / "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz", imgs=pictures)
    first = vision.load("vtab-dsprites-x", "train", 64)
    assert len(first[0]) == 1000
    vision.load.cache_clear()
    again = vision.load("vtab-dsprites-x", "train", 64)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
