import math

import pytest
import torch

from mothr.baselines.linea.merges import find_merges
from mothr.benchmark.weights.layers import Layers

BODY = Layers("body")


def linear(models, base, shares):
    return {name: sum(share * model[name] for share, model in zip(shares, models, strict=True)) for name in base}


def spherical(models, base, shares):
    result = {}
    for name in base:
        one, two = (model[name].double() for model in models)
        angle = math.acos(float((one * two).sum() / (one.norm() * two.norm())))
        parts = [
            math.sin(share * angle) / math.sin(angle) * value for share, value in zip(shares, (one, two), strict=True)
        ]
        result[name] = sum(parts).float()
    return result


def ties(models, base, shares):
    """As published: the largest fifth of each change, signs elected, the mean of those that agree."""
    result = {}
    for name, start in base.items():
        changes = torch.stack([model[name] - start for model in models])
        size = changes.flatten(1).abs()
        kept = torch.where(size >= size.quantile(0.8, dim=1, keepdim=True), changes.flatten(1), 0.0)
        weighted = torch.tensor(shares)[:, None] * kept
        agree = (kept.sign() == weighted.sum(dim=0).sign()) & (kept != 0)
        weight = (torch.tensor(shares)[:, None] * agree).sum(dim=0)
        result[name] = start + ((weighted * agree).sum(dim=0) / weight.clamp(min=1e-9)).reshape(start.shape)
    return result


@pytest.fixture
def tree(grown, contents):
    """The weights of a tree of seven, by place: the root, its two children, and two children of each."""
    models, truth = grown()
    held = contents(models)
    [root] = truth.roots
    order = [root]
    for node in order:
        order += truth.children(node)
    return held, order


def sources_of(models):
    return {
        models.ids[node]: {models.ids[source] for source in sources}
        for node, sources in find_merges(models, BODY).items()
    }


MERGES = {
    "linear of siblings": (linear, (1, 2), (0.5, 0.5)),
    "linear of cousins": (linear, (3, 5), (0.3, 0.7)),
    "linear of three": (linear, (3, 4, 5), (0.4, 0.3, 0.3)),
    "spherical": (spherical, (3, 6), (0.4, 0.6)),
    "ties of siblings": (ties, (1, 2), (0.5, 0.5)),
}


STORED = [(kind, torch.float32) for kind in MERGES] + [
    (kind, torch.float16) for kind in MERGES if MERGES[kind][0] is not ties
]
"""A TIES merge is recognised by equal entries, and entries are equal only if nothing was rounded."""


@pytest.mark.parametrize(("kind", "precision"), STORED)
def test_a_merge_is_recognised_with_its_sources_and_nothing_else_is(tree, write_models, kind, precision):
    held, order = tree
    how, parents, shares = MERGES[kind]
    merge = how([held[order[at]] for at in parents], held[order[0]], shares)
    result = write_models({**held, "merge": {name: value.to(precision) for name, value in merge.items()}})
    assert sources_of(result) == {"merge": {order[at] for at in parents}}


def test_two_merges_of_the_same_models_are_not_each_others_sources(tree, write_models):
    held, order = tree
    parents = [held[order[1]], held[order[2]]]
    result = write_models(
        {**held, "one": linear(parents, held[order[0]], (0.3, 0.7)), "two": linear(parents, held[order[0]], (0.6, 0.4))}
    )
    assert sources_of(result) == {"one": {order[1], order[2]}, "two": {order[1], order[2]}}


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("parents", [(None, 0, 1, 2, 3, 4), (None, 0, 0, 0, 0, 0), (None, 0, 0, 1, 1, 2, 2)])
def test_fine_tuned_models_are_no_mixtures(grown, parents, rank):
    models, _ = grown(parents, rank)
    assert find_merges(models, BODY) == {}


def test_two_models_have_no_mixture(grown):
    models, _ = grown((None, 0))
    assert find_merges(models, BODY) == {}
