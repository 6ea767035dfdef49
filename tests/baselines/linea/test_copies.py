import pytest
import torch

from mothr.baselines.linea.copies import find_copies, find_reordered
from mothr.baselines.parts.distances import distances
from mothr.benchmark.weights.layers import Layers

BODY = Layers("body")


def whole(weights, largest, sides):
    """Returns each matrix as whole numbers up to ``largest`` times a scale for each row (sides = 1) or for all of it (2)."""
    result = {}
    for name, value in weights.items():
        scale = value.abs().amax(dim=tuple(range(2 - sides, 2)) if sides == 2 else 1, keepdim=True) / largest
        result[name] = (value / scale).round() * scale
    return result


def pruned(weights, share=0.2):
    return {
        name: torch.where(value.abs() < value.abs().flatten().quantile(share), 0.0, value)
        for name, value in weights.items()
    }


COPIES = {
    "float16": lambda weights: {name: value.half() for name, value in weights.items()},
    "bfloat16": lambda weights: {name: value.bfloat16() for name, value in weights.items()},
    "bfloat16, written as float32": lambda weights: {name: value.bfloat16().float() for name, value in weights.items()},
    "int8 by row": lambda weights: whole(weights, 127, 1),
    "int8 by tensor": lambda weights: whole(weights, 127, 2),
    "int4 by row, written as float16": lambda weights: {
        name: value.half() for name, value in whole(weights, 7, 1).items()
    },
    "pruned by a fifth": pruned,
    "pruned by a half": lambda weights: pruned(weights, 0.5),
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_recognised_with_its_source_and_nothing_else_is(grown, contents, write_models, kind):
    models, truth = grown()
    held = contents(models)
    for node in (truth.roots[0], truth.edges[0][1], truth.edges[-1][1]):
        result = write_models({**held, "copy": COPIES[kind](held[node])})
        assert {
            result.ids[at]: (result.ids[copy.source], copy.quantized) for at, copy in find_copies(result, BODY).items()
        } == {"copy": (node, not kind.startswith("pruned"))}


def test_each_of_several_copies_of_one_model_gets_the_original(grown, contents, write_models):
    models, _ = grown()
    held = contents(models)
    node = models.ids[3]
    result = write_models({**held, **{kind.replace(" ", "-"): make(held[node]) for kind, make in COPIES.items()}})
    assert {result.ids[copy.source] for copy in find_copies(result, BODY).values()} == {node}
    assert len(find_copies(result, BODY)) == len(COPIES)


def test_pruned_copies_nearer_to_each_other_than_to_their_sources_get_their_sources(write_models):
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(40, 40, generator=generator)
    held = {node: {"layers.0.mlp.fc1.weight": root + 0.05 * torch.randn(40, 40, generator=generator)} for node in "ab"}
    result = write_models(held | {f"{node}-half": pruned(weights, 0.5) for node, weights in held.items()})
    relative = distances(result, "relative", BODY)
    index_of = result.ids.index
    assert relative[index_of("a-half"), index_of("b-half")] < relative[index_of("a-half"), index_of("a")] / 1.2
    assert {result.ids[at]: result.ids[copy.source] for at, copy in find_copies(result, BODY).items()} == {
        "a-half": "a",
        "b-half": "b",
    }


def test_fine_tuned_models_and_duplicates_are_no_copies(grown, contents, write_models):
    models, _ = grown(rank=2)
    held = contents(models)
    assert find_copies(models, BODY) == {}
    assert find_copies(write_models({**held, "twin": held[models.ids[0]]}), BODY) == {}
    stored = write_models(
        {node: {name: value.bfloat16() for name, value in weights.items()} for node, weights in held.items()}
    )
    assert find_copies(stored, BODY) == {}


def test_one_model_alone_is_no_copy(grown, contents, write_models):
    models, _ = grown()
    assert find_copies(write_models({"a": contents(models)[models.ids[0]]}), BODY) == {}


def test_models_with_the_same_numbers_in_another_order_are_one_group(grown, contents, permuted, write_models):
    models, _ = grown()
    held = contents(models)
    node, other = models.ids[:2]
    result = write_models({**held, "reordered": permuted(held[node]), "twin": held[other]})
    assert [{result.ids[at] for at in group} for group in find_reordered(result, BODY)] == [{node, "reordered"}]
    assert find_reordered(models, BODY) == []


def test_models_with_the_same_numbers_in_the_same_order_are_no_group(grown, contents, permuted, write_models):
    models, _ = grown()
    held = contents(models)
    node = models.ids[0]
    biased = {
        number: {**held[node], "layers.0.mlp.up_proj.bias": torch.full((40,), float(number))} for number in range(3)
    }
    assert find_reordered(write_models({str(number): weights for number, weights in biased.items()}), BODY) == []
    result = write_models(
        {**{str(number): weights for number, weights in biased.items()}, "reordered": permuted(held[node])}
    )
    [group] = find_reordered(result, BODY)
    assert len(group) == 2
    assert result.ids.index("reordered") in group
