"""generate() on a GPU: what trains on the processor trains there, to nearly the same weights and to the same bytes every time."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from mothr.benchmark.data.dataset import open_manifest, open_truth
from mothr.benchmark.data.verify import verify
from mothr.benchmark.errors import MothrError
from mothr.benchmark.storage import write_json
from mothr.generators.data import captions
from mothr.generators.generate import generate
from mothr.generators.recipe.loading import load_recipe
from mothr.generators.train.machine import machine

HEAD = """
name = "tiny-{family}"
version = 1
purpose = "demo"
description = "One small tree with both kinds of edges, and copies of its nodes."
family = "{family}"
seed = 5
topology = {{ branching = [2, 1] }}
"""
PICTURES = """
model = { hidden_size = 32, layers = 1, heads = 2, mlp_size = 64, patch_size = 8 }
[[roots]]
name = "a"
seed = 1
init = "INIT"
tasks = ["shape-colour"]
training = { steps = 150, batch_size = 64, learning_rate = 3e-3 }
[[edges]]
tasks = ["digits", "glyph-digit", "photo-filter"]
training = { steps = 150, batch_size = 64, learning_rate = 3e-3 }
"""
"""Root and edges of a recipe for pictures, for both families of Vision Transformers."""
BODY = {
    "vit": PICTURES.replace("INIT", "normal")
    + """
[[edges]]
tasks = ["digits", "glyph-digit", "photo-filter"]
training = { steps = 150, batch_size = 64, learning_rate = 1e-2 }
lora = { ranks = [4], targets = ["q_proj", "v_proj"] }
[[derived]]
transform = { kind = "permuted" }
per_tree = 1
[[derived]]
transform = { kind = "distilled" }
per_tree = 1
training = { steps = 150, batch_size = 64, learning_rate = 3e-3 }
""",
    "dinov2": PICTURES.replace("INIT", "xavier-uniform"),
    "llama": """
model = { hidden_size = 16, layers = 1, heads = 2, kv_heads = 1, mlp_size = 24, context = 16 }
[[roots]]
name = "a"
seed = 1
init = "normal"
tasks = ["text-cmake"]
training = { steps = 150, batch_size = 16, learning_rate = 5e-3 }
[[edges]]
tasks = ["text-fonts", "text-operators", "text-stubs"]
training = { steps = 100, batch_size = 16, learning_rate = 5e-3 }
[[edges]]
tasks = ["text-fonts", "text-operators", "text-stubs"]
training = { steps = 200, batch_size = 16, learning_rate = 2e-2 }
lora = { ranks = [4], targets = ["q_proj", "v_proj", "up_proj", "down_proj"] }
[[derived]]
transform = { kind = "merge", method = "linear", parents = 2 }
per_tree = 1
""",
    "sd": """
model = { channels = [8, 16], layers = 1, heads = 2, groups = 4, text_size = 8, vae_steps = 6, text_steps = 6 }
[[roots]]
name = "a"
seed = 1
init = "normal"
tasks = ["scene-plain"]
training = { steps = 80, batch_size = 16, learning_rate = 3e-3 }
[[edges]]
tasks = ["scene-bright", "scene-inverse"]
training = { steps = 60, batch_size = 16, learning_rate = 3e-3 }
[[edges]]
tasks = ["scene-bright", "scene-inverse"]
training = { steps = 60, batch_size = 16, learning_rate = 1e-2 }
lora = { ranks = [2], targets = ["to_q", "to_v"] }
""",
}
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@pytest.fixture(autouse=True)
def _fewer(monkeypatch):
    """Draws few captioned pictures, and leaves torch as it was found."""
    monkeypatch.setitem(captions.SIZES, "train", 64)
    monkeypatch.setitem(captions.SIZES, "test", 32)
    captions.load.cache_clear()
    yield
    torch.use_deterministic_algorithms(False)
    captions.load.cache_clear()


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Returns a function that makes a family's tiny data set on a device, with a cache of its own."""

    def make(family: str, device: str, name: str, threads: int = 1) -> Path:
        monkeypatch.setenv("MOTHR_CACHE", str(tmp_path / f"{name}-cache"))
        (tmp_path / "recipe.toml").write_text(HEAD.format(family=family) + BODY[family])
        with ThreadPoolExecutor(threads) as executor:
            generate(
                load_recipe(str(tmp_path / "recipe.toml")),
                tmp_path / name,
                device=device,
                executor=executor,
                progress=False,
            )
        return tmp_path / name

    return make


