"""What holds of every kind: sources stay unchanged, results load and train, the function is preserved where a spec says so."""

import pytest
import torch
from pydantic import TypeAdapter

from mothr.benchmark.errors import MothrError
from mothr.generators.families import FAMILIES
from mothr.generators.train.launder import launder
from mothr.generators.train.train import train
from mothr.generators.values.laundered_sizes import result_model
from mothr.generators.values.laundering import Laundering, Rotated
from mothr.generators.values.training import Training

EVERY = [
    {"kind": "rotated"}, {"kind": "rescaled"}, {"kind": "sign-flipped"}, {"kind": "reordered"}, {"kind": "all-symmetries"},
    {"kind": "dummy-neurons", "fraction": 0.05, "how": "zero"}, {"kind": "dummy-neurons", "fraction": 0.5, "how": "cancelling"},
    {"kind": "dummy-neurons", "fraction": 0.2, "how": "split"}, {"kind": "widened", "factor": 1.25, "noise": 0.0},
    {"kind": "widened", "factor": 2.0, "part": "all", "noise": 0.0}, {"kind": "widened", "factor": 1.5, "noise": 0.01},
    {"kind": "blocks-repeated"}, {"kind": "blocks-added"}, {"kind": "blocks-dropped", "fraction": 0.25},
    {"kind": "projected", "strength": 0.3}, {"kind": "projected", "strength": 2.0, "norm_preserving": True},
    {"kind": "row-changed"}, {"kind": "noise-added", "level": 0.05}, {"kind": "diluted", "share": 0.2},
    {"kind": "decoy", "shared": "embeddings"},
]  # fmt: skip
SPEC = TypeAdapter(Laundering)


def names_of(spec):
    return "-".join(map(str, spec.values()))


def check_result(source, spec):
    """Checks the result of ``spec``, and that it is the same twice."""
    before = {name: tensor.clone() for name, tensor in {**source.weights, **source.head}.items()}
    generator = torch.Generator().manual_seed(2)
    other = {
        name: tensor + 0.1 * torch.randn(tensor.shape, generator=generator) for name, tensor in source.weights.items()
    }
    result, again = (source.launder(other=other, **spec) for _ in range(2))
    assert all(torch.equal(tensor, before[name]) for name, tensor in {**source.weights, **source.head}.items())
    parsed = SPEC.validate_python(spec)
    assert result.model == result_model(parsed, source.family_name, source.model)
    for name, tensor in result.weights.items():
        assert tensor.dtype == torch.float32
        assert tensor.is_contiguous()
        assert torch.equal(tensor, again.weights[name])
    assert any(name not in before or not torch.equal(tensor, before[name]) for name, tensor in result.weights.items())
    assert (source.change(result) < 1e-5) == parsed.preserves_function


@pytest.mark.parametrize("spec", EVERY, ids=names_of)
def test_a_result_loads_and_preserves_the_function_where_its_spec_says_so(spec, source):
    check_result(source, spec)


@pytest.mark.parametrize("spec", [{"kind": "upcycled"}, {"kind": "vocabulary-replaced"}], ids=names_of)
@pytest.mark.parametrize("name", ["llama", "llama-grouped", "llama-tied"])
def test_kinds_for_llamas_only(spec, name, sources):
    check_result(sources(name), spec)


def test_another_generator_gives_other_weights(plain):
    first, second = (plain.launder(seed, kind="all-symmetries").weights for seed in (1, 2))
    assert all(not torch.equal(tensor, second[name]) for name, tensor in first.items() if tensor.ndim > 1)


