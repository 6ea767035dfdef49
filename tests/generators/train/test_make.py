"""Derived nodes, checkpoints, students and withheld models of a tiny forest, made for real."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mothr.benchmark.data import dataset
from mothr.benchmark.data.verify import verify
from mothr.generators.generate import generate
from mothr.generators.recipe.loading import load_recipe, resolved
from mothr.generators.recipe.schema import Recipe
from mothr.generators.recipe.topology import plan
from mothr.generators.train.machine import processor

DERIVED = [
    {"transform": {"kind": "merge", "method": "linear", "parents": 2}, "per_tree": 1},
    {"transform": {"kind": "merge", "method": "slerp", "parents": 2}, "per_tree": 1},
    {"transform": {"kind": "merge", "method": "ties", "parents": 2}, "per_tree": 1},
    {"transform": {"kind": "quantized", "precision": "float16"}, "per_tree": 1},
    {"transform": {"kind": "quantized", "precision": "int8"}, "per_tree": 1},
    {"transform": {"kind": "quantized", "precision": "int4", "stored": "float16"}, "per_tree": 1},
    {"transform": {"kind": "pruned", "share": 0.5}, "per_tree": 1},
    {"transform": {"kind": "noised", "level": 0.05}, "per_tree": 1},
    {"transform": {"kind": "permuted"}, "per_tree": 2},
    {"transform": {"kind": "duplicate"}, "per_tree": 1, "of": "leaf"},
    {
        "transform": {"kind": "distilled"},
        "per_tree": 1,
        "training": {"steps": 40, "batch_size": 32, "learning_rate": 3e-3},
    },
]


def make(recipe: Recipe, out: Path) -> Path:
    with ThreadPoolExecutor(1) as executor:
        generate(recipe, out, executor=executor, progress=False)
    return out


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, tiny_text):
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(tiny_text.replace("steps = 8", "steps = 40").replace("steps = 1", "steps = 4"))
    values = resolved(load_recipe(str(path)))
    return Recipe.model_validate({**values, "roots": values["roots"][:1], "derived": DERIVED})


@pytest.fixture(scope="module")
def made(tmp_path_factory, recipe):
    folder = tmp_path_factory.mktemp("derived")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTHR_CACHE", str(folder / "cache"))
        return make(recipe, folder / "data")


def by_kind(recipe, folder):
    """Returns {kind: [(truth, weights, weights of its sources)]} of the derived nodes."""
    truth = dataset.open_truth(folder)
    weights = {node: load_file(folder / "models" / node / "model.safetensors") for node in truth.nodes}
    result = {}
    for node in plan(recipe):
        if node.derived:
            spec = node.derived.transform
            key = getattr(spec, "precision", None) or getattr(spec, "method", spec.kind)
            entry = (truth.nodes[node.id], weights[node.id], [weights[source] for source in node.sources])
            result.setdefault(key, []).append(entry)
    return result


def test_the_truth_records_each_transform_and_its_metrics(recipe, made):
    for kind, entries in by_kind(recipe, made).items():
        for node_truth, _, sources in entries:
            if kind == "distilled":
                assert node_truth.parents == ()
                assert node_truth.transform["teacher"] in dataset.open_truth(made).nodes
                assert node_truth.training["after"] > node_truth.training["before"]
            else:
                assert node_truth.training is None
                assert len(node_truth.transform["before"]) == len(node_truth.transform["after"]) == len(sources)
                assert node_truth.transform["metric"] == "accuracy"


def test_a_linear_merge_is_the_weighted_mean_in_the_truth(recipe, made):
    ((node_truth, weights, (one, other)),) = by_kind(recipe, made)["linear"]
    first, second = node_truth.transform["mixing"]
    assert first + second == pytest.approx(1)
    for name, value in weights.items():
        assert torch.allclose(value, first * one[name] + second * other[name], atol=1e-5)


def test_a_permuted_copy_has_the_same_function_and_other_weights(recipe, made):
    entries = by_kind(recipe, made)["permuted"]
    for node_truth, weights, (source,) in entries:
        assert node_truth.transform["before"] == node_truth.transform["after"]
        assert node_truth.relation == "finetune"
        moved = [name for name in weights if not torch.equal(weights[name], source[name])]
        assert any("fc1" in name or "intermediate" in name for name in moved)
        assert any("query" in name or "q_proj" in name for name in moved)


def test_a_quantized_copy_is_stored_as_such_and_read_as_floats(recipe, made):
    stored = {kind: entries[0][1] for kind, entries in by_kind(recipe, made).items()}
    matrix = next(name for name, value in stored["float16"].items() if value.ndim == 2)
    assert {kind: stored[kind][matrix].dtype for kind in ("float16", "int8", "int4")} == {
        "float16": torch.float16,
        "int8": torch.int8,
        "int4": torch.float16,
    }
    models = dataset.open_models(made)
    positions = models.shapes[matrix, tuple(stored["int8"][matrix].shape)]
    assert len(positions) == len(models)
    assert models.stack(matrix, positions).dtype == torch.float32


def test_a_pruned_copy_has_its_share_of_zeros_and_a_noised_one_is_near(recipe, made):
    kinds = by_kind(recipe, made)
    ((_, pruned, _),) = kinds["pruned"]
    ((_, noised, (source,)),) = kinds["noised"]
    matrix = next(name for name, value in pruned.items() if value.ndim == 2)
    assert float((pruned[matrix] == 0).float().mean()) == pytest.approx(0.5, abs=0.01)
    assert float((noised[matrix] - source[matrix]).std() / source[matrix].std()) == pytest.approx(0.05, rel=0.2)


def test_a_duplicate_is_its_original_byte_for_byte(recipe, made):
    truth = dataset.open_truth(made)
    ((node_truth, weights, (source,)),) = by_kind(recipe, made)["duplicate"]
    assert all(torch.equal(weights[name], source[name]) for name in source)
    assert node_truth.parents == truth.nodes[node_truth.transform["of"][0]].parents


def test_it_passes_verification_and_a_second_run_gives_the_same_bytes(recipe, made, tmp_path):
    assert not [problem for problem in verify(made).problems if "taught nothing" not in problem]
    again = make(recipe, tmp_path / "again")
    assert (again / "manifest.json").read_bytes() == (made / "manifest.json").read_bytes()
    assert (again / "truth.json").read_bytes() == (made / "truth.json").read_bytes()


def test_checkpoints_form_a_chain_of_models(recipe, tmp_path):
    values = resolved(recipe)
    for entry in (*values["roots"], *values["edges"]):
        entry["training"]["keep_every"] = 20
    changed = Recipe.model_validate({**values, "topology": {"branching": [1]}, "derived": None})
    out = make(changed, tmp_path / "data")
    truth = dataset.open_truth(out)
    way = [node.id for node in plan(changed)]
    assert [truth.nodes[node].parents for node in way] == [(), *((node,) for node in way[:-1])]
    assert truth.nodes[way[0]].training is None
    last = next(node.id for node in plan(changed) if node.root and not node.checkpoint_of)
    steps = [truth.nodes[node].training["steps"] for node in way[1:]]
    assert steps == sorted(steps[: way.index(last)]) + sorted(steps[way.index(last) :])
    assert not [problem for problem in verify(out).problems if "taught nothing" not in problem]


def test_withheld_models_are_not_in_the_data_set(recipe, tmp_path):
    changed = Recipe.model_validate({**resolved(recipe), "withheld": 0.5, "derived": None})
    out = make(changed, tmp_path / "data")
    hidden = {node.id for node in plan(changed) if node.withheld}
    listed = {path.name for path in (out / "models").iterdir()}
    assert len(hidden) == 1
    assert not hidden & listed
    assert set(dataset.open_truth(out).nodes) == listed
    gaps = [node.withheld for node in dataset.open_truth(out).nodes.values() if node.withheld]
    assert gaps == [1]
    assert not (out / ".unfinished").exists()


def test_continued_training_starts_with_the_parents_heads(recipe, tmp_path):
    values = resolved(recipe)
    continued = {"task_rule": "continued", "training": values["edges"][0]["training"]}
    out = make(Recipe.model_validate({**values, "edges": [continued], "derived": None}), tmp_path / "data")
    truth = dataset.open_truth(out)
    for parent, child in truth.graph.edges:
        assert truth.nodes[child].subtype == "continued"
        assert truth.nodes[child].training["before"] == truth.nodes[parent].training["after"]


def test_processors_of_one_name_differ_by_family_model_and_instructions(tmp_path, monkeypatch):
    def named(model, capability="AVX512"):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
        first = "processor\t: {}\ncpu family\t: 25\nmodel\t\t: {}\nmodel name\t: Some CPU\nflags\t\t: fpu\n\n"
        (tmp_path / "cpuinfo").write_text(first.format(0, model) + first.format(1, 99))
        return processor(tmp_path / "cpuinfo")

    assert named(17) == "Some CPU, cpu family 25, model 17, AVX512"
    assert len({named(17), named(2), named(17, "AVX2")}) == 3
    assert processor(tmp_path / "absent").endswith(", AVX2")
