"""The frozen parts that the Stable Diffusion models of one tree share: a VAE, a text encoder, a tokenizer and
a noise schedule.
 They are trained once per tree, on all caption domains, including those of the root's children. The published
models do likewise.
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
"""Side of the latents: a quarter of the pictures' side."""
LENGTH = 16
"""Tokens of a caption, including start, end and padding."""
SPECIAL = ("<pad>", "<unknown>", "<start>", "<end>")
TEXT_HEADS = 4
"""Attention heads of the text encoder."""
NOISE_STEPS = 1000
"""Steps of the noise schedule."""
VAE_BATCH = 16
"""Pictures per training step of the VAE."""
PER_DOMAIN = 1024
"""Number of training pictures of each domain for the VAE and the text encoder."""


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
        folder: The folder to write to.
        seed: Seed of weights and batches.
        width: Width of the text encoder, which is the UNet's cross-attention dimension.
        vae_steps: Training steps of the VAE, 16 pictures each.
        text_steps: Training steps of the text encoder, 128 pictures with captions each.
        device: The device to train on.
        on_step: Called after each step with its number, counted over both trainings.
    """
    parts = [captions.load(name, "train") for name in captions.DOMAINS]
    pictures = torch.cat([pictures[:PER_DOMAIN] for pictures, _ in parts])
    texts = [text for _, captions_of in parts for text in captions_of[:PER_DOMAIN]]
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


@dataclass(frozen=True, slots=True)
class Companions:
    """The loaded frozen parts of one tree."""

    vae: Any
    """AutoencoderKL."""
    encoder: Any
    """CLIPTextModel."""
    tokenizer: Any
    """PreTrainedTokenizerFast with one token per word."""
    scheduler: Any
    """DDIMScheduler."""


def load(folder: Path) -> Companions:
    """Returns the parts that :func:`write` wrote to ``folder``.

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
                f"{folder / part}: missing, but every model of this tree needs it; generate the data set again"
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
    """Minimises ``loss`` with AdamW. The learning rate rises over a twentieth of the steps, and then falls
    along a cosine."""
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    warmup_steps = max(1, steps // 20)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * min(
            (step + 1) / warmup_steps, 0.5 * (1 + math.cos(math.pi * step / steps))
        )
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
    """Returns an AutoencoderKL trained on uint8 ``pictures`` (n, 3, 32, 32). The loss is the squared error
    plus a small KL term.

    Errors of colour have a larger weight than errors of brightness, because captions name colours. The
    latents of a picture are (4, 8, 8). Over ``pictures``, each channel of the latents has mean 0 and variance
    1.
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
        latents = vae.encode(batch).latent_dist
        error = vae.decode(latents.sample(generator=generator)).sample - batch
        grey = error.mean(1, keepdim=True)
        return (
            grey.square().mean() + 4 * (error - grey).square().mean() + 1e-5 * latents.kl().mean() / (LATENTS * SIDE**2)
        )

    minimise(list(vae.parameters()), loss, steps, 1e-2, on_step)
    vae.eval().requires_grad_(False)
    vae.register_to_config(scaling_factor=1.0)
    _standardise(vae, encode(vae, pictures[:: max(1, len(pictures) // 2048)], device))
    return vae


def _standardise(vae: Any, latents: torch.Tensor) -> None:
    """Changes the two 1 x 1 convolutions around the latents so that each channel of ``latents`` gets mean 0
    and variance 1.

    A single ``scaling_factor`` cannot subtract a mean, nor scale channels differently; it is 1 here.
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
    """Returns the scaled latents (n, 4, 8, 8), on the CPU, of uint8 pictures: the means of the VAE's
    distributions."""
    modes = [vae.encode(pixels(part.to(device))).latent_dist.mode().cpu() for part in pictures.split(256)]
    return torch.cat(modes) * vae.config.scaling_factor


# Captions -> tokens -> embeddings


def tokenizer() -> Any:
    """Returns a tokenizer with one token per word of the captions."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pad, unknown, start, end = SPECIAL
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *captions.words()])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special_tokens = [(start, vocabulary[start]), (end, vocabulary[end])]
    words.post_processor = processors.TemplateProcessing(single=f"{start} $A {end}", special_tokens=special_tokens)
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
    """Returns a CLIPTextModel, trained to match captions with pictures (CLIP, Radford et al. 2021).

    The picture encoder that is trained with it is discarded.

    Args:
        pictures: uint8 (n, 3, 32, 32).
        ids: token ids of their captions, int64 (n, 16).
        width: Width of the embeddings.
        steps: Training steps, 128 pairs each. If captions of a batch are equal, all of their pictures count
            as correct.
        generator: Generator of weights and batches.
        device: The device to train on.
        on_step: Called after each step with its number.
    """
    from transformers import CLIPTextConfig, CLIPTextModel

    text_encoder = CLIPTextModel(CLIPTextConfig(
        vocab_size=len(SPECIAL) + len(captions.words()), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
        num_attention_heads=TEXT_HEADS, max_position_embeddings=LENGTH, projection_dim=width,
        pad_token_id=SPECIAL.index("<pad>"), bos_token_id=SPECIAL.index("<start>"), eos_token_id=SPECIAL.index("<end>"),
    ))  # fmt: skip
    picture_encoder = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1),
        nn.SiLU(),
        nn.Conv2d(16, 32, 3, 2, 1),
        nn.SiLU(),
        nn.Conv2d(32, 64, 3, 2, 1),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(64 * 16, width),
    )
    for model in (text_encoder, picture_encoder):
        initialise(model, "kaiming-uniform", 0.1, generator)
        model.to(device)
    log_scale = nn.Parameter(torch.tensor(math.log(10.0), device=device))
    normalise = nn.functional.normalize

    def loss() -> torch.Tensor:
        rows = torch.randint(len(ids), (128,), generator=generator)
        batch = ids[rows].to(device)
        same = (batch[:, None] == batch[None]).all(-1).float()
        target = same / same.sum(1, keepdim=True)
        scores = (
            log_scale.exp()
            * normalise(text_encoder(input_ids=batch).pooler_output, dim=-1)
            @ normalise(picture_encoder(pixels(pictures[rows].to(device))), dim=-1).T
        )
        return nn.functional.cross_entropy(scores, target) + nn.functional.cross_entropy(scores.T, target)

    minimise([*text_encoder.parameters(), *picture_encoder.parameters(), log_scale], loss, steps, 2e-3, on_step)
    return text_encoder.eval().requires_grad_(False)


@torch.no_grad()
def embed(encoder: Any, ids: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Returns the embeddings (n, 16, width), on the CPU, for the UNet's cross-attention."""
    return torch.cat([encoder(input_ids=part.to(device)).last_hidden_state.cpu() for part in ids.split(256)])


# Noise


def noise_schedule() -> Any:
    """Returns the noise schedule of Stable Diffusion, 1000 steps, for sampling with DDIM.

    Its last step keeps a trace of the picture. Without one, the predicted noise would carry no information
    about the picture, and the first sampling step would multiply the error of this prediction by hundreds.
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
