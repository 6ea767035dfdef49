"""Samples of finished Stable Diffusion models, and the figures and pictures that a card shows of them."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from mothr.benchmark.data.dataset import COMPANIONS, MODELS, Truth
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import NodeId
from mothr.benchmark.storage import write_bytes
from mothr.generators.data import captions
from mothr.generators.families import companions as shared
from mothr.generators.families.initialisation import initialise
from mothr.generators.values.seeds import torch_generator

READ = 128
"""Number of samples per root that the classifier reads."""
READER_STEPS = 600
"""Training steps of this classifier, 64 pictures each."""
SAMPLING_STEPS = 25
"""Steps of DDIM."""
GUIDANCE = 3.0
"""Scale of classifier-free guidance (Ho and Salimans 2022)."""
KINDS = {word: index for index, pair in enumerate(captions.SHAPES.values()) for word in pair}
"""Shape word -> class."""
HUES = {word: index for index, word in enumerate(captions.COLOURS)}
"""Colour word -> class."""
PICTURE = "samples.png"
"""File in the data set with samples of a root and its children."""


def open_pipeline(dataset: Path, model: NodeId, tree: int | None) -> Any:
    """Returns the StableDiffusionPipeline of one model of a data set: its UNet between the frozen parts of
    its tree.

    Raises:
        MothrError: the frozen parts are absent, or do not fit the UNet.
    """
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel
    from diffusers.utils.logging import disable_progress_bar

    disable_progress_bar()
    parts = shared.load(dataset / COMPANIONS / str(tree))
    unet = UNet2DConditionModel.from_pretrained(dataset / MODELS / model).eval()
    if (
        unet.config.in_channels != parts.vae.config.latent_channels
        or unet.config.cross_attention_dim != parts.encoder.config.hidden_size
    ):
        raise MothrError(
            f"{dataset / MODELS / model}: does not fit the companions of tree {tree}; generate the data set again"
        )
    pipeline = StableDiffusionPipeline(
        vae=parts.vae, text_encoder=parts.encoder, tokenizer=parts.tokenizer, unet=unet, scheduler=parts.scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw(pipeline: Any, prompts: Sequence[str], seed: int) -> torch.Tensor:
    """Returns one picture per prompt, uint8 (n, 3, 32, 32), from noise drawn with ``seed`` (DDIM, 25 steps,
    guidance 3)."""
    noise = torch.randn(
        len(prompts), shared.LATENTS, shared.SIDE, shared.SIDE, generator=torch_generator(seed, "samples")
    )
    samples = pipeline(
        prompt=list(prompts), latents=noise.to(pipeline.device), num_inference_steps=SAMPLING_STEPS, guidance_scale=GUIDANCE,
        output_type="np",
    )  # fmt: skip
    return torch.from_numpy(np.rint(samples.images * 255).astype(np.uint8)).permute(0, 3, 1, 2)


# A classifier that was trained on real pictures reads the samples


def labels(texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the rows of the captions that name one large shape and one colour, int64 (m,), and both
    classes, int64 (m, 2).

    Small shapes have only a few pixels, which a VAE of this size does not resolve.
    """
    rows, classes = [], []
    for row, text in enumerate(texts):
        kinds, hues = ([known[word] for word in text.split() if word in known] for known in (KINDS, HUES))
        if len(kinds) == len(hues) == text.split().count("large") == 1:
            rows.append(row)
            classes.append((kinds[0], hues[0]))
    return torch.tensor(rows, dtype=torch.int64), torch.tensor(classes, dtype=torch.int64).reshape(-1, 2)


def train_reader(tasks: Sequence[str]) -> nn.Module:
    """Returns a classifier of shape and colour, (n, 3, 32, 32) -> logits (n, 10 + 6), trained on the real
    pictures of ``tasks``."""
    parts = [captions.load(task, "train") for task in tasks]
    rows, classes = labels([text for _, captions_of in parts for text in captions_of])
    pictures = torch.cat([pictures for pictures, _ in parts])[rows]
    generator = torch_generator("reader")
    reader = nn.Sequential(
        nn.Conv2d(3, 32, 5, 2, 2), nn.SiLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.SiLU(), nn.Conv2d(64, 64, 3, 1, 1), nn.SiLU(),
        nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, len(captions.SHAPES) + len(HUES)),
    )  # fmt: skip
    initialise(reader, "kaiming-uniform", 0.0, generator)

    def loss() -> torch.Tensor:
        batch = torch.randint(len(pictures), (64,), generator=generator)
        kinds, hues = reader(shared.pixels(pictures[batch])).split((len(captions.SHAPES), len(HUES)), 1)
        target = classes[batch]
        return nn.functional.cross_entropy(kinds, target[:, 0]) + nn.functional.cross_entropy(hues, target[:, 1])

    shared.minimise(list(reader.parameters()), loss, READER_STEPS, 3e-3, lambda step: None)
    return reader.eval()


