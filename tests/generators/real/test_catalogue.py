"""Every family in the list: counts, hashes, and truths that need no download."""

import re
from pathlib import Path

import pytest

from mothr.benchmark.errors import MothrError
from mothr.generators.real.build import truth_of
from mothr.generators.real.catalogue import FAMILIES, catalogue, find
from mothr.generators.real.online import openmodeldb, trees
from mothr.generators.real.readers.nnue import ARCHITECTURES

STATIC = ("waifu2x", "realesrgan", "im2deep", "chgnet", "openff", "spliceai", "minilm", "stockfish")
"""Families whose networks do not depend on documents in their archives."""


@pytest.mark.parametrize("name", STATIC)
def test_the_numbers_in_the_list_are_those_of_the_truth(name):
    family = find(name)
    content = family.content({})
    truth = truth_of(family, content)
    assert (len(content.networks), len(truth.graph.edges)) == (family.networks, family.edges)
    roots = {network.name for network in content.networks if not network.parents}
    duplicates = [network for network in content.networks if network.subtype == "duplicate"]
    if name in ("waifu2x", "openff"):  # a copy has the parent of its original
        assert duplicates
        assert family.copies == 0
    else:
        assert len(duplicates) == family.copies
    assert all(parent in roots for network in duplicates for parent in network.parents)
    assert all(network.evidence for network in content.networks)
    files = {archive.file for archive in family.archives}
    assert {network.archive for network in content.networks} == files


def test_the_offline_tier_has_the_documented_edges():
    offline = [family for family in FAMILIES.values() if family.tier == "packages"]
    assert sum(family.edges for family in offline) == 333
    assert all(re.fullmatch(r"[0-9a-f]{64}", archive.sha256) for family in offline for archive in family.archives)
    assert all(archive.bytes > 0 and family.licence for family in offline for archive in family.archives)


@pytest.mark.parametrize("name", openmodeldb.ARCHITECTURES)
def test_openmodeldb_has_edges_inside_one_architecture(name):
    family = find(f"openmodeldb-{name}")
    content = openmodeldb.content(name)
    assert len(truth_of(family, content).graph.edges) == family.edges > 10
    assert len(content.networks) == family.networks == len(family.archives)


def test_openmodeldb_leaves_out_edges_between_architectures():
    left_out = {item.what: item.reason for item in openmodeldb.content("others").left_out}
    assert "different architectures" in left_out["4x-ESRGAN -> 2x-AnimeSharpV3-RCAN"]


@pytest.mark.parametrize("split", ["ft", "lora-f", "lora-v"])
def test_vthr_has_five_trees_of_21(split):
    models = trees.vthr(split)
    parents = {model.repository: model.parent for model in models}
    roots = [name for name, parent in parents.items() if parent is None]
    assert len(parents) == 105
    assert len(roots) == 5
    for root in roots:
        children = [name for name, parent in parents.items() if parent == root]
        assert len(children) == 4
        assert all(sum(parent == child for parent in parents.values()) == 4 for child in children)


def test_names_with_and_without_prefix_and_unknown_ones():
    assert find("real-chgnet") is find("chgnet")
    with pytest.raises(MothrError, match="did you mean chgnet"):
        find("chgnt")
    assert [row["name"] for row in catalogue()] == list(FAMILIES)


def test_architectures_of_stockfish_have_different_sizes():
    sizes = {(a.features, a.width, a.inputs, a.outputs) for a in ARCHITECTURES.values()}
    assert len(sizes) == len(ARCHITECTURES)


def test_the_guide_has_the_numbers_of_every_family_in_packages():
    guide = (Path(__file__).parents[3] / "generators" / "real" / "README.md").read_text(encoding="utf-8")
    for family in FAMILIES.values():
        if family.tier == "packages" and family.scored:
            copies = {"waifu2x": 8, "openff": 2}.get(family.name, family.copies)
            assert f"| `{family.name}` | {family.networks} | {family.edges} | {copies} |" in guide
        else:
            assert family.name in guide or family.name.startswith("openmodeldb")
