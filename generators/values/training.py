"""How one model is trained: the tables ``training`` and ``lora`` of a recipe."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Optimizer = Literal["adamw", "sgd", "adam", "adafactor", "sign"]
Trained = Literal["last-layers", "alternate-layers", "vectors"]
OPTIMIZER_NAMES: dict[Optimizer, str] = {
    "adamw": "AdamW",
    "sgd": "SGD with momentum 0.9",
    "adam": "Adam",
    "adafactor": "Adafactor",
    "sign": "Lion",
}
"""Name of each optimizer on cards."""


class Table(BaseModel):
    """One table of a recipe. An unknown key is an error, values cannot be changed, and numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Training(Table):
    """How one model is trained."""

    steps: Count
    """Number of optimizer steps."""
    batch_size: Count
    """Examples per step."""
    learning_rate: Annotated[float, Field(gt=0)]
    """Largest learning rate of the schedule."""
    optimizer: Optimizer = "adamw"
    """``adamw``, or ``sgd`` with momentum 0.9, or ``adam``, or ``adafactor`` (Shazeer and Stern 2018), or
    ``sign``: Lion (Chen et al. 2023). The learning rate of ``adafactor`` is relative: a step changes a tensor
    by about the rate times the root mean square of its weights."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Weight decay of matrices and kernels. Vectors (biases, norm weights) have none. ``adam`` and ``sgd``
    add it to the gradient; the others subtract it from the weights."""
    warmup: Fraction = 0.1
    """Fraction of the steps in which the learning rate rises linearly. ``schedule`` says what follows."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest L2 norm of the gradient; a larger gradient is scaled down to it."""
    keep_every: Count | None = None
    """Steps between two checkpoints that become nodes of their own. A root also keeps its fresh weights.
    Absent: no checkpoints."""
    schedule: Literal["linear", "constant"] | None = None
    """The learning rate after the warm-up. Absent: it falls to zero along a cosine. ``linear``: it falls to
    zero along a line. ``constant``: it stays."""
    trained: Trained | None = None
    """The weights that are trained; the others keep their bits. Absent: all. ``last-layers``: the last third of
    the blocks, rounded up, and the final norm. ``alternate-layers``: all but the first, third, ... block.
    ``vectors``: biases, norm weights and other tensors of one axis."""
    l2_sp: Positive | None = None
    """Coefficient a of the penalty a/2 |w - w0|^2 that draws the weights w to their start w0 (L2-SP, Li et al.
    2018, arXiv 1802.01483, equation 2). Absent: no penalty."""
    label_noise: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Fraction of the training labels that are wrong. Pictures: another class. Text: another next byte, drawn
    anew for each batch. Captioned pictures: the caption of another picture."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of an exponential moving average of the weights, which is what is stored. It starts at the start
    weights, and the decay of step t is at most (1 + t) / (10 + t). Absent: the last weights are stored."""
    tail_average: Annotated[float, Field(gt=0, le=1)] | None = None
    """Fraction of the last steps over which weights are averaged; the mean is stored (Izmailov et al. 2018).
    Absent: the last weights are stored."""
    head_rate: Positive | None = None
    """Largest learning rate of heads, which are not part of the stored model. Absent: ``learning_rate``."""

    @model_validator(mode="after")
    def _check_averages(self) -> "Training":
        if self.ema is not None and self.tail_average is not None:
            raise ValueError("tail_average: ema is given as well, and only one average can be stored; remove one")
        if self.keep_every is not None and (self.ema is not None or self.tail_average is not None):
            name = "ema" if self.ema is not None else "tail_average"
            raise ValueError(
                f"keep_every: checkpoints are no averages, but {name} stores one at the end; remove one of the two"
            )
        return self


class Lora(Table):
    """A low-rank update (LoRA, Hu et al. 2022), added to the dense weights after training."""

    ranks: Annotated[tuple[Count, ...], Field(min_length=1)]
    """The rank of each child is drawn from these."""
    alpha_over_rank: Annotated[float, Field(gt=0)] = 2.0
    """LoRA's alpha divided by the rank: the factor of the update, unless ``rslora`` is set."""
    targets: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of the linear layers that get an update."""
    dora: bool | None = None
    """Whether the length of each row of a matrix is trained apart from its direction (DoRA, Liu et al. 2024,
    arXiv 2402.09353)."""
    rslora: bool | None = None
    """Whether the factor of the update is alpha divided by the square root of the rank (rsLoRA, Kalajdzievski
    2023, arXiv 2312.03732)."""

    def factor(self, rank: int) -> float:
        """Returns the factor of an update of ``rank``."""
        return self.alpha_over_rank * (rank**0.5 if self.rslora else 1.0)


def check_update(training: Training, lora: Lora | None) -> None:
    """Checks that ``training`` can train the low-rank update ``lora``.

    Raises:
        ValueError: ``training`` has a field that needs trained dense weights.
    """
    if lora is None:
        return
    for name in ("trained", "l2_sp"):
        if (value := getattr(training, name)) is not None:
            raise ValueError(
                f"training.{name}: {value!r} is about the dense weights, but lora trains none of them; "
                f"remove {name} or lora"
            )


def check_heads(training: Training | None, has_heads: bool) -> None:
    """Checks that ``training`` has no learning rate of heads if the family of the model has no heads.

    Raises:
        ValueError: it has one.
    """
    if training is not None and training.head_rate is not None and not has_heads:
        raise ValueError(
            f"training.head_rate: {training.head_rate:g} is a rate of heads, but this family of models has no heads; "
            "remove it"
        )