@torch.no_grad()
def read(reader: nn.Module, pictures: torch.Tensor, texts: Sequence[str]) -> tuple[float, float, int]:
    """Returns the accuracy of the classifier for shape and for colour against the captions, and the number of
    captions used."""
    rows, classes = labels(texts)
    kinds, hues = reader(shared.pixels(pictures[rows])).split((len(captions.SHAPES), len(HUES)), 1)
    correct = torch.stack([kinds.argmax(1), hues.argmax(1)], 1) == classes
    return float(correct[:, 0].float().mean()), float(correct[:, 1].float().mean()), len(rows)


# The card


def show(out: Path, truth: Truth) -> list[str]:
    """Returns Markdown about samples of the models in the data set ``out``, and writes ``samples.png``."""
    roots = [
        node for node, value in sorted(truth.nodes.items(), key=lambda item: item[1].tree or 0) if not value.parents
    ]
    tasks = {node: (value.task or "").split("+") for node, value in truth.nodes.items()}
    return [
        "",
        "## What the models draw",
        "",
        *_figures(out, truth, tasks, roots),
        *_grid(out, truth, tasks, roots[0]),
        "",
    ]


def _figures(out: Path, truth: Truth, tasks: Mapping[NodeId, Sequence[str]], roots: Sequence[NodeId]) -> list[str]:
    """Returns a table of the classifier's accuracy on samples of each root that was trained on large shapes."""
    known = {node: examples for node in roots if (examples := _clear(tasks[node]))[1]}
    if not known:
        return []
    reader = train_reader(sorted({task for node in known for task in tasks[node]}))
    lines = [
        f"Samples of the roots (DDIM, {SAMPLING_STEPS} steps, guidance {GUIDANCE:g}) for test captions of one large shape. "
        "A small classifier that was trained on the real pictures reads them. Chance is the accuracy of a constant class.", "",
        "| tree | samples | shape read | chance | colour read | chance | shape and colour read off real test pictures |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for node, (real, texts) in known.items():
        tree = truth.nodes[node].tree
        (shape, colour, n), (form, hue, _) = (
            read(reader, draw(open_pipeline(out, node, tree), texts, 0), texts),
            read(reader, real, texts),
        )
        chances = [float(torch.bincount(column).max()) / n for column in labels(texts)[1].T]
        lines.append(
            f"| {tree} | {n} | {shape:.2f} | {chances[0]:.2f} | {colour:.2f} | {chances[1]:.2f} | {form:.2f}, {hue:.2f} |"
        )
    return [*lines, ""]


def _clear(tasks: Sequence[str]) -> tuple[torch.Tensor, list[str]]:
    """Returns test pictures whose captions name one large shape and its colour, equally many per task, and
    the captions."""
    pictures, texts = [], []
    for task in tasks:
        task_pictures, task_texts = captions.load(task, "test")
        rows = labels(task_texts)[0][: READ // len(tasks)]  # empty if a task has small shapes only
        pictures.append(task_pictures[rows])
        texts += [task_texts[row] for row in rows]
    return torch.cat(pictures), texts


def _grid(out: Path, truth: Truth, tasks: Mapping[NodeId, Sequence[str]], root: NodeId) -> list[str]:
    """Writes a picture with one row per model and one column per prompt, and returns lines about it. A column
    has the same noise."""
    tree = truth.nodes[root].tree
    models = [root, *sorted(node for node, value in truth.nodes.items() if value.parents == (root,))][:5]
    prompts = [text for model in models for task in tasks[model][:1] for text in captions.load(task, "test")[1][:3]]
    rows = []
    for model in models:
        pictures = draw(open_pipeline(out, model, tree), prompts, 1)
        framed = torch.nn.functional.pad(
            pictures.repeat_interleave(2, 2).repeat_interleave(2, 3), (1, 1, 1, 1), value=128
        )
        rows.append(torch.cat(list(framed), 2))
    content = BytesIO()
    Image.fromarray(torch.cat(rows, 1).permute(1, 2, 0).numpy()).save(content, format="PNG")
    write_bytes(out / PICTURE, content.getvalue())
    return [
        f"![samples of a root and its children]({PICTURE})", "",
        f"Rows: the root of tree {tree} ({'+'.join(tasks[root])}), then its children "
        f"({', '.join('+'.join(tasks[model]) for model in models[1:])}). Columns, each with the same noise: "
        + "; ".join(prompts) + ".",
    ]  # fmt: skip
