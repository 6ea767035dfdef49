"""What the Stable Diffusion models of one tree share: a VAE, a text encoder, a tokenizer and a noise schedule, trained once and frozen.

As with the published models, these have seen much more than the UNet of a root: all caption domains, its children's too.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mothr.benchmark.errors import MothrError
from mothr.generators.data import captions
from mothr.generators.families.initialisation import initialise
from mothr.generators.values.seeds import torch_generator

LATENTS = 4
"""Channels of the VAE's latents."""
SIDE = 8
"""Side of the latents: a quarter of the pictures'."""
LENGTH = 16
"""Tokens of a caption, with start, end and padding."""
SPECIAL = ("<pad>", "<unknown>", "<start>", "<end>")
TEXT_HEADS = 4
"""Attention heads of the text encoder."""
NOISE_STEPS = 1000
"""Steps of the noise schedule."""
VAE_BATCH = 16
"""Pictures a step of the VAE."""
PER_DOMAIN = 1024
"""Training pictures of each domain that a VAE and a text encoder see."""


def write(
    folder: Path,
    seed: int,
    width: int,
    vae_steps: int,
    text_steps: int,
    device: torch.device,
    on_step: Callable[[int], None],
) -> None:
    """Trains and writes ``vae/``, ``text_encoder/``, ``tokenizer/`` and ``scheduler/`` in ``folder``.

    Args:
        folder: where to.
        seed: of weights and batches.
        width: of the text encoder, which is the UNet's cross-attention dimension.
        vae_steps: training steps of the VAE, 16 pictures each.
        text_steps: training steps of the text encoder, 128 pictures with captions each.
        device: where to train.
        on_step: called after each step with its number, counted over both trainings.
    """
    parts = [captions.load(name, "train") for name in captions.DOMAINS]
    pictures = torch.cat([pictures[:PER_DOMAIN] for pictures, _ in parts])
    texts = [text for _, found in parts for text in found[:PER_DOMAIN]]
    tokens = tokenizer()
    vae = train_vae(pictures, vae_steps, torch_generator(seed, "vae"), device, on_step)
    encoder = train_text_encoder(
        pictures,
        tokenize(tokens, texts),
        width,
        text_steps,
        torch_generator(seed, "text"),
        device,
        lambda step: on_step(vae_steps + step),
    )
    vae.cpu().save_pretrained(folder / "vae")
    encoder.cpu().save_pretrained(folder / "text_encoder")
    tokens.save_pretrained(folder / "tokenizer")
    noise_schedule().save_pretrained(folder / "scheduler")


@dataclass(frozen=True)
class Companions:
    """The frozen parts of one tree, loaded."""

    vae: Any
    """AutoencoderKL."""
    encoder: Any
    """CLIPTextModel."""
    tokenizer: Any
    """Of the captions' words."""
    scheduler: Any
    """DDIMScheduler."""


def load(folder: Path) -> Companions:
    """Returns what ``write`` wrote to ``folder``.

    Raises:
        MothrError: a part is missing.
    """
    from diffusers import AutoencoderKL, DDIMScheduler
    from transformers import CLIPTextModel, PreTrainedTokenizerFast
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    for part in ("vae", "text_encoder", "tokenizer", "scheduler"):
        if not (folder / part).is_dir():
            raise MothrError(
                f"{folder / part}: missing, but no model of this tree can be used without it; generate the data set again"
            )
    return Companions(
        AutoencoderKL.from_pretrained(folder / "vae").eval().requires_grad_(False),
        CLIPTextModel.from_pretrained(folder / "text_encoder").eval().requires_grad_(False),
        PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer"),
        DDIMScheduler.from_pretrained(folder / "scheduler"),
    )


def pixels(pictures: torch.Tensor) -> torch.Tensor:
    """Returns uint8 pictures as float32 in -1..1."""
    return pictures.float() / 127.5 - 1


