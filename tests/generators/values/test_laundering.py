"""Tables of launderings, and the sizes of results: computed before anything is trained, with an error that names a remedy."""

import pytest
from pydantic import TypeAdapter, ValidationError

from mothr.generators.families import FAMILIES
from mothr.generators.values.laundered_sizes import check, result_model
from mothr.generators.values.laundering import AnyLaundering, Laundering

SPEC = TypeAdapter(Laundering)
VIT = {"hidden_size": 64, "layers": 4, "heads": 4, "mlp_size": 128, "patch_size": 8}
LLAMA = {"hidden_size": 64, "layers": 2, "heads": 8, "kv_heads": 2, "mlp_size": 96, "context": 64}

ODD_HEADS = {"hidden_size": 66, "heads": 3, "kv_heads": 3}


def changes(spec, family, **sizes):
    model = {**(VIT if family == "vit" else LLAMA), **sizes}
    result = result_model(SPEC.validate_python(spec), family, model)
    FAMILIES[family](**result)
    assert model.keys() <= result.keys()
    return {name: value for name, value in result.items() if model.get(name) != value}


@pytest.mark.parametrize(
    ("spec", "family", "sizes", "expected"),
    [
        ({"kind": "rotated"}, "vit", {}, {}),
        ({"kind": "rotated"}, "llama", {"tied": True}, {"tied": False}),
        ({"kind": "all-symmetries"}, "llama", {"tied": True}, {"tied": False}),
        ({"kind": "reordered"}, "llama", {"tied": True}, {}),
        ({"kind": "dummy-neurons", "fraction": 0.05, "how": "zero"}, "vit", {}, {"mlp_size": 134}),
        ({"kind": "dummy-neurons", "fraction": 1.0, "how": "split"}, "vit", {"mlp_size": 7}, {"mlp_size": 13}),
        ({"kind": "widened", "factor": 1.3}, "llama", {}, {"mlp_size": 125}),
        ({"kind": "widened", "factor": 2.0, "part": "all"}, "vit", {}, {"hidden_size": 128, "heads": 8, "mlp_size": 256}),
        ({"kind": "widened", "factor": 1.5, "part": "all"}, "llama", {}, {"hidden_size": 96, "heads": 12, "kv_heads": 3, "mlp_size": 144}),
        ({"kind": "widened", "factor": 1.25, "part": "all"}, "llama", {}, {"hidden_size": 80, "heads": 10, "mlp_size": 120}),
        ({"kind": "blocks-repeated"}, "vit", {}, {"layers": 6}),
        ({"kind": "blocks-added", "fraction": 0.01}, "llama", {}, {"layers": 3}),
        ({"kind": "blocks-dropped", "fraction": 0.25}, "llama", {}, {"layers": 1}),
        ({"kind": "upcycled", "experts": 8}, "llama", {}, {"experts": 8}),
        ({"kind": "diluted", "share": 0.5}, "llama", {}, {}),
        ({"kind": "decoy", "shared": "norms"}, "llama", {}, {}),
    ],
)  # fmt: skip
def test_the_sizes_of_results(spec, family, sizes, expected):
    assert changes(spec, family, **sizes) == expected


@pytest.mark.parametrize(
    ("spec", "family", "sizes", "message"),
    [
        ({"kind": "rotated"}, "sd", {}, "'rotated' is defined for the families vit and llama, not for 'sd'"),
        ({"kind": "rotated"}, "dinov2", {}, "not for 'dinov2'; choose another kind or family"),
        ({"kind": "upcycled"}, "vit", {}, "'upcycled' is defined for the family 'llama' only"),
        ({"kind": "vocabulary-replaced"}, "vit", {}, "'vocabulary-replaced' is defined for the family 'llama' only"),
        ({"kind": "upcycled"}, "llama", {"experts": 2}, "model.experts is 2; choose another kind"),
        ({"kind": "blocks-dropped", "fraction": 0.5}, "vit", {"layers": 1}, "0.5 of model.layers 1 leaves no block"),
        ({"kind": "widened", "factor": 1.5, "part": "all"}, "vit", {}, "what a LayerNorm computes.*choose factor = 2, or part = 'mlp'"),
        ({"kind": "widened", "factor": 1.3, "part": "all"}, "llama", {}, "1.3 times model.hidden_size 64 is not a whole number"),
        ({"kind": "widened", "factor": 1.5, "part": "all"}, "llama", ODD_HEADS, "model.heads 3 is not a whole number"),
        ({"kind": "widened", "factor": 1.25, "part": "all"}, "llama", {"heads": 4}, "model.heads 4 is not a multiple of model.kv_heads 2"),
        ({"kind": "widened", "factor": 1.001}, "llama", {}, "1.001 times model.mlp_size 96 adds no neuron; choose a larger factor"),
        ({"kind": "dummy-neurons", "fraction": 0.5, "how": "split"}, "vit", {"mlp_size": 1}, "needs model.mlp_size of at least 2"),
    ],
)  # fmt: skip
def test_impossible_sizes_are_an_error_that_names_field_value_and_remedy(spec, family, sizes, message):
    with pytest.raises(ValueError, match=f"^transform.*{message}"):
        check(SPEC.validate_python(spec), family, {**(LLAMA if family == "llama" else VIT), **sizes})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"kind": "rescaled", "spread": 0}, "greater than 0"),
        ({"kind": "rescaled", "spread": 20}, "less than or equal to 8"),
        ({"kind": "dummy-neurons", "fraction": 0.5}, "Field required"),
        ({"kind": "dummy-neurons", "fraction": 1.5, "how": "zero"}, "less than or equal to 1"),
        ({"kind": "widened", "factor": 1.0}, "greater than 1"),
        ({"kind": "blocks-dropped", "fraction": 1.0}, "less than 1"),
        ({"kind": "upcycled", "experts": 1}, "greater than or equal to 2"),
        ({"kind": "projected", "strength": 2.5}, "less than or equal to 2"),
        ({"kind": "diluted", "share": 0.0}, "greater than 0"),
        ({"kind": "decoy", "shared": "heads"}, "'embeddings', 'first-block' or 'norms'"),
        ({"kind": "rotated", "spread": 3}, "Extra inputs"),
        ({"kind": "melted"}, "melted"),
    ],
)
def test_values_outside_of_their_range_are_an_error(spec, message):
    with pytest.raises(ValidationError, match=message):
        SPEC.validate_python(spec)


def test_only_decoys_are_strangers_only_diluted_models_need_another_and_widening_is_exact_without_noise():
    kinds = {kind.model_fields["kind"].annotation.__args__[0]: kind for kind in AnyLaundering.__args__}
    assert [name for name, kind in kinds.items() if not kind.descends] == ["decoy"]
    assert [name for name, kind in kinds.items() if kind.needs_other] == ["diluted"]
    assert SPEC.validate_python({"kind": "widened", "factor": 2.0, "noise": 0.0}).preserves_function
    assert not SPEC.validate_python({"kind": "widened", "factor": 2.0}).preserves_function
    assert len(kinds) == 17
