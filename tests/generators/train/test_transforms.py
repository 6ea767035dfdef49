import math
from collections import Counter

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load_file, save_file

from mothr.benchmark.errors import MothrError
from mothr.benchmark.weights.discovery import open_folder
from mothr.generators.families.llama import Llama
from mothr.generators.families.vit import ViT
from mothr.generators.train.merges import draw_mixing
from mothr.generators.train.transforms import noised, permuted, pruned, quantized, transform
from mothr.generators.values.symmetry import Symmetry
from mothr.generators.values.transforms import Merge, Noise, Quantize, Transform

SPEC = TypeAdapter(Transform)
quick = settings(max_examples=40, deadline=None)
shapes = st.sampled_from([(5, 3), (4, 4), (1, 7), (3, 2, 2, 2), (2, 1, 3)])
storages = st.sampled_from([torch.float32, torch.bfloat16, torch.float64])


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def normal(shape, seed):
    return torch.randn(shape, generator=seeded(seed))


def model(seed, shape=(6, 4)):
    return {"matrix": normal(shape, seed), "vector": normal(shape[:1], seed + 1000), "positions": torch.arange(3)}


def make(seed=0, *, sources=None, base=None, mixing=(), symmetries=(), **spec):
    """Returns what a recipe's ``spec`` makes of ``sources`` (by default one model)."""
    return transform(
        SPEC.validate_python(spec),
        [model(seed)] if sources is None else sources,
        base=base,
        mixing=mixing,
        symmetries=symmetries,
        generator=seeded(seed),
    )


def same(first, second):
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and torch.equal(first[name], second[name]) for name in first
    )


# --- what holds of all of them ---

EVERY = [
    {"kind": "merge", "method": "linear"}, {"kind": "merge", "method": "slerp"}, {"kind": "merge", "method": "ties", "density": 0.5},
    {"kind": "quantized", "precision": "float16"}, {"kind": "quantized", "precision": "bfloat16", "stored": "float32"},
    {"kind": "quantized", "precision": "int8"}, {"kind": "quantized", "precision": "int4", "stored": "float16"},
    {"kind": "pruned", "share": 0.3}, {"kind": "noised", "level": 0.1}, {"kind": "permuted"}, {"kind": "duplicate"},
]  # fmt: skip


@pytest.mark.parametrize("spec", EVERY, ids=lambda spec: "-".join(map(str, spec.values())))
def test_every_transform_leaves_its_sources_unchanged_and_is_finite_and_deterministic(spec):
    count = 2 if spec["kind"] == "merge" else 1
    sources = [model(seed) for seed in range(count)]
    sources[0]["matrix"] = sources[0]["matrix"].T.contiguous().T  # lies column by column
    kept = [{name: tensor.clone() for name, tensor in weights.items()} for weights in sources]
    options = {
        "base": model(7) if count == 2 else None,
        "mixing": (0.4, 0.6)[: count * (count > 1)],
        "symmetries": (Symmetry(6, (("matrix", 0), ("vector", 0))),),
    }
    result = make(3, sources=sources, **options, **spec)
    assert all(same(first, second) for first, second in zip(sources, kept, strict=True))
    assert result.keys() - {"matrix_scale"} == sources[0].keys()
    assert torch.equal(result["positions"], torch.arange(3))
    for name, tensor in result.items():
        assert tensor.is_contiguous()
        assert torch.isfinite(tensor.double()).all()
        assert all(tensor.data_ptr() != weights[name].data_ptr() for weights in sources if name in weights)
    assert same(result, make(3, sources=sources, **options, **spec))
    assert same(result, sources[0]) == (spec["kind"] == "duplicate")


@pytest.mark.parametrize("spec", EVERY, ids=lambda spec: "-".join(map(str, spec.values())))
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_and_infinite_weights_are_an_error(spec, bad):
    spoiled = model(0)
    spoiled["vector"][2] = bad
    sources = [model(1), spoiled] if spec["kind"] == "merge" else [spoiled]
    with pytest.raises(MothrError, match="tensor 'vector' holds NaN or infinite values"):
        make(sources=sources, mixing=(0.5, 0.5), base=model(2), **spec)