def minimise(
    parameters: Sequence[nn.Parameter],
    loss: Callable[[], torch.Tensor],
    steps: int,
    rate: float,
    on_step: Callable[[int], None],
) -> None:
    """Trains ``parameters`` with AdamW; the learning rate rises over a twentieth of the steps, then falls along a cosine."""
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    warm = max(1, steps // 20)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / steps)))
        value = loss()
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        on_step(step + 1)


# Pictures <-> latents


def train_vae(
    pictures: torch.Tensor,
    steps: int,
    generator: torch.Generator,
    device: torch.device,
    on_step: Callable[[int], None] = lambda step: None,
) -> Any:
    """Returns an AutoencoderKL trained on uint8 ``pictures`` (n, 3, 32, 32): squared error plus a small KL term.

    The error of colour weighs more than that of brightness: it is a small part of these pictures, but captions name it.

    Its latents are (4, 8, 8) a picture; over ``pictures``, each channel of theirs has mean 0 and variance 1.
    """
    from diffusers import AutoencoderKL

    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 16, 32),
        layers_per_block=1,
        latent_channels=LATENTS,
        norm_num_groups=2,
        sample_size=4 * SIDE,
        mid_block_add_attention=False,
    )
    initialise(vae, "orthogonal", 0.0, generator)
    vae.to(device)

    def loss() -> torch.Tensor:
        batch = pixels(pictures[torch.randint(len(pictures), (VAE_BATCH,), generator=generator)].to(device))
        found = vae.encode(batch).latent_dist
        error = vae.decode(found.sample(generator=generator)).sample - batch
        grey = error.mean(1, keepdim=True)
        return (
            grey.square().mean() + 4 * (error - grey).square().mean() + 1e-5 * found.kl().mean() / (LATENTS * SIDE**2)
        )

    minimise(list(vae.parameters()), loss, steps, 1e-2, on_step)
    vae.eval().requires_grad_(False)
    vae.register_to_config(scaling_factor=1.0)
    _standardise(vae, encode(vae, pictures[:: max(1, len(pictures) // 2048)], device))
    return vae


def _standardise(vae: Any, latents: torch.Tensor) -> None:
    """Changes the two 1x1 convolutions around the latents so that each channel of such ``latents`` has mean 0 and variance 1.

    A single ``scaling_factor`` could not take the mean off, nor bring channels of different spread to one; here it is 1.
    """
    mean, spread = (value.to(vae.device) for value in (latents.mean((0, 2, 3)), latents.std((0, 2, 3))))
    before, after = vae.quant_conv, vae.post_quant_conv
    after.bias += after.weight[:, :, 0, 0] @ mean
    after.weight *= spread[None, :, None, None]
    before.weight[:LATENTS] /= spread[:, None, None, None]
    before.bias[:LATENTS] = (before.bias[:LATENTS] - mean) / spread
    before.bias[LATENTS:] -= 2 * spread.log()  # the second half is the logarithm of the variance


@torch.no_grad()
def encode(vae: Any, pictures: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Returns the scaled latents (n, 4, 8, 8), on the CPU, of uint8 pictures: the means of what the VAE finds likely."""
    found = [vae.encode(pixels(part.to(device))).latent_dist.mode().cpu() for part in pictures.split(256)]
    return torch.cat(found) * vae.config.scaling_factor


# Captions -> tokens -> embeddings


def tokenizer() -> Any:
    """Returns a tokenizer with one token a word of the captions."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pad, unknown, start, end = SPECIAL
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *captions.words()])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = [(start, vocabulary[start]), (end, vocabulary[end])]
    words.post_processor = processors.TemplateProcessing(single=f"{start} $A {end}", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token=pad,
        unk_token=unknown,
        bos_token=start,
        eos_token=end,
        model_max_length=LENGTH,
    )


def tokenize(tokens: Any, texts: Sequence[str]) -> torch.Tensor:
    """Returns the token ids of ``texts``, int64 (n, 16), padded as a diffusers pipeline pads them."""
    return tokens(list(texts), padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt").input_ids


def train_text_encoder(
    pictures: torch.Tensor,
    ids: torch.Tensor,
    width: int,
    steps: int,
    generator: torch.Generator,
    device: torch.device,
    on_step: Callable[[int], None] = lambda step: None,
) -> Any:
    """Returns a CLIPTextModel trained to tell which caption belongs to which picture (CLIP, Radford et al. 2021).

    The encoder of pictures that it is trained against is not needed afterwards.

    Args:
        pictures: uint8 (n, 3, 32, 32).
        ids: token ids of their captions, int64 (n, 16).
        width: of the embeddings.
        steps: of 128 pairs each. Where captions of a batch are equal, each of their pictures is right.
        generator: of weights and batches.
        device: where to train.
        on_step: called after each step with its number.
    """
    from transformers import CLIPTextConfig, CLIPTextModel

    text = CLIPTextModel(CLIPTextConfig(
        vocab_size=len(SPECIAL) + len(captions.words()), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
        num_attention_heads=TEXT_HEADS, max_position_embeddings=LENGTH, projection_dim=width,
        pad_token_id=SPECIAL.index("<pad>"), bos_token_id=SPECIAL.index("<start>"), eos_token_id=SPECIAL.index("<end>"),
    ))  # fmt: skip
    view = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1),
        nn.SiLU(),
        nn.Conv2d(16, 32, 3, 2, 1),
        nn.SiLU(),
        nn.Conv2d(32, 64, 3, 2, 1),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(64 * 16, width),
    )
    for model in (text, view):
        initialise(model, "kaiming-uniform", 0.1, generator)
        model.to(device)
    warmth = nn.Parameter(torch.tensor(math.log(10.0), device=device))
    one = nn.functional.normalize

    def loss() -> torch.Tensor:
        rows = torch.randint(len(ids), (128,), generator=generator)
        batch = ids[rows].to(device)
        same = (batch[:, None] == batch[None]).all(-1).float()
        right = same / same.sum(1, keepdim=True)
        scores = (
            warmth.exp()
            * one(text(input_ids=batch).pooler_output, dim=-1)
            @ one(view(pixels(pictures[rows].to(device))), dim=-1).T
        )
        return nn.functional.cross_entropy(scores, right) + nn.functional.cross_entropy(scores.T, right)

    minimise([*text.parameters(), *view.parameters(), warmth], loss, steps, 2e-3, on_step)
    return text.eval().requires_grad_(False)


@torch.no_grad()
def embed(encoder: Any, ids: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Returns the embeddings (n, 16, width), on the CPU, that a UNet attends to."""
    return torch.cat([encoder(input_ids=part.to(device)).last_hidden_state.cpu() for part in ids.split(256)])


# Noise


def noise_schedule() -> Any:
    """Returns Stable Diffusion's own schedule of 1000 steps, for sampling with DDIM.

    It leaves a trace of the picture in its last step. Where none is left, a predicted noise says nothing of the picture there, and the
    first step of sampling multiplies the error of that prediction by hundreds.
    """
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=NOISE_STEPS,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
    )
