"""Leaks: clean data are at the chance level, and each planted leak is detected and named."""

import json
import os
import re

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mothr.benchmark.data import leaks
from mothr.benchmark.data.dataset import FILE_TIME, MODELS, Truth, open_manifest, open_truth
from mothr.benchmark.data.facts import Facts, facts_of_files
from mothr.benchmark.data.leaks import audit, measure
from mothr.benchmark.errors import MothrError


@pytest.fixture(autouse=True)
def _few_permutations(monkeypatch):
    for name, value in {"MIN_PERMUTATIONS": 39, "MAX_PERMUTATIONS": 39, "LEVEL": 0.05}.items():
        monkeypatch.setattr(leaks, name, value)


def depth_of(data):
    return {node: value.depth for node, value in open_truth(data).nodes.items()}


def parent_of(data):
    return {node: value.parents[0] if value.parents else None for node, value in open_truth(data).nodes.items()}


def finding(data, question="parent"):
    """Returns how well the files of ``data`` answer ``question``."""
    truth, manifest = open_truth(data), open_manifest(data)
    ids = [model.id for model in manifest.models]
    same = np.zeros(len(ids), dtype=np.intp)
    return measure(question, facts_of_files(data, manifest).varying(same), truth, ids, same, "files")


def configure(data, change):
    """Adds ``change(model id)`` to the configuration of each model."""
    for model in (data / MODELS).iterdir():
        (model / "config.json").write_text(json.dumps({"model_type": "toy", **change(model.name)}))


def rename(data, names):
    """Gives each model another id, throughout the data set."""
    for old, new in names.items():
        (data / MODELS / old).rename(data / MODELS / new)
    truth = (data / "truth.json").read_text()
    (data / "truth.json").write_text(re.sub(r"[0-7]{12}", lambda result: names[result[0]], truth))


@pytest.fixture
def large(tmp_path, build_data):
    return build_data(tmp_path / "large", trees=5, seed=3)


# --- clean data ---


def test_clean_data_is_at_chance_and_only_ids_and_their_order_differ(large):
    result = audit(large)
    assert result.leaks is False
    assert result.lines[-1] == "verdict: at chance"
    [note] = [note for note in result.notes if note.startswith("files: ")]
    assert note.endswith("of which these differ: id, read as a number, place in the manifest, id")
    for question in ("parent", "direction"):
        assert finding(large, question).p > 1 / 40
        assert finding(large, question).chance[0] < 0.5 < finding(large, question).chance[1]


def test_facts_that_are_the_same_for_all_models_give_exactly_one_half(large):
    truth = open_truth(large)
    ids = sorted(truth.nodes)
    none = facts_of_files(large, open_manifest(large)).varying(
        np.arange(len(ids))
    )  # each model is its own group, so no fact varies
    result = measure("parent", none, truth, ids, np.zeros(len(ids), dtype=np.intp), "files")
    assert (result.auc, result.p, result.permutations, result.telling) == (0.5, 1.0, 0, ())


def test_p_values_of_meaningless_facts_are_uniform():
    """Over many forests with random facts, p is uniform: small values are as frequent as they should be."""
    result = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        ids = [f"{tree}{node}" for tree in range(3) for node in range(7)]
        parents = {
            f"{tree}{node}": (f"{tree}{(node - 1) // 2}",) if node else () for tree in range(3) for node in range(7)
        }
        truth = Truth.model_validate(
            {"split": "s", "version": 1, "nodes": {node: {"parents": parents[node]} for node in ids}}
        )
        facts = Facts({"a": rng.normal(size=21), "b": rng.integers(3, size=21) * 1.0}, {}, np.zeros((21, 21), bool))
        result.append(measure("parent", facts, truth, ids, np.zeros(21, dtype=np.intp), "files").p)
    values = np.array(result)
    assert (values <= 0.1).sum() <= 9  # of 40; the probability of more is 0.5 %
    assert 0.3 < values.mean() < 0.7


def test_the_result_is_reproducible(large):
    assert finding(large) == finding(large)


# --- planted leaks ---


def plant_times(data):
    for node, depth in depth_of(data).items():
        os.utime(data / MODELS / node / "model.safetensors", (FILE_TIME + depth, FILE_TIME + depth))


def plant_prefix(data):
    parents = parent_of(data)
    rng = np.random.default_rng(0)
    names = {}
    for node in sorted(parents, key=depth_of(data).get):
        fresh = "".join(rng.choice(list("89abcdef"), 12))
        names[node] = fresh if parents[node] is None else names[parents[node]][:4] + fresh[4:]
    rename(data, names)


def plant_order(data):
    """Ids increase with depth."""
    rng = np.random.default_rng(0)
    depth = depth_of(data)
    rename(data, {node: f"{depth[node] + 8:x}{''.join(rng.choice(list('89abcdef'), 11))}" for node in depth})


def plant_header(data):
    """The order of tensors in the file is rotated by one with each edge."""
    for node, depth in depth_of(data).items():
        path = data / MODELS / node / "model.safetensors"
        content = path.read_bytes()
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        names = list(header)
        rotated = json.dumps(
            {name: header[name] for name in names[depth:] + names[:depth]}, separators=(",", ":")
        ).encode()
        path.write_bytes(content[:8] + rotated.ljust(size) + content[8 + size :])
        assert load_file(path).keys() == set(names)


def plant_metadata(data):
    for node, parent in parent_of(data).items():
        path = data / MODELS / node / "model.safetensors"
        save_file(load_file(path), path, metadata={"format": "pt", "from": parent or "0" * 12})


def plant_field(data):
    depth = depth_of(data)
    configure(data, lambda node: {"generation": depth[node]})


def plant_name(data):
    parents = parent_of(data)
    configure(data, lambda node: {"_name_or_path": f"models/{parents[node] or 'none'}"})