def test_a_copy_has_one_source_and_a_student_is_not_a_copy():
    with pytest.raises(MothrError, match="pruned: given 2 models; it is made from exactly one"):
        make(sources=[model(0), model(1)], kind="pruned", share=0.5)
    with pytest.raises(MothrError, match="a student is trained"):
        make(kind="distilled")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"kind": "quantized", "precision": "int4"}, "no 4-bit integers; choose stored = 'float16' or 'float32'"),
        ({"kind": "quantized", "precision": "int2"}, "precision"),
        ({"kind": "merge", "method": "slerp", "parents": 3}, "slerp is defined between 2 models, not 3"),
        ({"kind": "merge", "method": "linear", "density": 0.5}, "only the methods ties and dare trim"),
        ({"kind": "merge", "method": "ties", "density": 0.0}, "greater than 0"),
        ({"kind": "merge", "method": "linear", "mixing_range": (0.7, 0.3)}, "name the smaller number first"),
        ({"kind": "merge", "method": "linear", "parents": 4}, "less than or equal to 3"),
        ({"kind": "pruned", "share": 1.5}, "less than or equal to 1"),
        ({"kind": "noised", "level": 0.0}, "greater than 0"),
        ({"kind": "permuted", "share": 0.5}, "Extra inputs"),
        ({"kind": "melted"}, "melted"),
    ],
)
def test_an_inconsistent_transform_is_an_error(spec, expected):
    with pytest.raises(ValidationError, match=expected):
        SPEC.validate_python(spec)


def test_only_ties_has_a_density_which_its_spec_records():
    densities = {method: Merge(kind="merge", method=method).density for method in ("linear", "slerp", "ties")}
    assert densities == {"linear": None, "slerp": None, "ties": 0.2}


@quick
@given(parents=st.sampled_from([2, 3]), low=st.floats(0.01, 1), width=st.floats(0, 1), seed=st.integers(0, 999))
def test_mixing_weights_are_positive_sum_to_one_and_keep_the_range(parents, low, width, seed):
    spec = Merge(kind="merge", method="linear", parents=parents, mixing_range=(low, low + width))
    mixing = draw_mixing(spec, seeded(seed))
    assert len(mixing) == parents
    assert sum(mixing) == pytest.approx(1)
    assert max(mixing) / min(mixing) <= (low + width) / low * (1 + 1e-9)


# --- copies ---


@quick
@given(
    shape=shapes,
    seed=st.integers(0, 999),
    size=st.floats(1e-6, 1e3),
    precision=st.sampled_from(["int8", "int4"]),
    stored=st.sampled_from(["as-is", "float32"]),
)
def test_quantized_weights_are_within_half_a_step(shape, seed, size, precision, stored):
    assume((precision, stored) != ("int4", "as-is"))
    matrix = (
        size * normal(shape, seed) * torch.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    )  # the first channel is zero
    result = quantized({"w": matrix}, precision, stored)
    if sum(side > 1 for side in shape) < 2:
        assert same(result, {"w": matrix})
        return
    most = 127 if precision == "int8" else 7
    step = matrix.abs().flatten(1).amax(dim=1).reshape(-1, *[1] * (len(shape) - 1)) / most
    values = result["w"]
    if stored == "as-is":
        assert result.keys() == {"w", "w_scale"}
        assert values.dtype == torch.int8
        assert result["w_scale"].shape == step.shape
        assert result["w_scale"].dtype == torch.float32
        assert values.abs().flatten(1).amax(dim=1).tolist() == [0] + [most] * (shape[0] - 1)
        values = values * result["w_scale"]
    assert values.dtype == torch.float32
    assert ((values - matrix).abs() <= step / 2 * (1 + 1e-4)).all()
    assert all(len(channel.unique()) <= 2 * most + 1 for channel in values)


def test_vectors_are_not_rounded_to_integers():
    weights = {"bias": normal((9,), 0), "class_token": normal((1, 1, 9), 1), "matrix": normal((9, 9), 2)}
    for spec in (("int8", "as-is"), ("int8", "float32"), ("int4", "float32")):
        result = quantized(weights, *spec)
        assert torch.equal(result["bias"], weights["bias"])
        assert torch.equal(result["class_token"], weights["class_token"])
        assert not torch.equal(result["matrix"], weights["matrix"])


@pytest.mark.parametrize(
    ("precision", "stored", "dtype", "tolerance"),
    [
        ("float16", "as-is", torch.float16, 2**-11), ("float16", "float32", torch.float32, 2**-11),
        ("bfloat16", "as-is", torch.bfloat16, 2**-8), ("bfloat16", "float32", torch.float32, 2**-8),
    ],
)  # fmt: skip
def test_numbers_of_sixteen_bits_do_not_depend_on_their_storage(precision, stored, dtype, tolerance):
    weights = {"matrix": normal((8, 8), 0), "vector": normal((8,), 1)}
    result = quantized(weights, precision, stored)
    for name, tensor in result.items():
        assert tensor.dtype == dtype
        assert torch.equal(tensor.float(), weights[name].to(getattr(torch, precision)).float())
        torch.testing.assert_close(tensor.float(), weights[name], rtol=tolerance, atol=1e-6)
        assert not torch.equal(tensor.float(), weights[name])


