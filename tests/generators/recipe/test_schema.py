"""Recipes: what is wrong with one is said before anything is trained, with the file, the value and the remedy."""

import tomllib

import pytest
import tomli_w

from mothr.benchmark.errors import MothrError
from mothr.benchmark.storage import canonical_sha256
from mothr.generators.recipe.loading import catalogue, load_recipe, newer, recipe_names, resolved, tree_size
from mothr.generators.recipe.topology import plan


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_of_the_package_loads_and_is_equal_after_writing(name, tmp_path):
    recipe = load_recipe(name)
    assert recipe.name == name
    path = tmp_path / "again.toml"
    path.write_text(tomli_w.dumps(resolved(recipe)))
    assert load_recipe(str(path)) == recipe


PUBLISHED = {
    "dinov2-ft": "b8277cc5342decea2c07e4c68d87b170a5e300bb6b4111371dae3aca2a6d7861",
    "llama-chains": "7387fbee43e20d325348c855179f99733e55f011c4a795a43c9597b51e94a7c1",
    "llama-continued": "c0ee165b67c1230a064a60815efcb93f0d4e78250d8a8700ea2e9c9d799213b4",
    "llama-distilled": "6b8c00563b3285eda1d51b4d3c06986ca2368c22f9f5ec22fc6b73a976165ac7",
    "llama-duplicates": "9b47d1553d414cb654c7008921c6baea2cb74f84838269bb54d0481daad54ec4",
    "llama-ft": "90f720ee8e6e7f0783657120c758d1318b7678aa7b643378ec46fd1361c95aa5",
    "llama-gqa-ft": "cd95c34323d20aadd61ab8d7262d84ec5c0750ee6fabeeee3fd678dc3c129737",
    "llama-lora-f": "eb72ce2e5180c3439e42d30e4cf12f47aace6bf4f064ebdc6a74d9ea814cf933",
    "llama-lora-v": "5feed0c2eb2ae1b3f0dd0e77e6d6248cb5d1d33556b6c00c9d6edbd8bdc96aae",
    "llama-merge": "911e0b797b3d3ac433dae112d458d94d3ede2e1c80c868b41e419bbac2310e2d",
    "llama-missing": "bb8acd54feb9be460bd393289909d188d040dcf80a08834bc160ddbedee74a59",
    "llama-mixed": "02703f889f4126ece55b42a59c4516726835aa93143847a177f2c9ca372d172f",
    "llama-noised": "bc4a60f72b67332323743e18fe1c536ecfe1b7d7668d1d40b5c6e392cf12091b",
    "llama-permuted": "c3596e9696dd4fe99b485d6753c6dd5cf2789bb6904c09233d2a1309f7317ca2",
    "llama-pruned": "84e5dc10817660576550faa74a4c32f4ae0be680e29096eeb28273e1a884a450",
    "llama-quantized": "af2e5bcd2b6244c1066fbdeb98fc5f958a9a28b11b7339a94babcb5c623352d3",
    "llama-random": "d7608854bfb288a9cd992f5fb2e640111750dbdfd1be1a2e62697f70fcd4b067",
    "llama-siblings": "d4ef7641aa590d6dcd725be8131463e701caa26b3358f5a2417f6f2f0bd9e0ee",
    "llama-strangers": "f4f7c03876b5c2b6365b9835eb240aa4677d15d6f25d129cf912144d3c30098b",
    "llama-trajectory": "01017804e86ded5dca1431f90574a69695be89eb108c2d2b3390917c82557012",
    "quickstart": "8f83257ced60c0c779955a9a5e0e6c001a782ee0cb348bb592bb1d52e02bb5f9",
    "sd-ft": "436151c8231e57de45a28a0bf696ccc97d4a057fae38c76be6fcc5d0ee761512",
    "sd-lora-f": "924e976d1638ec33b120918ec5ab843583d08767e02ebee5bfb71e152272742c",
    "sd-lora-v": "55a2af7f5eef2cdc93c093619a1851755e48ee59048d150180d9f2d753a9fa09",
    "sd-trajectory": "2742b9b38b1d647f12cd80ad86ff479ac94b3fb5c743748b906e965bdc4ef1b8",
    "smollm2-ft": "3ea0104ffe76c8aec81e9ecbe071707954810bfaa89ec23e8d4ff50d26ab11c0",
    "vit-chains": "be41fa16a9b44219068fc6c63d4ff8459fa8981a43f7af08f33cf7a79deb42f2",
    "vit-continued": "e45e495a47831777641d5107abc5366753b69779f73bf363df382b6331ac9f7d",
    "vit-distilled": "ecd4bf7ddfcc187a7a4bf36b61fbf56837cac659dcc42f81703c82b7c5f3299b",
    "vit-duplicates": "ec8643355f0bdfc93d2c84c34175ab1933bcd1be62fb257dc06ad3ec5088a330",
    "vit-merge": "c937ee1cad8e22dae75d3a322a9db5f653677235aa1fefb65dd5bf3ababa69d0",
    "vit-missing": "349ce758fd20aa0f8d6c400c17f48f854153e0330e88b9d66aa48ea26318ef9f",
    "vit-mixed": "6030665d1f757d15a0229e134129c5ec872161ce4cd92c32921e250e8761d20c",
    "vit-noised": "396c6ce7ae45c0d6120bfc34fecbadfc87ab438a10ce08eecd40fcf716403887",
    "vit-permuted": "3f314eac6d3e449cc10566c96a7a911a7c1f93d75ecda85d98aee4018acfb871",
    "vit-pruned": "2a6b1109c5843d863d894a7a187d5e583f1d45bea9629de46bde62c79293c2ce",
    "vit-quantized": "93621e6cb2e2db51db6be597271ab97553778e96402c52bee8f8d36eeb3e834b",
    "vit-random": "6a10ff929c6fe8250670e4cf256f9dcfd654708c0f592df4e65915fbe8a8b108",
    "vit-regimes": "2352847d414cf2b425b06ae900d444b89b522e4a4a451a0cce8a4d76a95e7cc4",
    "vit-siblings": "bafbbe05ed61fef71d280b723ab877279ed7883afa224cd4048045b8563f9561",
    "vit-strangers": "4ebab61541493dbf63087d1e4c02399f5373734233d68ee900a856fe440f20b5",
    "vit-trajectory": "36cdbcfd451f5d29442797b5603e64bf3ae1f728c7e31b33565ce8de5231b105",
    "vthr-ft": "edf08f8ff7c00e3fd2cca077060bc86e4a90c9f2e558daa90d51c5137fc66f03",
    "vthr-ft-dev": "576277e353f4ec55c92274610e7666b2b81d9e2f35ea424f2d6b3da4a20fb2e6",
    "vthr-lora-f": "54e7638e46ae45c35b36c30d15696a5f8ca5f01a2fe1bfb47d94991c631a34b9",
    "vthr-lora-f-dev": "328753c1473bd13941ab820e28170bfba045471f1ae41412d8c007247715f383",
    "vthr-lora-v": "7748113d185b404e03845583f13dd66be35cdf08f538284bcc4d563f423a97d8",
    "vthr-lora-v-dev": "fbdd88a419cb47a85bf9dfb062d578a1f3b242e96606fff8c49fd0061665f5ce",
}
"""Published recipe -> the hash that manifests know it by. To change one, raise its version and publish it anew."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_recipe_is_never_edited(name):
    assert canonical_sha256(resolved(load_recipe(name))) == PUBLISHED[name]


def test_unknown_recipe_offers_near_names():
    with pytest.raises(MothrError, match=r"unknown recipe 'vthr-fd'; did you mean .*vthr-ft"):
        load_recipe("vthr-fd")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed = 5", "seed = = 5", r"edited\.toml: not valid TOML: .*line 7"),
        ("seed = 5", "seed = 5\nsede = 6", r"edited\.toml: sede: unknown field 'sede'; did you mean seed"),
        ("heads = 2", "heads = 2\nhaeds = 2", r"edited\.toml: .*haeds"),
        ("branching = [2, 1]", "branching = []", r"edited\.toml: topology\.branching: .*at least 1 item"),
        ("branching = [2, 1]", "branching = [0, 1]", r"topology\.branching: no node follows"),
        (
            "branching = [2, 1]",
            "branching = [-1]",
            r"topology\.branching\.0: .*greater than or equal to 0 \(given: -1\)",
        ),
        ("heads = 2", "heads = 3", r"model\.hidden_size 16 is not a multiple of model\.heads 3"),
        ("patch_size = 8", "patch_size = 7", r"model\.patch_size 7 does not divide"),
        ('"digits"', '"digit"', r"unknown picture task 'digit'; did you mean .*digits"),
        (
            'family = "vit"',
            'family = "vitt"',
            r"family: Input should be 'vit', 'dinov2', 'llama', 'sd' or 'bert' \(given: 'vitt'\)",
        ),
        ("steps = 8", "steps = 0", r"edges\.0\.training\.steps: .*greater than or equal to 1 \(given: 0\)"),
        ("steps = 8,", "steps = 8, lerning_rate = 1,", r"unknown field 'lerning_rate'; did you mean learning_rate"),
        (
            "[[edges]]",
            '[[derived]]\ntransform = { kind = "pruned", shar = 1 }\nper_tree = 1\n[[edges]]',
            r"'shar'; did you mean share",
        ),
        ('init = "xavier-uniform"', 'init = "uniform"', r"roots\.1\.init: .*given: 'uniform'"),
        ("version = 1", "", r"field 'version' is missing"),
        ("[[edges]]", "[[edges]]\nshare = inf", r"edges\.0\.share: .*finite number"),
        ("[[edges]]", "[[edges]]\nshare = 1e308", r"edges\.0\.share: .*less than or equal to 1000000"),
        ("seed = 5", f"seed = {'9' * 5000}", r"edited\.toml: not valid TOML: .*4300 digits"),
        ("seed = 5", f"seed = {'[' * 5000}", r"edited\.toml: not valid TOML: .*recursion"),
        ("seed = 5", 'extends = "a\\u0000.toml"', "cannot read this recipe .*null"),
    ],
)
def test_the_error_for_a_wrong_recipe_names_file_value_and_remedy(edited, old, new, message):
    with pytest.raises(MothrError, match=message):
        load_recipe(edited(old, new))


def test_a_rank_above_the_width_is_an_error(edited):
    path = edited("[[edges]]", '[[edges]]\nlora = { ranks = [4, 17], targets = ["q_proj"] }')
    with pytest.raises(MothrError, match=r"rank 17 is above 16, the largest rank of q_proj"):
        load_recipe(path)


def test_an_unknown_lora_target_is_an_error(edited):
    path = edited("[[edges]]", '[[edges]]\nlora = { ranks = [4], targets = ["query"] }')
    with pytest.raises(MothrError, match=r"'query' is not a linear layer of this family; choose from q_proj"):
        load_recipe(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MothrError, match=r"absent\.toml: cannot read"):
        load_recipe(str(tmp_path / "absent.toml"))


def test_extends_keeps_the_entries_that_are_not_replaced(tmp_path, tiny):
    path = tmp_path / "child.toml"
    path.write_text('extends = "tiny.toml"\nname = "child"\n[topology]\nbranching = [3]\n')
    child, base = load_recipe(str(path)), load_recipe(str(tiny))
    assert child.topology.branching == (3,)
    assert child.roots == base.roots


def test_recipes_that_extend_each_other_in_a_circle_are_an_error(tmp_path):
    for first, second in (("a", "b"), ("b", "a")):
        (tmp_path / f"{first}.toml").write_text(f'extends = "{second}.toml"\n')
    with pytest.raises(MothrError, match=r"circle: .*a\.toml -> b\.toml -> a\.toml"):
        load_recipe(str(tmp_path / "a.toml"))


SPLITS = [f"{family}-{kind}" for family in ("vthr", "llama", "sd") for kind in ("ft", "lora-f", "lora-v")] + [
    "llama-gqa-ft"
]


@pytest.mark.parametrize("split", SPLITS)
def test_splits_have_the_shape_of_vthr_and_share_no_seed_or_root_with_their_dev_split(split):
    test, dev = load_recipe(split), load_recipe(f"{split}-dev")
    assert tree_size(test.topology) * len(test.roots) == 105
    assert (test.purpose, dev.purpose) == ("test", "dev")
    assert test.seed != dev.seed
    assert not {root.seed for root in test.roots} & {root.seed for root in dev.roots}
    assert not {root.tasks for root in test.roots} & {root.tasks for root in dev.roots}
    assert test.edges[0].training == dev.edges[0].training
    assert test.model == dev.model


def test_no_two_recipes_share_a_seed_but_those_that_differ_in_width_alone():
    scale = [name for name in recipe_names() if name.startswith("scale-vit-")]
    seeds = [load_recipe(name).seed for name in recipe_names() if name not in scale[1:]]
    assert len(set(seeds)) == len(seeds)
    assert {load_recipe(name).seed for name in scale} == {load_recipe("scale-vit-32").seed}


@pytest.mark.parametrize("family", ["vthr", "llama", "sd"])
def test_the_lora_splits_share_the_roots_of_the_full_one(family):
    full = load_recipe(f"{family}-ft")
    assert load_recipe(f"{family}-lora-f").roots == load_recipe(f"{family}-lora-v").roots == full.roots
    assert [edge.lora.ranks for name in ("f", "v") for edge in load_recipe(f"{family}-lora-{name}").edges] == [
        (4,),
        (2, 4, 8, 16),
    ]


@pytest.mark.parametrize("name", [name for name in recipe_names() if name.startswith(("llama", "sd"))])
def test_no_llama_or_unet_is_fine_tuned_on_a_domain_that_its_root_has_seen(name):
    nodes = plan(load_recipe(name))
    fine_tuned = [node.edge for node in nodes if node.edge and node.edge.tasks and not is_decoy(node.edge)]
    assert not {task for node in nodes if node.root for task in node.tasks} & {
        task for edge in fine_tuned for task in edge.tasks
    }


def is_decoy(edge):
    """Whether a model is not fine-tuned but trained from fresh weights."""
    return edge.transform is not None and edge.transform.kind == "decoy"


def test_the_grouped_query_split_has_fewer_key_and_value_heads():
    full, grouped = (load_recipe(name).model for name in ("llama-ft", "llama-gqa-ft"))
    assert full["kv_heads"] == full["heads"]
    assert grouped["kv_heads"] < grouped["heads"]


def test_the_catalogue_lists_every_recipe():
    assert [row["name"] for row in catalogue()] == recipe_names()


def test_tree_size_counts_all_levels():
    recipe = load_recipe("vthr-ft")
    assert tree_size(recipe.topology) == 21


def test_resolved_is_plain_toml(tiny):
    assert tomllib.loads(tomli_w.dumps(resolved(load_recipe(str(tiny)))))["topology"] == {"branching": [2, 1]}


# Versions


def test_superseded_by_is_reported_and_is_not_part_of_the_hash(edited):
    old = load_recipe(edited("version = 1", 'version = 1\nsuperseded_by = "tiny-v2"'))
    assert newer(old) == "tiny-v2"
    assert resolved(old) == resolved(load_recipe(edited("version = 1", "version = 1")))
    assert newer(load_recipe(edited("version = 1", "version = 1"))) is None
    with pytest.raises(MothrError, match=r"superseded_by: .*pattern"):
        load_recipe(edited("version = 1", 'version = 1\nsuperseded_by = "tiny"'))


def test_a_later_version_in_the_package_supersedes_an_older_file():
    kept = load_recipe("vthr-ft").model_copy(update={"version": 0})
    assert newer(kept) == f"vthr-ft-v{load_recipe('vthr-ft').version}"
    assert newer(load_recipe("vthr-ft")) is None


@pytest.mark.parametrize("name", recipe_names())
def test_the_successor_of_a_recipe_is_in_the_package(name):
    later = load_recipe(name).superseded_by
    if later is not None:
        split, _, version = later.rpartition("-v")
        assert load_recipe(split).version >= int(version)


def test_a_rate_of_heads_for_a_family_without_heads_is_an_error(tmp_path):
    text = tomli_w.dumps(resolved(load_recipe("llama-ft")))
    for part in ("roots", "edges"):
        values = tomllib.loads(text)
        values[part][0]["training"]["head_rate"] = 0.1
        path = tmp_path / f"{part}.toml"
        path.write_text(tomli_w.dumps(values))
        with pytest.raises(
            MothrError, match=rf"{part}\.toml: training\.head_rate: 0\.1 is a rate of heads, .*; remove it"
        ):
            load_recipe(str(path))
