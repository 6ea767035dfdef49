"""Layers: roles of names, and the tensors that presets select."""

import pytest
import torch

from mothr.benchmark.errors import MothrError
from mothr.benchmark.weights.layers import PRESETS, Layers, role

ROLES = {
    "query": [
        "layers.0.attention.q_proj.weight",
        "vit.encoder.layer.0.attention.attention.query.weight",
        "model.layers.11.self_attn.q_proj.weight",
        "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight",
        "encoder.block.0.layer.0.SelfAttention.q.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight",
    ],
    "key": [
        "encoder.layer.0.attention.attention.key.weight",
        "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight",
    ],
    "value": ["layers.3.attention.v_proj.weight", "model.layers.0.self_attn.v_proj.weight"],
    "output": [
        "layers.0.attention.o_proj.weight",
        "encoder.layer.0.attention.output.dense.weight",
        "model.layers.0.self_attn.o_proj.weight",
        "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0.weight",
        "transformer.h.0.attn.c_proj.weight",
        "blocks.0.attn.proj.weight",
        "text_encoder.text_model.encoder.layers.0.self_attn.out_proj.weight",
    ],
    "fused": [
        "transformer.h.0.attn.c_attn.weight",
        "blocks.0.attn.qkv.weight",
        "gpt_neox.layers.0.attention.query_key_value.weight",
    ],
    "mlp": [
        "layers.0.mlp.fc1.weight",
        "encoder.layer.0.intermediate.dense.weight",
        "encoder.layer.0.output.dense.weight",
        "model.layers.0.mlp.gate_proj.weight",
        "transformer.h.0.mlp.c_proj.weight",
        "unet.down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj.weight",
        "encoder.block.0.layer.1.DenseReluDense.wo.weight",
    ],
    "norm": [
        "layers.0.layernorm_before.weight",
        "model.layers.0.input_layernorm.weight",
        "model.layers.0.self_attn.q_norm.weight",
        "transformer.h.0.ln_1.weight",
        "unet.down_blocks.0.resnets.0.norm1.weight",
        "bert.embeddings.LayerNorm.weight",
    ],
    "embedding": [
        "embeddings.cls_token",
        "embeddings.position_embeddings",
        "embeddings.patch_embeddings.projection.weight",
        "model.embed_tokens.weight",
        "transformer.wte.weight",
    ],
    "head": ["lm_head.weight", "classifier.weight"],
    "other": [
        "unet.time_embedding.linear_1.weight",
        "unet.down_blocks.0.attentions.0.proj_in.weight",
        "pooler.dense.weight",
    ],
}


@pytest.mark.parametrize(("expected", "name"), [(kind, name) for kind, names in ROLES.items() for name in names])
def test_roles_of_names_in_common_libraries(expected, name):
    assert role(name) == expected


def vit(hidden=4):
    tensors = {
        "embeddings.patch_embeddings.projection.weight": torch.ones(hidden, 3, 2, 2),
        "embeddings.steps": torch.arange(3),
    }
    for part in "qkvo":
        tensors[f"layers.0.attention.{part}_proj.weight"] = torch.ones(hidden, hidden)
        tensors[f"layers.0.attention.{part}_proj.bias"] = torch.ones(hidden)
    tensors["layers.0.mlp.fc1.weight"] = torch.ones(2 * hidden, hidden)
    tensors["layers.0.layernorm_before.weight"] = torch.ones(hidden)
    tensors["gate"] = torch.ones(1, hidden)
    tensors["empty"] = torch.ones(0, hidden)
    return tensors


def names(models, text):
    return [name for name, _ in Layers.parse(text).select_from(models)]


def test_presets_select_by_role_and_shape(write_models):
    models = write_models({"a": vit()})
    weights = [f"layers.0.attention.{part}_proj.weight" for part in "koqv"]
    assert names(models, "attention") == names(models, "square-matrices") == weights
    assert names(models, "matrices") == [*weights, "layers.0.mlp.fc1.weight"]
    assert names(models, "value") == names(models, "square-value") == ["layers.0.attention.v_proj.weight"]
    assert names(models, "conv") == names(models, "embedding") == ["embeddings.patch_embeddings.projection.weight"]
    assert names(models, "norm") == ["layers.0.layernorm_before.weight"]
    assert names(models, "mlp") == ["layers.0.mlp.fc1.weight"]
    assert names(models, r"re:q_proj\.(weight|bias)") == [
        "layers.0.attention.q_proj.bias",
        "layers.0.attention.q_proj.weight",
    ]
    assert names(models, "square-re:q_proj") == ["layers.0.attention.q_proj.weight"]
    everything = names(models, "all")
    assert "empty" not in everything
    assert "embeddings.steps" not in everything
    assert len(everything) == 12


@pytest.mark.parametrize("text", [*PRESETS, "square-attention", "re:a|b", "square-re:x"])
def test_the_written_form_can_be_parsed(text):
    assert str(Layers.parse(text)) == text


def test_the_error_for_an_empty_selection_lists_the_roles(write_models):
    models = write_models({"a": {"layers.0.mlp.fc1.weight": torch.ones(4, 2)}})
    with pytest.raises(
        MothrError, match=r"'square-value' select none of the 1 tensors; there are 1 mlp.*fc1\.weight.*\(4, 2\)"
    ):
        Layers.parse("square-value").select_from(models)


def test_unknown_preset_suggests_and_bad_expression_is_refused():
    with pytest.raises(MothrError, match=r"did you mean .*square-attention"):
        Layers.parse("square-atention")
    with pytest.raises(MothrError, match="not a regular expression"):
        Layers.parse("re:(")


@pytest.mark.parametrize(
    ("name", "shape", "selected"),
    [
        ("encoder.layer.0.attention.attention.query.weight", (64, 64), True),
        ("model.embed_tokens.weight", (256, 64), True),
        ("lm_head.weight", (256, 64), False),
        ("classifier.weight", (10, 64), False),
        ("fc.weight", (10, 64), False),
        ("qa_outputs.weight", (2, 64), False),
        ("layers.0.mlp.fc1.weight", (256, 64), True),
        ("embeddings.position_embeddings", (1, 17, 64), False),
        ("embeddings.patch_embeddings.projection.weight", (64, 3, 8, 8), False),
        ("unet.down_blocks.0.resnets.0.conv1.weight", (32, 32, 3, 3), True),
        ("layer1.0.conv1.weight", (64, 64, 3, 3), True),
        ("encoder.layer.0.layernorm_before.weight", (64,), False),
    ],
)
def test_the_body_is_every_matrix_and_kernel_except_heads(name, shape, selected):
    assert Layers("body").holds(name, shape) is selected


def test_the_backbone_includes_vectors_and_among_restricts_the_names(write_models):
    models = write_models({"a": {**vit(), "classifier.weight": torch.ones(3, 8), "classifier.bias": torch.ones(3)}})
    backbone = names(models, "backbone")
    assert not any(name.startswith("classifier") for name in backbone)
    assert set(names(models, "body")) < set(backbone)
    assert "layers.0.layernorm_before.weight" in backbone
    restricted = Layers("backbone", among=frozenset(["layers.0.mlp.fc1.weight", "classifier.weight"]))
    assert [name for name, _ in restricted.select_from(models)] == ["layers.0.mlp.fc1.weight"]
    assert restricted.elements(models) == models.checkpoints[0].read("layers.0.mlp.fc1.weight").numel()
