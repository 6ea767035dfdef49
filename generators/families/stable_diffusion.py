"""Small Stable Diffusion models: a UNet (diffusers) that is trained on captioned pictures, within frozen parts that its tree shares."""

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
from mothr.generators.values.seeds import torch_generator
from mothr.generators.values.symmetry import Symmetry

LINEAR_LAYERS = ("to_q", "to_k", "to_v", "to_out.0")
DROPPED = 0.1
"""Share of the training pictures whose caption is left out, so that a model also learns to draw without one (classifier-free guidance)."""
TESTED = 256
"""Test pictures of each domain that a model is tested on, each with ``TIMES`` of the schedule's steps."""
TIMES = 2


class StableDiffusion(BaseModel):
    """The configuration of one UNet, and of the frozen parts of each tree: VAE, text encoder, tokenizer, noise schedule.

    What is stored of a model is its UNet; the frozen parts lie in ``companions/<tree>/`` of the data set.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: ClassVar[str] = ""
    packages: ClassVar[tuple[str, ...]] = (
        "torch", "diffusers", "transformers", "tokenizers", "numpy", "matplotlib", "pillow",
    )  # fmt: skip
    stored: ClassVar[str] = (
        "A model is a UNet. The VAE, the text encoder, the tokenizer and the noise schedule, which all models of a tree share, "
        "lie in `companions/`, one folder a root, and are no part of what a method reads."
    )
    measured: ClassVar[str] = (
        "Noise explained: 1 minus the squared error of the predicted noise over the noise's own square, on fixed test pictures, captions, "
        "noise and steps of the schedule of their domain (roots: of their mixture), before and after training. Predicting nothing gives 0."
    )
    fresh: ClassVar[str] = ""
    shortcuts: ClassVar[tuple[str, ...]] = ()
    has_heads: ClassVar[bool] = False
    has_companions: ClassVar[bool] = True
    repeats_on_gpu: ClassVar[bool] = True

    channels: Annotated[tuple[PositiveInt, ...], Field(min_length=2, max_length=4)]
    """Channels of the UNet at full, half, ... resolution of the latents; all but the last have attention."""
    layers: PositiveInt
    """Residual blocks at each resolution."""
    heads: PositiveInt
    """Attention heads."""
    groups: PositiveInt
    """Groups of each group norm."""
    text_size: PositiveInt
    """Width of the text encoder, to which the UNet attends."""
    vae_steps: PositiveInt
    """Training steps of a tree's VAE."""
    text_steps: PositiveInt
    """Training steps of a tree's text encoder."""

    @model_validator(mode="after")
    def _divides(self) -> "StableDiffusion":
        for size in self.channels:
            for name, parts in (("heads", self.heads), ("groups", self.groups)):
                if size % parts:
                    raise ValueError(f"model.channels {size} is no multiple of model.{name} {parts}")
        if self.text_size % shared.TEXT_HEADS:
            raise ValueError(
                f"model.text_size {self.text_size} is no multiple of {shared.TEXT_HEADS}, the text encoder's heads"
            )
        return self

    def check_tasks(self, tasks: Sequence[str]) -> None:
        """Raises MothrError if one of ``tasks`` does not exist."""
        for task in tasks:
            captions.DOMAINS.find(task)

    def check_lora(self, ranks: Sequence[int], targets: Sequence[str]) -> None:
        """Raises ValueError if a target is no linear layer of attention, or a rank is above the shorter side of one."""
        for target in targets:
            if target not in LINEAR_LAYERS:
                raise ValueError(
                    f"lora.targets: {target!r} is no linear layer of this family's attention; choose from {', '.join(LINEAR_LAYERS)}"
                )
            width = min(*self.channels, self.text_size) if target in ("to_k", "to_v") else min(self.channels)
            for rank in ranks:
                if rank > width:
                    raise ValueError(
                        f"lora.ranks: rank {rank} is above {width}, the rank of {target}; it would be no low-rank update"
                    )

    def data(self, task: str) -> tuple[str, str]:
        """Returns what the pictures and captions of ``task`` are, and where they come from under which licence."""
        domain = captions.DOMAINS.find(task)
        return domain.description, domain.source

    def data_digests(self, tasks: Sequence[str]) -> Mapping[str, str]:
        """Returns nothing: the pictures depend on the code and ``packages`` alone."""
        return {}

    def build(self, init: str, std: float, generator: torch.Generator) -> nn.Module:
        """Returns a fresh UNet: matrices and kernels drawn from ``init`` with ``generator``, biases 0, norm weights 1."""
        from diffusers import UNet2DConditionModel  # takes seconds to import, and most commands never build a model

        depth = len(self.channels) - 1
        model = UNet2DConditionModel(
            sample_size=shared.SIDE, in_channels=shared.LATENTS, out_channels=shared.LATENTS, block_out_channels=self.channels,
            down_block_types=("CrossAttnDownBlock2D",) * depth + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * depth,
            layers_per_block=self.layers, norm_num_groups=self.groups, cross_attention_dim=self.text_size,
            attention_head_dim=self.heads,  # by this name diffusers means the number of heads
        )  # fmt: skip
        initialise(model, init, std, generator)
        return model

    def load(self, folder: Path) -> nn.Module:
        """Returns the UNet stored in ``folder``."""
        from diffusers import UNet2DConditionModel

        return UNet2DConditionModel.from_pretrained(folder)

    def save(self, model: Any, folder: Path) -> None:
        """Writes ``model`` to ``folder`` with its own ``save_pretrained``."""
        model.save_pretrained(folder)

    def companions(self, seed: int, folder: Path, device: torch.device, on_step: Callable[[int], None]) -> None:
        """Trains and writes the VAE, text encoder, tokenizer and noise schedule of the tree of ``root``."""
        shared.write(folder, seed, self.text_size, self.vae_steps, self.text_steps, device, on_step)

    def symmetries(self) -> "Sequence[Symmetry]":
        """Returns nothing: convolutions with skip connections between resolutions are left as they are."""
        return ()

    def objective(
        self, tasks: Sequence[str], generator: torch.Generator, device: torch.device, companions: Path | None = None
    ) -> "Denoising":
        """Returns what a UNet is trained and tested on for ``tasks``; nothing in it is random, so ``generator`` is not used.

        Raises:
            MothrError: ``companions`` is missing, or was made for another configuration.
        """
        if companions is None:
            raise MothrError(
                "a Stable Diffusion model needs its tree's companions (VAE, text encoder); generate the data set again"
            )
        return Denoising(tasks, companions, self.text_size, device)

    def show(self, out: Path, truth: Truth) -> Sequence[str]:
        """Returns lines about what the models draw, and writes their pictures to ``samples.png`` in ``out``."""
        from mothr.generators.families import samples  # loads the models that this file only trains

        return samples.show(out, truth)