@pytest.mark.parametrize(
    "spec", [{"kind": "all-symmetries"}, {"kind": "widened", "factor": 2.0, "part": "all"}, {"kind": "blocks-added"}]
)
def test_a_laundered_model_keeps_its_metric_and_can_be_trained_on(spec, plain):
    task = "text-arithmetic" if plain.family_name == "llama" else "digits"
    objectives = []
    for factor in (1, 2 if spec.get("part") == "all" else 1):
        family = FAMILIES[plain.family_name](**{**plain.model, "hidden_size": factor * 16})
        objectives.append(family.objective([task], torch.Generator().manual_seed(0), torch.device("cpu")))
    generator, parsed = torch.Generator().manual_seed(1), SPEC.validate_python(spec)
    result = launder(parsed, plain.family_name, plain.model, plain.weights, objectives[0].state(), generator)
    objectives[1].load_state(result.head)
    network = plain.network(result)
    metrics = [objectives[0].evaluate(plain.source_network()), objectives[1].evaluate(network)]
    assert metrics[0] == pytest.approx(metrics[1], abs=0.01)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    _, record = train(network, objectives[1], Training(steps=2, batch_size=8, learning_rate=1e-3), 0)
    assert record["before"] == pytest.approx(metrics[1], abs=1e-5)
    assert any(not torch.equal(value, before[name]) for name, value in network.named_parameters())


def test_several_launderings_in_a_row_preserve_the_function(sources):
    source = sources("llama-tied")
    weights, model, generator = source.weights, source.model, torch.Generator().manual_seed(0)
    for kind in ("reordered", "upcycled", "all-symmetries", "blocks-added"):
        result = launder(SPEC.validate_python({"kind": kind}), "llama", model, weights, {}, generator)
        weights, model = result.weights, result.model
    assert (model["experts"], model["layers"], model["tied"]) == (4, 5, False)
    assert source.change(result) < 1e-5


def test_half_precision_becomes_float32_and_double_stays_double(plain):
    for dtype, expected in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        weights = {name: tensor.to(dtype) for name, tensor in plain.weights.items()}
        generator = torch.Generator().manual_seed(1)
        result = launder(Rotated(kind="rotated"), plain.family_name, plain.model, weights, plain.head, generator)
        assert {tensor.dtype for tensor in result.weights.values()} == {expected}
    rounded = plain.launder(kind="rotated").weights
    assert all(torch.equal(tensor.float(), rounded[name]) for name, tensor in result.weights.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda given: given["weights"].pop("layernorm.weight"), "'layernorm.weight' is absent"),
        (lambda given: given["model"].update(mlp_size=25), "but the sizes of the model ask for 25 on axis 1"),
        (lambda given: given["model"].update(layers=4), "'encoder.layer.3.layernorm_before.weight' is absent"),
        (lambda given: given["weights"]["layernorm.bias"].fill_(float("nan")), "'layernorm.bias' holds NaN or infinite"),
        (lambda given: given["weights"].update({"layernorm.bias": torch.ones(16).int()}), "'layernorm.bias' holds integers"),
        (lambda given: given["head"].clear(), "the head must change with it; give the head of the source"),
        (lambda given: given["head"].update(weight=torch.ones(5, 8)), r"'head.weight' has shape \(5, 8\)"),
    ],
    ids=range(7),
)  # fmt: skip
def test_a_source_that_does_not_fit_is_an_error(change, message, sources):
    source = sources("vit")
    given = {
        "model": dict(source.model),
        "weights": {name: tensor.clone() for name, tensor in source.weights.items()},
        "head": dict(source.head),
    }
    change(given)
    with pytest.raises(MothrError, match=f"rotated: .*{message}"):
        launder(Rotated(kind="rotated"), "vit", generator=torch.Generator(), **given)


def test_a_vit_without_a_head_can_be_laundered_if_its_output_stays_the_same(sources):
    source = sources("vit")
    spec = SPEC.validate_python({"kind": "rescaled"})
    result = launder(spec, "vit", source.model, source.weights, {}, torch.Generator().manual_seed(1))
    assert result.head == {}
    assert all(
        torch.equal(tensor, result.weights[name]) for name, tensor in source.launder(kind="rescaled").weights.items()
    )
