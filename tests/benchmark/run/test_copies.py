"""What the copies of model files show, and what they hide."""

import os
from pathlib import Path

import pytest
from scipy.stats import spearmanr

from mothr.benchmark.data.dataset import fix_times
from mothr.benchmark.errors import MothrError
from mothr.benchmark.run.isolation.copies import ModelCopies

COUNT = 60
"""Number of models. The rank correlation of two random orders has a standard deviation of 0.13."""
LARGEST = 0.62
"""A rank correlation that two random orders of 60 exceed once in a million times."""


@pytest.fixture
def dataset(tmp_path) -> Path:
    """A data set whose models were written in the order of their ids; all files have the same size."""
    for number in range(COUNT):
        folder = tmp_path / "data" / "models" / f"{number:012x}"
        (folder / "inside").mkdir(parents=True)
        for name in ("model.safetensors", "inside/config.json"):
            (folder / name).write_text(f"{number:03d}")
    fix_times(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def copies(dataset, tmp_path) -> ModelCopies:
    (tmp_path / "home").mkdir()
    return ModelCopies(dataset, tmp_path / "home")


def ids(dataset: Path) -> list[str]:
    return sorted(path.name for path in (dataset / "models").iterdir())


def names_of(dataset: Path, seed: int) -> dict[str, str]:
    """Returns new ids whose order is not that of the data set."""
    return {node: f"{(int(node, 16) * 37 + seed) % 61:06x}{seed:06x}" for node in ids(dataset)}


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def fields(path: Path) -> dict[str, float]:
    """Returns every field of ``stat`` that is not the size or the time in whole seconds."""
    stat = path.stat()
    return {name: getattr(stat, name) for name in dir(stat) if name.startswith("st_") and name != "st_size"}


def test_the_copies_have_the_contents_of_the_data_set_under_the_new_ids(dataset, copies):
    for seed in (0, 1, 1, 2):
        names = names_of(dataset, seed)
        copies.offer(names)
        original = contents(dataset / "models")
        assert contents(copies.folder) == {
            str(Path(names[Path(path).parts[0]], *Path(path).parts[1:])): text for path, text in original.items()
        }


@pytest.mark.parametrize("offers", [1, 4])
def test_no_field_of_stat_and_no_listing_follows_the_order_of_the_data_set(dataset, copies, offers):
    for seed in range(offers):
        copies.offer(names_of(dataset, seed))
    names = names_of(dataset, offers - 1)
    listing = [entry.name for entry in os.scandir(copies.folder)]
    for inside in ("", "model.safetensors", "inside", "inside/config.json"):
        rows = [fields(copies.folder / names[node] / inside) for node in ids(dataset)]
        assert {row["st_mtime_ns"] for row in rows} == {row["st_atime_ns"] for row in rows} == {0}
        assert (
            len({(row["st_mode"], row["st_nlink"], row["st_uid"], row["st_gid"], row["st_dev"]) for row in rows}) == 1
        )
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        columns["listing"] = [listing.index(names[node]) for node in ids(dataset)]
        for name, column in columns.items():
            if len(set(column)) > 1:
                assert abs(spearmanr(range(COUNT), column).statistic) < LARGEST, (inside, name)


def test_nothing_is_a_link_to_the_data_set(dataset, copies):
    copies.offer(names_of(dataset, 0))
    originals = {path.stat().st_ino for path in dataset.rglob("*")}
    assert not originals & {path.stat().st_ino for path in copies.folder.rglob("*")}


def test_files_are_copied_once_for_all_seeds(dataset, copies):
    def numbers():
        return {path.stat().st_ino for path in copies.folder.rglob("*") if path.is_file()}

    copies.offer(names_of(dataset, 0))
    first = numbers()
    for seed in (0, 1, 2):
        copies.offer(names_of(dataset, seed))
        assert numbers() == first
        assert sorted(path.name for path in copies.folder.iterdir()) == sorted(names_of(dataset, seed).values())


def test_reading_leaves_no_trace(dataset, copies):
    names = names_of(dataset, 0)
    copies.offer(names)
    paths = list(copies.folder.rglob("*"))
    for path in paths[::3]:
        path.read_bytes() if path.is_file() else list(path.iterdir())
    copies.offer(names)
    assert {path.stat().st_atime_ns for path in paths} == {0}


def change_time(path):
    os.utime(path, (7, 7))


def change_mode(path):
    path.chmod(0o600)


def change_content(path):
    path.write_text("one")


def add_file(path):
    (path.parent / "message").write_text("tree 1")


def remove_file(path):
    path.unlink()


def add_attribute(path):
    try:
        os.setxattr(path, "user.message", b"tree 1")
    except (AttributeError, OSError):
        pytest.skip("this file system has no attributes")


@pytest.mark.parametrize("change", [change_time, change_mode, change_content, add_file, remove_file, add_attribute])
def test_a_message_that_a_method_leaves_in_the_files_is_gone_in_its_next_run(dataset, copies, change):
    names = names_of(dataset, 0)
    copies.offer(names)
    before = contents(copies.folder)
    model = copies.folder / names[ids(dataset)[3]] / "model.safetensors"
    mode = model.stat().st_mode
    change(model)
    copies.offer(names)
    assert contents(copies.folder) == before
    assert (model.stat().st_mtime_ns, model.stat().st_mode) == (0, mode)
    assert not hasattr(os, "listxattr") or "user.message" not in os.listxattr(model)


def test_a_disk_without_room_is_one_error(dataset, tmp_path):
    (tmp_path / "home").write_text("a file, not a folder")
    with pytest.raises(MothrError, match=r"the models cannot be copied .* set TMPDIR to a larger disk"):
        ModelCopies(dataset, tmp_path / "home").offer(names_of(dataset, 0))
