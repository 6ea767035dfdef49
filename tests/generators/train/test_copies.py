"""Copies that must keep the function of their source: checked where they are stored, and where a training starts."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from mothr.benchmark.data.dataset import open_truth
from mothr.benchmark.errors import MothrError
from mothr.generators.families.vit import ViT
from mothr.generators.generate import generate
from mothr.generators.recipe.loading import load_recipe
from mothr.generators.train.launder import dispatch
from mothr.generators.train.model_files import save_model
from mothr.generators.values.laundering import BlocksAdded, DummyNeurons, Rescaled, Rotated, Widened
from mothr.generators.values.seeds import torch_generator

TRAINING = 'task_rule = "continued"\ntraining = { steps = 2, batch_size = 8, learning_rate = 1e-3 }'
RECIPE = """
name = "copied"
version = 1
purpose = "demo"
description = "A root and one copy of it."
family = "vit"
seed = 3
trees = 1
model = {{ hidden_size = 16, layers = 2, heads = 2, mlp_size = 32, patch_size = 16 }}
topology = {{ branching = [1] }}

[root]
init = "normal"
tasks = ["shape-colour"]
training = {{ steps = 2, batch_size = 8, learning_rate = 1e-3, head_rate = 0.01 }}

[[edges]]
transform = {transform}
{training}
"""
KINDS = {
    Rotated: '{ kind = "rotated" }',
    Rescaled: '{ kind = "rescaled" }',
    DummyNeurons: '{ kind = "dummy-neurons", fraction = 0.5, how = "split" }',
    Widened: '{ kind = "widened", factor = 2.0, part = "all", noise = 0.0 }',
    BlocksAdded: '{ kind = "blocks-added" }',
}
TRAINED = pytest.mark.parametrize("training", ["", TRAINING], ids=["stored as it is", "trained further"])


@pytest.fixture(autouse=True)
def _brief(monkeypatch, tmp_path):
    """No training is repeated with more steps, which would take long."""
    monkeypatch.setattr("mothr.generators.train.make.learned", lambda record: True)
    monkeypatch.setenv("MOTHR_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def made(tmp_path):
    """Returns a function that makes a root and one copy of it, and returns their truths, that of the root first."""

    def make(transform, training):
        path = tmp_path / "copied.toml"
        path.write_text(RECIPE.format(transform=transform, training=training))
        with ThreadPoolExecutor(1) as executor:
            generate(load_recipe(str(path)), tmp_path / "data", executor=executor, progress=False, device="cpu")
        return sorted(open_truth(tmp_path / "data").nodes.values(), key=lambda value: value.depth)

    return make


def spoil(monkeypatch, kind):
    """Lets ``kind`` change the function, too: the biases of the first layer grow by one."""
    right = dispatch._CHANGES[kind]

    def wrong(weights, layout, spec, generator):
        right(weights, layout, spec, generator)
        weights["encoder.layer.0.intermediate.dense.bias"] += 1

    monkeypatch.setitem(dispatch._CHANGES, kind, wrong)


@TRAINED
@pytest.mark.parametrize("kind", KINDS)
def test_a_laundering_that_breaks_the_function_is_an_error(kind, training, made, monkeypatch, tmp_path):
    spoil(monkeypatch, kind)
    with pytest.raises(MothrError, match=r"node 0/0: its .* copy computes another function \(an output changes by"):
        made(KINDS[kind], training)
    assert not (tmp_path / "data" / "manifest.json").exists()


@TRAINED
def test_permuted_weights_that_compute_another_function_are_an_error(training, made, monkeypatch):
    from mothr.generators.train import copies

    def wrong(spec, sources, **options):
        return {name: tensor.roll(1, 0) for name, tensor in sources[0].items()}

    monkeypatch.setattr(copies, "transform", wrong)
    with pytest.raises(MothrError, match="node 0/0: its permuted copy computes another function"):
        made('{ kind = "permuted" }', training)


def test_a_laundering_that_keeps_the_function_starts_a_training_where_its_source_ended(made):
    root, child = made(KINDS[Rotated], TRAINING)
    assert child.training["before"] == root.training["after"]
    assert child.transform["kind"] == "rotated"
    assert not {"before", "after", "metric"} & child.transform.keys()


@TRAINED
def test_a_laundering_that_need_not_keep_the_function_is_not_checked(training, made, monkeypatch):
    spoil(monkeypatch, Widened)
    _, child = made('{ kind = "widened", factor = 1.5, noise = 1e-3 }', training)
    assert child.transform["kind"] == "widened"


def test_a_copy_of_an_untrained_root_is_checked_on_the_tasks_of_its_own_training(monkeypatch, tmp_path):
    sizes = {"hidden_size": 16, "layers": 2, "heads": 2, "mlp_size": 32, "patch_size": 16}
    save_model(ViT(**sizes), ViT(**sizes).build("normal", 0.02, torch_generator(1)), tmp_path / "mine")
    head, tail = RECIPE.format(transform=KINDS[Rescaled], training=TRAINING.replace("continued", "new")).split("[root]")
    path = tmp_path / "below.toml"
    edges = tail[tail.index("[[edges]]") :] + 'tasks = ["shape-size"]\n'
    path.write_text(f'{head}[root]\nsource = {{ folder = "{tmp_path / "mine"}" }}\n\n{edges}')
    with ThreadPoolExecutor(1) as executor:
        generate(load_recipe(str(path)), tmp_path / "data", executor=executor, progress=False, device="cpu")
        spoil(monkeypatch, Rescaled)
        with pytest.raises(MothrError, match="node 0/0: its rescaled copy computes another function"):
            generate(load_recipe(str(path)), tmp_path / "again", executor=executor, progress=False, device="cpu")


def test_a_training_leaves_the_files_of_its_parent_as_they_are(made, tmp_path, monkeypatch):
    from mothr.generators.train import make

    before, train = [], make.train

    def watched(*arguments, **options):
        before.append({path: path.read_bytes() for path in (tmp_path / "data" / "models").rglob("*.safetensors")})
        return train(*arguments, **options)

    monkeypatch.setattr(make, "train", watched)
    made(KINDS[Rescaled], TRAINING)
    ((root, content),) = before[1].items()
    assert root.read_bytes() == content
