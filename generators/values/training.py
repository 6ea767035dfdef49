"""How one model is trained: the tables ``training`` and ``lora`` of a recipe."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


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
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """``adamw``, or ``sgd`` with momentum 0.9."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Weight decay of matrices and kernels. Vectors (biases, norm weights) have none."""
    warmup: Fraction = 0.1
    """Fraction of the steps in which the learning rate rises linearly. After that it falls to zero along a
    cosine."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest L2 norm of the gradient; a larger gradient is scaled down to it."""
    keep_every: Count | None = None
    """Steps between two checkpoints that become nodes of their own. A root also keeps its fresh weights.
    Absent: no checkpoints."""


class Lora(Table):
    """A low-rank update (LoRA, Hu et al. 2022), added to the dense weights after training."""

    ranks: Annotated[tuple[Count, ...], Field(min_length=1)]
    """The rank of each child is drawn from these."""
    alpha_over_rank: Annotated[float, Field(gt=0)] = 2.0
    """LoRA's alpha divided by the rank: the factor of the update."""
    targets: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of the linear layers that get an update."""