class Denoising:
    """One or more caption domains: noised latents, the noise that a UNet is to find in them, and how much of it it finds."""

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
        self._kept = parts.scheduler.alphas_cumprod
        train, test = ([captions.load(task, part) for task in tasks] for part in ("train", "test"))
        texts = sorted({text for _, found in (*train, *test) for text in found})
        rows = {text: row for row, text in enumerate(["", *texts])}
        self._texts = shared.embed(parts.encoder.to(device), shared.tokenize(parts.tokenizer, list(rows)), device)
        self._train = self._latents(parts.vae.to(device), rows, train, None)
        self._test = self._latents(parts.vae, rows, test, TESTED)

    def _latents(
        self, vae: Any, rows: Mapping[str, int], parts: Sequence[tuple[torch.Tensor, Sequence[str]]], most: int | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the scaled latents (n, 4, 8, 8) of at most so many pictures of each domain, and the rows of their captions."""
        pictures = torch.cat([pictures[:most] for pictures, _ in parts])
        said = torch.tensor([rows[text] for _, found in parts for text in found[:most]])
        return shared.encode(vae, pictures, self.device), said

    def parameters(self) -> list[nn.Parameter]:
        """Returns nothing: all that trains is the UNet's own."""
        return []

    def loss(self, model: nn.Module, batch_size: int, generator: torch.Generator) -> torch.Tensor:
        """Returns the mean squared error of the noise that ``model`` predicts for one random batch; the noise's variance is 1."""
        noised, times, texts, noise = self._batch(batch_size, generator)
        return nn.functional.mse_loss(_predict(model, noised, times, texts), noise)

    def _batch(self, batch_size: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Returns noised latents, their steps of the schedule, their captions' embeddings and the noise, on the device."""
        latents, said = self._train
        rows = torch.randint(len(said), (batch_size,), generator=generator)
        dropped = torch.rand(batch_size, generator=generator) < DROPPED
        return self._noised(latents[rows], said[rows].masked_fill(dropped, 0), generator)

    def _noised(
        self, latents: torch.Tensor, said: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, ...]:
        times = torch.randint(shared.NOISE_STEPS, (len(said),), generator=generator)
        noise = torch.randn(latents.shape, generator=generator)
        kept = self._kept[times][:, None, None, None]
        noised = kept.sqrt() * latents + (1 - kept).sqrt() * noise  # Ho et al. 2020, equation 4
        return tuple(value.to(self.device) for value in (noised, times, self._texts[said], noise))

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> float:
        """Returns the share of the noise's variance that ``model`` explains on the test pictures, the same noise every time."""
        left = total = torch.zeros((), dtype=torch.float64)
        for noised, times, texts, noise in self._probe():
            left = left + (_predict(model, noised, times, texts) - noise).double().square().sum().cpu()
            total = total + noise.double().square().sum().cpu()
        return float(1 - left / total)

    def _probe(self) -> list[tuple[torch.Tensor, ...]]:
        """Returns the noised test pictures in batches of 128, each mixed from all domains."""
        latents, said = self._test
        generator = torch_generator("test noise")
        rows = torch.randperm(len(said), generator=generator).repeat(TIMES)
        return [self._noised(latents[part], said[part], generator) for part in rows.split(128)]

    @property
    def tested_on(self) -> int:
        """Number of test pictures times steps of the schedule."""
        return TIMES * len(self._test[1])

    @torch.no_grad()
    def outputs(self, model: nn.Module) -> torch.Tensor:
        """Returns the noise (at most 128, 4, 8, 8) that ``model`` predicts for the first noised test pictures."""
        noised, times, texts, _ = self._probe()[0]
        return _predict(model, noised, times, texts).cpu()

    def state(self) -> dict[str, torch.Tensor]:
        """Returns nothing: all that trains is the UNet's own."""
        return {}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Takes over nothing."""

    def distillation_loss(
        self, teacher: nn.Module, taught: "Denoising"
    ) -> Callable[[nn.Module, int, torch.Generator], torch.Tensor]:
        """Returns the loss of a student: the squared error between its predicted noise and the teacher's."""

        def loss(model: nn.Module, batch_size: int, generator: torch.Generator) -> torch.Tensor:
            noised, times, texts, _ = self._batch(batch_size, generator)
            with torch.no_grad():
                wanted = _predict(teacher, noised, times, texts)
            return nn.functional.mse_loss(_predict(model, noised, times, texts), wanted)

        return loss


def _predict(model: nn.Module, noised: torch.Tensor, times: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Returns the noise that ``model`` sees in ``noised``."""
    return model(noised, times, encoder_hidden_states=texts).sample