@GPU
@pytest.mark.parametrize("family", BODY)
def test_a_gpu_makes_every_kind_of_node_and_the_manifest_names_it(made, family):
    data = made(family, "cuda", "data")
    assert verify(data).problems == ()
    kinds = {(node.relation, node.subtype) for node in open_truth(data).nodes.values()}
    assert ("finetune", "full") in kinds
    assert torch.cuda.get_device_name() in open_manifest(data).environment["gpu"]


@GPU
@pytest.mark.parametrize("family", ["vit", "llama", "sd"])
def test_a_gpu_gives_the_same_bytes_every_time(made, file_hashes, family):
    assert file_hashes(made(family, "cuda", "first")) == file_hashes(made(family, "cuda", "second"))


@GPU
@pytest.mark.parametrize("family", ["vit", "llama", "sd"])
def test_a_gpu_starts_with_the_same_losses_as_the_cpu(made, family):
    records = []
    for device in ("cpu", "cuda"):
        nodes = open_truth(made(family, device, device)).nodes
        records.append({name: node.training for name, node in nodes.items() if node.training})
        roots = {name for name, node in nodes.items() if node.depth == 0}
    for name, ours in records[0].items():
        theirs = records[1][name]
        assert {**ours, "after": 0, "before": 0, "loss_first": 0, "loss_last": 0} == {
            **theirs, "after": 0, "before": 0, "loss_first": 0, "loss_last": 0,
        }  # fmt: skip
        assert theirs["after"] > theirs["before"]
        if name in roots:  # its children start from what many steps have made of small differences
            assert theirs["loss_first"] == pytest.approx(ours["loss_first"], rel=0.02)


@GPU
def test_a_root_trained_on_the_cpu_is_not_used_on_the_gpu(made, tmp_path):
    made("vit", "cpu", "shared")
    before = {path.name for path in (tmp_path / "shared-cache" / "roots").iterdir()}
    recipe = load_recipe(str(tmp_path / "recipe.toml"))
    with ThreadPoolExecutor(1) as executor:
        generate(recipe, tmp_path / "other", device="cuda", executor=executor, progress=False)
    assert len({path.name for path in (tmp_path / "shared-cache" / "roots").iterdir()} - before) == 1


@GPU
def test_a_data_set_started_on_the_cpu_is_not_continued_on_the_gpu(made, tmp_path):
    data = made("vit", "cpu", "data")
    marked = tmp_path / "begun"
    (marked / ".unfinished").mkdir(parents=True)
    recipe = load_recipe(str(tmp_path / "recipe.toml"))
    write_json(marked / ".unfinished" / "recipe.json", {
        "name": recipe.name, "sha256": open_manifest(data).recipe_sha256,
        "machine": {"torch": torch.__version__, **machine("cpu")},
    })  # fmt: skip
    with (
        ThreadPoolExecutor(1) as executor,
        pytest.raises(MothrError, match=f"device cpu, and this is .*{torch.cuda.get_device_name()}"),
    ):
        generate(recipe, marked, device="cuda", executor=executor, progress=False)


@GPU
def test_the_error_for_a_full_gpu_names_a_remedy(made, tmp_path):
    torch.cuda.set_per_process_memory_fraction(1e-6)
    torch.cuda.empty_cache()
    try:
        with pytest.raises(
            MothrError,
            match=r"node .*: the GPU's memory is full; run it again with fewer --workers, or with --device cpu",
        ):
            made("vit", "cuda", "data")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert not (tmp_path / "data" / "manifest.json").exists()
