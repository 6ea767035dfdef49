"""Small Llamas (transformers' LlamaForCausalLM) that read bytes, trained on domains of text."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from torch import nn

from mothr.benchmark.data.dataset import Truth
from mothr.generators.data import text
from mothr.generators.families.initialisation import initialise
from mothr.generators.values.symmetry import Symmetry

LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
VOCABULARY = 256
"""One token a byte: no tokenizer has to be stored, and none can tell one model from another."""
WINDOWS = 64
"""Windows of each domain's test part that a model is tested on."""


class Llama(BaseModel):
    """The configuration of one Llama with its language-model head, which has one shape whatever the domain.

    The head is no copy of the token embeddings (``tie_word_embeddings`` is off), as in Llama 1, 2 and all but the smallest 3.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: ClassVar[str] = "llama"
    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers")
    stored: ClassVar[str] = (
        "Models are stored whole, with the head: each reads and predicts bytes, so no shape names a domain."
    )
    measured: ClassVar[str] = (
        "Next-byte accuracy on windows of the test part of their domain (roots: mean over their mixture) before and after training; "
        "chance is the share of the byte that is the most frequent one of the train part."
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
    """Attention heads, for queries."""
    kv_heads: PositiveInt
    """Heads for keys and values; with fewer than ``heads``, attention is grouped-query."""
    mlp_size: PositiveInt
    """Width of the hidden layer of each gated MLP."""
    context: Annotated[int, Field(ge=1, lt=text.LEAST)]
    """Bytes that the model reads at most, and is trained and tested on; less than the shortest text has."""

    @model_validator(mode="after")
    def _divides(self) -> "Llama":
        if self.hidden_size % (2 * self.heads):
            raise ValueError(
                f"model.hidden_size {self.hidden_size} is no multiple of twice model.heads {self.heads}; "
                "rotary positions need heads of even width"
            )
        if self.heads % self.kv_heads:
            raise ValueError(f"model.heads {self.heads} is no multiple of model.kv_heads {self.kv_heads}")
        return self

    def check_tasks(self, tasks: Sequence[str]) -> None:
        """Raises MothrError if one of ``tasks`` does not exist."""
        for task in tasks:
            text.DOMAINS.find(task)

    def check_lora(self, ranks: Sequence[int], targets: Sequence[str]) -> None:
        """Raises ValueError if a target is no linear layer of a block, or a rank is above the shorter side of one."""
        for target in targets:
            if target not in LINEAR_LAYERS:
                raise ValueError(
                    f"lora.targets: {target!r} is no linear layer of this family; choose from {', '.join(LINEAR_LAYERS)}"
                )
            width = self.hidden_size
            if target in ("k_proj", "v_proj"):
                width = width // self.heads * self.kv_heads
            elif target in ("gate_proj", "up_proj", "down_proj"):
                width = min(width, self.mlp_size)
            for rank in ranks:
                if rank > width:
                    raise ValueError(
                        f"lora.ranks: rank {rank} is above {width}, the rank of {target}; it would be no low-rank update"
                    )

    def data(self, task: str) -> tuple[str, str]:
        """Returns what the text of the domain ``task`` is, and where it comes from under which licence."""
        domain = text.DOMAINS.find(task)
        return domain.description, domain.source

    def data_digests(self, tasks: Sequence[str]) -> Mapping[str, str]:
        """Returns the hash of each domain's text, which changes with the versions of Python and of the packages that carry it."""
        return {task: text.digest(task) for task in tasks}

    def build(self, init: str, std: float, generator: torch.Generator) -> nn.Module:
        """Returns a fresh model: matrices drawn from ``init`` with ``generator``, norm weights 1; Llama has no biases."""
        from transformers import (
            LlamaConfig,
            LlamaForCausalLM,
        )  # takes seconds to import, and most commands never build a model

        config = LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            intermediate_size=self.mlp_size,
            max_position_embeddings=self.context,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=None,
        )
        model = LlamaForCausalLM(config)
        initialise(model, init, std, generator)
        return model

    def load(self, folder: Path) -> nn.Module:
        """Returns the model stored in ``folder``."""
        from transformers import LlamaForCausalLM
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        return LlamaForCausalLM.from_pretrained(folder)

    def save(self, model: Any, folder: Path) -> None:
        """Writes ``model`` to ``folder`` with its own ``save_pretrained``."""
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # one bar for a whole data set is enough
        model.save_pretrained(folder)
        (folder / "generation_config.json").unlink(
            missing_ok=True
        )  # says nothing of the weights, and where they came from might differ

    def companions(self, seed: int, folder: Path, device: torch.device, on_step: Callable[[int], None]) -> None:
        """Writes nothing: the models of a tree share nothing that is frozen."""

    def symmetries(self) -> Sequence[Symmetry]:
        """Returns, for each block, those of its key heads with their query heads, of the query heads within each such group, and of
        the hidden neurons of its MLP.

        Query heads g * k to g * (k + 1) - 1 read key and value head k, where g is ``heads // kv_heads``.
        """
        found = []
        for block in (f"model.layers.{layer}" for layer in range(self.layers)):
            query, key, value, output = (f"{block}.self_attn.{part}_proj.weight" for part in "qkvo")
            gate, up, down = (f"{block}.mlp.{part}_proj.weight" for part in ("gate", "up", "down"))
            found.append(Symmetry(self.kv_heads, ((query, 0), (key, 0), (value, 0), (output, 1))))
            found.append(Symmetry(self.heads // self.kv_heads, ((query, 0), (output, 1)), segments=self.kv_heads))
            found.append(Symmetry(self.mlp_size, ((gate, 0), (up, 0), (down, 1))))
        return found

    def show(self, out: Path, truth: Truth) -> Sequence[str]:
        """Returns nothing: there is nothing to look at."""
        return ()

    def objective(
        self, tasks: Sequence[str], generator: torch.Generator, device: torch.device, companions: Path | None = None
    ) -> "LanguageModelling":
        """Returns what a model is trained and tested on for ``tasks``; nothing in it is random, so ``generator`` is not used."""
        return LanguageModelling(tasks, self.context, device)


class LanguageModelling:
    """One or more domains of text, each as likely as the others: the windows, the loss and the accuracy of the next byte."""

    metric = "next-byte accuracy"

    def __init__(self, tasks: Sequence[str], context: int, device: torch.device) -> None:
        self.context = context
        self.device = device
        train = [text.load(task, "train") for task in tasks]
        sizes = torch.tensor([len(part) for part in train])
        self._text = torch.cat(train)
        self._starts = sizes.cumsum(0) - sizes
        self._room = sizes - context  # first bytes of windows: the last one ends with the text
        self._test = torch.stack([self._windows(text.load(task, "test")) for task in tasks])
        modes = torch.stack([torch.bincount(part.long(), minlength=VOCABULARY).argmax() for part in train])
        self.chance = float((self._test[:, :, 1:] == modes[:, None, None]).float().mean())

    def _windows(self, part: torch.Tensor) -> torch.Tensor:
        """Returns evenly spread windows of a text, int64 (windows, context + 1)."""
        first = torch.linspace(0, len(part) - self.context - 1, WINDOWS).long()
        return part[first[:, None] + torch.arange(self.context + 1)].long()

    def parameters(self) -> list[nn.Parameter]:
        """Returns nothing: the head is the model's own."""
        return []

    def loss(self, model: nn.Module, batch_size: int, generator: torch.Generator) -> torch.Tensor:
        """Returns the mean cross-entropy of the next byte over one random batch of windows, in nats."""
        windows = self._batch(batch_size, generator)
        return nn.functional.cross_entropy(_logits(model, windows).flatten(0, 1), windows[:, 1:].flatten())

    def _batch(self, batch_size: int, generator: torch.Generator) -> torch.Tensor:
        """Returns random windows, int64 (batch_size, context + 1), on the device."""
        owners = torch.randint(len(self._room), (batch_size,), generator=generator)
        places = torch.rand(batch_size, generator=generator, dtype=torch.float64) * self._room[owners]
        rows = (self._starts[owners] + places.long())[:, None] + torch.arange(self.context + 1)
        return self._text[rows].long().to(self.device)

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> float:
        """Returns the accuracy of the most likely next byte on the test windows, which are as many for every domain."""
        right = [_logits(model, windows).argmax(-1) == windows[:, 1:] for windows in self._test.to(self.device)]
        return float(torch.stack(right).float().mean())

    @property
    def tested_on(self) -> int:
        """Number of bytes predicted in a test."""
        return self._test[:, :, 1:].numel()

    @torch.no_grad()
    def outputs(self, model: nn.Module) -> torch.Tensor:
        """Returns the logits (domains * 4, context, 256) on the first test windows of each domain."""
        return _logits(model, self._test[:, :4].flatten(0, 1).to(self.device)).cpu()

    def state(self) -> dict[str, torch.Tensor]:
        """Returns nothing: the head is the model's own."""
        return {}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Takes over nothing."""

    def distillation_loss(
        self, teacher: nn.Module, taught: "LanguageModelling"
    ) -> Callable[[nn.Module, int, torch.Generator], torch.Tensor]:
        """Returns the loss of a student: Kullback-Leibler divergence from the teacher's next byte, in nats (Hinton et al. 2015)."""

        def loss(model: nn.Module, batch_size: int, generator: torch.Generator) -> torch.Tensor:
            windows = self._batch(batch_size, generator)
            with torch.no_grad():
                wanted = _logits(teacher, windows).flatten(0, 1).softmax(-1)
            return nn.functional.kl_div(
                _logits(model, windows).flatten(0, 1).log_softmax(-1), wanted, reduction="batchmean"
            )

        return loss


def _logits(model: nn.Module, windows: torch.Tensor) -> torch.Tensor:
    """Returns the logits (windows, context, 256) of every byte but the first of each window."""
    return model(input_ids=windows[:, :-1], use_cache=False).logits
