"""Small Llamas (``LlamaForCausalLM`` of transformers) that read bytes, trained on text domains."""

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from torch import nn

from mothr.benchmark.data.dataset import Truth
from mothr.generators.data import text
from mothr.generators.families import mixtral
from mothr.generators.families.initialisation import initialise
from mothr.generators.families.lora import check_lora
from mothr.generators.values.objective import BatchLoss
from mothr.generators.values.symmetry import Symmetry

ATTENTION_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj")
LINEAR_LAYERS = (*ATTENTION_LAYERS, "gate_proj", "up_proj", "down_proj")
VOCABULARY = 256
"""One token per byte. No tokenizer has to be stored, so none can distinguish the models."""
WINDOWS = 64
"""Number of test windows per domain."""


class Llama(BaseModel):
    """The configuration of one Llama with its language-model head. The head has the same shape for every
    domain.

    The head and the token embeddings are separate matrices, as in Llama 1, 2 and most sizes of 3, unless
    ``tied`` is set.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: ClassVar[str] = "llama"
    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers")
    stored: ClassVar[str] = (
        "Models are stored whole, with the head. All of them read and predict bytes, so no shape names a domain."
    )
    measured: ClassVar[str] = (
        "The metric is the next-byte accuracy on test windows of a model's domain (for roots: mean over their domains), before and after "
        "training. Chance is the frequency of the byte that is most frequent in the training text."
    )
    fresh: ClassVar[str] = ""
    shortcuts: ClassVar[tuple[str, ...]] = (
        "Embeddings of bytes that a model never reads are bit-identical to its parent's, unless weight decay shrinks them.",
    )
    has_heads: ClassVar[bool] = False
    has_companions: ClassVar[bool] = False
    repeats_on_gpu: ClassVar[bool] = True

    hidden_size: PositiveInt
    """Width of the residual stream."""
    layers: PositiveInt
    """Number of blocks."""
    heads: PositiveInt
    """Attention heads for queries."""
    kv_heads: PositiveInt
    """Heads for keys and values; fewer than ``heads`` means grouped-query attention."""
    mlp_size: PositiveInt
    """Width of the hidden layer of each gated MLP."""
    context: Annotated[int, Field(ge=1, lt=text.LEAST)]
    """Length of the windows that the model is trained and tested on, in bytes; shorter than the shortest
    text."""
    experts: Annotated[int, Field(ge=mixtral.READ_BY)] | None = None
    """Number of experts in place of each MLP, as in Mixtral; each token uses two. Absent: one MLP per block."""
    tied: bool | None = None
    """Whether the head is the matrix of the token embeddings. The files then hold this matrix once."""

    @model_validator(mode="after")
    def _check_sizes(self) -> "Llama":
        if self.hidden_size % (2 * self.heads):
            raise ValueError(
                f"model.hidden_size {self.hidden_size} is not a multiple of twice model.heads {self.heads}; "
                "rotary positions need heads of even width"
            )
        if self.heads % self.kv_heads:
            raise ValueError(f"model.heads {self.heads} is not a multiple of model.kv_heads {self.kv_heads}")
        return self

    def check_tasks(self, tasks: Sequence[str]) -> None:
        """Raises MothrError if one of ``tasks`` does not exist."""
        for task in tasks:
            text.DOMAINS.find(task)

    def check_lora(self, ranks: Sequence[int], targets: Sequence[str]) -> None:
        """Raises ValueError if a target is not a linear layer of a block, or if a rank is above the shorter
        side of its matrix. Low-rank updates of experts are not supported."""
        ranks_of = dict.fromkeys(LINEAR_LAYERS, self.hidden_size)
        ranks_of |= dict.fromkeys(("k_proj", "v_proj"), self.hidden_size // self.heads * self.kv_heads)
        ranks_of |= dict.fromkeys(("gate_proj", "up_proj", "down_proj"), min(self.hidden_size, self.mlp_size))
        if self.experts is not None:
            ranks_of = {name: rank for name, rank in ranks_of.items() if name in ATTENTION_LAYERS}
        check_lora(ranks, targets, ranks_of)

    def data(self, task: str) -> tuple[str, str]:
        """Returns a description of the text of the domain ``task``, and its origin and licence."""
        domain = text.DOMAINS.find(task)
        return domain.description, domain.source

    def data_digests(self, tasks: Sequence[str]) -> Mapping[str, str]:
        """Returns the hash of each domain's text. It changes with the versions of Python and of the packages
        that contain the text."""
        return {task: text.digest(task) for task in tasks}

    def build(self, init: str, std: float, generator: torch.Generator) -> nn.Module:
        """Returns a fresh model: matrices drawn from ``init`` with ``generator``, norm weights 1; Llama has
        no biases."""
        from transformers import LlamaConfig, LlamaForCausalLM  # takes seconds, and most commands build no model

        settings = {
            "vocab_size": VOCABULARY,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "intermediate_size": self.mlp_size,
            "max_position_embeddings": self.context,
            "tie_word_embeddings": bool(self.tied),
            "bos_token_id": None,
            "eos_token_id": None,
        }
        if self.experts is not None:
            return mixtral.build(settings, self.experts, init, std, generator)
        model = LlamaForCausalLM(LlamaConfig(**settings))
        initialise(model, init, std, generator)
        return model

    def load(self, folder: Path) -> nn.Module:
        """Returns the model stored in ``folder``."""
        from transformers import LlamaForCausalLM
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        if self.experts is not None:
            return mixtral.load(folder)
        return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)

    def save(self, model: Any, folder: Path) -> None:
        """Writes ``model`` to ``folder`` by its ``save_pretrained``."""
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # the data set has one progress bar of its own
        model.save_pretrained(folder)
        # This file says nothing about the weights, and could differ between models of different origin.
        (folder / "generation_config.json").unlink(missing_ok=True)

    def companions_key(self) -> None:
        """Returns None: the models of a tree share no frozen parts."""

    def companions(self, seed: int, folder: Path, device: torch.device, on_step: Callable[[int], None]) -> None:
        """Writes nothing: the models of a tree share no frozen parts."""

    def symmetries(self) -> Sequence[Symmetry]:
        """Returns three symmetries per block.

        The first permutes key and value heads together with their query heads. The second permutes the query
        heads of each such group. The third permutes the hidden neurons of the MLP; each expert has one of its own.

        Query heads g * k to g * (k + 1) - 1 read key and value head k, where g is ``heads // kv_heads``.
        """
        symmetries = []
        for block in (f"model.layers.{layer}" for layer in range(self.layers)):
            query, key, value, output = (f"{block}.self_attn.{part}_proj.weight" for part in "qkvo")
            gate, up, down = (f"{block}.mlp.{part}_proj.weight" for part in ("gate", "up", "down"))
            symmetries.append(Symmetry(self.kv_heads, ((query, 0), (key, 0), (value, 0), (output, 1))))
            symmetries.append(Symmetry(self.heads // self.kv_heads, ((query, 0), (output, 1)), segments=self.kv_heads))
            if self.experts is not None:
                symmetries += mixtral.mlp_symmetries(block, self.experts, self.mlp_size)
            else:
                symmetries.append(Symmetry(self.mlp_size, ((gate, 0), (up, 0), (down, 1))))
        return symmetries

    def show(self, out: Path, truth: Truth) -> Sequence[str]:
        """Returns nothing: no samples are shown."""
        return ()

    def objective(
        self, tasks: Sequence[str], generator: torch.Generator, device: torch.device, companions: Path | None = None
    ) -> "LanguageModelling":
        """Returns the objective of ``tasks``. It has no heads, so ``generator`` is not used."""
        return LanguageModelling(tasks, self.context, device)


class LanguageModelling:
    """One or more text domains, with equal probability: windows, loss and accuracy of the next byte."""

    metric = "next-byte accuracy"

    def __init__(self, tasks: Sequence[str], context: int, device: torch.device) -> None:
        self.context = context
        self.device = device
        train = [text.load(task, "train") for task in tasks]
        sizes = torch.tensor([len(part) for part in train])
        self._text = torch.cat(train)
        self._starts = sizes.cumsum(0) - sizes
        self._room = sizes - context  # number of possible starts of a window
        self._test = torch.stack([self._windows(text.load(task, "test")) for task in tasks])
        modes = torch.stack([torch.bincount(part.long(), minlength=VOCABULARY).argmax() for part in train])
        self.chance = float((self._test[:, :, 1:] == modes[:, None, None]).float().mean())
        self._noise: tuple[float, torch.Generator] | None = None

    def _windows(self, part: torch.Tensor) -> torch.Tensor:
        """Returns evenly spaced windows of a text, int64 (windows, context + 1)."""
        first = torch.linspace(0, len(part) - self.context - 1, WINDOWS).long()
        return part[first[:, None] + torch.arange(self.context + 1)].long()

    def parameters(self) -> list[nn.Parameter]:
        """Returns nothing: the head is part of the model."""
        return []

    def loss(self, model: nn.Module, batch_size: int, generator: torch.Generator) -> torch.Tensor:
        """Returns the mean cross-entropy of the next byte over one random batch of windows, in nats."""
        windows = self._batch(batch_size, generator)
        return nn.functional.cross_entropy(
            _logits(model, windows).flatten(0, 1), self._targets(windows[:, 1:]).flatten()
        )

    def _targets(self, following: torch.Tensor) -> torch.Tensor:
        """Returns the bytes to predict: those that follow, some of them replaced if labels are wrong."""
        if self._noise is None:
            return following
        fraction, generator = self._noise
        wrong = torch.rand(following.shape, generator=generator) < fraction
        shift = torch.randint(1, VOCABULARY, following.shape, generator=generator)
        return (following + (wrong * shift).to(self.device)) % VOCABULARY

    def with_label_noise(self, fraction: float, generator: torch.Generator) -> "LanguageModelling":
        """Returns this objective, where each byte to predict is replaced by another one with probability
        ``fraction``.

        What is replaced is drawn anew for each batch. All other bytes have equal probability. What the model
        reads is unchanged.
        """
        noisy = copy.copy(self)
        noisy._noise = fraction, generator
        return noisy

    def _batch(self, batch_size: int, generator: torch.Generator) -> torch.Tensor:
        """Returns random windows, int64 (batch_size, context + 1), on the device."""
        owners = torch.randint(len(self._room), (batch_size,), generator=generator)
        places = torch.rand(batch_size, generator=generator, dtype=torch.float64) * self._room[owners]
        rows = (self._starts[owners] + places.long())[:, None] + torch.arange(self.context + 1)
        return self._text[rows].long().to(self.device)

    def evaluate(self, model: nn.Module) -> float:
        """Returns the accuracy of the most probable next byte on the test windows; every domain has equally
        many."""
        return self.measure(model)[0]

    def test_loss(self, model: nn.Module) -> float:
        """Returns the cross-entropy of the next byte on the test windows, in nats."""
        return self.measure(model)[1]

    @torch.no_grad()
    def measure(self, model: nn.Module) -> tuple[float, float]:
        """Returns the accuracy and the cross-entropy of the next byte on the test windows."""
        correct, losses = [], []
        for windows in self._test.to(self.device):
            logits, following = _logits(model, windows), windows[:, 1:]
            correct.append(logits.argmax(-1) == following)
            losses.append(nn.functional.cross_entropy(logits.flatten(0, 1), following.flatten()))
        return float(torch.stack(correct).float().mean()), float(torch.stack(losses).mean())

    @property
    def tested_on(self) -> int:
        """Number of bytes that are predicted in a test."""
        return self._test[:, :, 1:].numel()

    @torch.no_grad()
    def outputs(self, model: nn.Module) -> torch.Tensor:
        """Returns the logits (domains * 4, context, 256) on the first test windows of each domain."""
        return _logits(model, self._test[:, :4].flatten(0, 1).to(self.device)).cpu()

    def state(self) -> dict[str, torch.Tensor]:
        """Returns nothing: the head is part of the model."""
        return {}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Does nothing: there are no heads."""

    def distillation_loss(self, teacher: nn.Module, teacher_objective: "LanguageModelling") -> BatchLoss:
        """Returns a student's loss: Kullback-Leibler divergence of the next bytes from the teacher's, in nats
        (Hinton et al. 2015)."""

        def loss(model: nn.Module, batch_size: int, generator: torch.Generator) -> torch.Tensor:
            windows = self._batch(batch_size, generator)
            with torch.no_grad():
                target = _logits(teacher, windows).flatten(0, 1).softmax(-1)
            return nn.functional.kl_div(
                _logits(model, windows).flatten(0, 1).log_softmax(-1), target, reduction="batchmean"
            )

        return loss


def _logits(model: nn.Module, windows: torch.Tensor) -> torch.Tensor:
    """Returns the logits (windows, context, 256) of every byte but the first of each window."""
    return model(input_ids=windows[:, :-1], use_cache=False).logits