def plant_size(data):
    for node, depth in depth_of(data).items():
        path = data / MODELS / node / "config.json"
        path.write_text(path.read_text() + "\n" * depth)


def plant_tree(data):
    truth = open_truth(data)
    configure(data, lambda node: {"root": f"root-{truth.nodes[node].tree}"})


PLANTED = [
    (plant_times, "model.safetensors, modification time"), (plant_prefix, "id, common beginning"), (plant_order, "id"),
    (plant_header, "model.safetensors, order of names"), (plant_metadata, "the child names the other's id"),
    (plant_field, "config.json, field generation"), (plant_name, "the child names the other's id"), (plant_size, "config.json, bytes"),
    (plant_tree, "config.json"),
]  # fmt: skip


@pytest.mark.parametrize(("plant", "expected"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED])
def test_each_planted_leak_is_detected_and_named(large, sealed, plant, expected):
    plant(large)
    if plant is not plant_times:
        sealed(large)
    else:
        times = [path.stat().st_mtime for path in large.rglob("model.safetensors")]
        assert len(set(times)) > 1
    result = finding(large)
    assert result.p == 1 / 40
    assert result.auc > result.chance[1]
    assert any(name.startswith(expected) for name, _ in result.telling)
    if plant in (plant_times, plant_order, plant_field, plant_size):
        assert finding(large, "direction").p == 1 / 40
        assert finding(large, "direction").auc > 0.9


def test_a_single_tree_is_divided_by_nodes(tmp_path, build_data, sealed):
    data = build_data(tmp_path / "one", trees=1)
    assert finding(data).p > 1 / 40
    plant_field(data)
    sealed(data)
    result = finding(data, "direction")
    assert (result.low, result.high) == (None, None)
    assert result.p == 1 / 40


# --- storage formats, and data that cannot be tested ---


def quantize_leaves(data, relation):
    truth = json.loads((data / "truth.json").read_text())
    for node, value in truth["nodes"].items():
        if value["depth"] == 2:
            path = data / MODELS / node / "model.safetensors"
            save_file({name: tensor.astype(np.float16) for name, tensor in load_file(path).items()}, path)
            value["relation"] = relation
    (data / "truth.json").write_text(json.dumps(truth))


def test_facts_of_the_storage_format_are_left_out_only_if_models_are_quantized(large, sealed):
    quantize_leaves(large, "quantized")
    sealed(large)
    result = audit(large)
    assert result.leaks is False
    assert any("declared storage formats: F16, F32" in note for note in result.notes)
    assert any(
        "left out, since architecture or storage format decide them" in note and "model.safetensors, bytes" in note
        for note in result.notes
    )
    quantize_leaves(large, "finetune")
    assert audit(large).leaks is True


def resize(data, size_of):
    """Gives each model a config.json with a size, and its vector that size; the recipe says that trees are drawn."""
    for model in (data / MODELS).iterdir():
        size = size_of(model.name)
        weights = load_file(model / "model.safetensors")
        save_file({**weights, "extra": np.ones(size, dtype=np.float32)}, model / "model.safetensors")
        (model / "config.json").write_text(json.dumps({"model_type": "toy", "size": size}))
    (data / "recipe.toml").write_text("trees = 5\n")


def test_sizes_that_tensors_show_are_no_leak_of_a_drawn_data_set(large, sealed):
    depths = depth_of(large)
    resize(large, lambda node: 3 + depths[node])
    sealed(large)
    result = audit(large)
    assert result.leaks is False
    assert "drawn recipe: 3 architectures and storage formats; models are permuted within their own" in result.notes
    left = next(note for note in result.notes if note.startswith("files: left out, since architecture"))
    assert "config.json, field size" in left
    (large / "recipe.toml").write_text("family = 'vit'\n")
    assert audit(large).leaks is True


def test_a_field_that_tensors_do_not_show_is_a_leak_of_a_drawn_data_set(large, sealed):
    trees, depths = open_truth(large).trees, depth_of(large)
    resize(large, lambda node: 3 + trees[node])
    for model in (large / MODELS).iterdir():
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**config, "steps": depths[model.name]}))
    sealed(large)
    assert audit(large).leaks is True


def test_too_few_edges_and_a_hidden_truth_are_reported(tmp_path, build_data, sealed):
    data = build_data(tmp_path / "one", trees=1)
    truth = json.loads((data / "truth.json").read_text())
    for value in truth["nodes"].values():
        value["parents"] = []
    (data / "truth.json").write_text(json.dumps(truth))
    assert audit(data).lines == ("0 edges: too few to learn from",)
    (data / "truth.json").unlink()
    with pytest.raises(MothrError, match="no truth here"):
        audit(data)


def test_the_command_prints_the_verdict_and_fails_on_a_leak(mothr, large):
    called = mothr("verify", large, "--leaks", "--json")
    assert called.code == 0
    assert called.json["ok"] is True
    assert called.json["leaks"]["leaks"] is False
    assert {(result["question"], result["read"]) for result in called.json["leaks"]["findings"]} == {
        (question, read) for question in ("parent", "direction") for read in ("files", "this copy")
    }
    plant_times(large)
    called = mothr("verify", large, "--leaks")
    assert called.code == 1
    assert "leaks: verdict: leaks" in called.out
    assert "modification time" in called.out


@pytest.mark.parametrize(("length", "header"), [(2**64 - 1, b"{}"), (9, b"{}"), (2000, b"[" * 2000), (0, b"")])
def test_an_invalid_header_is_refused_by_name(data, length, header):
    content = length.to_bytes(8, "little") + header
    path = min((data / MODELS).iterdir()) / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(MothrError, match=r"model\.safetensors: not a whole safetensors file"):
        facts_of_files(data, open_manifest(data))