@pytest.mark.parametrize("spec", [("float16", "as-is"), ("int8", "float16"), ("int4", "float16")])
def test_a_weight_beyond_sixteen_bits_is_an_error(spec):
    weights = {"matrix": torch.tensor([[70000.0, 1.0], [1.0, 1.0]])}
    with pytest.raises(
        MothrError, match=r"'matrix': its largest magnitude 70000 is above 65504, .* float16 number; choose another"
    ):
        quantized(weights, *spec)
    assert quantized(weights, "bfloat16")["matrix"][0, 0] == 70144
    assert quantized({"matrix": weights["matrix"] * 65504 / 70000}, "float16")["matrix"][0, 0] == 65504


def test_four_bit_integers_cannot_be_stored_as_is():
    with pytest.raises(MothrError, match="choose stored = 'float16' or 'float32'"):
        quantized(model(0), "int4")
    assert Quantize(kind="quantized", precision="int4", stored="float16").stored == "float16"


@quick
@given(shape=shapes, stored=storages, share=st.floats(0, 1), seed=st.integers(0, 999))
def test_exactly_the_share_of_smallest_weights_is_pruned(shape, stored, share, seed):
    weights = {"matrix": normal(shape, seed).to(stored), "bias": normal((4,), seed)}
    result = pruned(weights, share)
    assert torch.equal(result["bias"], weights["bias"])
    if sum(side > 1 for side in shape) < 2:
        assert same(result, weights)
        return
    gone = result["matrix"] == 0
    assert int(gone.sum()) == round(share * gone.numel())
    assert torch.equal(result["matrix"][~gone], weights["matrix"][~gone])
    if 0 < int(gone.sum()) < gone.numel():
        assert weights["matrix"][gone].abs().max() <= weights["matrix"][~gone].abs().min()


def test_noise_is_in_proportion_to_each_tensor():
    weights = {"small": 1e-3 * normal((200, 200), 0), "large": 7 + 100 * normal((200, 200), 1)}
    weights |= {"constant": torch.ones(9), "one": torch.ones(1)}
    result = noised(weights, 0.05, seeded(0))
    for name in ("small", "large"):
        noise = result[name] - weights[name]
        assert float(noise.std() / weights[name].std()) == pytest.approx(0.05, rel=0.03)
        assert abs(float(noise.mean() / noise.std())) < 0.02
        assert abs(float(torch.corrcoef(torch.stack([noise.flatten(), weights[name].flatten()]))[0, 1])) < 0.02
    assert torch.equal(result["constant"], weights["constant"])
    assert torch.equal(result["one"], weights["one"])
    assert not same(result, noised(weights, 0.05, seeded(1)))
    assert same(result, noised(dict(reversed(weights.items())), 0.05, seeded(0)))
    assert Noise(kind="noised", level=0.05).level == 0.05


def test_a_reader_sees_an_int8_copy_as_its_source_within_half_a_step(tmp_path):
    weights = {"kernel": normal((4, 3, 3, 3), 0), "matrix": normal((8, 6), 1), "vector": normal((8,), 2)}
    save_file(weights, tmp_path / "source.safetensors")
    result = quantized(weights, "int8")
    save_file(result, tmp_path / "copy.safetensors")
    models = open_folder(tmp_path)
    assert set(models.shapes.values()) == {(0, 1)}
    source, copy = models.ids.index("source"), models.ids.index("copy")
    assert models.checkpoints[copy].tensors["matrix"].dtype == "I8"
    for name, positions, stack in models.stacks():
        assert positions == (0, 1)
        steps = result[f"{name}_scale"] if name != "vector" else torch.zeros(8)
        assert ((stack[source] - stack[copy]).abs() <= steps / 2 * (1 + 1e-4)).all()


# --- permutations ---


