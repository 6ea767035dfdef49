"""Small Stable Diffusion models: a UNet (diffusers), trained on pictures with captions, between frozen parts
that its tree shares."""

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from torch import nn

from mothr.benchmark.data.dataset import Truth
from mothr.benchmark.errors import MothrError
from mothr.generators.data import captions
from mothr.generators.families import companions as shared
from mothr.generators.families.initialisation import initialise
from mothr.generators.families.lora import check_lora
from mothr.generators.values.objective import BatchLoss
from mothr.generators.values.seeds import torch_generator
from mothr.generators.values.symmetry import Symmetry

LINEAR_LAYERS = ("to_q", "to_k", "to_v", "to_out.0")
DROPPED = 0.1
"""Fraction of the training captions that is dropped, so that a model also learns to draw without one
(classifier-free guidance)."""
TESTED = 256
"""Number of test pictures per domain."""
TIMES = 2
"""Number of noise steps at which each test picture is tested."""


class StableDiffusion(BaseModel):
    """The configuration of one UNet, and of the frozen parts of each tree: VAE, text encoder, tokenizer and
    noise schedule.

    A stored model is a UNet. The frozen parts are in ``companions/<tree>/`` of the data set.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: ClassVar[str] = ""
    packages: ClassVar[tuple[str, ...]] = (
        "torch", "diffusers", "transformers", "tokenizers", "numpy", "matplotlib", "pillow",
    )  # fmt: skip
    stored: ClassVar[str] = (
        "A model is a UNet. All models of a tree share a VAE, a text encoder, a tokenizer and a noise schedule. "
        "These are in `companions/`, one folder per root, and a method does not read them."
    )
    measured: ClassVar[str] = (
        "The metric is the noise explained, before and after training: 1 - (squared error of the predicted noise) / (squared noise). "
        "Test pictures, captions, noise and noise steps are fixed, and are those of a model's domains. Predicting zero gives 0."
    )
    fresh: ClassVar[str] = ""
    shortcuts: ClassVar[tuple[str, ...]] = ()
    has_heads: ClassVar[bool] = False
    has_companions: ClassVar[bool] = True
    repeats_on_gpu: ClassVar[bool] = True

    channels: Annotated[tuple[PositiveInt, ...], Field(min_length=2, max_length=4)]
    """Channels of the UNet at full, half, ... resolution of the latents. All resolutions but the last have
    attention."""
    layers: PositiveInt
    """Residual blocks at each resolution."""
    heads: PositiveInt
    """Attention heads."""
    groups: PositiveInt
    """Groups of each group normalisation."""
    text_size: PositiveInt
    """Width of the text encoder, and of the UNet's cross-attention."""
    vae_steps: PositiveInt
    """Training steps of a tree's VAE."""
    text_steps: PositiveInt
    """Training steps of a tree's text encoder."""
    companions_seed: int | None = None
    """Seed of the VAE and the text encoder. Trees with the same number share them, as public models share those of
    Stable Diffusion. Absent: each tree has its own."""

    @model_validator(mode="after")
    def _check_sizes(self) -> "StableDiffusion":
        for size in self.channels:
            for name, parts in (("heads", self.heads), ("groups", self.groups)):
                if size % parts:
                    raise ValueError(f"model.channels {size} is not a multiple of model.{name} {parts}")
        if self.text_size % shared.TEXT_HEADS:
            raise ValueError(
                f"model.text_size {self.text_size} is not a multiple of {shared.TEXT_HEADS}, the text encoder's heads"
            )
        return self

    def check_tasks(self, tasks: Sequence[str]) -> None:
        """Raises MothrError if one of ``tasks`` does not exist."""
        for task in tasks:
            captions.DOMAINS.find(task)

    def check_lora(self, ranks: Sequence[int], targets: Sequence[str]) -> None:
        """Raises ValueError if a target is not a linear layer of attention, or if a rank is above the shorter
        side of its matrix."""
        ranks_of = dict.fromkeys(LINEAR_LAYERS, min(self.channels))
        ranks_of |= dict.fromkeys(("to_k", "to_v"), min(*self.channels, self.text_size))
        check_lora(ranks, targets, ranks_of)

    def data(self, task: str) -> tuple[str, str]:
        """Returns a description of the pictures and captions of ``task``, and their origin and licence."""
        domain = captions.DOMAINS.find(task)
        return domain.description, domain.source

    def data_digests(self, tasks: Sequence[str]) -> Mapping[str, str]:
        """Returns nothing: the pictures depend only on the code and on ``packages``."""
        return {}

    def build(self, init: str, std: float, generator: torch.Generator) -> nn.Module:
        """Returns a fresh UNet: matrices and kernels drawn from ``init`` with ``generator``, biases 0, norm
        weights 1."""
        from diffusers import UNet2DConditionModel  # takes seconds, and most commands build no model

        depth = len(self.channels) - 1
        model = UNet2DConditionModel(
            sample_size=shared.SIDE, in_channels=shared.LATENTS, out_channels=shared.LATENTS, block_out_channels=self.channels,
            down_block_types=("CrossAttnDownBlock2D",) * depth + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * depth,
            layers_per_block=self.layers, norm_num_groups=self.groups, cross_attention_dim=self.text_size,
            attention_head_dim=self.heads,  # the number of heads, in spite of its name in diffusers
        )  # fmt: skip
        initialise(model, init, std, generator)
        return model

    def load(self, folder: Path) -> nn.Module:
        """Returns the UNet stored in ``folder``."""
        from diffusers import UNet2DConditionModel

        return UNet2DConditionModel.from_pretrained(folder, torch_dtype=torch.float32)

    def save(self, model: Any, folder: Path) -> None:
        """Writes ``model`` to ``folder`` by its ``save_pretrained``."""
        model.save_pretrained(folder)

    def companions_key(self) -> Mapping[str, Any] | None:
        """Returns the settings of the frozen parts if they have a seed of their own."""
        if self.companions_seed is None:
            return None
        return self.model_dump(include={"text_size", "vae_steps", "text_steps", "companions_seed"})

    def companions(self, seed: int, folder: Path, device: torch.device, on_step: Callable[[int], None]) -> None:
        """Trains and writes the VAE, text encoder, tokenizer and noise schedule of one tree, from
        ``companions_seed`` or the seed of its root."""
        own = seed if self.companions_seed is None else self.companions_seed
        shared.write(folder, own, self.text_size, self.vae_steps, self.text_steps, device, on_step)

    def symmetries(self) -> Sequence[Symmetry]:
        """Returns nothing: symmetries of convolutions with skip connections are not implemented."""
        return ()

    def objective(
        self, tasks: Sequence[str], generator: torch.Generator, device: torch.device, companions: Path | None = None
    ) -> "Denoising":
        """Returns the objective of ``tasks``. It has no heads, so ``generator`` is not used.

        Raises:
            MothrError: ``companions`` is absent, or was made for another configuration.
        """
        if companions is None:
            raise MothrError(
                "a Stable Diffusion model needs its tree's companions (VAE, text encoder); generate the data set again"
            )
        return Denoising(tasks, companions, self.text_size, device)

    def show(self, out: Path, truth: Truth) -> Sequence[str]:
        """Returns lines about samples of the models, and writes a picture of them to ``samples.png`` in
        ``out``."""
        from mothr.generators.families import samples  # imports much that training does not need

        return samples.show(out, truth)


