"""generate() of a Llama recipe, end to end: what differs from the ViTs of test_generate.py."""

import json
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest

from mothr.benchmark.data import dataset
from mothr.benchmark.data.verify import verify
from mothr.generators.data import text
from mothr.generators.generate import generate
from mothr.generators.recipe.loading import load_recipe

TINY = """
name = "tiny-llama"
version = 1
purpose = "demo"
description = "One small tree with both kinds of edges."
family = "llama"
seed = 2

[model]
hidden_size = 16
layers = 1
heads = 2
kv_heads = 1
mlp_size = 24
context = 16

[topology]
branching = [2, 1]

[[roots]]
name = "one"
seed = 1
init = "normal"
tasks = ["text-cmake", "text-schema"]
training = { steps = 150, batch_size = 16, learning_rate = 5e-3 }

[[edges]]
tasks = ["text-fonts", "text-operators", "text-licence"]
training = { steps = 100, batch_size = 16, learning_rate = 5e-3, weight_decay = 0 }

[[edges]]
tasks = ["text-fonts", "text-operators", "text-licence"]
training = { steps = 200, batch_size = 16, learning_rate = 2e-2 }
lora = { ranks = [4], targets = ["q_proj", "v_proj", "gate_proj", "up_proj", "down_proj"] }
"""


def make(recipe: str, place: Path) -> Path:
    """Generates in this process, with a cache below ``place``, and returns the data set's folder."""
    place.mkdir(exist_ok=True)
    (place / "recipe.toml").write_text(recipe)
    with ThreadPoolExecutor(1) as executor, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTHR_CACHE", str(place / "cache"))
        generate(load_recipe(str(place / "recipe.toml")), place / "data", executor=executor, progress=False)
    return place / "data"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return make(TINY, tmp_path_factory.mktemp("llama"))


def test_every_model_learned_and_only_weights_distinguish_them(made):
    verdict = verify(made)
    assert verdict.problems == ()
    assert "5 nodes learned" in " ".join(verdict.notes)
    kinds = {(node.relation, node.subtype) for node in dataset.open_truth(made).nodes.values()}
    assert kinds == {(None, None), ("finetune", "full"), ("finetune", "lora")}


def test_models_are_stored_whole_and_load_with_transformers(made):
    from transformers import AutoModelForCausalLM

    for folder in (made / "models").iterdir():
        assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
        assert "_name_or_path" not in json.loads((folder / "config.json").read_text())
        assert AutoModelForCausalLM.from_pretrained(folder).lm_head.weight.shape == (256, 16)


def test_the_manifest_holds_the_hashes_of_the_texts(made):
    environment = dataset.open_manifest(made).environment
    read = {task for node in dataset.open_truth(made).nodes.values() for task in node.task.split("+")}
    assert {"text-cmake", "text-schema"} < read
    assert {name: environment[name] for name in read} == {name: text.digest(name) for name in read}
    assert {"torch", "python", "cpu"} == environment.keys() - read


def test_a_second_run_gives_the_same_bytes(made, tmp_path):
    again = make(TINY, tmp_path / "again")
    for path in sorted(made.rglob("*")):
        if path.is_file():
            assert (again / path.relative_to(made)).read_bytes() == path.read_bytes()


def test_a_cached_root_is_not_used_after_a_text_has_changed(tmp_path, monkeypatch):
    recipe = (
        TINY.replace('"text-cmake", "text-schema"', '"toy"')
        .replace("steps = 150", "steps = 2")
        .replace("[2, 1]", "[0]")
    )
    result = []
    for line in (b"one text", b"one text", b"another text"):
        readers = {str(at): BytesIO(b"%d " % at + line * 40).getvalue for at in range(400)}
        monkeypatch.setitem(text.DOMAINS, "toy", text.TextDomain("toy", "", "", lambda readers=readers: readers))
        text._subsets.cache_clear()
        make(recipe, tmp_path)
        result.append(len(list((tmp_path / "cache" / "roots").iterdir())))
        (tmp_path / "data").rename(tmp_path / f"data-{len(result)}")
    text._subsets.cache_clear()
    assert result == [1, 1, 2]