@quick
@given(blocks=st.integers(2, 6), width=st.integers(1, 3), segments=st.integers(1, 3), seed=st.integers(0, 999))
def test_a_permutation_keeps_blocks_segments_and_what_belongs_together(blocks, width, segments, seed):
    size = blocks * width * segments
    weights = {
        "rows": normal((size, 5), seed),
        "columns": normal((3, size), seed + 1),
        "narrow": torch.arange(blocks * segments),
    }
    symmetry = Symmetry(blocks, (("rows", 0), ("columns", 1), ("narrow", 0)), segments)
    result = permuted(weights, [symmetry], seeded(seed))
    order = result["narrow"]
    assert sorted(order.tolist()) == list(range(blocks * segments))
    assert torch.equal(order // blocks, weights["narrow"] // blocks)  # each stays in its segment
    assert all((segment != torch.arange(blocks) + segment.min()).any() for segment in order.reshape(segments, blocks))
    places = (order[:, None] * width + torch.arange(width)).flatten()
    assert torch.equal(result["rows"], weights["rows"][places])
    assert torch.equal(result["columns"], weights["columns"][:, places])
    for name in weights:
        assert torch.equal(result[name].flatten().sort().values, weights[name].flatten().sort().values)


def test_all_permutations_but_the_identity_have_equal_probability():
    weights = {"w": torch.arange(3)}
    generator = seeded(0)
    counts = Counter(tuple(permuted(weights, [Symmetry(3, (("w", 0),))], generator)["w"].tolist()) for _ in range(1000))
    assert len(counts) == 5
    assert min(counts.values()) > 150


def test_a_symmetry_of_another_model_is_an_error():
    for nothing in ((), (Symmetry(1, (("matrix", 0),)),)):
        with pytest.raises(MothrError, match="has no symmetries; remove this kind from the recipe"):
            permuted(model(0), nothing, seeded(0))
    with pytest.raises(MothrError, match="tensor 'absent': a symmetry names it, but the model does not have it"):
        permuted(model(0), [Symmetry(2, (("absent", 0),))], seeded(0))
    with pytest.raises(
        MothrError, match=r"tensor 'matrix' of shape \(6, 4\): axis 1 cannot be cut into 3 equal blocks"
    ):
        permuted(model(0), [Symmetry(3, (("matrix", 0), ("matrix", 1)))], seeded(0))


VIT = ViT(hidden_size=24, layers=2, heads=3, mlp_size=20, patch_size=16)
LLAMAS = [
    Llama(hidden_size=32, layers=2, heads=heads, kv_heads=kv_heads, mlp_size=20, context=12)
    for heads, kv_heads in ((4, 4), (8, 4), (8, 2), (4, 1))
]


def answer(family, network):
    """Returns the network's outputs on a fixed random input, at its own scale."""
    network.eval()
    with torch.no_grad():
        if isinstance(family, ViT):
            return network(pixel_values=normal((2, 3, 32, 32), 0)).last_hidden_state
        return network(input_ids=torch.randint(256, (2, 12), generator=seeded(0)), use_cache=False).logits


def moved(family, name):
    """Returns whether a tensor lies inside a block, where permutations act."""
    if isinstance(family, ViT):
        return name.startswith("encoder.layer.") and "layernorm" not in name and not name.endswith("output.dense.bias")
    return name.startswith("model.layers.") and "norm" not in name


@pytest.fixture(scope="module", params=[VIT, *LLAMAS], ids=["vit", "llama", "llama-gqa", "llama-gqa-2", "llama-mqa"])
def saved(request, tmp_path_factory):
    """A family, a network of it with large random weights, biases included, and the folder that it is saved in."""
    family = request.param
    network = family.build("normal", 0.5, seeded(0))
    for number, value in enumerate(network.parameters()):
        if value.ndim == 1:
            value.data += 0.5 * normal(value.shape, number)
    folder = tmp_path_factory.mktemp("network") / "model"
    family.save(network, folder)
    return family, network, folder


@pytest.mark.parametrize("seed", [0, 1])
def test_a_permuted_network_has_other_weights_and_the_same_function(saved, tmp_path, seed):
    family, network, folder = saved
    weights = load_file(folder / "model.safetensors")
    result = permuted(weights, family.symmetries(), seeded(seed))
    for name, tensor in weights.items():
        unmoved = not moved(family, name) or (
            getattr(family, "kv_heads", 0) == 1 and name.endswith(("k_proj.weight", "v_proj.weight"))
        )
        assert torch.equal(result[name], tensor) == unmoved, name
        assert torch.equal(result[name].flatten().sort().values, tensor.flatten().sort().values)
    second = family.build("normal", 0.5, seeded(1))
    copy = tmp_path / "copy"
    family.save(second, copy)
    save_file(result, copy / "model.safetensors", metadata={"format": "pt"})
    expected, given = answer(family, network), answer(family, family.load(copy))
    assert float(expected.std()) > 0.1
    torch.testing.assert_close(given, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert not torch.allclose(answer(family, second), expected, atol=0.1)


def test_a_symmetry_with_a_missing_tensor_changes_the_function(saved):
    family, network, folder = saved
    weights, copy = load_file(folder / "model.safetensors"), folder.parent / "broken"
    expected = answer(family, network)
    family.save(network, copy)
    for symmetry in family.symmetries()[:3]:
        if symmetry.blocks > 1:  # one block has one order only
            broken = permuted(weights, [Symmetry(symmetry.blocks, symmetry.axes[1:], symmetry.segments)], seeded(0))
            save_file(broken, copy / "model.safetensors", metadata={"format": "pt"})
            assert float((answer(family, family.load(copy)) - expected).abs().max() / expected.abs().max()) > 0.01
