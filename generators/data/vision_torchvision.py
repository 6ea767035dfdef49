"""VTAB data sets that torchvision downloads and reads.
 torchvision is imported here only. If it was built for another torch, its import fails, and so do those of
transformers and peft.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from mothr.benchmark.errors import Skipped
from mothr.generators.data.registry import Subset

TEST_SHARE = 5
"""If a data set has labels for one part only, one example in this number is a test example."""


class Examples(Protocol):
    """The examples of one subset, in a fixed order."""

    def __len__(self) -> int:
        """Returns the number of examples."""

    def __getitem__(self, index: int, /) -> tuple[Image.Image, int]:
        """Returns the picture and the label of one example."""


def _torchvision() -> Any:
    try:
        from torchvision import datasets
    except ImportError as error:
        raise Skipped(f"needs torchvision ({error}); install mothr[vision] into an environment of its own") from None
    except RuntimeError as error:  # its operators are compiled for one build of torch
        raise Skipped(
            f"the installed torchvision was built for another torch ({error}); install a pair of one build"
        ) from None
    return datasets


@dataclass(frozen=True, slots=True)
class Selected:
    """Some of the examples of a data set, with labels of their own."""

    examples: Any
    """The data set."""
    rows: Sequence[int]
    """Positions of the selected examples."""
    label: Callable[[Any], int] = int
    """Returns the label of a target of the data set."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        picture, target = self.examples[self.rows[index]]
        return picture, self.label(target)


def take_subset(examples: Any, subset: Subset, label: Callable[[Any], int] = int) -> Selected:
    """Returns one subset of a data set that has labels for one part only: one example in ``TEST_SHARE`` is a
    test example."""
    return Selected(
        examples, [row for row in range(len(examples)) if (row % TEST_SHARE == 0) == (subset == "test")], label
    )


def by_split(kind: str, root: Path, subset: Subset, **options: Any) -> Examples:
    """Returns one subset of a data set of torchvision that has a ``split`` argument, by its class name."""
    return getattr(_torchvision(), kind)(root, split=subset, download=True, **options)


def cifar(root: Path, subset: Subset) -> Examples:
    """Returns CIFAR-100."""
    return _torchvision().CIFAR100(root, train=subset == "train", download=True)


def pets(root: Path, subset: Subset) -> Examples:
    """Returns Oxford-IIIT Pet."""
    return _torchvision().OxfordIIITPet(root, split="trainval" if subset == "train" else "test", download=True)


def caltech(root: Path, subset: Subset) -> Examples:
    """Returns Caltech 101 with its background class."""
    datasets = _torchvision()
    datasets.Caltech101(root, download=True)
    # torchvision leaves the background out, but in VTAB and VTHR it is the 102nd class.
    return take_subset(datasets.ImageFolder(str(root / "caltech101" / "101_ObjectCategories")), subset)


def _scenes(root: Path, subset: Subset) -> tuple[Any, dict[str, Any]]:
    """Returns CLEVR's pictures, and the objects in each picture by file name. CLEVR's own test part has no
    labels."""
    split = "train" if subset == "train" else "val"
    pictures = _torchvision().CLEVRClassification(str(root), split=split, download=True)
    file = root / "clevr" / "CLEVR_v1.0" / "scenes" / f"CLEVR_{split}_scenes.json"
    return pictures, {scene["image_filename"]: scene["objects"] for scene in json.loads(file.read_text())["scenes"]}


def clevr_count(root: Path, subset: Subset) -> Examples:
    """Returns CLEVR with the number of objects, minus 3, as the label."""
    pictures, _ = _scenes(root, subset)
    return Selected(pictures, range(len(pictures)), lambda count: count - 3)  # three to ten objects


@dataclass(frozen=True, slots=True)
class _ClevrDistance:
    """CLEVR's pictures with the distance of the nearest object as the class."""

    files: Sequence[Path]
    """The pictures."""
    objects: dict[str, Any]
    """File name -> the objects in the picture."""

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        file = self.files[index]
        nearest = min(entry["pixel_coords"][2] for entry in self.objects[file.name])
        return Image.open(file), _step(nearest, (0.0, 8.0, 8.5, 9.0, 9.5, 10.0))


def clevr_distance(root: Path, subset: Subset) -> Examples:
    """Returns CLEVR with the class of the distance of the nearest object as the label."""
    _, objects = _scenes(root, subset)
    folder = root / "clevr" / "CLEVR_v1.0" / "images" / ("train" if subset == "train" else "val")
    return _ClevrDistance([folder / name for name in sorted(objects)], objects)


def kitti(root: Path, subset: Subset) -> Examples:
    """Returns KITTI with the class of the distance of the nearest vehicle as the label."""
    examples = _torchvision().Kitti(str(root), train=True, download=True)
    # torchvision lists the files in the order of the file system.
    examples.images, examples.targets = sorted(examples.images), sorted(examples.targets)
    return take_subset(examples, subset, nearest_vehicle)


def nearest_vehicle(objects: Sequence[dict[str, Any]]) -> int:
    """Returns the class of the distance, in metres, to the nearest vehicle. The last class means that there
    is no vehicle."""
    depths = [entry["location"][2] for entry in objects if entry["type"] in ("Car", "Van", "Truck")]
    return _step(min(depths, default=1000.0), (-100.0, 8.0, 20.0, 999.0))


def _step(value: float, thresholds: Sequence[float]) -> int:
    """Returns the position of the last threshold below ``value``."""
    return max(position for position, threshold in enumerate(thresholds) if threshold < value)
