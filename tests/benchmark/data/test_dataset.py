"""Data sets: manifest, truth, hashes, and the copy beside results."""

import json
import os
import shutil

import pytest

from mothr.benchmark.data.dataset import (
    FILE_TIME,
    copy_to_results,
    fix_times,
    is_dataset,
    metadata,
    open_models,
    open_truth,
    read_manifest,
    read_truth,
)
from mothr.benchmark.data.verify import verify
from mothr.benchmark.errors import MothrError


def edit(path, change):
    """Changes the JSON value in ``path`` by ``change`` and writes it back."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def first_model(data):
    return min((data / "models").iterdir())


def snapshot(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- a complete data set ---


def test_models_and_truth_name_the_same_nodes(tiny):
    models, truth = open_models(tiny), open_truth(tiny)
    assert set(models.ids) == set(truth.nodes)
    assert models.given.names() == []
    assert len(truth.graph.roots) == 2
    assert {frozenset(node for node in truth.trees if truth.trees[node] == tree) for tree in (0, 1)} == set(
        truth.graph.trees
    )


def test_the_manifest_lists_every_file_with_its_size_and_hash(tiny):
    manifest = read_manifest(tiny / "manifest.json")
    assert [model.id for model in manifest.models] == sorted(path.name for path in (tiny / "models").iterdir())
    for model in manifest.models:
        assert [file.path for file in model.files] == ["config.json", "model.safetensors"]
        assert [file.bytes for file in model.files] == [
            (tiny / "models" / model.id / file.path).stat().st_size for file in model.files
        ]


def test_fix_times_sets_one_time_everywhere(data):
    os.utime(first_model(data) / "config.json")
    (data / "models" / "new").mkdir()
    fix_times(data / "models")
    assert {path.stat().st_mtime for path in [data / "models", *(data / "models").rglob("*")]} == {FILE_TIME}


def test_a_hidden_split_is_valid_and_has_no_truth(data):
    (data / "truth.json").unlink()
    assert len(open_models(data)) == 14
    assert verify(data).problems == ()
    assert "no truth (hidden split)" in verify(data).notes
    with pytest.raises(
        MothrError, match=r"truth\.json: no truth here; a hidden split .* can be predicted on, but not scored"
    ):
        open_truth(data)


# --- errors in manifest and truth ---


def test_without_a_manifest_there_is_no_data_set(data, tmp_path):
    (data / "manifest.json").unlink()
    assert is_dataset(data)
    for opener in (open_models, open_truth, verify):
        with pytest.raises(
            MothrError, match=r"manifest\.json: missing manifest; .* unfinished .* run the same 'mothr generate' again"
        ):
            opener(data)
    with pytest.raises(MothrError, match="missing manifest; not a data set"):
        verify(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda m: m["models"][0]["files"][0].update(path="../../../secret"),
            r"the file '\.\./\.\./\.\./secret' .* outside the data set",
        ),
        (
            lambda m: m["models"][0]["files"][0].update(path="/etc/passwd"),
            "the file '/etc/passwd' .* outside the data set",
        ),
        (
            lambda m: m["models"][0]["files"][0].update(path="a\0b"),
            r"'a\\x00b' is not a path of a file; remove the entry",
        ),
        (lambda m: m["models"][0]["files"][0].update(path="x/" * 600), "is not a path of a file"),
        (lambda m: m["models"][0]["files"][0].update(path=""), "'' is not a path of a file"),
        (lambda m: m["models"][0].update(id="../x"), r"model id '\.\./x' is not 12 hex digits"),
        (lambda m: m["models"][0].update(id="ABCDEFABCDEF"), "model id 'ABCDEFABCDEF' is not 12 hex digits"),
        (lambda m: m["models"][0].update(id=m["models"][1]["id"]), r"lists the model [0-7]{12} 2 times"),
        (lambda m: m.update(schema_version=2), r"schema_version: .*given: 2"),
        (lambda m: m.update(colour="red"), "unknown field 'colour'"),
        (lambda m: m.pop("models"), "field 'models' is missing"),
        (lambda m: m["models"][0]["files"][0].update(bytes="many"), r"models\.0\.files\.0\.bytes: .*given: 'many'"),
        (
            lambda m: m["models"][0]["files"].append({"path": "extra.json", "bytes": 1, "sha256": "0"}),
            r"extra\.json: missing, though",
        ),
        (lambda m: m["models"].clear(), "no models: at least one"),
    ],
)
def test_an_invalid_manifest_is_refused_by_file_and_value(data, change, expected):
    edit(data / "manifest.json", change)
    with pytest.raises(MothrError, match=expected):
        open_models(data)


def test_a_manifest_or_truth_that_is_not_json_is_refused(data):
    for name, opener in (("truth.json", open_truth), ("manifest.json", open_models)):
        for content in (b"", b"{", b"\xff\xfe", b"[]", b"null"):
            (data / name).write_bytes(content)
            with pytest.raises(MothrError, match=rf"{name}: "):
                opener(data)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda nodes, root, child: nodes[root].update(parents=[child]),
            "cycle: .* a model cannot descend from itself",
        ),
        (lambda nodes, root, child: nodes[root].update(parents=[root]), "cycle"),
        (lambda nodes, root, child: nodes[child].update(parents=["f" * 12]), "unknown parent 'ffffffffffff'"),
        (lambda nodes, root, child: nodes[child].update(parents=[root, root]), "names a parent twice"),
        (lambda nodes, root, child: nodes.update({"f" * 12: {"parents": []}}), "names the unknown model ffffffffffff"),
        (lambda nodes, root, child: nodes[child].update(relation="cousin"), r"relation: .*given: 'cousin'"),
        (lambda nodes, root, child: nodes[child].update(parents=3), r"parents: .*given: 3"),
        (
            lambda nodes, root, child: nodes.pop(
                next(n for n in nodes if not any(n in v["parents"] for v in nodes.values()))
            ),
            "lacks model",
        ),
    ],
)
def test_an_invalid_truth_is_refused_by_file_and_value(data, change, expected):
    graph = open_truth(data).graph
    root, child = next((parent, child) for parent, child in graph.edges if parent in graph.roots)
    edit(data / "truth.json", lambda truth: change(truth["nodes"], root, child))
    with pytest.raises(MothrError, match=rf"truth\.json: .*{expected}"):
        open_truth(data)


def test_a_truth_needs_only_parents(tmp_path):
    (tmp_path / "truth.json").write_text(
        '{"schema_version": 1, "split": "s", "version": 1, "nodes": {"a": {"parents": []}, "b": {"parents": ["a"]}}}'
    )
    assert read_truth(tmp_path / "truth.json").graph.edges == (("a", "b"),)


# --- files that changed ---


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (
            lambda model: flip(model / "model.safetensors"),
            r"model\.safetensors: its hash differs .* generate or download it again",
        ),
        (lambda model: (model / "config.json").write_text("{}"), r"config\.json: its hash differs"),
        (lambda model: (model / "config.json").unlink(), r"config\.json: missing, though the manifest lists it"),
        (lambda model: shutil.rmtree(model), "missing, though the manifest lists it"),
    ],
)
def test_a_file_that_differs_from_the_manifest_is_refused(data, damage, expected):
    damage(first_model(data))
    with pytest.raises(MothrError, match=expected) as caught:
        open_models(data)
    assert first_model(data).parent.name in str(caught.value)
    assert any(str(caught.value) == problem for problem in verify(data).problems)


def test_a_link_out_of_the_data_set_is_refused_even_if_the_bytes_agree(data, tmp_path):
    path = first_model(data) / "model.safetensors"
    path.rename(tmp_path / "moved.safetensors")
    path.symlink_to(tmp_path / "moved.safetensors")
    with pytest.raises(MothrError, match=r"model\.safetensors: leads out of the data set; copy the file itself"):
        open_models(data)
    with pytest.raises(MothrError, match="leads out of its folder"):
        open_models(data, check=False)
    assert len(verify(data).problems) == 1


# --- the copy beside results, and metadata ---


def test_truth_and_manifest_are_copied_and_never_mixed(data, tmp_path, sealed):
    results = tmp_path / "results" / "tiny-v1"
    copy_to_results(data, results)
    copy_to_results(data, results)
    copied = snapshot(results)
    assert {path.name: content for path, content in copied.items()} == {
        name: (data / name).read_bytes() for name in ("truth.json", "manifest.json")
    }
    assert open_truth(results) == open_truth(data)
    flip(first_model(data) / "model.safetensors")
    sealed(data)
    for names in (("truth.json", "manifest.json"), ("manifest.json",)):
        for name in ("truth.json", "manifest.json"):
            if name not in names:
                (results / name).unlink()
        before = snapshot(results)
        with pytest.raises(
            MothrError,
            match=r"manifest\.json: belongs to other weights .* raise the recipe's version or choose another",
        ):
            copy_to_results(data, results)
        assert snapshot(results) == before


def test_metadata_describes_only_the_models(data, tmp_path):
    ids = [path.name for path in (data / "models").iterdir()]
    (data / "models" / "notes.txt").write_text("x")
    (data / "models" / "more").mkdir()
    by_model = metadata(data, ids)
    assert sorted(by_model) == sorted(ids)
    assert {value["mtime"] for value in by_model.values()} == {FILE_TIME}
    assert {value["config"] for value in by_model.values()} == {'{"model_type": "toy"}\n'}
    plain = tmp_path / "plain"
    plain.mkdir()
    shutil.copy(first_model(data) / "model.safetensors", plain / "a.b.safetensors")
    (plain / "README.md").write_text("x")
    ids = open_models(plain).ids
    assert list(metadata(plain, ids)) == ["a.b"]
    assert metadata(plain, ids)["a.b"]["bytes"] == (plain / "a.b.safetensors").stat().st_size
