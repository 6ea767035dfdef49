"""croissant.json is valid, names every file with its hash, and tells the truth only where it is not hidden."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor

import mlcroissant
import pytest

from mothr.benchmark.data.dataset import open_manifest, open_truth, read_truth
from mothr.benchmark.data.verify import verify
from mothr.benchmark.storage import sha256_of
from mothr.generators.cards.card import RECOMPUTE
from mothr.generators.cards.croissant import croissant, hashes
from mothr.generators.generate import generate
from mothr.generators.recipe.loading import load_recipe


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_text):
    place = tmp_path_factory.mktemp("made")
    (place / "tiny.toml").write_text(tiny_text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTHR_CACHE", str(place / "cache"))
        with ThreadPoolExecutor(1) as executor:  # starts faster than a process
            generate(load_recipe(str(place / "tiny.toml")), place / "data", executor=executor, progress=False)
    return place / "data"


def test_it_is_valid_and_its_tables_can_be_read_without_a_network(made):
    result = mlcroissant.Dataset(jsonld=made / "croissant.json")
    assert list(result.metadata.ctx.issues.errors) == []
    rows = list(result.records("lineage"))
    truth = read_truth(made / "truth.json")
    assert {row["lineage/model"]: tuple(row["lineage/parents"].split()) for row in rows} == {
        node: value.parents for node, value in truth.nodes.items()
    }
    assert len(list(result.records("files"))) == 2 * len(truth.nodes)


def test_it_names_every_file_of_the_manifest_with_its_hash(made):
    files = {entry["@id"]: entry for entry in json.loads((made / "croissant.json").read_text())["distribution"]}
    listed = {f"models/{model.id}/{file.path}": file for model in open_manifest(made).models for file in model.files}
    assert files.keys() == listed.keys() | {"truth.json", "recipe.toml"}
    for name, file in listed.items():
        assert (files[name]["sha256"], files[name]["contentSize"]) == (file.sha256, f"{file.bytes} B")
    assert files["truth.json"]["sha256"] == sha256_of(made / "truth.json")


def test_it_does_not_reveal_the_truth_of_a_hidden_split(made):
    recipe, truth = load_recipe(str(made / "recipe.toml")), open_truth(made)
    value = croissant(recipe, made, hashes(made), None)
    assert [records["@id"] for records in value["recordSet"]] == ["files"]
    assert not {"truth.json", "recipe.toml"} & {entry["@id"] for entry in value["distribution"]}
    assert not any(node.task in json.dumps(value) for node in truth.nodes.values())
    assert mlcroissant.Dataset(jsonld=value).metadata.name == "tiny"


def test_a_hidden_split_whose_other_files_reveal_the_truth_fails_verification(made, tmp_path):
    data = tmp_path / "data"
    subprocess.run(["cp", "-a", made, data], check=True)
    (data / "truth.json").unlink()
    problems = "\n".join(verify(data).problems)
    assert "recipe.toml: reveals ids and parents of this hidden split" in problems
    assert "croissant.json: its table 'lineage' is the truth of this hidden split" in problems


def test_the_command_on_the_card_prints_its_checksum(made):
    result = subprocess.run(
        ["bash", "-c", RECOMPUTE], cwd=made, check=True, capture_output=True, text=True
    ).stdout.split()[0]
    assert f"`{result}`" in (made / "README.md").read_text()