class Denoising:
    """One or more caption domains: the loss and the metric of predicting the noise in noised latents."""

    metric = "noise explained"
    chance = 0.0

    def __init__(self, tasks: Sequence[str], companions: Path, text_size: int, device: torch.device) -> None:
        self.tasks = tuple(tasks)
        self.device = device
        parts = shared.load(companions)
        if parts.vae.config.latent_channels != shared.LATENTS or parts.encoder.config.hidden_size != text_size:
            raise MothrError(
                f"{companions}: holds latents of {parts.vae.config.latent_channels} channels and text of width "
                f"{parts.encoder.config.hidden_size}; this UNet needs {shared.LATENTS} and {text_size}: generate the data set again"
            )
        self._signal = parts.scheduler.alphas_cumprod
        train, test = ([captions.load(task, part) for task in tasks] for part in ("train", "test"))
        texts = sorted({text for _, texts_of in (*train, *test) for text in texts_of})
        rows = {text: row for row, text in enumerate(["", *texts])}
        self._texts = shared.embed(parts.encoder.to(device), shared.tokenize(parts.tokenizer, list(rows)), device)
        self._train = self._latents(parts.vae.to(device), rows, train, None)
        self._test = self._latents(parts.vae, rows, test, TESTED)

    def _latents(
        self, vae: Any, rows: Mapping[str, int], parts: Sequence[tuple[torch.Tensor, Sequence[str]]], most: int | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the scaled latents (n, 4, 8, 8) of at most ``most`` pictures of each domain, and the rows
        of their captions."""
        pictures = torch.cat([pictures[:most] for pictures, _ in parts])
        caption_rows = torch.tensor([rows[text] for _, texts_of in parts for text in texts_of[:most]])
        return shared.encode(vae, pictures, self.device), caption_rows

    def parameters(self) -> list[nn.Parameter]:
        """Returns nothing: only the UNet is trained."""
        return []

    def loss(self, model: nn.Module, batch_size: int, generator: torch.Generator) -> torch.Tensor:
        """Returns the mean squared error of the noise that ``model`` predicts for one random batch. The noise
        has variance 1."""
        noised, times, texts, noise = self._batch(batch_size, generator)
        return nn.functional.mse_loss(_predict(model, noised, times, texts), noise)

    def _batch(self, batch_size: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Returns a random batch on the device: noised latents, noise steps, embeddings of the captions, and
        the noise."""
        latents, captions_of = self._train
        rows = torch.randint(len(captions_of), (batch_size,), generator=generator)
        dropped = torch.rand(batch_size, generator=generator) < DROPPED
        return self._noised(latents[rows], captions_of[rows].masked_fill(dropped, 0), generator)

    def _noised(
        self, latents: torch.Tensor, captions_of: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, ...]:
        times = torch.randint(shared.NOISE_STEPS, (len(captions_of),), generator=generator)
        noise = torch.randn(latents.shape, generator=generator)
        signal = self._signal[times][:, None, None, None]
        noised = signal.sqrt() * latents + (1 - signal).sqrt() * noise  # Ho et al. 2020, equation 4
        return tuple(value.to(self.device) for value in (noised, times, self._texts[captions_of], noise))

    def with_label_noise(self, fraction: float, generator: torch.Generator) -> "Denoising":
        """Returns this objective, where ``fraction`` of the training pictures have the caption of another of
        these pictures. The wrong captions are drawn once."""
        latents, captions_of = self._train
        rows = torch.randperm(len(captions_of), generator=generator)[: round(fraction * len(captions_of))]
        wrong = captions_of.clone()
        wrong[rows] = captions_of[rows.roll(1)]
        noisy = copy.copy(self)
        noisy._train = latents, wrong
        return noisy

    def evaluate(self, model: nn.Module) -> float:
        """Returns the fraction of the noise that ``model`` explains on the test pictures; the noise is the
        same every time."""
        return self.measure(model)[0]

    def test_loss(self, model: nn.Module) -> float:
        """Returns the mean squared error of the predicted noise on the test pictures."""
        return self.measure(model)[1]

    @torch.no_grad()
    def measure(self, model: nn.Module) -> tuple[float, float]:
        """Returns the fraction of the noise that ``model`` explains on the test pictures, and the mean squared
        error."""
        error = total = torch.zeros((), dtype=torch.float64)
        count = 0
        for noised, times, texts, noise in self._probe():
            error = error + (_predict(model, noised, times, texts) - noise).double().square().sum().cpu()
            total = total + noise.double().square().sum().cpu()
            count += noise.numel()
        return float(1 - error / total), float(error / count)

    def _probe(self) -> list[tuple[torch.Tensor, ...]]:
        """Returns the noised test pictures in batches of 128; each batch is a mixture of all domains."""
        latents, captions_of = self._test
        generator = torch_generator("test noise")
        rows = torch.randperm(len(captions_of), generator=generator).repeat(TIMES)
        return [self._noised(latents[part], captions_of[part], generator) for part in rows.split(128)]

    @property
    def tested_on(self) -> int:
        """Number of test pictures times noise steps per picture."""
        return TIMES * len(self._test[1])

    @torch.no_grad()
    def outputs(self, model: nn.Module) -> torch.Tensor:
        """Returns the noise (at most 128, 4, 8, 8) that ``model`` predicts for the first noised test
        pictures."""
        noised, times, texts, _ = self._probe()[0]
        return _predict(model, noised, times, texts).cpu()

    def state(self) -> dict[str, torch.Tensor]:
        """Returns nothing: only the UNet is trained."""
        return {}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Does nothing: there are no heads."""

    def distillation_loss(self, teacher: nn.Module, teacher_objective: "Denoising") -> BatchLoss:
        """Returns a student's loss: the squared error between the noise predicted by the student and by the
        teacher."""

        def loss(model: nn.Module, batch_size: int, generator: torch.Generator) -> torch.Tensor:
            noised, times, texts, _ = self._batch(batch_size, generator)
            with torch.no_grad():
                target = _predict(teacher, noised, times, texts)
            return nn.functional.mse_loss(_predict(model, noised, times, texts), target)

        return loss


def _predict(model: nn.Module, noised: torch.Tensor, times: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Returns the noise that ``model`` predicts in ``noised``."""
    return model(noised, times, encoder_hidden_states=texts).sample
